//! All revisions of a cluster must agree whose label `istio.io/rev` wins, the namespace's or the pod's: otherwise a pod
//! that selects another revision than its namespace is injected twice or not at all.

use api::names::label;
use revision::webhook::Precedence;

use crate::object::Object;
use crate::tag::{Inventory, is_deactivated, webhook_names};

/// A cluster whose webhooks would not agree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "values.sidecarInjectorWebhook.revisionLabelPrecedence is {wanted:?} here, but {installed} say {:?}: a pod whose label \
     istio.io/rev differs from its namespace's would be injected twice or not at all. Give all revisions the same value. \
     To change it, pass --force here, install the other revisions with the new value at once, and set their tags again \
     (istioctl tag set TAG --revision REVISION --overwrite)", other(.wanted)
)]
pub struct Disagreement {
    /// The value of this installation.
    pub wanted: &'static str,
    /// Names of the configurations that have the other.
    pub installed: String,
}

fn other(wanted: &str) -> &'static str {
    if wanted == Precedence::Pod.value() {
        Precedence::Namespace.value()
    } else {
        Precedence::Pod.value()
    }
}

/// Compares what is to be installed with what stays as it is. `renewed` tells of a live configuration whether this
/// installation writes it anew.
pub fn disagreement(
    rendered: &[&Object],
    before: &Inventory,
    renewed: impl Fn(&Object) -> bool,
) -> Result<(), Disagreement> {
    let Some(first) = rendered.first() else {
        return Ok(());
    };
    let wanted = Precedence::of_webhooks(webhook_names(first));
    // Another mesh of the cluster sees the same labels.
    let others = before
        .strangers
        .iter()
        .filter(|stranger| !stranger.label(label::REVISION).is_empty());
    let installed: Vec<&str> = before
        .webhooks
        .iter()
        .chain(others)
        .filter(|live| !is_deactivated(live) && !rendered.iter().any(|object| object.name() == live.name()))
        .filter(|live| !renewed(live) && Precedence::of_webhooks(webhook_names(live)) != wanted)
        .map(Object::name)
        .collect();
    if installed.is_empty() {
        return Ok(());
    }
    Err(Disagreement {
        wanted: wanted.value(),
        installed: installed.join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn configuration(name: &str, precedence: Precedence) -> Object {
        let mut webhooks = vec![json!({"name": "rev.namespace.sidecar-injector.istio.io"})];
        if precedence == Precedence::Pod {
            webhooks.push(json!({"name": "rev.object.enabled.sidecar-injector.istio.io"}));
        }
        Object(json!({"kind": "MutatingWebhookConfiguration", "metadata": {"name": name}, "webhooks": webhooks}))
    }

    fn check(installing: (&str, Precedence), renewed: &str, expected: Option<&str>) {
        let mut elsewhere = configuration("elsewhere", Precedence::Namespace);
        elsewhere.set_label(label::REVISION, "theirs");
        let before = Inventory {
            webhooks: vec![
                configuration("old", Precedence::Namespace),
                configuration("tag", Precedence::Namespace),
            ],
            strangers: vec![configuration("nobodys", Precedence::Namespace), elsewhere],
            ..Inventory::default()
        };
        let rendered = configuration(installing.0, installing.1);
        let outcome = disagreement(&[&rendered], &before, |live| live.name() == renewed);
        let named = outcome.err().map(|disagreement| disagreement.installed);
        assert_eq!(named.as_deref(), expected);
    }

    #[test]
    fn revisions_agree_or_are_refused() {
        check(("new", Precedence::Namespace), "", None);
        check(("new", Precedence::Pod), "", Some("old, tag, elsewhere"));
        check(("old", Precedence::Pod), "", Some("tag, elsewhere"));
        check(("old", Precedence::Pod), "tag", Some("elsewhere"));
    }
}
