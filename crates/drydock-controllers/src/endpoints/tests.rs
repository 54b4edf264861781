use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::slices::{Action, decide};
use super::*;

fn service(spec: Value) -> Service {
    let mut spec = spec;
    spec["selector"] = json!({"app": "web"});
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "s", "labels": {"team": "a"}}, "spec": spec,
    }))
    .unwrap()
}

/// A pod by a word `name:ip:state`; states `ready`, `starting`, `ending` (still ready).
fn pod(word: &str) -> Pod {
    let mut parts = word.split('/');
    let (name, ip, state) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let ready = if state == "starting" { "False" } else { "True" };
    let deleted = (state == "ending").then_some("2026-01-01T00:00:00Z");
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "ns", "uid": format!("u-{name}"), "deletionTimestamp": deleted},
        "spec": {"nodeName": "node", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]},
    }))
    .unwrap()
}

fn pods(text: &str) -> Vec<Pod> {
    text.split_whitespace().map(pod).collect()
}

/// Carries out the actions on a set of slices, naming new ones by number.
fn apply(slices: &mut Vec<Arc<EndpointSlice>>, actions: Vec<Action>, made: &mut usize) {
    for action in actions {
        match action {
            Action::Create(mut slice) => {
                *made += 1;
                slice.metadata.name = Some(format!("web-{made}"));
                slices.push(Arc::new(*slice));
            }
            Action::Update(slice) => {
                let at = slices
                    .iter()
                    .position(|s| s.metadata.name == slice.metadata.name)
                    .unwrap();
                slices[at] = Arc::new(*slice);
            }
            Action::Delete(slice) => slices.retain(|s| s.metadata.name != slice.metadata.name),
        }
    }
}

fn told(slice: &EndpointSlice) -> String {
    let line = |endpoint: &Endpoint| {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let flag = |value: Option<bool>, name| if value == Some(true) { name } else { "" };
        format!(
            "{}{}{}{}",
            endpoint.addresses.join(","),
            flag(conditions.ready, " ready"),
            flag(conditions.serving, " serving"),
            flag(conditions.terminating, " terminating")
        )
    };
    let ports: Vec<_> = slice
        .ports
        .iter()
        .flatten()
        .map(|port| {
            format!(
                "{}={}",
                port.name.as_deref().unwrap_or_default(),
                port.port.unwrap_or_default()
            )
        })
        .collect();
    let lines: Vec<_> = slice.endpoints.iter().map(line).collect();
    format!("[{}] {}", ports.join(" "), lines.join("; "))
}

fn check(spec: Value, seen: &str, expected: &[&str]) {
    let service = service(spec);
    let pods = pods(seen);
    let pods: Vec<_> = pods.iter().collect();
    let mut slices = Vec::new();
    apply(&mut slices, decide(&service, &pods, &[]), &mut 0);
    let told: Vec<_> = slices.iter().map(|slice| told(slice)).collect();
    assert_eq!(told, expected);
    assert!(
        decide(&service, &pods, &slices).is_empty(),
        "a second round writes nothing"
    );
}

#[test]
fn conditions_of_pods_become_conditions_of_endpoints() {
    check(
        json!({"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}),
        "a/10.0.0.1/ready b/10.0.0.2/starting c/10.0.0.3/ending",
        &["[http=8080] 10.0.0.1 ready serving; 10.0.0.2; 10.0.0.3 serving terminating"],
    );
}

#[test]
fn named_ports_are_looked_up_and_missing_ones_left_out() {
    check(
        json!({"ports": [{"port": 80, "targetPort": "web"}]}),
        "a/10.0.0.1/ready",
        &["[=8080] 10.0.0.1 ready serving"],
    );
    check(
        json!({"ports": [{"port": 80, "targetPort": "other"}]}),
        "a/10.0.0.1/ready",
        &["[] "],
    );
}

#[test]
fn unready_addresses_can_be_published() {
    let spec = json!({"publishNotReadyAddresses": true, "ports": [{"port": 80}]});
    check(spec, "a/10.0.0.1/starting", &["[=80] 10.0.0.1 ready serving"]);
}

#[test]
fn nobody_is_said_with_one_empty_slice() {
    check(json!({"ports": [{"port": 80}]}), "", &["[] "]);
}

#[test]
fn labels_and_owner_are_those_of_kubernetes() {
    let service = service(json!({"clusterIP": "None", "ports": [{"port": 80}]}));
    let [Action::Create(slice)] = <[Action; 1]>::try_from(decide(&service, &[], &[])).unwrap() else {
        panic!()
    };
    let labels: Vec<_> = slice
        .metadata
        .labels
        .iter()
        .flatten()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(
        labels,
        [
            "endpointslice.kubernetes.io/managed-by=endpointslice-controller.k8s.io",
            "kubernetes.io/service-name=web",
            "service.kubernetes.io/headless=",
            "team=a"
        ]
    );
    assert_eq!(slice.metadata.generate_name.as_deref(), Some("web-"));
    assert!(meta::is_controlled_by(&slice.metadata, &service));
}

#[test]
fn older_form_has_ready_and_unready_addresses() {
    let service = service(json!({"ports": [{"name": "http", "port": 80}]}));
    let pods = pods("a/10.0.0.1/ready b/10.0.0.2/starting c/10.0.0.3/ending");
    let pods: Vec<_> = pods.iter().collect();
    let made = legacy::decide(&service, &pods, None).unwrap();
    let subset = &made.subsets.as_ref().unwrap()[0];
    let ips = |list: &Option<Vec<k8s_openapi::api::core::v1::EndpointAddress>>| {
        list.iter()
            .flatten()
            .map(|address| address.ip.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (ips(&subset.addresses), ips(&subset.not_ready_addresses)),
        (vec!["10.0.0.1".into()], vec!["10.0.0.2".into()])
    );
    assert_eq!(legacy::decide(&service, &pods, Some(&made)), None);
}

proptest! {
    /// However pods come and go, the slices tell of exactly those that are there, in slices of at most 100, and an
    /// endpoint that stays is not moved to another slice.
    #[test]
    fn slices_follow_pods(steps in prop::collection::vec(prop::collection::btree_set(0u32..260, 0..230), 1..5)) {
        let service = service(json!({"ports": [{"port": 80}]}));
        let (mut slices, mut made) = (Vec::new(), 0);
        let place = |slices: &[Arc<EndpointSlice>]| -> BTreeMap<String, String> {
            let of = |s: &Arc<EndpointSlice>| {
                let name = s.metadata.name.clone().unwrap_or_default();
                s.endpoints.iter().map(move |e| (e.addresses[0].clone(), name.clone())).collect::<Vec<_>>()
            };
            slices.iter().flat_map(of).collect()
        };
        for wanted in steps {
            let pods: Vec<_> = wanted.iter().map(|n| pod(&format!("p{n}/10.0.{}.{}/ready", n / 250, n % 250))).collect();
            let pods: Vec<_> = pods.iter().collect();
            let before = place(&slices);
            let actions = decide(&service, &pods, &slices);
            apply(&mut slices, actions, &mut made);
            let after = place(&slices);
            prop_assert_eq!(after.len(), wanted.len());
            prop_assert!(slices.iter().all(|slice| slice.endpoints.len() <= 100));
            for (address, slice) in &before {
                if let Some(now) = after.get(address) {
                    prop_assert_eq!(now, slice);
                }
            }
            prop_assert!(decide(&service, &pods, &slices).is_empty());
        }
    }
}
