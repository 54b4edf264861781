//! What a computation that panics costs.
#![allow(clippy::unwrap_used)]

use mesh::{Event, Mesh};
use testkit::ProxySpec;

use super::*;
use crate::ResourceType;

/// Panics where the mesh asks for it: at clusters of services, or at what namespaces see, with the label `panics`.
pub(super) fn panic_as_the_mesh_wants(query: &Query, snapshot: &Snapshot) {
    let labels = match query {
        Query::Clusters(key, _) => snapshot.service(key).map(|service| &service.labels),
        Query::Visible(namespace) => snapshot.namespace(namespace).map(|n| &n.meta.labels),
        _ => None,
    };
    assert!(
        !labels.is_some_and(|l| l.contains_key("panics")),
        "as the test wants it"
    );
}

fn object(kind: &str, name: &str, more: &str) -> String {
    format!("{{apiVersion: v1, kind: {kind}, metadata: {{name: {name}, {more}}}")
}

fn service(name: &str, port: u16, labels: &str) -> String {
    let head = object("Service", name, &format!("namespace: shop, labels: {{{labels}}}"));
    format!("{head}, spec: {{clusterIP: 10.0.0.1, ports: [{{name: http, port: {port}}}]}}}}")
}

fn namespace(labels: &str) -> String {
    object("Namespace", "shop", &format!("labels: {{{labels}}}")) + "}"
}

struct Story {
    mesh: Mesh,
    generator: Generator,
    class: ClassId,
}

impl Story {
    fn new(objects: &[String]) -> Self {
        let mesh = testkit::mesh(&objects.join("\n---\n"), "").unwrap();
        let mut generator = Generator::new(mesh.snapshot());
        let node = ProxySpec::sidecar("shop", "pod", "10.0.1.1", &[]).node();
        let class = crate::Proxy::of_node(&node).unwrap().class(generator.snapshot());
        let class = generator.open(class);
        Self { mesh, generator, class }
    }

    fn tell(&mut self, object: &str) {
        let events: Vec<Event> = testkit::events(object).unwrap();
        let update = self.mesh.apply(events);
        self.generator.update(&update);
    }

    /// The service's clusters that the class is owed, and how much is stuck.
    fn check(&mut self, expected: &str, stuck: usize) {
        let set = self.generator.set(self.class, ResourceType::Cluster);
        let names: Vec<&str> = set
            .iter()
            .filter_map(|r| r.name.strip_prefix("outbound|")?.split_once(".shop."))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names.join(" "), expected);
        assert_eq!(self.generator.stuck().len(), stuck, "{:?}", self.generator.stuck());
    }
}

#[test]
fn an_update_that_panics_costs_one_answer_and_not_for_ever() {
    let mut story = Story::new(&[service("a", 80, ""), service("b", 80, "")]);
    story.check("80||a 80||b", 0);
    story.tell(&[service("a", 81, ""), service("b", 81, "panics: here")].join("\n---\n"));
    story.check("80||b 81||a", 1);
    // Its own inputs need not change for it to be tried again.
    story.tell(&service("a", 82, ""));
    story.check("80||b 82||a", 1);
    story.tell(&service("b", 83, ""));
    story.check("82||a 83||b", 0);
}

#[test]
fn a_service_that_was_never_translated_is_absent_and_no_other() {
    let mut story = Story::new(&[service("a", 80, ""), service("b", 80, "panics: here")]);
    story.check("80||a", 1);
    story.tell(&service("b", 80, ""));
    story.check("80||a 80||b", 0);
}

#[test]
fn what_others_rest_on_is_never_taken_for_nothing() {
    let mut story = Story::new(&[namespace("panics: here"), service("a", 80, "")]);
    let class = story.class;
    let set = std::panic::catch_unwind(AssertUnwindSafe(|| story.generator.set(class, ResourceType::Cluster)));
    assert!(set.is_err(), "no clusters would be sent");
    story.tell(&namespace(""));
    story.check("80||a", 0);
}

#[test]
fn after_starting_again_all_is_as_the_mesh_is() {
    let mut story = Story::new(&[service("a", 80, "")]);
    story.check("80||a", 0);
    // An update of which nobody was told.
    story.mesh.apply(testkit::events(&service("b", 80, "")).unwrap());
    story.generator.start_again(story.mesh.snapshot());
    story.check("80||a 80||b", 0);
    story.generator.close(story.class);
    assert_eq!(story.generator.counters().1, 0);
}
