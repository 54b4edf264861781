//! How what leads nowhere is put right: by whoever made it, or it would be put back.

use api::names::label;
use serde_json::Value;

use crate::objects::labels;

/// Chart that makes tags and nothing else, so that an upgrade moves them.
const CHART_OF_TAGS: &str = "revisiontags-";
/// Chart of what all revisions share.
const CHART_BASE: &str = "base-";
/// Annotations by which Helm knows the objects of a release.
const RELEASE: [&str; 2] = ["meta.helm.sh/release-name", "meta.helm.sh/release-namespace"];

/// The release of Helm that made an object: name and namespace.
fn release(object: &Value) -> Option<(&str, &str)> {
    let annotations = &object["metadata"]["annotations"];
    let text = |name: &str| annotations[name].as_str();
    let [name, namespace] = RELEASE;
    Some((text(name)?, text(namespace)?))
}

/// The command that points a tag at another revision.
pub(super) fn moving(webhook: &Value, tag: &str) -> String {
    let own = format!("istioctl tag set {tag} --revision <REVISION> --overwrite");
    let chart = labels(webhook).remove(label::HELM_CHART).unwrap_or_default();
    match release(webhook) {
        None => format!("'{own}'"),
        Some((name, namespace)) if chart.starts_with(CHART_OF_TAGS) => format!(
            "'helm upgrade {name} manifests/charts/revisiontags -n {namespace} --reuse-values --set revision=<REVISION>', \
             which moves all tags of that release"
        ),
        Some((name, namespace)) => format!(
            "'{own} --force', and take it out of the value revisionTags of Helm release {name} -n {namespace}, which made it"
        ),
    }
}

/// How a tag is removed.
pub(super) fn removing(webhook: &Value, tag: &str) -> String {
    match release(webhook) {
        None => format!("remove it with 'istioctl tag remove {tag}'"),
        Some((name, namespace)) => {
            format!("take it out of the value revisionTags of Helm release {name} -n {namespace}")
        }
    }
}

/// What else there is to do than to install a revision again of which a webhook is left. The chart `base` is of all
/// revisions: its validator moves.
pub(super) fn leaving(webhook: &Value, revision: &str) -> String {
    let chart = labels(webhook).remove(label::HELM_CHART).unwrap_or_default();
    match release(webhook) {
        None => format!("remove what is left of it with 'istioctl uninstall --revision {revision}'"),
        Some((name, namespace)) if chart.starts_with(CHART_BASE) => format!(
            "lead the validator to another with 'helm upgrade {name} manifests/charts/base -n {namespace} --reuse-values --set \
             defaultRevision=<REVISION>'"
        ),
        Some((name, namespace)) => format!("remove what is left of it with 'helm uninstall {name} -n {namespace}'"),
    }
}
