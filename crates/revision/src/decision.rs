//! Which revision injects a pod (revisions.md §2.3, §2.5, §5.1).
//!
//! Two stages, as at run time: the API server evaluates the selectors of every installed webhook, then the istiod
//! that it called applies its own policy. [`decide`] answers the first, [`Policy::admits`] the second.

use std::fmt;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::selector::{Labels, Requirement, Selector};
use crate::webhook::{
    DEACTIVATED_KEY, IGNORED_NAMESPACES, INJECT_KEY, INJECTION_KEY, Precedence, REVISION_KEY, Rule, TAG_KEY,
    WEBHOOK_SUFFIX, Webhook,
};

/// An installed injector: one webhook configuration of a revision or a tag.
#[derive(Clone, Debug)]
pub struct Injector {
    /// Name of the webhook configuration.
    pub config: String,
    /// Revision that it calls (label `istio.io/rev`).
    pub revision: String,
    /// Tag that it stands for, if it is one (label `istio.io/tag`).
    pub tag: Option<String>,
    /// Its webhooks.
    pub webhooks: Vec<Webhook>,
}

impl Injector {
    /// Reads an installed webhook configuration; `None` if it is no injector's.
    pub fn from_configuration(configuration: &MutatingWebhookConfiguration) -> Option<Self> {
        let labels = configuration.metadata.labels.as_ref();
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).cloned();
        let selector = |selector: &Option<LabelSelector>| selector.as_ref().map(Selector::from).unwrap_or_default();
        let webhooks = configuration
            .webhooks
            .iter()
            .flatten()
            .filter(|webhook| webhook.name.ends_with(WEBHOOK_SUFFIX));
        let webhooks: Vec<Webhook> = webhooks
            .map(|webhook| Webhook {
                name: webhook.name.clone(),
                rule: Rule::of_webhook(&webhook.name),
                namespaces: selector(&webhook.namespace_selector),
                objects: selector(&webhook.object_selector),
            })
            .collect();
        let revision = label(REVISION_KEY).unwrap_or_else(|| crate::name::DEFAULT.to_owned());
        let config = configuration.metadata.name.clone().unwrap_or_default();
        (!webhooks.is_empty()).then(|| Self {
            config,
            revision,
            tag: label(TAG_KEY),
            webhooks,
        })
    }

    /// Whose revision label wins, as this configuration sees it.
    pub fn precedence(&self) -> Precedence {
        Precedence::of_webhooks(self.webhooks.iter().map(|webhook| webhook.name.as_str()))
    }

    /// Whether the configuration is switched off (§2.6).
    pub fn is_deactivated(&self) -> bool {
        let never = |selector: &Selector| {
            selector
                .0
                .iter()
                .any(|requirement| matches!(requirement, Requirement::In(key, _) if key == DEACTIVATED_KEY))
        };
        !self.webhooks.is_empty() && self.webhooks.iter().all(|w| never(&w.namespaces) && never(&w.objects))
    }
}

/// A webhook that selects the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Name of the webhook configuration.
    pub config: String,
    /// Name of the webhook in it.
    pub webhook: String,
    /// Revision that it calls.
    pub revision: String,
    /// Tag through which it is called.
    pub tag: Option<String>,
    /// The rule, if the webhook is one of ours.
    pub rule: Option<Rule>,
}

/// A webhook configuration that does not select the pod, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Name of the webhook configuration.
    pub config: String,
    /// Revision that it would have called.
    pub revision: String,
    /// The reason.
    pub reason: Reason,
}

/// Why no webhook of a configuration selects a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The pod is labelled `sidecar.istio.io/inject=false`.
    PodRefuses,
    /// The namespace's `istio-injection` has another value than `enabled`, which switches injection off.
    NamespaceRefuses(String),
    /// `istio-injection` on the namespace wins over `istio.io/rev` labels.
    InjectionLabelWins,
    /// The namespace selects another revision or tag.
    NamespaceSelectsOther(String),
    /// The pod selects another revision or tag.
    PodSelectsOther(String),
    /// Nothing that this configuration looks for is labelled.
    NothingSelectsIt,
    /// The configuration is switched off (§2.6).
    Deactivated,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PodRefuses => write!(f, "the pod has label {INJECT_KEY}=false"),
            Self::NamespaceRefuses(value) => {
                write!(
                    f,
                    "the namespace has label {INJECTION_KEY}={value}, which switches injection off"
                )
            }
            Self::InjectionLabelWins => {
                write!(
                    f,
                    "the namespace has label {INJECTION_KEY}, which wins over {REVISION_KEY}"
                )
            }
            Self::NamespaceSelectsOther(name) => write!(f, "the namespace selects {name:?}"),
            Self::PodSelectsOther(name) => write!(f, "the pod selects {name:?}"),
            Self::NothingSelectsIt => write!(f, "no label of namespace or pod selects it"),
            Self::Deactivated => write!(f, "the webhook is deactivated"),
        }
    }
}

/// The answer: who injects, and who does not.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Decision {
    /// Every webhook that selects the pod; a sound installation has at most one.
    pub matches: Vec<Match>,
    /// Every configuration that does not, with the reason.
    pub misses: Vec<Miss>,
}

impl Decision {
    /// The revision that injects, if exactly one webhook selects the pod.
    pub fn revision(&self) -> Option<&str> {
        match self.matches.as_slice() {
            [only] => Some(&only.revision),
            _ => None,
        }
    }

