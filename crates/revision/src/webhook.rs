//! The injector webhooks of a revision or tag and their selectors (revisions.md §2.2).
//!
//! Precedence is not computed anywhere: the selectors exclude each other by construction (§2.3), and [`Rule::ALL`]
//! lists them from the strongest to the weakest. [`crate::decision`] evaluates exactly these selectors.
//!
//! Istio lets the namespace's labels win over the pod's `istio.io/rev`. An installation may turn that round
//! ([`Precedence::Pod`]); the strongest rules are then those of the pod, and all revisions of a cluster must agree.

use crate::name::{Revision, Tag};
use crate::selector::{Requirement, Selector};

/// Namespace label that selects the default revision (`enabled`) or no injection (anything else).
pub use api::names::label::NAMESPACE_INJECTION as INJECTION_KEY;
/// Namespace and pod label that selects a revision or tag.
pub use api::names::label::REVISION as REVISION_KEY;
/// Pod label (and, inside istiod, annotation) that forces or forbids injection.
pub use api::names::label::SIDECAR_INJECT as INJECT_KEY;
/// Label of webhook configurations and Services that stand for a tag.
pub use api::names::label::TAG as TAG_KEY;
/// Label that no object carries; a webhook that selects on it is switched off (§2.6).
pub const DEACTIVATED_KEY: &str = "istio.io/deactivated";
/// What the name of every injector webhook ends in.
pub const WEBHOOK_SUFFIX: &str = "sidecar-injector.istio.io";
/// Namespaces that automatic injection never reaches (§2.2, §5.1).
pub const IGNORED_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// Whose label `istio.io/rev` wins if namespace and pod select different revisions (chart value
/// `sidecarInjectorWebhook.revisionLabelPrecedence`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precedence {
    /// The namespace's, as in Istio: a pod chooses only where its namespace says nothing.
    #[default]
    Namespace,
    /// The pod's, wherever its namespace does not refuse injection as a whole.
    Pod,
}

impl Precedence {
    /// The chart value.
    pub fn value(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Pod => "pod",
        }
    }

    /// What a configuration with webhooks of these names was made for. Names outlive deactivation, selectors do not.
    pub fn of_webhooks<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let pod_first = |name| Rule::of_webhook(name) == Some(Rule::PodRevisionInjected);
        if names.into_iter().any(pod_first) {
            Self::Pod
        } else {
            Self::Namespace
        }
    }
}

/// Why a webhook selects a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The pod is labelled `istio.io/rev=<name>` in a namespace labelled `istio-injection=enabled`; only where the
    /// pod's label wins. (One selector cannot say "absent or `enabled`", so this is a webhook of its own.)
    PodRevisionInjected,
    /// The namespace is labelled `istio-injection=enabled`.
    NamespaceInjection,
    /// The namespace is labelled `istio.io/rev=<name>`.
    NamespaceRevision,
    /// The pod is labelled `istio.io/rev=<name>` and its namespace says nothing, or what it says does not win.
    PodRevision,
    /// The pod is labelled `sidecar.istio.io/inject=true`; neither names a revision.
    PodInjection,
    /// Nothing is labelled and the installation injects all namespaces.
    Automatic,
}

impl Rule {
    /// All rules, strongest first (with [`Precedence::Pod`], `PodRevision` comes second).
    pub const ALL: [Rule; 6] = [
        Self::PodRevisionInjected,
        Self::NamespaceInjection,
        Self::NamespaceRevision,
        Self::PodRevision,
        Self::PodInjection,
        Self::Automatic,
    ];

