//! Stories of one stream, told as what goes in and what comes out.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost::Message;
use xds::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use xds::google::protobuf::StringValue;
use xds::google::rpc::Status;
use xds::resource::{Resource, ResourceSet};

use super::*;
use crate::source::Refusal;

const CDS: &str = kinds::CLUSTER;
const EDS: &str = kinds::ENDPOINT;
const LDS: &str = kinds::LISTENER;
const RDS: &str = kinds::ROUTE;

/// `"cds a=1 b=1; eds a=1"`
pub(super) fn view(text: &str) -> Arc<View> {
    let mut sets = BTreeMap::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let mut words = part.trim().split(' ');
        let url = url(words.next().unwrap());
        let resource = |word: &str| {
            let (name, value) = word.split_once('=').unwrap();
            Arc::new(Resource::encode(
                name,
                &StringValue {
                    value: value.to_owned(),
                },
            ))
        };
        sets.insert(kinds::intern(url), Arc::new(ResourceSet::new(words.map(resource))));
    }
    Arc::new(View::new(sets, SystemTime::UNIX_EPOCH))
}

fn url(short: &str) -> &'static str {
    match short {
        "cds" => CDS,
        "eds" => EDS,
        "lds" => LDS,
        "rds" => RDS,
        "sds" => kinds::SECRET,
        other => panic!("no short name {other}"),
    }
}

pub(super) struct Story {
    pub(super) stream: Stream,
    pub(super) now: SystemTime,
}

impl Story {
    pub(super) fn new(protocol: Protocol, text: &str) -> Self {
        Self::within(Limits::default(), protocol, text)
    }

    pub(super) fn within(limits: Limits, protocol: Protocol, text: &str) -> Self {
        let limits = Arc::new(limits);
        let shared = Arc::new(Shared::new(&limits));
        Self {
            stream: Stream::new(protocol, view(text), limits, shared),
            now: SystemTime::UNIX_EPOCH,
        }
    }

    pub(super) fn view(&mut self, text: &str) -> &mut Self {
        self.stream.set_view(view(text));
        self
    }

    /// Subscribes: `"cds"`, `"eds a b"`, `"eds -a"`, with versions held as `a@1`.
    pub(super) fn ask(&mut self, text: &str) -> &mut Self {
        let mut words = text.split(' ');
        let mut request = DeltaDiscoveryRequest {
            type_url: url(words.next().unwrap()).into(),
            ..Default::default()
        };
        for word in words {
            if let Some(name) = word.strip_prefix('-') {
                request.resource_names_unsubscribe.push(name.into());
            } else if let Some((name, value)) = word.split_once('@') {
                let held = Resource::encode(
                    name,
                    &StringValue {
                        value: value.to_owned(),
                    },
                );
                request
                    .initial_resource_versions
                    .insert(name.into(), held.hash.to_string());
            } else {
                request.resource_names_subscribe.push(word.into());
            }
        }
        self.stream.on_delta(request).unwrap();
        self
    }

    pub(super) fn answer(&mut self, short: &str, nonce: &str, error: Option<&str>) -> Outcome {
        let error_detail = error.map(|message| Status {
            message: message.into(),
            ..Default::default()
        });
        match self.stream.protocol {
            Protocol::Delta => self.stream.on_delta(DeltaDiscoveryRequest {
                type_url: url(short).into(),
                response_nonce: nonce.into(),
                error_detail,
                ..Default::default()
            }),
            Protocol::Sotw => self.stream.on_sotw(DiscoveryRequest {
                type_url: url(short).into(),
                response_nonce: nonce.into(),
                error_detail,
                ..Default::default()
            }),
        }
        .unwrap()
    }

    pub(super) fn ack(&mut self, short: &str) -> &mut Self {
        let nonce = self.stream.watch(url(short)).unwrap().status().nonce_sent;
        assert_eq!(self.answer(short, &nonce, None), Outcome::Accepted);
        self
    }

