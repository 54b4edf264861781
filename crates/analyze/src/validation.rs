//! May this custom resource be written? (revisions.md §4.5; the webhook's half of admission)
//!
//! The API server has checked the schema before, but perhaps that of older definitions; so it is checked first. Then
//! comes what a schema cannot say: names of hosts and ports, regular expressions, combinations that mean nothing. Every
//! problem of an object is reported at once.

mod definition;
mod destination_rule;
mod extension;
mod field;
mod gateway;
mod policy;
mod selecting;
mod service_entry;
mod telemetry;
mod virtual_service;
mod workload_group;

use api::kind::Kind;
use api::lenient::strip_nulls;
use serde::de::DeserializeOwned;
use serde_json::Value;

use field::Problems;

/// An object that carries this annotation is always refused: istiod writes one, as a dry run, to learn whether its
/// webhook is called.
pub const ALWAYS_REJECT: &str = "internal.istio.io/webhook-always-reject";

/// Top-level fields that every object may have.
const TOP_LEVEL: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// Checks one object. `Ok` holds warnings, `Err` why the object is refused.
pub fn validate(object: &Value) -> Result<Vec<String>, String> {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let name = object["kind"].as_str().unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let Some(kind) = Kind::find(group, name) else {
        return Err(format!("unrecognized type {version}/{name}"));
    };
    let metadata = &object["metadata"];
    let place = format!(
        "{}/{}",
        metadata["namespace"].as_str().unwrap_or_default(),
        metadata["name"].as_str().unwrap_or_default()
    );
    let unknown = object
        .as_object()
        .into_iter()
        .flatten()
        .find(|(field, _)| !TOP_LEVEL.contains(&field.as_str()));
    if let Some((field, _)) = unknown {
        return Err(format!("unknown field {field:?} on {name} resource {place}"));
    }
    let mut problems = Problems::default();
    if metadata["annotations"][ALWAYS_REJECT] == "true" {
        problems.add("spec", "this object is always rejected");
    }
    definition::check(kind, object, &mut problems);
    if !problems.is_empty() {
        return problems.into_result();
    }
    selecting::check(&object["spec"], &mut problems);
    check(name, &object["spec"], &mut problems).map_err(|error| format!("error decoding configuration: {error}"))?;
    problems.into_result()
}

fn check(kind: &str, spec: &Value, problems: &mut Problems) -> Result<(), serde_json::Error> {
    match kind {
        "Gateway" => gateway::check(&decode(spec)?, problems),
        "VirtualService" => virtual_service::check(&decode(spec)?, problems),
        "DestinationRule" => destination_rule::check(&decode(spec)?, problems),
        "ServiceEntry" => service_entry::check(&decode(spec)?, problems),
        "WorkloadEntry" => service_entry::check_workload(&decode(spec)?, problems),
        "AuthorizationPolicy" => policy::check_authorization(&decode(spec)?, problems),
        "PeerAuthentication" => policy::check_peer(&decode(spec)?, problems),
        "RequestAuthentication" => policy::check_request(&decode(spec)?, problems),
        "Telemetry" => telemetry::check(spec, problems),
        "WasmPlugin" => extension::check_module("spec", spec, problems),
        "TrafficExtension" => extension::check(spec, problems),
        "WorkloadGroup" => workload_group::check(&decode(spec)?, spec, problems),
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
