//! May this custom resource be written? (revisions.md §4.5; the webhook's half of admission)
//!
//! The API server has checked the schema before, but perhaps that of older definitions; so it is checked first. Then
//! comes what a schema cannot say: names of hosts and ports, regular expressions, combinations that mean nothing. Every
//! problem of an object is reported at once.

mod definition;
mod destination_rule;
mod envoy_filter;
mod extension;
mod field;
mod gateway;
mod header_value;
mod http_route;
mod load_balancer;
mod name;
mod policy;
mod request_authentication;
mod selecting;
mod service_entry;
mod sidecar;
mod telemetry;
mod virtual_service;
mod workload_group;

use api::kind::Kind;
use api::lenient::strip_nulls;
use api::names::annotation::DRY_RUN;
use serde::de::DeserializeOwned;
use serde_json::Value;

use field::Problems;
pub(crate) use http_route::is_claim;

/// An object that carries this annotation is always refused: istiod writes one, as a dry run, to learn whether its
/// webhook is called.
pub const ALWAYS_REJECT: &str = "internal.istio.io/webhook-always-reject";

/// Annotations of what a control plane makes of other objects; who could write them could speak for other namespaces.
const RESERVED: [&str; 2] = ["internal.istio.io/parents", "internal.istio.io/parent-namespace"];

/// Top-level fields that every object may have.
const TOP_LEVEL: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// What is to be said of one object.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why it is refused; if there is no reason, it is accepted.
    pub errors: Vec<String>,
    /// What is probably not meant.
    pub warnings: Vec<String>,
}

/// Checks one object. `Ok` holds warnings, `Err` why the object is refused.
pub fn validate(object: &Value) -> Result<Vec<String>, String> {
    kind_of(object)?;
    let problems = problems(object);
    let count = problems.count();
    let (errors, mut warnings) = problems.into_parts();
    match errors.as_slice() {
        [] => {
            warnings.extend(crate::analyzers::never_reached(object));
            Ok(warnings)
        }
        [only] => Err(format!("configuration is invalid: {only}")),
        many => Err(format!(
            "configuration is invalid: {count} errors occurred: {}",
            many.join("; ")
        )),
    }
}

/// The kind of an object of which nothing is unknown.
fn kind_of(object: &Value) -> Result<&'static Kind, String> {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let name = object["kind"].as_str().unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let Some(kind) = Kind::find(group, name) else {
        return Err(format!("unrecognized type {version}/{name}"));
    };
    let mut fields = object.as_object().into_iter().flatten();
    match fields.find(|(field, _)| !TOP_LEVEL.contains(&field.as_str())) {
        Some((field, _)) => {
            let metadata = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
            let place = format!("{}/{}", metadata("namespace"), metadata("name"));
            Err(format!("unknown field {field:?} on {name} resource {place}"))
        }
        None => Ok(kind),
    }
}

/// Checks one object, and says each problem by itself.
pub fn judge(object: &Value) -> Verdict {
    let (errors, warnings) = problems(object).into_parts();
    Verdict { errors, warnings }
}

fn problems(object: &Value) -> Problems {
    let mut problems = Problems::default();
    match kind_of(object) {
        Ok(kind) => look(kind, object, &mut problems),
        Err(unknown) => problems.add("object", unknown),
    }
    problems
}

fn look(kind: &Kind, object: &Value, problems: &mut Problems) {
    check_annotations(kind.kind, object, problems);
    definition::check(kind, object, problems);
    if !problems.is_empty() {
        return;
    }
    selecting::check(kind.kind, &object["spec"], problems);
    if let Err(error) = check(kind.kind, object, problems) {
        problems.add("spec", format!("error decoding configuration: {error}"));
    }
}

fn check_annotations(kind: &str, object: &Value, problems: &mut Problems) {
    let annotations = &object["metadata"]["annotations"];
    if annotations[ALWAYS_REJECT] == "true" {
        problems.add("spec", "this object is always rejected");
    }
    for reserved in RESERVED.iter().filter(|reserved| !annotations[**reserved].is_null()) {
        problems.add(
            format!("metadata.annotations[{reserved}]"),
            "is written by control planes only",
        );
    }
    let Some(dry_run) = annotations[DRY_RUN].as_str() else {
        return;
    };
    let field = format!("metadata.annotations[{DRY_RUN}]");
    let action = object["spec"]["action"].as_str().unwrap_or("ALLOW");
    if kind != "AuthorizationPolicy" || !matches!(action, "ALLOW" | "DENY") {
        return problems.add(field, "is for AuthorizationPolicies that allow or deny");
    }
    const FLAGS: [&str; 12] = [
        "1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False",
    ];
    problems.require(
        FLAGS.contains(&dry_run),
        field,
        format!("{dry_run:?} is neither true nor false"),
    );
}

fn check(kind: &str, object: &Value, problems: &mut Problems) -> Result<(), serde_json::Error> {
    let (spec, metadata) = (&object["spec"], &object["metadata"]);
    let of = metadata["namespace"].as_str().unwrap_or_default();
    match kind {
        "Gateway" => {
            let name = metadata["name"].as_str().unwrap_or_default();
            gateway::check(&decode(spec)?, name, problems);
        }
        "VirtualService" => virtual_service::check(&decode(spec)?, spec, of, problems),
        "DestinationRule" => destination_rule::check(&decode(spec)?, spec, of, problems),
        "ServiceEntry" => service_entry::check(&decode(spec)?, metadata, problems),
        "Sidecar" => sidecar::check(&decode(spec)?, of, problems),
        "WorkloadEntry" => service_entry::check_workload(&decode(spec)?, problems),
        "WorkloadGroup" => workload_group::check(&decode(spec)?, spec, problems),
        "EnvoyFilter" => envoy_filter::check(spec, problems),
        "AuthorizationPolicy" => policy::check_authorization(&decode(spec)?, problems),
        "PeerAuthentication" => policy::check_peer(&decode(spec)?, problems),
        "RequestAuthentication" => request_authentication::check(&decode(spec)?, problems),
        "Telemetry" => telemetry::check(spec, problems),
        "WasmPlugin" => extension::check_module("spec", spec, problems),
        "TrafficExtension" => extension::check(spec, problems),
        _ => {}
    }
    Ok(())
}

fn decode<T: DeserializeOwned + Default>(spec: &Value) -> Result<T, serde_json::Error> {
    if spec.is_null() {
        Ok(T::default())
    } else {
        let mut spec = spec.clone();
        strip_nulls(&mut spec);
        serde_json::from_value(spec)
    }
}

#[cfg(test)]
#[path = "validation_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "validation_bounds_tests.rs"]
mod bounds_tests;