    pub(super) fn nack(&mut self, short: &str, text: &str) -> &mut Self {
        let nonce = self.stream.watch(url(short)).unwrap().status().nonce_sent;
        assert_eq!(self.answer(short, &nonce, Some(text)), Outcome::Rejected(text.into()));
        self
    }

    /// Everything that comes out now, as `"cds a=1 -b"`, one string per response.
    pub(super) fn sends(&mut self, expected: &[&str]) -> &mut Self {
        let mut sent = Vec::new();
        while let Some(response) = self.stream.poll(self.now) {
            sent.push(render(self.stream.protocol, response));
        }
        assert_eq!(sent, expected);
        self
    }

    pub(super) fn acks_all(&mut self) -> &mut Self {
        for status in self.stream.status() {
            let _ = self.answer(kinds::short_name(&status.type_url), &status.nonce_sent, None);
        }
        self
    }
}

pub(super) fn render(protocol: Protocol, response: Response) -> String {
    let bytes: Vec<u8> = response.frames.flatten().skip(5).collect();
    let mut out = kinds::short_name(&response.type_url).to_owned();
    let mut add = |name: &str, any: &xds::google::protobuf::Any| {
        let value = StringValue::decode(&any.value[..]).unwrap().value;
        out += &format!(" {name}{}{value}", if name.is_empty() { "" } else { "=" });
    };
    match protocol {
        Protocol::Delta => {
            let response = DeltaDiscoveryResponse::decode(&bytes[..]).unwrap();
            response
                .resources
                .iter()
                .for_each(|r| add(&r.name, r.resource.as_ref().unwrap()));
            response
                .removed_resources
                .iter()
                .for_each(|name| out += &format!(" -{name}"));
        }
        Protocol::Sotw => {
            let response = DiscoveryResponse::decode(&bytes[..]).unwrap();
            response.resources.iter().for_each(|any| add("", any));
        }
    }
    out
}

pub(super) fn delta(text: &str) -> Story {
    Story::new(Protocol::Delta, text)
}

#[test]
fn a_wildcard_gets_everything_then_only_what_changed() {
    delta("cds a=1 b=1")
        .ask("cds")
        .sends(&["cds a=1 b=1"])
        .ack("cds")
        .view("cds a=2 b=1 c=1")
        .sends(&["cds a=2 c=1"])
        .ack("cds")
        .view("cds a=2 c=1")
        .sends(&["cds -b"]);
}

#[test]
fn names_get_only_themselves_and_hear_what_is_absent() {
    delta("eds a=1 b=1")
        .ask("eds a x")
        .sends(&["eds a=1 -x"])
        .ack("eds")
        .view("eds a=1 b=2")
        .sends(&[])
        .view("eds a=1 b=2 x=1")
        .sends(&["eds x=1"]);
}

#[test]
fn asking_again_is_answered_again() {
    delta("eds a=1 b=1")
        .ask("eds a")
        .sends(&["eds a=1"])
        .ack("eds")
        .ask("eds a b")
        .sends(&["eds a=1 b=1"]);
}

#[test]
fn unsubscribed_names_are_not_sent() {
    delta("eds a=1 b=1")
        .ask("eds a b")
        .sends(&["eds a=1 b=1"])
        .ack("eds")
        .ask("eds -a")
        .view("eds a=2 b=2")
        .sends(&["eds b=2"]);
}

#[test]
fn subscribing_and_unsubscribing_everything_means_nothing_yet() {
    delta("cds a=1")
        .ask("cds * -*")
        .sends(&["cds"])
        .ack("cds")
        .ask("cds a")
        .sends(&["cds a=1"]);
}

#[test]
fn an_empty_world_is_still_an_answer() {
    delta("").ask("cds").sends(&["cds"]);
}