    /// Whether several webhooks would inject the same pod (analysis message IST0139).
    pub fn is_ambiguous(&self) -> bool {
        self.matches.len() > 1
    }
}

/// Evaluates every installed webhook against the labels of a namespace and a pod.
pub fn decide(namespace: &Labels, pod: &Labels, injectors: &[Injector]) -> Decision {
    let mut decision = Decision::default();
    for injector in injectors {
        let selecting = injector
            .webhooks
            .iter()
            .filter(|w| w.namespaces.matches(namespace) && w.objects.matches(pod));
        let before = decision.matches.len();
        decision.matches.extend(selecting.map(|webhook| Match {
            config: injector.config.clone(),
            webhook: webhook.name.clone(),
            revision: injector.revision.clone(),
            tag: injector.tag.clone(),
            rule: webhook.rule,
        }));
        if decision.matches.len() == before {
            decision.misses.push(Miss {
                config: injector.config.clone(),
                revision: injector.revision.clone(),
                reason: reason(namespace, pod, injector),
            });
        }
    }
    decision
}

/// Configurations in force that do not see precedence as the first one does. Where revisions disagree, a pod that
/// selects another one than its namespace is injected twice or not at all.
pub fn disagreeing(injectors: &[Injector]) -> Vec<&Injector> {
    let mut active = injectors.iter().filter(|injector| !injector.is_deactivated());
    let first = active.next().map(Injector::precedence);
    active.filter(|injector| Some(injector.precedence()) != first).collect()
}

fn reason(namespace: &Labels, pod: &Labels, injector: &Injector) -> Reason {
    let name = injector.tag.as_deref().unwrap_or(&injector.revision);
    if injector.is_deactivated() {
        return Reason::Deactivated;
    }
    match (namespace.get(INJECTION_KEY), namespace.get(REVISION_KEY)) {
        (Some(value), _) if value != "enabled" => Reason::NamespaceRefuses(value.clone()),
        _ if pod.get(INJECT_KEY).is_some_and(|value| value == "false") => Reason::PodRefuses,
        _ if let (Precedence::Pod, Some(other)) = (
            injector.precedence(),
            pod.get(REVISION_KEY).filter(|other| *other != name),
        ) =>
        {
            Reason::PodSelectsOther(other.clone())
        }
        (Some(_), _) => Reason::InjectionLabelWins,
        (None, Some(other)) if other != name => Reason::NamespaceSelectsOther(other.clone()),
        (None, None) => match pod.get(REVISION_KEY) {
            Some(other) if other != name => Reason::PodSelectsOther(other.clone()),
            _ => Reason::NothingSelectsIt,
        },
        _ => Reason::NothingSelectsIt,
    }
}

/// What istiod itself decides once it is called (§5.1).
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// `enabled` or `disabled`, from the injector configuration; anything else disables injection.
    pub policy: String,
    /// Pods that are never injected unless they ask for it.
    pub never: Vec<Selector>,
    /// Pods that are always injected unless they refuse it.
    pub always: Vec<Selector>,
}

/// What the second stage reads of a pod.
#[derive(Clone, Copy, Debug)]
pub struct PodView<'a> {
    /// Namespace of the request.
    pub namespace: &'a str,
    /// The pod's labels.
    pub labels: &'a Labels,
    /// The pod's annotations.
    pub annotations: &'a Labels,
    /// Whether the pod shares the node's network.
    pub host_network: bool,
}

/// Why istiod leaves a pod alone although a webhook selected it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The pod uses the node's network: its traffic cannot be redirected.
    HostNetwork,
    /// A namespace of Kubernetes itself.
    IgnoredNamespace,
    /// Label or annotation `sidecar.istio.io/inject` is `false`.
    Refused,
    /// `neverInjectSelector` matches.
    NeverSelector,
    /// The policy is `disabled`.
    PolicyDisabled,
    /// The policy has a value that does not exist; nothing is injected until it is mended.
    PolicyUnknown,
}

impl Policy {
    /// Whether the pod is injected; the error says why not.
    pub fn admits(&self, pod: PodView<'_>) -> Result<(), Skip> {
        if pod.host_network {
            return Err(Skip::HostNetwork);
        }
        if IGNORED_NAMESPACES.contains(&pod.namespace) {
            return Err(Skip::IgnoredNamespace);
        }
        if !matches!(self.policy.as_str(), "enabled" | "disabled") {
            return Err(Skip::PolicyUnknown);
        }
        // Any other value decides nothing, as in the webhooks' selectors.
        match asked(pod.labels, pod.annotations) {
            Some("true") => return Ok(()),
            Some("false") => return Err(Skip::Refused),
            _ => {}
        }
        // An empty selector matches nothing here, unlike in Kubernetes.
        let any = |selectors: &[Selector]| selectors.iter().any(|s| !s.0.is_empty() && s.matches(pod.labels));
        if any(&self.never) {
            return Err(Skip::NeverSelector);
        }
        if any(&self.always) || self.policy == "enabled" {
            Ok(())
        } else {
            Err(Skip::PolicyDisabled)
        }
    }
}

/// What a pod says of its own injection: its label, else its annotation. A present label, even an empty one, hides the
/// annotation.
pub fn asked<'a>(labels: &'a Labels, annotations: &'a Labels) -> Option<&'a str> {
    let value = labels.get(INJECT_KEY).or_else(|| annotations.get(INJECT_KEY));
    value.map(String::as_str)
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
