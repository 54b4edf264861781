#![allow(clippy::unwrap_used)]
use super::*;
use crate::name::{Revision, Tag};
use crate::webhook::{self, Options, Precedence};

/// The cluster of revisions.md §2.5: revisions `stable` and `canary`, tags `prod→canary` and `default→stable`.
fn cluster(precedence: Precedence) -> Vec<Injector> {
    let options = Options {
        automatic: false,
        precedence,
    };
    let revision = |name: &str| Injector {
        config: Revision::parse(name).unwrap().injector_webhook("istio-system"),
        revision: name.into(),
        tag: None,
        webhooks: webhook::of_revision(&Revision::parse(name).unwrap(), options),
    };
    let tag = |name: &str, target: &str| Injector {
        config: Tag::parse(name).unwrap().injector_webhook("istio-system"),
        revision: target.into(),
        tag: Some(name.into()),
        webhooks: webhook::of_tag(&Tag::parse(name).unwrap(), options),
    };
    vec![
        revision("stable"),
        revision("canary"),
        tag("prod", "canary"),
        tag("default", "stable"),
    ]
}

fn labels(pairs: &[(&str, Option<&str>)]) -> Labels {
    pairs
        .iter()
        .filter_map(|(key, value)| value.map(|value| ((*key).to_owned(), value.to_owned())))
        .collect()
}

/// What the prose of §2.3 says, and of the other precedence, written independently of the selectors.
fn by_prose(
    precedence: Precedence,
    injection: Option<&str>,
    ns_rev: Option<&str>,
    inject: Option<&str>,
    pod_rev: Option<&str>,
) -> Option<&'static str> {
    let resolve = |name: &str| match name {
        "stable" | "default" => Some("stable"),
        "canary" | "prod" => Some("canary"),
        _ => None,
    };
    if inject == Some("false") {
        return None;
    }
    match (injection, ns_rev, pod_rev) {
        (None | Some("enabled"), _, Some(name)) if precedence == Precedence::Pod => resolve(name),
        (Some("enabled"), _, _) => Some("stable"),
        (Some(_), _, _) => None,
        (None, Some(name), _) => resolve(name),
        (None, None, Some(name)) => resolve(name),
        (None, None, None) => (inject == Some("true")).then_some("stable"),
    }
}

fn check_every_combination(precedence: Precedence) {
    let names = [
        None,
        Some("stable"),
        Some("canary"),
        Some("prod"),
        Some("default"),
        Some("unknown"),
        Some(""),
    ];
    let mut combinations = 0;
    for injection in [None, Some("enabled"), Some("disabled"), Some("Enabled"), Some("")] {
        for ns_rev in names {
            for inject in [None, Some("true"), Some("false"), Some("other"), Some("")] {
                for pod_rev in names {
                    let namespace = labels(&[(INJECTION_KEY, injection), (REVISION_KEY, ns_rev)]);
                    let pod = labels(&[(INJECT_KEY, inject), (REVISION_KEY, pod_rev)]);
                    let decision = decide(&namespace, &pod, &cluster(precedence));
                    assert!(
                        !decision.is_ambiguous(),
                        "{namespace:?} {pod:?}: {:?}",
                        decision.matches
                    );
                    assert_eq!(
                        decision.revision(),
                        by_prose(precedence, injection, ns_rev, inject, pod_rev),
                        "{namespace:?} {pod:?}: {decision:?}"
                    );
                    assert_eq!(
                        decision.matches.len() + decision.misses.len(),
                        4,
                        "every configuration is accounted for"
                    );
                    combinations += 1;
                }
            }
        }
    }
    assert_eq!(combinations, 5 * 7 * 5 * 7);
}

#[test]
fn selectors_and_prose_agree_on_every_combination() {
    check_every_combination(Precedence::Namespace);
}

#[test]
fn selectors_and_prose_agree_where_the_pods_label_wins() {
    check_every_combination(Precedence::Pod);
}

#[test]
fn revisions_that_disagree_on_precedence_are_named() {
    let mut injectors = cluster(Precedence::Namespace);
    assert!(disagreeing(&injectors).is_empty());
    injectors.splice(1..2, cluster(Precedence::Pod).splice(1..2, []));
    let names: Vec<&str> = disagreeing(&injectors).iter().map(|i| i.config.as_str()).collect();
    assert_eq!(names, ["istio-sidecar-injector-canary"]);

    // Why they must agree: one pod, two webhooks; and another pod, none.
    let (stable, canary) = ([(REVISION_KEY, Some("stable"))], [(REVISION_KEY, Some("canary"))]);
    assert!(decide(&labels(&stable), &labels(&canary), &injectors).is_ambiguous());
    assert!(
        decide(&labels(&canary), &labels(&stable), &injectors)
            .matches
            .is_empty()
    );
}

