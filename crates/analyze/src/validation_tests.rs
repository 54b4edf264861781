#![allow(clippy::unwrap_used)]
use super::*;

pub(super) fn verdict(kind: &str, spec: &str) -> Result<Vec<String>, String> {
    let group = match kind {
        "AuthorizationPolicy" | "PeerAuthentication" | "RequestAuthentication" => "security.istio.io/v1",
        _ => "networking.istio.io/v1",
    };
    let spec: Value = serde_json::from_str(spec).unwrap();
    validate(
        &serde_json::json!({"apiVersion": group, "kind": kind, "metadata": {"name": "a", "namespace": "b"}, "spec": spec}),
    )
}

pub(super) fn valid(kind: &str, spec: &str) {
    assert_eq!(verdict(kind, spec), Ok(vec![]), "{kind} {spec}");
}

pub(super) fn invalid(kind: &str, spec: &str, part: &str) {
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
    let nameless = serde_json::json!({"url": "a", "vmConfig": {"env": [{"name": "", "value": "b"}]}});
    assert!(verdict("extensions.istio.io/v1alpha1", "WasmPlugin", nameless).is_err());
    for good in ["oci://registry/a:1", "registry/a:1", "https://a/b?c=%20", "file:///a"] {
        assert_eq!(module(good), Ok(vec![]), "{good}");
    }
    for bad in ["", "ftp://a", "#%blah", "a b"] {
        assert!(module(bad).is_err(), "{bad}");
    }
}

/// Specs in YAML's short form, one a line; what is refused has a part of the reason behind `=>`.
fn verdicts(kind: &str, lines: &str) {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (spec, reason) = line.split_once(" => ").unwrap_or((line, ""));
        let spec: Value = serde_saphyr::from_str(spec).unwrap();
        match (verdict(kind, &spec.to_string()), reason) {
            (Ok(_), "") => {}
            (Err(error), reason) if !reason.is_empty() => assert!(error.contains(reason), "{line}: {error}"),
            (result, _) => panic!("{line}: {result:?}"),
        }
    }
}

#[test]
fn hosts_and_gateways_of_virtual_services() {
    verdicts(
        "VirtualService",
        r#"
        {hosts: [10.0.0.1], http: [{redirect: {uri: /}}]}
        {hosts: [10.0.0.1, 10.0.0.1], http: [{redirect: {uri: /}}]} => duplicate host
        {hosts: [a_b], http: [{redirect: {uri: /}}]} => is no host name
        {hosts: ["*.a.com", x.a.com], http: [{redirect: {uri: /}}]} => duplicate host "x.a.com"
        {hosts: [a.com], gateways: [ns/g, mesh], http: [{redirect: {uri: /}}]}
        {hosts: [a.com], gateways: [ns/g_1], http: [{redirect: {uri: /}}]} => is no namespace and name of a gateway
        {gateways: [g], http: [{redirect: {uri: /}}]} => is delegated to, and has no gateways
        {hosts: [a], http: [{match: [{headers: {"@request.auth.claims.x": {exact: b}}}], redirect: {uri: /}}]} => is for gateways only
        {hosts: [a], gateways: [g], http: [{match: [{headers: {"@request.auth.claims.x": {exact: b}}}], redirect: {uri: /}}]}
        {hosts: ["*.a.com"], gateways: [g], tls: [{match: [{sniHosts: [x.a.com]}], route: [{destination: {host: a}}]}]}
        {hosts: [a.com], gateways: [g], tls: [{match: [{sniHosts: [b.com]}], route: [{destination: {host: a}}]}]} => is none of the hosts
        {hosts: [outbound_.80_._.a.com], gateways: [g], tls: [{match: [{sniHosts: [outbound_.80_._.a.com]}], route: [{destination: {host: a}}]}]}
        {hosts: [a], exportTo: [., b], http: [{redirect: {uri: /}}]} => is there twice
        {hosts: [a], exportTo: ["~"], http: [{redirect: {uri: /}}]} => is for service entries only
        "#,
    );
}