    /// First part of the webhook's name.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::NamespaceInjection => "namespace.",
            Self::NamespaceRevision => "rev.namespace.",
            Self::PodRevision => "rev.object.",
            Self::PodRevisionInjected => "rev.object.enabled.",
            Self::PodInjection => "object.",
            Self::Automatic => "auto.",
        }
    }

    /// The rule of a webhook name, if it is an injector webhook.
    pub fn of_webhook(name: &str) -> Option<Self> {
        let prefix = name.strip_suffix(WEBHOOK_SUFFIX)?;
        Self::ALL.into_iter().find(|rule| rule.prefix() == prefix)
    }

    /// Whether the rule needs no revision's name and so belongs to the default revision only.
    pub fn is_default_only(self) -> bool {
        matches!(self, Self::NamespaceInjection | Self::PodInjection | Self::Automatic)
    }

    /// Namespace and object selector of the rule for a revision or tag of that name.
    pub fn selectors(self, name: &str, precedence: Precedence) -> (Selector, Selector) {
        let named = || Requirement::In(REVISION_KEY.into(), vec![name.into()]);
        let unlabelled = |key: &str| Requirement::DoesNotExist(key.into());
        let not_refused = || Requirement::NotIn(INJECT_KEY.into(), vec!["false".into()]);
        let enabled = || Requirement::In(INJECTION_KEY.into(), vec!["enabled".into()]);
        let pod_first = precedence == Precedence::Pod;
        // What the namespace selects reaches only pods that select nothing, if theirs is the label that wins.
        let of_namespace = || {
            let mut pods = vec![not_refused()];
            pods.extend(pod_first.then(|| unlabelled(REVISION_KEY)));
            Selector(pods)
        };
        match self {
            Self::NamespaceRevision => (Selector(vec![named(), unlabelled(INJECTION_KEY)]), of_namespace()),
            Self::PodRevision => {
                let mut silent = vec![unlabelled(REVISION_KEY), unlabelled(INJECTION_KEY)];
                if pod_first {
                    silent.remove(0);
                }
                (Selector(silent), Selector(vec![not_refused(), named()]))
            }
            Self::PodRevisionInjected => (Selector(vec![enabled()]), Selector(vec![not_refused(), named()])),
            Self::NamespaceInjection => (Selector(vec![enabled()]), of_namespace()),
            Self::PodInjection => (
                Selector(vec![unlabelled(INJECTION_KEY), unlabelled(REVISION_KEY)]),
                Selector(vec![
                    Requirement::In(INJECT_KEY.into(), vec!["true".into()]),
                    unlabelled(REVISION_KEY),
                ]),
            ),
            Self::Automatic => (
                Selector(vec![
                    unlabelled(INJECTION_KEY),
                    unlabelled(REVISION_KEY),
                    Requirement::NotIn(
                        "kubernetes.io/metadata.name".into(),
                        IGNORED_NAMESPACES.map(str::to_owned).to_vec(),
                    ),
                ]),
                Selector(vec![unlabelled(INJECT_KEY), unlabelled(REVISION_KEY)]),
            ),
        }
    }
}

/// One injector webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Full name, for example `rev.namespace.sidecar-injector.istio.io`.
    pub name: String,
    /// The rule that it stands for; `None` for a webhook of foreign making.
    pub rule: Option<Rule>,
    /// Which namespaces it selects.
    pub namespaces: Selector,
    /// Which pods it selects.
    pub objects: Selector,
}

/// What an installation chooses for its webhooks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Inject namespaces and pods that say nothing; only the default revision can.
    pub automatic: bool,
    /// Whose revision label wins.
    pub precedence: Precedence,
}

/// The webhooks of a revision, in the order in which the chart lists them.
pub fn of_revision(revision: &Revision, options: Options) -> Vec<Webhook> {
    of_name(revision.label(), revision.is_unnamed(), options)
}

/// The webhooks of a tag; the tag `default` also answers for everything that names no revision.
pub fn of_tag(tag: &Tag, options: Options) -> Vec<Webhook> {
    of_name(tag.as_str(), tag.is_default(), options)
}

fn of_name(name: &str, default: bool, options: Options) -> Vec<Webhook> {
    let order = [
        Rule::NamespaceRevision,
        Rule::PodRevision,
        Rule::PodRevisionInjected,
        Rule::NamespaceInjection,
        Rule::PodInjection,
        Rule::Automatic,
    ];
    order
        .into_iter()
        .filter(|rule| !rule.is_default_only() || default)
        .filter(|rule| *rule != Rule::Automatic || options.automatic)
        .filter(|rule| *rule != Rule::PodRevisionInjected || options.precedence == Precedence::Pod)
        .map(|rule| {
            let (namespaces, objects) = rule.selectors(name, options.precedence);
            Webhook {
                name: format!("{}{WEBHOOK_SUFFIX}", rule.prefix()),
                rule: Some(rule),
                namespaces,
                objects,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const AUTOMATIC: Options = Options {
        automatic: true,
        precedence: Precedence::Namespace,
    };

    #[test]
    fn a_named_revision_has_two_webhooks_and_the_default_four() {
        let names = |webhooks: Vec<Webhook>| webhooks.into_iter().map(|w| w.name).collect::<Vec<_>>();
        assert_eq!(
            names(of_revision(&Revision::parse("canary").unwrap(), AUTOMATIC)),
            [
                "rev.namespace.sidecar-injector.istio.io",
                "rev.object.sidecar-injector.istio.io"
            ]
        );
        assert_eq!(names(of_revision(&Revision::unnamed(), Options::default())).len(), 4);
        assert_eq!(names(of_tag(&Tag::parse("default").unwrap(), AUTOMATIC)).len(), 5);
    }

    #[test]
    fn a_configuration_tells_whose_label_wins() {
        for precedence in [Precedence::Namespace, Precedence::Pod] {
            let options = Options {
                precedence,
                ..Options::default()
            };
            let webhooks = of_tag(&Tag::parse("prod").unwrap(), options);
            let names = webhooks.iter().map(|webhook| webhook.name.as_str());
            assert_eq!(Precedence::of_webhooks(names), precedence);
        }
    }

    #[test]
    fn rules_are_known_by_webhook_name() {
        for rule in Rule::ALL {
            assert_eq!(
                Rule::of_webhook(&format!("{}{WEBHOOK_SUFFIX}", rule.prefix())),
                Some(rule)
            );
        }
        assert_eq!(Rule::of_webhook("validation.istio.io"), None);
    }
}
