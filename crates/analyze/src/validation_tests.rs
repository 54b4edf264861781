#![allow(clippy::unwrap_used)]
use super::*;

fn verdict(kind: &str, spec: &str) -> Result<Vec<String>, String> {
    let group = match kind {
        "AuthorizationPolicy" | "PeerAuthentication" | "RequestAuthentication" => "security.istio.io/v1",
        _ => "networking.istio.io/v1",
    };
    let spec: Value = serde_json::from_str(spec).unwrap();
    validate(
        &serde_json::json!({"apiVersion": group, "kind": kind, "metadata": {"name": "a", "namespace": "b"}, "spec": spec}),
    )
}

fn valid(kind: &str, spec: &str) {
    assert_eq!(verdict(kind, spec), Ok(vec![]), "{kind} {spec}");
}

fn invalid(kind: &str, spec: &str, part: &str) {
    let message = verdict(kind, spec).unwrap_err();
    assert!(message.contains(part), "{kind} {spec}: {message}");
}

#[test]
fn virtual_services() {
    valid(
        "VirtualService",
        r#"{"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a", "port": {"number": 80}}}]}]}"#,
    );
    invalid(
        "VirtualService",
        r#"{"hosts": ["a"], "http": [{"route": [{"destination": {"host": ""}}]}]}"#,
        "spec.http[0].route[0].destination.host: a host name is required",
    );
    invalid(
        "VirtualService",
        r#"{"hosts": ["*"], "http": [{"redirect": {"uri": "/"}}]}"#,
        "bound to the mesh gateway",
    );
    invalid(
        "VirtualService",
        r#"{"hosts": ["a"]}"#,
        "http, tcp or tls must be provided",
    );
    invalid(
        "VirtualService",
        r#"{"hosts": ["a"], "http": [{"match": [{"uri": {"regex": "("}}], "redirect": {"uri": "/"}}]}"#,
        "invalid regular expression",
    );
    invalid("VirtualService", r#"{"hosts": ["a"], "http": [{}]}"#, "is required");
}

#[test]
fn gateways() {
    valid(
        "Gateway",
        r#"{"servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]}"#,
    );
    invalid("Gateway", r#"{}"#, "at least one server");
    invalid(
        "Gateway",
        r#"{"servers": [{"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["*"]}]}"#,
        "needs TLS settings",
    );
    invalid(
        "Gateway",
        r#"{"servers": [{"port": {"number": 99999, "name": "h", "protocol": "HTP"}, "hosts": []}]}"#,
        "3 errors occurred",
    );
}

#[test]
fn destination_rules() {
    valid(
        "DestinationRule",
        r#"{"host": "a", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}"#,
    );
    invalid(
        "DestinationRule",
        r#"{"host": "a", "subsets": [{"name": "v1"}, {"name": "v1"}]}"#,
        "duplicate subset",
    );
    invalid(
        "DestinationRule",
        r#"{"host": "a", "trafficPolicy": {"tls": {"mode": "MUTUAL"}}}"#,
        "client certificate required",
    );
}

#[test]
fn service_entries() {
    valid(
        "ServiceEntry",
        r#"{"hosts": ["a.com"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "DNS"}"#,
    );
    invalid(
        "ServiceEntry",
        r#"{"hosts": ["*"], "resolution": "DNS"}"#,
        "hostname cannot be wildcard",
    );
    invalid(
        "ServiceEntry",
        r#"{"hosts": ["a.com"], "endpoints": [{"address": "1.1.1.1"}]}"#,
        "NONE mode cannot set endpoints",
    );
}

#[test]
fn policies() {
    valid("AuthorizationPolicy", r#"{}"#);
    invalid(
        "AuthorizationPolicy",
        r#"{"rules": [{"when": [{"key": "request.ip", "values": ["a"]}]}]}"#,
        "unknown attribute",
    );
    invalid("AuthorizationPolicy", r#"{"action": "CUSTOM"}"#, "requires a provider");
    invalid(
        "PeerAuthentication",
        r#"{"portLevelMtls": {"80": {"mode": "STRICT"}}}"#,
        "need a selector",
    );
    invalid(
        "RequestAuthentication",
        r#"{"jwtRules": [{"issuer": "a", "jwksUri": "a"}]}"#,
        "url must have scheme",
    );
}

#[test]
fn foreign_kinds_and_fields_are_named() {
    assert_eq!(
        validate(&serde_json::json!({"apiVersion": "v1", "kind": "Pod"})),
        Err("unrecognized type v1/Pod".to_owned())
    );
    let object = serde_json::json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "a", "namespace": "b"}, "specs": {}});
    assert_eq!(
        validate(&object),
        Err("unknown field \"specs\" on Gateway resource b/a".to_owned())
    );
}

#[test]
fn the_probe_of_the_webhook_is_refused() {
    let object = serde_json::json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "invalid-gateway", "annotations": {ALWAYS_REJECT: "true"}}, "spec": {}});
    assert!(validate(&object).is_err());
}

#[test]
fn the_schema_of_the_definition_comes_first() {
    invalid(
        "VirtualService",
        r#"{"tls": [{"route": []}]}"#,
        "spec.tls[0].match: Required value",
    );
    invalid(
        "DestinationRule",
        r#"{"host": "a", "trafficPolicy": {"loadBalancer": {"simple": "BEST"}}}"#,
        "spec.trafficPolicy.loadBalancer.simple: Unsupported value: \"BEST\"",
    );
    invalid(
        "VirtualService",
        r#"{"hosts": ["a"], "http": [{"match": [{"uri": {"exact": "/", "prefix": "/"}}]}]}"#,
        "spec.http[0].match[0].uri: only one of exact, prefix can be set",
    );
    // The decoder reads null and "" as absent, and a number for a word.
    valid(
        "PeerAuthentication",
        r#"{"selector": null, "mtls": {"mode": "STRICT"}, "portLevelMtls": null}"#,
    );
}

#[test]
fn telemetry_and_extensions() {
    let verdict = |version: &str, kind: &str, spec: Value| {
        let metadata = serde_json::json!({"name": "a", "namespace": "b"});
        validate(&serde_json::json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}))
    };
    let tag = |change: Value| {
        let spec = serde_json::json!({"metrics": [{"overrides": [{"tagOverrides": {"t": change}}]}]});
        verdict("telemetry.istio.io/v1", "Telemetry", spec)
    };
    assert_eq!(
        tag(serde_json::json!({"operation": "UPSERT", "value": "request.host"})),
        Ok(vec![])
    );
    assert!(tag(serde_json::json!({"operation": "REMOVE", "value": "x"})).is_err());
    assert!(tag(serde_json::json!({"operation": "UPSERT"})).is_err());
    let module = |url: &str| {
        verdict(
            "extensions.istio.io/v1alpha1",
            "WasmPlugin",
            serde_json::json!({"url": url}),
        )
    };
    for good in ["oci://registry/a:1", "registry/a:1", "https://a/b?c=%20", "file:///a"] {
        assert_eq!(module(good), Ok(vec![]), "{good}");
    }
    for bad in ["", "ftp://a", "#%blah", "a b"] {
        assert!(module(bad).is_err(), "{bad}");
    }
}