#[test]
fn routes_of_virtual_services() {
    let lines = r#"
        {redirect: {uri: /, redirectCode: 304}}
        {redirect: {}} => redirect must specify
        {redirect: {prefixRewrite: /a}}
        {match: [{uri: {exact: /}}], redirect: {prefixRewrite: /a}} => by prefix
        {redirect: {uri: /, scheme: ftp}} => invalid redirect scheme
        {redirect: {uri: /}, directResponse: {status: 200}} => both redirect and directResponse
        {redirect: {uri: /}, rewrite: {uri: /}} => both rewrite and redirect
        {delegate: {name: d}, directResponse: {status: 200}}
        {delegate: {name: d}, redirect: {uri: /}} => a route that delegates
        {directResponse: {status: 100}} => is no final HTTP status
        {route: [{destination: {host: 10.0.0.1}}]} => is no host name
        {route: [{destination: {host: a}}], timeout: 1500us} => ms precision
        {route: [{destination: {host: a}}], retries: {attempts: 0, retryOn: 5xx}} => attempts are set to 0
        {route: [{destination: {host: a}}], retries: {attempts: 1, retryOn: "5xx,503"}}
        {route: [{destination: {host: a}}], retries: {attempts: 1, retryOn: "5xx, 503"}} => is not a valid retryOn policy
        {route: [{destination: {host: a}}], fault: {}} => an abort or a delay
        {route: [{destination: {host: a}}], fault: {abort: {grpcStatus: NOPE}}} => is not known
        {route: [{destination: {host: a}}], fault: {delay: {fixedDelay: 1s, percentage: {value: 0.00001}}}} => 0.0001
        {route: [{destination: {host: a}}], mirrorPercentage: {value: 101}} => between 0 and 100
        {route: [{destination: {host: a}}], mirror: {host: b}, mirrors: [{destination: {host: c}}]} => both mirror and mirrors
        {route: [{destination: {host: a}}], corsPolicy: {allowMethods: [FETCH]}} => is not a supported HTTP method
        {route: [{destination: {host: a}}], corsPolicy: {allowOrigins: [{exact: ""}]}} => must not be empty
        {route: [{destination: {host: a}}], corsPolicy: {maxAge: 1500ms}} => whole seconds
        {route: [{destination: {host: a}}], headers: {request: {set: {host: b}}}}
        {route: [{destination: {host: a}}], headers: {response: {set: {host: b}}}} => cannot be changed here
        {route: [{destination: {host: a}}], headers: {request: {add: {x: "%A"}}}} => is no value of a header
        {route: [{destination: {host: a}}], headers: {request: {set: {host: b}}}, rewrite: {authority: c}} => more than once
        {route: [{destination: {host: a}}], rewrite: {}} => must specify
        {match: [{method: {prefix: ""}}], route: [{destination: {host: a}}]} => an empty prefix
        {match: [{uri: {prefix: ""}}], route: [{destination: {host: a}}]}
        {match: [{uri: {regex: "/{id}/.*"}}], route: [{destination: {host: a}}]}
        {match: [{withoutHeaders: {x: {regex: "*"}}}], route: [{destination: {host: a}}]}
        {match: [{headers: {x: {regex: "*"}}}], route: [{destination: {host: a}}]} => invalid regular expression
        {match: [{headers: {"a b": {exact: x}}}], route: [{destination: {host: a}}]} => is no name of a header
        {match: [{headers: {":path": {exact: x}}}], route: [{destination: {host: a}}]}
        {match: [{sourceLabels: {"a*": x}}], route: [{destination: {host: a}}]} => is no key of a label
        "#;
    let routes = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    for line in routes {
        let (route, reason) = line.split_once(" => ").unwrap_or((line, ""));
        let arrow = if reason.is_empty() { "" } else { " => " };
        verdicts(
            "VirtualService",
            &format!("{{hosts: [a], http: [{route}]}}{arrow}{reason}"),
        );
    }
}

