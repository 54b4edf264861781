//! Admission reviews: what the API server asks and what it is answered (revisions.md §5.2).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use revision::decision::Skip;
use revision::selector::Labels;
use serde_json::{Value, json};

use crate::annotation::warnings;
use crate::injector::{Injector, Outcome, Request};

/// Largest review that is read, in bytes: three times what the API server stores of one object.
pub const LARGEST: usize = 6 << 20;

/// Longest reason for a refusal, in bytes: it repeats what was refused, and the API server shows it to people.
const LONGEST: usize = 8 << 10;

/// What became of a review, for metrics and log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The pod was injected.
    Injected,
    /// The pod stays as it is.
    Skipped(Skip),
    /// The pod was refused.
    Refused(String),
}

/// Answers a review. The answer is always a review: a pod that cannot be injected is refused, not let through bare.
///
/// `namespace_annotations` is asked for the namespace of the request.
pub fn answer(
    injector: &Injector,
    body: &[u8],
    environment: &BTreeMap<String, String>,
    namespace_annotations: impl FnOnce(&str) -> Option<Labels>,
) -> (Value, Verdict) {
    let review: Value = match serde_json::from_slice(body) {
        Ok(review) => review,
        Err(error) => return refuse("admission.k8s.io/v1", "", format!("could not decode body: {error}")),
    };
    let request = &review["request"];
    let version = match review["apiVersion"].as_str() {
        Some(version @ ("admission.k8s.io/v1" | "admission.k8s.io/v1beta1")) => version.to_owned(),
        other => {
            let message = format!("unsupported AdmissionReview version {other:?}: use admission.k8s.io/v1");
            return refuse(
                "admission.k8s.io/v1",
                request["uid"].as_str().unwrap_or_default(),
                message,
            );
        }
    };
    let uid = request["uid"].as_str().unwrap_or_default().to_owned();
    let pod = &request["object"];
    if !pod["spec"].is_object() {
        return refuse(
            &version,
            &uid,
            "could not decode the object: it is no pod with a spec".to_owned(),
        );
    }
    let namespace = pod["metadata"]["namespace"]
        .as_str()
        .filter(|namespace| !namespace.is_empty());
    let namespace = namespace.or_else(|| request["namespace"].as_str()).unwrap_or_default();
    let annotations = namespace_annotations(namespace);
    let outcome = injector.inject(Request {
        pod,
        namespace,
        namespace_annotations: annotations.as_ref(),
        environment,
        workload: None,
    });
    match outcome {
        Ok(Outcome::Skipped(skip)) => {
            let mut answer = json!({"uid": uid, "allowed": true});
            warn(&mut answer, pod);
            (response(&version, answer), Verdict::Skipped(skip))
        }
        Ok(Outcome::Injected(injected)) => {
            let patch = json_patch::diff(pod, &injected);
            match serde_json::to_vec(&patch) {
                Ok(patch) => {
                    let mut answer =
                        json!({"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": BASE64.encode(patch)});
                    warn(&mut answer, pod);
                    (response(&version, answer), Verdict::Injected)
                }
                Err(error) => refuse(&version, &uid, format!("could not encode the patch: {error}")),
            }
        }
        Err(error) => refuse(&version, &uid, error.to_string()),
    }
}

/// Whoever creates the pod is shown what of it means nothing.
fn warn(answer: &mut Value, pod: &Value) {
    let warnings = warnings(&pod["metadata"]);
    if !warnings.is_empty() {
        answer["warnings"] = json!(warnings);
    }
}

fn response(version: &str, response: Value) -> Value {
    json!({"apiVersion": version, "kind": "AdmissionReview", "response": response})
}

fn refuse(version: &str, uid: &str, mut message: String) -> (Value, Verdict) {
    if message.len() > LONGEST {
        // The reason itself stands at the end.
        let half = LONGEST / 2;
        let start = message.floor_char_boundary(half);
        let end = message.ceil_char_boundary(message.len() - half);
        message.replace_range(start..end, "…");
    }
    let answer = json!({"uid": uid, "allowed": false, "status": {"message": message}});
    (response(version, answer), Verdict::Refused(message))
}

/// Environment variables of a webhook path: `/inject/cluster/c1/net/n1/key/value` (§5.2).
pub fn path_environment(path: &str) -> BTreeMap<String, String> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let Some(rest) = path.strip_prefix("/inject/") else {
        return BTreeMap::new();
    };
    if let Some(pairs) = rest.strip_prefix(":ENV:") {
        let pairs = pairs.split(":ENV:").filter_map(|pair| pair.split_once('='));
        let named = pairs.filter(|(key, _)| !key.is_empty());
        return named.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    }
    let parts: Vec<&str> = rest.split('/').collect();
    let pairs = parts.chunks_exact(2).map(|pair| {
        let key = match pair[0] {
            "cluster" => "ISTIO_META_CLUSTER_ID".to_owned(),
            "net" => "ISTIO_META_NETWORK".to_owned(),
            other => other.to_uppercase(),
        };
        (key, pair[1].replace("--slash--", "/"))
    });
    pairs.filter(|(key, _)| !key.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_an_end() {
        let reason = format!("invalid value '{}': too long", "é".repeat(LARGEST / 2));
        let (answer, verdict) = refuse("admission.k8s.io/v1", "1", reason);
        let message = answer["response"]["status"]["message"].as_str().unwrap_or_default();
        assert_eq!(verdict, Verdict::Refused(message.to_owned()));
        assert!(message.len() <= LONGEST + "…".len(), "{}", message.len());
        assert!(message.starts_with("invalid value 'é") && message.ends_with("é': too long"));
    }

    #[test]
    fn the_path_carries_cluster_and_network() {
        let check = |path: &str, expected: &[(&str, &str)]| {
            let expected = expected
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            assert_eq!(path_environment(path), expected.collect(), "{path}");
        };
        let both = [("ISTIO_META_CLUSTER_ID", "c1"), ("ISTIO_META_NETWORK", "a/b")];
        check("/inject/cluster/c1/net/a--slash--b/odd", &both);
        check("/inject/cluster/c1/net/a--slash--b/", &both);
        check("/inject/:ENV:A=1:ENV:B=2", &[("A", "1"), ("B", "2")]);
        check("/inject/:ENV:=1:ENV:B=:ENV:C", &[("B", "")]);
        // A slash at the end is no empty value.
        check("/inject/a/", &[]);
        check("/inject/a/b/c/", &[("A", "b")]);
        check("/inject/", &[]);
        check("/inject", &[]);
    }
}
