//! Stories of proxies that do not answer, or reject and stay so: what is kept for them has bounds, and nothing is lost.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use xds::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use xds::resource::ResourceSet;

use super::tests::{Story, delta, render, sotw_ask, view};
use super::*;
use crate::source::Refusal;

const CDS: &str = kinds::CLUSTER;

/// Everything that comes out now.
fn drain(story: &mut Story) -> Vec<String> {
    let mut sent = Vec::new();
    while let Some(response) = story.stream.poll(story.now) {
        sent.push(render(story.stream.protocol, response));
    }
    sent
}

fn never_answers(changes: u32) -> Story {
    let mut story = delta("cds a=0 b=0");
    story.ask("cds").sends(&["cds a=0 b=0"]);
    for change in 1..=changes {
        story.now += Duration::from_secs(6);
        let next = format!("cds a={change} b=0");
        story.view(&next).sends(&[&*format!("cds a={change}")]);
    }
    story
}

#[test]
fn of_who_never_answers_a_few_responses_are_remembered() {
    let story = never_answers(500);
    assert_eq!(
        story.stream.watch(CDS).unwrap().in_flight(),
        Limits::default().unacknowledged
    );
}

#[test]
fn a_late_answer_to_the_newest_answers_all() {
    let mut story = never_answers(50);
    assert_eq!(story.answer("cds", "00000001", None), Outcome::Stale, "it was given up");
    story.ack("cds").sends(&[]);
    assert_eq!(story.stream.status()[0].sync, Sync::Synced);
    story.view("cds a=51 b=0").sends(&["cds a=51"]);
}

#[test]
fn a_late_rejection_of_what_was_given_up_leaves_nothing_out() {
    let mut story = never_answers(50);
    assert_eq!(
        story.answer("cds", "00000001", Some("no")),
        Outcome::Rejected("no".into())
    );
    // What it has of the first response nobody knows, so that everything comes again when the rest is answered.
    story.ack("cds").sends(&["cds a=50 b=0"]).ack("cds").sends(&[]);
    assert_eq!(story.stream.status()[0].sync, Sync::Synced);
    assert_eq!(
        story.answer("cds", "00000bad", Some("no")),
        Outcome::Stale,
        "never sent"
    );
}

#[test]
fn what_waits_for_an_answer_is_woken_although_another_never_answers() {
    let mut story = delta("cds a=1; eds z=1; lds l=1");
    story.ask("eds z").sends(&["eds z=1"]);
    story.ask("cds").ask("lds").sends(&["cds a=1", "lds l=1"]);
    story.ack("cds").ack("lds");
    story.now += Duration::from_secs(60);
    story.view("cds a=2; eds z=1; lds l=2").sends(&["cds a=2"]);
    let wake = story.stream.wake_at(story.now).unwrap();
    assert_eq!(wake, story.now + Limits::default().patience);
    story.now = wake;
    story.sends(&["lds l=2"]);
}

/// A view whose clusters lie over others.
fn layered(base: &str, own: &str, rest: &str) -> Arc<View> {
    let resources = |text: &str| {
        view(&format!("cds {text}"))
            .get(CDS)
            .iter()
            .cloned()
            .collect::<Vec<_>>()
    };
    let below = Arc::new(ResourceSet::new(resources(base)));
    let clusters = Arc::new(ResourceSet::over(below, resources(own)));
    let sets = [(kinds::intern(CDS), clusters)].into();
    Arc::new(view(rest).with(sets, SystemTime::UNIX_EPOCH))
}

#[test]
fn clusters_of_which_one_waits_to_be_removed_are_not_sent_again_unchanged() {
    let mut story = Story::new(Protocol::Sotw, "");
    story.stream.set_view(layered("a=1 b=2", "own=3", "lds l=1"));
    sotw_ask(&mut story, "cds", &[], "", "");
    sotw_ask(&mut story, "lds", &[], "", "");
    story.sends(&["cds 3 1 2", "lds 1"]).ack("cds").ack("lds");
    story.stream.set_view(layered("a=1", "own=3", "lds l=2"));
    story.sends(&["lds 2"]).ack("lds").sends(&["cds 3 1"]).ack("cds");
    // One comes, one goes, and what goes comes back before it went.
    story.stream.set_view(layered("a=1 c=4", "own=3", "lds l=3"));
    story.sends(&["cds 3 1 4"]).ack("cds").sends(&["lds 3"]).ack("lds");
    story.stream.set_view(layered("a=1 d=5", "own=3", "lds l=4"));
    story.sends(&["cds 1 4 5 3"]).ack("cds");
    story.stream.set_view(layered("a=1 c=4 d=5", "own=3", "lds l=4"));
    story.sends(&["lds 4"]).ack("lds").sends(&[]);
}