#[test]
fn an_active_unnamed_revision_beside_a_default_tag_is_ambiguous() {
    let mut injectors = cluster(Precedence::Namespace);
    injectors.push(Injector {
        config: "istio-sidecar-injector".into(),
        revision: "default".into(),
        tag: None,
        webhooks: webhook::of_revision(&Revision::unnamed(), Options::default()),
    });
    let decision = decide(&labels(&[(INJECTION_KEY, Some("enabled"))]), &Labels::new(), &injectors);
    assert!(decision.is_ambiguous());
    assert_eq!(decision.revision(), None);
}

fn check_reason(namespace: &[(&str, Option<&str>)], pod: &[(&str, Option<&str>)], config: &str, expected: &str) {
    check_reason_with(Precedence::Namespace, namespace, pod, config, expected);
}

fn check_reason_with(
    precedence: Precedence,
    namespace: &[(&str, Option<&str>)],
    pod: &[(&str, Option<&str>)],
    config: &str,
    expected: &str,
) {
    let decision = decide(&labels(namespace), &labels(pod), &cluster(precedence));
    let miss = decision.misses.iter().find(|miss| miss.config == config).unwrap();
    assert_eq!(miss.reason.to_string(), expected);
}

#[test]
fn losers_say_why() {
    let canary = "istio-sidecar-injector-canary";
    check_reason(
        &[(INJECTION_KEY, Some("enabled")), (REVISION_KEY, Some("canary"))],
        &[],
        canary,
        "the namespace has label istio-injection, which wins over istio.io/rev",
    );
    check_reason(
        &[(REVISION_KEY, Some("stable"))],
        &[],
        canary,
        "the namespace selects \"stable\"",
    );
    check_reason(
        &[(REVISION_KEY, Some("canary"))],
        &[(INJECT_KEY, Some("false"))],
        canary,
        "the pod has label sidecar.istio.io/inject=false",
    );
    check_reason(&[], &[], canary, "no label of namespace or pod selects it");
    check_reason_with(
        Precedence::Pod,
        &[(REVISION_KEY, Some("canary"))],
        &[(REVISION_KEY, Some("stable"))],
        canary,
        "the pod selects \"stable\"",
    );
    check_reason_with(
        Precedence::Pod,
        &[(INJECTION_KEY, Some("disabled"))],
        &[(REVISION_KEY, Some("canary"))],
        canary,
        "the namespace has label istio-injection=disabled, which switches injection off",
    );
}

fn check_policy(
    policy: &Policy,
    namespace: &str,
    label: Option<&str>,
    annotation: Option<&str>,
    expected: Result<(), Skip>,
) {
    let (labels, annotations) = (labels(&[(INJECT_KEY, label)]), labels(&[(INJECT_KEY, annotation)]));
    let pod = PodView {
        namespace,
        labels: &labels,
        annotations: &annotations,
        host_network: false,
    };
    assert_eq!(policy.admits(pod), expected);
}

#[test]
fn the_second_stage_follows_label_annotation_and_policy() {
    let enabled = Policy {
        policy: "enabled".into(),
        ..Policy::default()
    };
    let disabled = Policy {
        policy: "disabled".into(),
        ..Policy::default()
    };
    let typo = Policy {
        policy: "enable".into(),
        ..Policy::default()
    };
    check_policy(&enabled, "app", None, None, Ok(()));
    check_policy(&disabled, "app", None, None, Err(Skip::PolicyDisabled));
    check_policy(&disabled, "app", Some("true"), None, Ok(()));
    check_policy(&enabled, "app", None, Some("false"), Err(Skip::Refused));
    check_policy(&enabled, "app", Some(""), Some("false"), Ok(()));
    // Nothing but `true` and `false` decides: not other spellings of them, which no webhook's selector knows either.
    for other in ["False", "no", "0", "True", "yes", "1", "other", ""] {
        check_policy(&enabled, "app", Some(other), None, Ok(()));
        check_policy(&enabled, "app", None, Some(other), Ok(()));
        check_policy(&disabled, "app", Some(other), Some("true"), Err(Skip::PolicyDisabled));
    }
    check_policy(&typo, "app", Some("true"), None, Err(Skip::PolicyUnknown));
    check_policy(&enabled, "kube-system", Some("true"), None, Err(Skip::IgnoredNamespace));
}
