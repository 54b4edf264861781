//! Stories of order: what is used comes before what uses it, and goes after it.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::SystemTime;

use super::tests::{Story, delta, sotw_ask, view};
use super::*;

#[test]
fn clusters_then_endpoints_then_listeners_then_routes() {
    delta("rds r=1; lds l=1; eds a=1; cds a=1")
        .ask("rds r")
        .ask("lds")
        .ask("eds a")
        .ask("cds")
        .sends(&["cds a=1", "eds a=1", "lds l=1", "rds r=1"]);
}

#[test]
fn what_names_new_clusters_waits_until_they_are_accepted() {
    let mut story = delta("cds a=1; lds l=1; rds r=1");
    story
        .ask("cds")
        .ask("lds")
        .ask("rds r")
        .sends(&["cds a=1", "lds l=1", "rds r=1"])
        .acks_all();
    story
        .view("cds a=1 b=1; lds l=1; rds r=2")
        .sends(&["cds b=1"])
        .ack("cds")
        .sends(&["rds r=2"]);
}

#[test]
fn a_cluster_goes_after_what_refers_to_it() {
    let mut story = delta("cds a=1 b=1; lds l=1; rds r=1");
    story
        .ask("cds")
        .ask("lds")
        .ask("rds r")
        .sends(&["cds a=1 b=1", "lds l=1", "rds r=1"])
        .acks_all();
    story
        .view("cds a=1 c=1; lds l=2; rds r=2")
        .sends(&["cds c=1"])
        .ack("cds")
        .sends(&["lds l=2", "rds r=2"])
        .ack("lds")
        .sends(&[])
        .ack("rds")
        .sends(&["cds -b"]);
}

#[test]
fn a_cluster_goes_after_a_route_that_is_asked_for_again() {
    let mut story = delta("cds a=1 b=1; rds r=1 s=1");
    story
        .ask("cds")
        .ask("rds r")
        .sends(&["cds a=1 b=1", "rds r=1"])
        .acks_all();
    // It is dropped for another while a response with it is on its way, and changes.
    story
        .view("cds a=1 b=1; rds r=2 s=1")
        .sends(&["rds r=2"])
        .ask("rds -r s")
        .view("cds a=1; rds r=3 s=1")
        .sends(&["rds s=1"]);
    // The proxy asked for it again before it read that response, so it took in what may use the cluster.
    story
        .ask("rds r")
        .acks_all()
        .sends(&["rds r=3"])
        .ack("rds")
        .sends(&["cds -b"]);
}

#[test]
fn a_cluster_that_was_brought_along_goes_after_what_refers_to_it_although_it_is_asked_for() {
    delta("cds a=1; lds l=2")
        .ask("cds a@1 b@1")
        .ask("lds l@0")
        .ask("cds b")
        .sends(&["lds l=2"])
        .ack("lds")
        .sends(&["cds -b"]);
}

#[test]
fn a_rejected_listener_keeps_the_clusters_it_used() {
    let mut story = delta("cds a=1 b=1; lds l=1");
    story
        .ask("cds")
        .ask("lds")
        .sends(&["cds a=1 b=1", "lds l=1"])
        .acks_all();
    story
        .view("cds a=1; lds l=bad")
        .sends(&["lds l=bad"])
        .nack("lds", "no")
        .sends(&[]);
    story
        .view("cds a=1; lds l=3")
        .sends(&["lds l=3"])
        .ack("lds")
        .sends(&["cds -b"]);
}

#[test]
fn endpoints_follow_a_changed_cluster() {
    let mut story = delta("cds a=1 b=1; eds a=1 b=1");
    story
        .ask("cds")
        .sends(&["cds a=1 b=1"])
        .ask("eds a b")
        .sends(&["eds a=1 b=1"])
        .acks_all();
    story.view("cds a=2 b=1; eds a=1 b=1").sends(&["cds a=2", "eds a=1"]);
}

#[test]
fn state_of_the_world_keeps_clusters_until_listeners_moved() {
    let mut story = Story::new(Protocol::Sotw, "cds a=1 b=2; lds l=1");
    sotw_ask(&mut story, "cds", &[], "", "");
    sotw_ask(&mut story, "lds", &[], "", "");
    story.sends(&["cds 1 2", "lds 1"]).ack("cds").ack("lds");
    story
        .view("cds a=1; lds l=2")
        .sends(&["lds 2"])
        .ack("lds")
        .sends(&["cds 1"]);
}

#[test]
fn what_one_proxy_brought_along_is_not_taken_for_what_another_was_sent() {
    let limits = Arc::new(Limits::default());
    let shared = Arc::new(Shared::new(&limits));
    let story = |text: &str| Story {
        stream: Stream::new(Protocol::Delta, view(text), limits.clone(), shared.clone()),
        now: SystemTime::UNIX_EPOCH,
    };
    // One comes back with a cluster that is gone, one was sent it before it went; both keep it for their listener.
    let mut back = story("cds a=1; lds l=1");
    back.ask("cds a@1 b@1").ask("lds l@0").sends(&["lds l=1"]);
    let mut stays = story("cds a=1 b=1; lds l=0");
    stays
        .ask("cds")
        .ask("lds")
        .sends(&["cds a=1 b=1", "lds l=0"])
        .acks_all();
    stays.view("cds a=1; lds l=1").sends(&["lds l=1"]);
    stays.ask("cds b").sends(&["cds b=1"]);
    back.acks_all().sends(&["cds -b"]);
}