/// Services come and go at a proxy that rejected a listener once: clusters that it holds at most, and has at the end.
fn rejecting(protocol: Protocol, kept: usize, rounds: usize) -> (usize, usize, usize) {
    let limits = Limits {
        kept,
        ..Limits::default()
    };
    let mut story = Story::within(limits, protocol, "cds a=1; lds l=1");
    if protocol == Protocol::Delta {
        story.ask("cds").ask("lds");
    } else {
        sotw_ask(&mut story, "cds", &[], "", "");
        sotw_ask(&mut story, "lds", &[], "", "");
    }
    drain(&mut story);
    story.acks_all().view("cds a=1; lds l=bad");
    drain(&mut story);
    story.nack("lds", "no");
    let held = |story: &Story| story.stream.watch(CDS).unwrap().sent().unwrap().len();
    let (mut most, mut abandoned) = (0, 0);
    for round in 0..rounds {
        story.view(&format!("cds a=1 c{round}=1; lds l=bad"));
        while let Some(response) = story.stream.poll(story.now) {
            abandoned += response.abandons;
            story.ack("cds");
        }
        most = most.max(held(&story));
        story.now += Duration::from_secs(60);
    }
    let doubted = held(&story);
    story.view("cds a=1; lds l=2");
    while !drain(&mut story).is_empty() {
        story.acks_all();
    }
    assert_eq!(held(&story), 1, "what was gone is gone when the listener is accepted");
    (most, doubted, abandoned)
}

#[test]
fn what_a_rejected_listener_may_use_is_kept_up_to_a_bound() {
    for protocol in [Protocol::Delta, Protocol::Sotw] {
        assert_eq!(rejecting(protocol, 10, 8), (9, 9, 0), "{protocol:?}");
        let (most, _, abandoned) = rejecting(protocol, 10, 500);
        assert!(most <= 12, "{most} {protocol:?}");
        assert!(abandoned > 400, "{abandoned} {protocol:?}");
    }
}

/// The first request that is refused of a few with a name of 100 bytes each.
fn refused(bound: usize, ask: impl Fn(usize, &str) -> DeltaDiscoveryRequest) -> Option<usize> {
    let limits = Limits {
        subscription_bytes: bound,
        ..Limits::default()
    };
    let mut story = Story::within(limits, Protocol::Delta, "");
    (0..10).find(|number| {
        let name = format!("{number:0100}");
        matches!(
            story.stream.on_delta(ask(*number, &name)),
            Err(Refusal::ResourceExhausted(_))
        )
    })
}

#[test]
fn names_of_all_types_of_a_stream_have_one_bound() {
    let by_name = |number: usize, name: &str| DeltaDiscoveryRequest {
        type_url: format!("type{}", number % 3),
        resource_names_subscribe: vec![name.to_owned()],
        ..DeltaDiscoveryRequest::default()
    };
    assert_eq!(refused(700, by_name), Some(4));
    assert_eq!(refused(10_000, by_name), None);
    // Names that are brought along and are not there any more are kept until they are told so.
    let held = |number: usize, name: &str| DeltaDiscoveryRequest {
        type_url: [
            CDS,
            kinds::LISTENER,
            kinds::NAME_TABLE,
            kinds::PROXY_CONFIG,
            "x",
            "y",
            "z",
            "u",
            "v",
            "w",
        ][number]
            .into(),
        initial_resource_versions: [(name.to_owned(), "1".to_owned())].into(),
        ..DeltaDiscoveryRequest::default()
    };
    assert_eq!(refused(600, held), Some(3));
}

#[test]
fn what_is_no_longer_asked_for_is_not_owed() {
    let mut story = delta("eds a=1 b=1");
    story.ask("eds a").sends(&["eds a=1"]).ack("eds");
    story.ask("eds b").ask("eds -b").sends(&[]);
    let mut story = delta("cds a=1 b=1");
    story.ask("cds").sends(&["cds a=1 b=1"]).ack("cds");
    story.ask("cds x").ask("cds -x").sends(&[]);
}