#[test]
fn a_reconnect_gets_only_what_it_lacks() {
    delta("cds a=1 b=2 c=1")
        .ask("cds a@1 b@1 z@1")
        .sends(&["cds b=2 c=1 -z"]);
    delta("cds a=1 b=2")
        .ask("cds a@1 b@2")
        .sends(&[])
        .view("cds a=1 b=3")
        .sends(&["cds b=3"]);
    delta("eds a=1 b=2").ask("eds a b a@1 b@1").sends(&["eds b=2"]);
}

#[test]
fn a_stream_that_broke_between_a_cluster_and_its_endpoints_leaves_none_warming() {
    // It was sent `a=2` but not the endpoints after it, and has those from before.
    delta("cds a=2 b=1; eds a=1 b=1")
        .ask("cds a@2 b@1")
        .ask("eds a b a@1 b@1")
        .sends(&["eds a=1 b=1"])
        .acks_all()
        .sends(&[]);
    // The requests may come one by one, and in the other order.
    delta("cds a=2; eds a=1")
        .ask("cds a@1")
        .sends(&["cds a=2"])
        .ask("eds a a@1")
        .sends(&["eds a=1"]);
    delta("cds a=2; eds a=1")
        .ask("eds a a@1")
        .sends(&[])
        .ask("cds a@2")
        .sends(&["eds a=1"]);
    // A cluster that was away has the endpoints it had, of which only the hash is known, while others wait to go.
    delta("cds a=2; eds; lds l=1")
        .ask("cds a@1 x@1")
        .ask("lds l@0")
        .ask("eds a x a@1 x@1")
        .view("cds a=2; eds a=1; lds l=1")
        .sends(&["cds a=2", "eds a=1"]);
    // Endpoints of what is gone in the meantime go after it.
    delta("cds a=1; eds a=1")
        .ask("cds a@1 x@1")
        .ask("eds a x a@1 x@1")
        .sends(&["cds -x", "eds a=1"])
        .acks_all()
        .sends(&["eds -x"]);
}

#[test]
fn a_rejection_is_kept_shown_and_not_repeated() {
    let mut story = delta("lds l=1 m=1");
    story
        .ask("lds")
        .sends(&["lds l=1 m=1"])
        .ack("lds")
        .view("lds l=bad m=2")
        .sends(&["lds l=bad m=2"]);
    story.nack("lds", "bad listener").sends(&[]);
    let status = &story.stream.status()[0];
    assert_eq!(
        (status.sync, status.error.as_deref()),
        (Sync::Error, Some("bad listener"))
    );
    // `m` may or may not have been applied, so it comes again with the repair.
    story.view("lds l=3 m=2").sends(&["lds l=3 m=2"]).ack("lds");
    assert_eq!(story.stream.status()[0].sync, Sync::Synced);
}

#[test]
fn what_a_rejected_first_answer_held_comes_again() {
    let mut story = delta("eds a=bad b=1");
    story
        .ask("eds a b")
        .sends(&["eds a=bad b=1"])
        .nack("eds", "no")
        .view("eds a=2 b=1")
        .sends(&["eds a=2 b=1"]);
}

#[test]
fn a_rejected_name_that_goes_away_is_removed() {
    let mut story = delta("cds a=1");
    story
        .ask("cds")
        .sends(&["cds a=1"])
        .ack("cds")
        .view("cds a=1 b=bad")
        .sends(&["cds b=bad"])
        .nack("cds", "no");
    story.view("cds a=1").sends(&["cds -b"]);
}

#[test]
fn what_a_rejected_answer_took_away_is_taken_away_again() {
    let mut story = delta("cds a=1");
    story.ask("cds").sends(&["cds a=1"]).ack("cds").view("").ask("cds z");
    story.sends(&["cds -a -z"]).nack("cds", "no").sends(&[]);
    story.view("cds b=1").sends(&["cds b=1 -a"]);
}