#[test]
fn servers_of_gateways() {
    let tls = "port: {number: 443, name: a, protocol: HTTPS}, hosts: [a.com], tls: ";
    for (server, reason) in [
        (
            r#"port: {number: 80, name: a, protocol: HTTP}, hosts: [a]"#.to_owned(),
            "is a short name",
        ),
        (
            r#"port: {number: 80, name: a, protocol: HTTP}, hosts: ["a*.com"]"#.to_owned(),
            "is no host name",
        ),
        (
            r#"port: {number: 80, name: a, protocol: HTTP}, hosts: [10.0.0.1]"#.to_owned(),
            "",
        ),
        (
            r#"port: {number: 80, name: a, protocol: HTTP}, hosts: ["a_b/a.com"]"#.to_owned(),
            "is no namespace",
        ),
        (
            r#"port: {number: 80, name: a, protocol: HTTP, targetPort: 8080}, hosts: [a.com]"#.to_owned(),
            "no impact",
        ),
        (
            r#"port: {number: 80, name: a, protocol: HTTP}, bind: a, hosts: [a.com]"#.to_owned(),
            "neither an IP address",
        ),
        (
            r#"port: {number: 80, name: a, protocol: HTTP}, hosts: [a.com], tls: {httpsRedirect: true}"#.to_owned(),
            "",
        ),
        (
            r#"port: {number: 80, name: a, protocol: HTTP}, hosts: [a.com], tls: {mode: SIMPLE, credentialName: c}"#
                .to_owned(),
            "cannot have TLS settings",
        ),
        (
            format!("{tls}{{mode: SIMPLE, credentialName: c, credentialNames: [d]}}"),
            "only one of credentialName",
        ),
        (
            format!("{tls}{{mode: MUTUAL, serverCertificate: c, privateKey: k}}"),
            "requires the client's CA",
        ),
        (format!("{tls}{{mode: OPTIONAL_MUTUAL, credentialName: c}}"), ""),
        (
            format!("{tls}{{mode: PASSTHROUGH, credentialName: c, caCrl: l}}"),
            "brings its own list",
        ),
        (
            format!("{tls}{{mode: SIMPLE, serverCertificate: c, privateKey: k, caCrl: l}}"),
            "none can be revoked",
        ),
    ] {
        let arrow = if reason.is_empty() { "" } else { " => " };
        verdicts("Gateway", &format!("{{servers: [{{{server}}}]}}{arrow}{reason}"));
    }
}

