//! What one webhook configuration says of a pod, in the words of `istioctl experimental check-inject` (revisions.md §5.9).

use crate::decision::Injector;
use crate::selector::{Labels, Requirement, Selector};
use crate::webhook::{INJECTION_KEY, Webhook};

/// The verdict of one configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether one of its webhooks selects the pod.
    pub injected: bool,
    /// Why, or why not.
    pub reason: String,
}

/// Judges a pod by its labels and its namespace's.
pub fn judge(injector: &Injector, pod: &Labels, namespace: &Labels) -> Verdict {
    let words = injector
        .webhooks
        .iter()
        .find_map(|webhook| words(webhook, pod, namespace));
    words.unwrap_or_else(|| Verdict {
        injected: false,
        reason: nothing_matches(injector),
    })
}

/// What a single webhook has to say; `None` if it does not concern the pod.
fn words(webhook: &Webhook, pod: &Labels, namespace: &Labels) -> Option<Verdict> {
    let yes = |reason: String| Some(Verdict { injected: true, reason });
    let no = |key: &str, value: &str, whose: &str| {
        Some(Verdict {
            injected: false,
            reason: format!("{whose} has {key}={value} label, preventing injection"),
        })
    };
    match (webhook.namespaces.matches(namespace), webhook.objects.matches(pod)) {
        (true, true) => match (
            deciding(&webhook.namespaces, namespace),
            deciding(&webhook.objects, pod),
        ) {
            (Some(ns), Some(pod)) => yes(format!("Namespace label {ns} matches, and pod label {pod} matches")),
            (Some(ns), None) if ns.starts_with("kubernetes.io/metadata.name=") => yes(format!(
                "Namespace label {ns} matches (Automatic injection is enabled in all namespaces)."
            )),
            (Some(ns), None) => yes(format!("Namespace label {ns} matches")),
            (None, Some(pod)) => yes(format!("Pod label {pod} matches")),
            (None, None) => yes("The webhook selects every pod".to_owned()),
        },
        (true, false) => {
            let refusing = webhook.objects.0.iter().find_map(|requirement| match requirement {
                Requirement::DoesNotExist(key) => pod.get_key_value(key),
                Requirement::NotIn(key, values) => pod.get_key_value(key).filter(|(_, value)| values.contains(value)),
                _ => None,
            });
            refusing.and_then(|(key, value)| no(key, value, "Pod"))
        }
        (false, true) => {
            let refusing = namespace.get(INJECTION_KEY).filter(|value| *value != "enabled");
            refusing.and_then(|value| no(INJECTION_KEY, value, "Namespace"))
        }
        (false, false) => None,
    }
}

/// The label that a selector decides by: the first that it names a value of and that is there.
fn deciding(selector: &Selector, labels: &Labels) -> Option<String> {
    selector.0.iter().find_map(|requirement| match requirement {
        Requirement::In(key, _) | Requirement::NotIn(key, _) | Requirement::Exists(key) => {
            labels.get(key).map(|value| format!("{key}={value}"))
        }
        _ => None,
    })
}

fn nothing_matches(injector: &Injector) -> String {
    if injector.is_deactivated() {
        return "The injection webhook is deactivated, and will never match labels.".to_owned();
    }
    let wanted = |selectors: Vec<&Selector>| {
        let values =
            selectors
                .into_iter()
                .flat_map(|selector| &selector.0)
                .filter_map(|requirement| match requirement {
                    Requirement::In(key, values) => Some(values.iter().map(move |value| format!("{key}={value}"))),
                    _ => None,
                });
        values.flatten().collect::<Vec<_>>().join(", ")
    };
    let namespaces = wanted(injector.webhooks.iter().map(|webhook| &webhook.namespaces).collect());
    let pods = wanted(injector.webhooks.iter().map(|webhook| &webhook.objects).collect());
    format!("No matching namespace labels ({namespaces}) or pod labels ({pods})")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::name::Revision;
    use crate::webhook::{self, Options};

    fn labels(text: &str) -> Labels {
        text.split(' ')
            .filter_map(|pair| pair.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    }

    fn check(revision: &str, namespace: &str, pod: &str, injected: bool, reason: &str) {
        let name = Revision::parse(revision).unwrap();
        let injector = Injector {
            config: name.injector_webhook("istio-system"),
            revision: revision.to_owned(),
            tag: None,
            webhooks: webhook::of_revision(&name, Options::default()),
        };
        let expected = Verdict {
            injected,
            reason: reason.to_owned(),
        };
        assert_eq!(judge(&injector, &labels(pod), &labels(namespace)), expected);
    }

    #[test]
    fn verdicts_say_which_label_decides() {
        check(
            "default",
            "istio-injection=enabled",
            "",
            true,
            "Namespace label istio-injection=enabled matches",
        );
        check(
            "1-16",
            "istio.io/rev=1-16",
            "",
            true,
            "Namespace label istio.io/rev=1-16 matches",
        );
        check(
            "1-16",
            "",
            "istio.io/rev=1-16",
            true,
            "Pod label istio.io/rev=1-16 matches",
        );
        check(
            "default",
            "",
            "istio.io/rev=1-16",
            false,
            "Pod has istio.io/rev=1-16 label, preventing injection",
        );
        check(
            "1-16",
            "istio-injection=disabled",
            "istio.io/rev=1-16",
            false,
            "Namespace has istio-injection=disabled label, preventing injection",
        );
        check(
            "default",
            "istio-injection=enabled",
            "sidecar.istio.io/inject=false",
            false,
            "Pod has sidecar.istio.io/inject=false label, preventing injection",
        );
        check(
            "1-16",
            "",
            "",
            false,
            "No matching namespace labels (istio.io/rev=1-16) or pod labels (istio.io/rev=1-16)",
        );
    }
}