/// `a=2` was accepted between two rejections, so that neither what was good before them nor what was sent last tells what
/// the proxy has.
#[test]
fn what_was_accepted_between_two_rejections_is_not_forgotten() {
    let between = |changed: &str| {
        let mut story = delta("cds a=1 z=1");
        story.ask("cds").sends(&["cds a=1 z=1"]).ack("cds");
        story.view("cds a=1 z=bad").sends(&["cds z=bad"]);
        // Nobody waits for the answer any more; it comes after something else was sent, which is accepted.
        story.now += Duration::from_secs(6);
        story
            .view(&format!("cds {changed} z=bad"))
            .sends(&[&format!("cds {}", changed.replace("a=1 ", ""))]);
        assert_eq!(
            story.answer("cds", "00000002", Some("no")),
            Outcome::Rejected("no".into())
        );
        story
            .ack("cds")
            .sends(&[&format!("cds {} z=bad", changed.replace("a=1 ", ""))])
            .nack("cds", "no");
        story
    };
    let mut story = between("a=2");
    story.view("cds a=1 z=bad").sends(&["cds a=1 z=bad"]).nack("cds", "no");
    story.view("cds a=1 z=3").sends(&["cds a=1 z=3"]).ack("cds");
    story.view("cds a=1 z=4").sends(&["cds z=4"]);
    // What came in between is taken away as well.
    let mut story = between("a=1 b=1");
    story.view("cds a=1 z=bad").sends(&["cds z=bad -b"]).nack("cds", "no");
    story.view("cds a=1 z=3").sends(&["cds z=3 -b"]);
}

#[test]
fn a_slow_proxy_goes_straight_to_the_newest() {
    let mut story = delta("cds a=1");
    story.ask("cds").sends(&["cds a=1"]);
    story
        .view("cds a=2")
        .sends(&[])
        .view("cds a=3")
        .sends(&[])
        .ack("cds")
        .sends(&["cds a=3"]);
}

#[test]
fn a_proxy_that_never_answers_is_waited_for_only_so_long() {
    let mut story = delta("cds a=1");
    story.ask("cds").sends(&["cds a=1"]).view("cds a=2").sends(&[]);
    assert_eq!(
        story.stream.wake_at(story.now),
        Some(story.now + Limits::default().patience)
    );
    story.now += Duration::from_secs(6);
    story.sends(&["cds a=2"]);
}

#[test]
fn stale_answers_are_ignored() {
    let mut story = delta("eds a=1 b=1");
    story.ask("eds a").sends(&["eds a=1"]);
    assert_eq!(story.answer("eds", "no-such-nonce", None), Outcome::Stale);
    story.ask("eds b").sends(&["eds b=1"]).ack("eds");
    assert_eq!(story.answer("eds", "00000001", None), Outcome::Stale);
}

#[test]
fn going_back_before_anything_was_sent_sends_nothing() {
    delta("cds a=1")
        .ask("cds")
        .sends(&["cds a=1"])
        .view("cds a=2")
        .view("cds a=1")
        .ack("cds")
        .sends(&[]);
}

#[test]
fn unknown_types_get_an_empty_answer() {
    let mut story = delta("cds a=1");
    let request = DeltaDiscoveryRequest {
        type_url: "type.googleapis.com/x.Y".into(),
        ..Default::default()
    };
    story.stream.on_delta(request).unwrap();
    story.sends(&["other"]).sends(&[]);
}

#[test]
fn bounds_are_kept() {
    let mut story = delta("");
    let long = DeltaDiscoveryRequest {
        type_url: EDS.into(),
        resource_names_subscribe: vec!["x".repeat(2000)],
        ..Default::default()
    };
    assert!(matches!(
        story.stream.on_delta(long),
        Err(Refusal::ResourceExhausted(_))
    ));
    assert!(matches!(
        story.stream.on_delta(DeltaDiscoveryRequest::default()),
        Err(Refusal::InvalidArgument(_))
    ));
    for i in 0..40 {
        let request = DeltaDiscoveryRequest {
            type_url: format!("t{i}"),
            ..Default::default()
        };
        assert_eq!(story.stream.on_delta(request).is_ok(), i < 32);
    }
}