#[test]
fn policies_of_traffic() {
    let lines = r#"
        {} => must have at least one field
        {connectionPool: {}} => must have at least one field
        {connectionPool: {http: {maxRetries: -1}}} => must not be negative
        {connectionPool: {http: {useClientProtocol: true, h2UpgradePolicy: UPGRADE}}} => must not be true
        {connectionPool: {tcp: {idleTimeout: 0s}}}
        {connectionPool: {tcp: {connectTimeout: 0s}}} => greater than 1ms
        {outlierDetection: {consecutiveLocalOriginFailures: 5}} => needs splitExternalLocalOriginErrors
        {outlierDetection: {minHealthPercent: 101}} => between 0 and 100
        {loadBalancer: {consistentHash: {}}}
        {loadBalancer: {consistentHash: {httpCookie: {name: ""}}}} => name
        {loadBalancer: {consistentHash: {httpHeaderName: a, maglev: {tableSize: 100}}}} => is no prime number
        {loadBalancer: {consistentHash: {httpHeaderName: a, maglev: {tableSize: 101}}}}
        {loadBalancer: {localityLbSetting: {distribute: [{from: a/*, to: {a/b: 50, a/c: 50}}]}}}
        {loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {a: 100}}, {from: a/b, to: {a: 100}}]}}} => overlaps with an earlier one
        {loadBalancer: {localityLbSetting: {failover: [{from: a, to: a}]}}} => must lead to another region
        {loadBalancer: {localityLbSetting: {}, zoneAwareLbSetting: {}}} => only one of localityLbSetting
        {tls: {mode: ISTIO_MUTUAL, caCertificates: a}}
        {tls: {mode: SIMPLE, credentialName: a, caCertificates: b}} => cannot be combined
        {tls: {mode: SIMPLE, credentialName: "configmap://other/a"}} => of the rule's own namespace
        {tls: {mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a]}} => nobody is verified
        {tunnel: {targetHost: "*.a.com", targetPort: 80}} => is no complete host name
        {portLevelSettings: [{port: {number: 80}}]} => must have at least one field
        {portLevelSettings: [{port: {}, tls: {mode: SIMPLE}}]}
        {portLevelSettings: [{tls: {mode: SIMPLE}}]} => a port is required
        "#;
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (policy, reason) = line.split_once(" => ").unwrap_or((line, ""));
        let arrow = if reason.is_empty() { "" } else { " => " };
        verdicts(
            "DestinationRule",
            &format!("{{host: a, trafficPolicy: {policy}}}{arrow}{reason}"),
        );
    }
    verdicts(
        "DestinationRule",
        r#"
        {host: 10.0.0.1} => is no host name
        {host: a, subsets: [{name: a_b}]} => is no subset name
        {host: a, subsets: [{name: a, labels: {v: "1*"}}]} => is no value of a label
        {host: a, workloadSelector: {matchLabels: {a: b}}, exportTo: [.]}
        {host: a, workloadSelector: {matchLabels: {a: b}}, exportTo: ["*"]} => for its own namespace only
        "#,
    );
}

#[test]
fn sidecars() {
    verdicts(
        "Sidecar",
        r#"
        {egress: [{hosts: ["./*", "istio-system/*"]}]}
        {} => changes nothing
        {egress: [{hosts: [a]}]} => must be of form namespace/host
        {egress: [{hosts: ["./a"]}]} => is a short name
        {egress: [{hosts: ["~/*"]}, {port: {number: 80, name: a, protocol: HTTP}, hosts: ["./*"]}]} => and the last one
        {egress: [{port: {number: 0, name: a, protocol: HTTP}, hosts: ["./*"]}]} => for sockets only
        {egress: [{port: {number: 0, name: a, protocol: HTTP}, bind: "unix:///a", hosts: ["./*"]}]}
        {egress: [{bind: 10.0.0.1, port: {number: 80, name: a, protocol: HTP}, hosts: ["./*"]}]} => unsupported protocol
        {ingress: [{port: {number: 80, name: a, protocol: HTTP}, defaultEndpoint: "127.0.0.1:8080"}]}
        {ingress: [{port: {number: 80, name: a, protocol: HTTP}, defaultEndpoint: "10.0.0.1:8080"}]} => must be of form 127.0.0.1:PORT
        {ingress: [{port: {number: 80, name: a, protocol: HTTP}}, {port: {number: 80, name: b, protocol: HTTP}}]} => must be unique
        {ingress: [{port: {number: 443, name: a, protocol: HTTPS}, tls: {mode: ISTIO_MUTUAL}}]} => is not supported in sidecars
        {outboundTrafficPolicy: {mode: REGISTRY_ONLY, egressProxy: {host: a.b, port: {number: 80}}}} => needs the mode ALLOW_ANY
        "#,
    );
}

#[test]
fn entries_of_services_and_workloads() {
    let port = "ports: [{number: 80, name: http, protocol: HTTP}]";
    for line in [
        "resolution: STATIC",
        r#"resolution: STATIC, endpoints: [{address: a.com}] => is not a valid IP address"#,
        r#"resolution: STATIC, endpoints: [{address: 1.1.1.1, ports: {grpc: 80}}] => is not defined by the service entry"#,
        r#"resolution: DNS, endpoints: [{address: "unix:///a"}] => a socket serves exactly one port"#,
        r#"exportTo: ["~"]"#,
        r#"resolution: DYNAMIC_DNS => must begin with '*'"#,
    ] {
        let (entry, reason) = line.split_once(" => ").unwrap_or((line, ""));
        let arrow = if reason.is_empty() { "" } else { " => " };
        verdicts(
            "ServiceEntry",
            &format!("{{hosts: [a.com], {port}, {entry}}}{arrow}{reason}"),
        );
    }
    verdicts(
        "ServiceEntry",
        r#"
        {hosts: [a.com, b.com], resolution: DNS, ports: [{number: 80, name: tcp, protocol: TCP}]} => cannot tell them apart
        {hosts: [a.com, b.com], ports: [{number: 80, name: tcp, protocol: TCP}]}
        {hosts: ["*.a.com"], resolution: DYNAMIC_DNS, ports: [{number: 80, name: http, protocol: HTTP}]}
        {hosts: ["*.a.com"], resolution: DYNAMIC_DNS, ports: [{number: 80, name: tcp, protocol: TCP}]} => needs HTTP, TLS, GRPC or HTTP2
        "#,
    );
    verdicts(
        "WorkloadEntry",
        "{address: a_b.com} => is not a valid IP address or host name",
    );
    verdicts(
        "WorkloadEntry",
        r#"{address: a.com, labels: {a: "b c"}} => is no value of a label"#,
    );
    verdicts("WorkloadGroup", "{template: {}, probe: {}} => is required");
    verdicts(
        "WorkloadGroup",
        "{template: {}, probe: {httpGet: {port: 80, httpHeaders: [{name: a_b}]}}} => is no name of a header",
    );
}

#[test]
fn policies_of_security() {
    verdicts(
        "AuthorizationPolicy",
        r#"
        {action: DENY} => without rules
        {action: DENY, rules: []} => without rules
        {action: DENY, rules: [{}]}
        {rules: [{to: [{operation: {ports: ["0"]}}]}]}
        {rules: [{to: [{operation: {ports: [http]}}]}]} => is no port
        {rules: [{to: [{operation: {paths: ["/a/{*}/b", "/{**}"]}}]}]}
        {rules: [{to: [{operation: {paths: ["/{**}/{*}"]}}]}]} => nothing may follow
        {rules: [{to: [{operation: {paths: ["/a{*}"]}}]}]} => as whole segments
        {rules: [{from: [{source: {serviceAccounts: [a/b/c]}}]}]} => must be of form
        {rules: [{from: [{source: {trustDomains: ["a*b"]}}]}]} => at the start or the end
        {rules: [{when: [{key: "request.headers", values: [a]}]}]} => should have the form a[b]
        {rules: [{when: [{key: "destination.port", values: [x]}]}]} => is no port
        {action: CUSTOM, provider: {name: p}, rules: [{from: [{source: {principals: [a]}}]}]} => is currently not supported with CUSTOM
        {targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: g}]}
        {targetRefs: [{kind: Deployment, group: apps, name: d}]} => is nothing that it can be attached to
        "#,
    );
    verdicts(
        "RequestAuthentication",
        r#"
        {jwtRules: [{jwksUri: "https://a/jwks"}]}
        {jwtRules: [{audiences: [a]}]} => an issuer or jwksUri is required
        {jwtRules: [{issuer: a, jwksUri: "https://a:b"}]} => url must have scheme
        {jwtRules: [{issuer: a, outputClaimToHeaders: [{header: "a b", claim: c}]}]} => should match
        "#,
    );
}

#[test]
fn patches_of_envoy() {
    let verdict = |spec: &str| {
        let spec: Value = serde_saphyr::from_str(spec).unwrap();
        judge(
            &serde_json::json!({"apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
            "metadata": {"name": "a", "namespace": "b"}, "spec": spec}),
        )
        .errors
        .join("; ")
    };
    let patch = |text: &str| verdict(&format!("{{configPatches: [{text}]}}"));
    assert_eq!(patch("{applyTo: CLUSTER, patch: {operation: REMOVE}}"), "");
    for (text, reason) in [
        ("{applyTo: CLUSTER}", "patch: is required"),
        ("{applyTo: CLUSTER, patch: {operation: MERGE}}", "value: is required"),
        (
            "{applyTo: CLUSTER, match: {listener: {}}, patch: {operation: REMOVE}}",
            "is matched by cluster",
        ),
        (
            "{applyTo: NETWORK_FILTER, match: {listener: {filterChain: {filter: {name: a, subFilter: {name: b}}}}}, patch: {operation: REMOVE}}",
            "HTTP_FILTER only",
        ),
    ] {
        assert!(patch(text).contains(reason), "{text}: {}", patch(text));
    }
}

#[test]
fn annotations_that_mean_something() {
    let verdict = |kind: &str, annotation: &str, value: &str| {
        let group = if kind == "Gateway" { "networking" } else { "security" };
        let spec = match kind {
            "Gateway" => {
                serde_json::json!({"servers": [{"port": {"number": 80, "name": "a", "protocol": "HTTP"}, "hosts": ["*"]}]})
            }
            _ => serde_json::json!({}),
        };
        validate(
            &serde_json::json!({"apiVersion": format!("{group}.istio.io/v1"), "kind": kind, "spec": spec,
            "metadata": {"name": "a", "namespace": "b", "annotations": {annotation: value}}}),
        )
        .is_ok()
    };
    assert!(verdict("AuthorizationPolicy", "istio.io/dry-run", "true"));
    assert!(!verdict("AuthorizationPolicy", "istio.io/dry-run", "yes"));
    assert!(!verdict("Gateway", "istio.io/dry-run", "true"));
    assert!(!verdict("Gateway", "internal.istio.io/parents", "x"));
}

#[test]
fn rules_that_are_never_reached_are_warned_of() {
    let warnings = verdict(
        "VirtualService",
        r#"{"hosts": ["a"], "http": [{"redirect": {"uri": "/"}}, {"redirect": {"uri": "/b"}}]}"#,
    )
    .unwrap();
    assert!(warnings[0].contains("rule #1 not used"), "{warnings:?}");
}
