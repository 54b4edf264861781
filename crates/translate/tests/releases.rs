//! Proxies of several releases at one control plane, as during an upgrade: an older one gets no field that it does not
//! know (Envoy rejects those), and policies mean the same for all.
#![allow(clippy::unwrap_used)]

mod shop;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use translate::{Generator, ResourceType};

const SHOP: &str = include_str!("fixtures/shop.yaml");

/// Everything whose form depends on the release.
const TRACED: &str = r"
apiVersion: v1
kind: Service
metadata: { name: zipkin, namespace: istio-system }
spec: { clusterIP: 10.96.3.1, ports: [{ name: http, port: 9411 }] }
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: { name: mesh, namespace: istio-system }
spec:
  tracing:
  - providers: [{ name: zipkin }]
    disableContextPropagation: true
    customTags: { path: { formatter: { value: '%PATH%' } }, fixed: { literal: { value: x } } }
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: tokens, namespace: shop }
spec: { jwtRules: [{ issuer: someone, jwks: '{\x22keys\x22:[]}' }] }
";
const MESH: &str = r"
extensionProviders:
- name: zipkin
  zipkin: { service: zipkin.istio-system.svc.cluster.local, port: 9411, traceContextOption: USE_B3_WITH_W3C_PROPAGATION }
";

/// Releases from the oldest on that may be beside the newest during an upgrade, and one that is none of Istio's.
const RELEASES: [&str; 8] = [
    "1.24.6",
    "1.27.3",
    "1.28.0",
    "1.29.1",
    "1.30.0",
    "1.31.0",
    "1.32.0",
    "private-build",
];

/// Where Envoy says what it is, as it does but in tests, that counts, and not the agent beside it: those of Trysail are
/// versioned apart. Each with a release of Istio that comes with the same Envoy.
const OWN: [(&str, &str); 4] = [
    ("0.2.0 with Envoy 1.32.4", "1.24.6"),
    ("0.2.0 with Envoy 1.36.0", "1.28.0"),
    ("0.3.0 with Envoy 1.38.2", "1.30.0"),
    ("1.32.0 with Envoy 1.35.4", "1.27.3"),
];

type Sets = BTreeMap<ResourceType, BTreeMap<String, Value>>;

/// What sidecar and gateway of a release are sent.
fn sent(release: &str) -> Sets {
    let text = format!("{SHOP}\n---\n{}", TRACED.replace("\\x22", "\""));
    let mesh = testkit::mesh(&text, MESH).unwrap();
    let mut generator = Generator::new(mesh.snapshot());
    let mut all = Sets::new();
    for mut spec in [shop::catalog(), shop::gateway()] {
        let (agent, envoy) = release.split_once(" with Envoy ").unzip();
        spec.istio_version = Some(agent.unwrap_or(release).to_owned());
        spec.envoy_version = envoy.map(str::to_owned);
        let class = generator.open(shop::proved(&spec).class(generator.snapshot()));
        for (resource_type, set) in generator.sets(class) {
            let named = testkit::resources_json(&set)
                .into_iter()
                .map(|(name, json)| (format!("{} {name}", spec.role), json));
            all.entry(resource_type).or_default().extend(named);
        }
    }
    all
}

/// Fields that a value uses, each behind the type of the message that it is in.
fn fields(value: &Value, message: &str, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            let own = map
                .get("@type")
                .and_then(Value::as_str)
                .and_then(|url| url.rsplit('.').next());
            let (message, path) = own.map_or((message, path), |own| (own, ""));
            for (key, value) in map.iter().filter(|(key, _)| *key != "@type") {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                found.insert(format!("{message}: {path}"));
                fields(value, message, &path, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fields(item, message, path, found)),
        // Which variant of an enumeration is used is part of what a proxy must know.
        Value::String(text)
            if text
                .chars()
                .all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit()) =>
        {
            found.insert(format!("{message}: {path} = {text}"));
        }
        _ => {}
    }
}

fn all_fields(release: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (resource_type, resources) in sent(release) {
        resources
            .values()
            .for_each(|value| fields(value, &resource_type.to_string(), "", &mut found));
    }
    found
}

#[test]
fn a_release_is_sent_new_fields_when_it_knows_them() {
    let mut story = String::new();
    for pair in RELEASES.windows(2) {
        let (older, newer) = (all_fields(pair[0]), all_fields(pair[1]));
        story += &format!("{} -> {}\n", pair[0], pair[1]);
        older
            .difference(&newer)
            .for_each(|field| story += &format!("  - {field}\n"));
        newer
            .difference(&older)
            .for_each(|field| story += &format!("  + {field}\n"));
    }
    insta::assert_snapshot!(story, @r"
    1.24.6 -> 1.27.3
    1.27.3 -> 1.28.0
      + ZipkinConfig: traceContextOption
      + ZipkinConfig: traceContextOption = USE_B3_WITH_W3C_PROPAGATION
    1.28.0 -> 1.29.1
      - ZipkinConfig: collectorCluster
      - ZipkinConfig: collectorEndpoint
      - ZipkinConfig: collectorHostname
      + HttpConnectionManager: tracing.customTags.value
      + ZipkinConfig: collectorService
      + ZipkinConfig: collectorService.httpUri
      + ZipkinConfig: collectorService.httpUri.cluster
      + ZipkinConfig: collectorService.httpUri.timeout
      + ZipkinConfig: collectorService.httpUri.uri
    1.29.1 -> 1.30.0
      + HttpConnectionManager: tracing.noContextPropagation
    1.30.0 -> 1.31.0
    1.31.0 -> 1.32.0
    1.32.0 -> private-build
    ");
}

#[test]
fn what_envoy_says_of_itself_counts() {
    for (own, istio) in OWN {
        assert_eq!(sent(own), sent(istio), "{own} as {istio}");
    }
}

/// What the oldest release is sent. All of it is in the API of its Envoy (1.32, go-control-plane v1.32.4); a line that is
/// new here must be, too.
#[test]
fn what_the_oldest_release_is_sent() {
    let fields: Vec<String> = all_fields(RELEASES[0]).into_iter().collect();
    insta::assert_snapshot!(fields.join("\n"));
}

/// Filters that decide who may do what, wherever they stand.
fn policies(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Object(map) => {
            let name = map.get("name").and_then(Value::as_str).unwrap_or_default();
            let decides = ["rbac", "jwt_authn", "ext_authz"]
                .iter()
                .any(|kind| name.ends_with(kind));
            let is_transport = name.contains("transport_socket") || map.contains_key("transportSocketMatches");
            if (decides && map.contains_key("typedConfig")) || is_transport {
                found.push(value.clone());
            }
            map.values().for_each(|value| policies(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| policies(item, found)),
        _ => {}
    }
}

#[test]
fn policies_mean_the_same_for_all_releases() {
    let of = |release: &str| {
        let mut found = Vec::new();
        sent(release)
            .values()
            .flat_map(BTreeMap::values)
            .for_each(|value| policies(value, &mut found));
        found
    };
    let newest = of("1.32.0");
    let kinds = |kind: &str| newest.iter().filter(|value| value.to_string().contains(kind)).count();
    assert!(
        kinds("filters.http.rbac") > 0 && kinds("jwt_authn") > 0 && kinds("transport_socket") > 0,
        "nothing to compare"
    );
    for release in RELEASES.into_iter().chain(OWN.map(|(own, _)| own)) {
        assert_eq!(of(release), newest, "{release}");
    }
}