pub(super) fn sotw_ask(story: &mut Story, short: &str, names: &[&str], nonce: &str, version: &str) -> Outcome {
    let request = DiscoveryRequest {
        type_url: url(short).into(),
        resource_names: names.iter().map(|n| (*n).to_owned()).collect(),
        response_nonce: nonce.into(),
        version_info: version.into(),
        ..Default::default()
    };
    story.stream.on_sotw(request).unwrap()
}

#[test]
fn state_of_the_world_sends_all_clusters_and_only_changed_endpoints() {
    let mut story = Story::new(Protocol::Sotw, "cds a=1 b=1; eds a=1 b=1");
    sotw_ask(&mut story, "cds", &[], "", "");
    story.sends(&["cds 1 1"]).ack("cds");
    sotw_ask(&mut story, "eds", &["a", "b"], "", "");
    story.sends(&["eds 1 1"]);
    assert_eq!(
        sotw_ask(&mut story, "eds", &["a", "b"], "00000002", ""),
        Outcome::Accepted
    );
    story.view("cds a=1 b=1; eds a=2 b=1").sends(&["eds 2"]);
}

#[test]
fn state_of_the_world_answers_only_added_names() {
    let mut story = Story::new(Protocol::Sotw, "rds r=1 s=2");
    sotw_ask(&mut story, "rds", &["r"], "", "");
    story.sends(&["rds 1"]);
    sotw_ask(&mut story, "rds", &["r", "s"], "00000001", "");
    story.sends(&["rds 2"]);
    sotw_ask(&mut story, "rds", &["s"], "00000002", "");
    story.sends(&[]);
}

#[test]
fn state_of_the_world_reconnect_with_the_same_version_is_quiet() {
    let mut story = Story::new(Protocol::Sotw, "cds a=1");
    let held = version(view("cds a=1").get(CDS)).to_string();
    sotw_ask(&mut story, "cds", &[], "", &held);
    story.sends(&[]).view("cds a=2").sends(&["cds 2"]);
    // It changes, and back, before anything was sent.
    let mut story = Story::new(Protocol::Sotw, "cds a=2");
    sotw_ask(&mut story, "cds", &[], "", &held);
    story.view("cds a=1").sends(&[]).view("cds a=3").sends(&["cds 3"]);
}

#[test]
fn state_of_the_world_unsubscribes_with_an_empty_list() {
    let mut story = Story::new(Protocol::Sotw, "eds a=1");
    sotw_ask(&mut story, "eds", &["a"], "", "");
    story.sends(&["eds 1"]);
    sotw_ask(&mut story, "eds", &[], "00000001", "");
    assert!(story.stream.status().is_empty());
}

/// A proxy that does without a name forgets it, also if the request that says so comes too late to count.
#[test]
fn state_of_the_world_sends_again_what_was_let_go_in_between() {
    let mut story = Story::new(Protocol::Sotw, "sds a=1 b=1");
    sotw_ask(&mut story, "sds", &["a", "b"], "", "");
    story.sends(&["sds 1 1"]);
    sotw_ask(&mut story, "sds", &["a", "b"], "00000001", "");
    story.view("sds a=2 b=1").sends(&["sds 2"]);
    // Both were said before it had read that.
    assert_eq!(sotw_ask(&mut story, "sds", &["a"], "00000001", ""), Outcome::Stale);
    assert_eq!(sotw_ask(&mut story, "sds", &["a", "b"], "00000001", ""), Outcome::Stale);
    sotw_ask(&mut story, "sds", &["a", "b"], "00000002", "");
    story.sends(&["sds 1"]);
    sotw_ask(&mut story, "sds", &["a", "b"], "00000003", "");
    story.sends(&[]);
}
