//! Labels that name a revision or tag which is not there: the API server then asks no webhook, and nobody says a word
//! (revisions.md §12, T5).

use std::collections::BTreeSet;

use revision::decision::Injector;
use revision::name::DEFAULT;
use revision::selector::Labels;
use revision::webhook::{INJECT_KEY, INJECTION_KEY, Precedence, REVISION_KEY};

use crate::names::present_with_tags;

/// The label that decides who is to inject a pod.
#[derive(Clone, Copy, Debug)]
struct Asked<'a> {
    key: &'a str,
    value: &'a str,
    /// The namespace's label, else the pod's.
    is_namespaces: bool,
}

impl Asked<'_> {
    /// The revision or tag that is asked for.
    fn name(&self) -> &str {
        if self.key == REVISION_KEY { self.value } else { DEFAULT }
    }
}

/// The label that decides, if one does and none refuses.
fn asked<'a>(namespace: &'a Labels, pod: &'a Labels, precedence: Precedence) -> Option<Asked<'a>> {
    let of = |labels: &'a Labels, key: &'a str, is_namespaces: bool| {
        let value = labels.get(key)?;
        Some(Asked {
            key,
            value,
            is_namespaces,
        })
    };
    let injection = of(namespace, INJECTION_KEY, true);
    let inject = of(pod, INJECT_KEY, false);
    if injection.is_some_and(|label| label.value != "enabled") || inject.is_some_and(|label| label.value == "false") {
        return None;
    }
    let (namespaces, pods) = (of(namespace, REVISION_KEY, true), of(pod, REVISION_KEY, false));
    let first = pods.filter(|_| precedence == Precedence::Pod);
    let inject = inject.filter(|label| label.value == "true");
    first.or(injection).or(namespaces).or(pods).or(inject)
}

/// That nobody answers for a pod of this namespace since no injector has the name that a label asks for, and what to do.
pub fn told(of: &str, namespace: &Labels, pod: &Labels, injectors: &[Injector]) -> Option<String> {
    let is_active = |injector: &&Injector| !injector.is_deactivated();
    let pod_first = injectors
        .iter()
        .filter(is_active)
        .any(|injector| injector.precedence() == Precedence::Pod);
    let precedence = if pod_first {
        Precedence::Pod
    } else {
        Precedence::Namespace
    };
    let asked = asked(namespace, pod, precedence)?;
    let name = asked.name();
    let answers = |injector: &&Injector| injector.tag.as_deref().unwrap_or(&injector.revision) == name;
    if injectors.iter().filter(is_active).any(|injector| answers(&injector)) {
        return None;
    }
    if name.is_empty() {
        return Some(nameless(of, asked));
    }
    let (key, value) = (asked.key, asked.value);
    let whose = if asked.is_namespaces {
        format!("namespace {of}")
    } else {
        "the pod".to_owned()
    };
    let why = match injectors.iter().find(answers) {
        Some(off) => format!("the injector of that name ({}) is switched off", off.config),
        None => format!("there is no revision or tag {name:?}; {}", there(injectors)),
    };
    let means = if key == REVISION_KEY {
        String::new()
    } else {
        format!(", which asks for the revision or tag {name:?}")
    };
    let remedy = remedy(of, &asked, injectors);
    Some(format!(
        "WARNING: {whose} has label {key}={value}{means}, but {why}. No webhook answers, and new pods start without a proxy. \
         {remedy}"
    ))
}

/// That a label names nobody.
fn nameless(of: &str, asked: Asked<'_>) -> String {
    let (whose, remedy) = if asked.is_namespaces {
        (
            format!("namespace {of}"),
            format!("Remove it: kubectl label namespace {of} {REVISION_KEY}-; or name a revision or tag"),
        )
    } else {
        (
            "the pod".to_owned(),
            "Remove it from its workload's template, or name a revision or tag there".to_owned(),
        )
    };
    format!(
        "WARNING: {whose} has label {REVISION_KEY} without a value, which names no revision or tag. No webhook answers, and \
         new pods start without a proxy. {remedy}"
    )
}

/// Names of what is there.
fn there(injectors: &[Injector]) -> String {
    let tags = injectors.iter().filter_map(|injector| injector.tag.as_deref());
    let tags: BTreeSet<&str> = tags.collect();
    present_with_tags(revisions(injectors).into_iter(), tags.into_iter())
}

fn revisions(injectors: &[Injector]) -> BTreeSet<&str> {
    let own = injectors.iter().filter(|injector| injector.tag.is_none());
    own.map(|injector| injector.revision.as_str()).collect()
}

fn remedy(of: &str, asked: &Asked<'_>, injectors: &[Injector]) -> String {
    let name = asked.name();
    let revisions: Vec<&str> = revisions(injectors).into_iter().collect();
    let revision = match revisions.as_slice() {
        [] if name == DEFAULT => return "Install one: istioctl install".to_owned(),
        [] => return format!("Install it: istioctl install --set revision={name}"),
        [only] => *only,
        _ => "REVISION",
    };
    let tag = format!("istioctl tag set {name} --revision {revision}");
    if asked.key != REVISION_KEY {
        return format!("Make the tag: {tag}");
    }
    if asked.is_namespaces {
        return format!(
            "Name another: kubectl label namespace {of} {REVISION_KEY}=NAME --overwrite; or make the tag: {tag}"
        );
    }
    format!("Name another in its workload's template; or make the tag: {tag}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use revision::name::{Revision, Tag};
    use revision::selector::{Requirement, Selector};
    use revision::webhook::{DEACTIVATED_KEY, Options, of_revision, of_tag};

    fn labels(text: &str) -> Labels {
        let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// `canary old prod>old`: revisions, and tags with what they point at.
    fn injectors(text: &str, precedence: Precedence) -> Vec<Injector> {
        let options = Options {
            precedence,
            ..Options::default()
        };
        let one = |name: &str| match name.split_once('>') {
            Some((tag, revision)) => Injector {
                config: format!("istio-revision-tag-{tag}"),
                revision: revision.to_owned(),
                tag: Some(tag.to_owned()),
                webhooks: of_tag(&Tag::parse(tag).unwrap(), options),
            },
            None => Injector {
                config: format!("istio-sidecar-injector-{name}"),
                revision: name.to_owned(),
                tag: None,
                webhooks: of_revision(&Revision::parse(name).unwrap(), options),
            },
        };
        text.split_whitespace().map(one).collect()
    }

    fn check(there: &str, namespace: &str, pod: &str, expected: &str) {
        let told = told(
            "app",
            &labels(namespace),
            &labels(pod),
            &injectors(there, Precedence::Namespace),
        );
        assert_eq!(told.unwrap_or_default(), expected);
    }

    #[test]
    fn a_name_that_is_not_there_is_told_with_what_is_and_a_way_out() {
        check(
            "canary old prod>old",
            "istio.io/rev=gone",
            "",
            "WARNING: namespace app has label istio.io/rev=gone, but there is no revision or tag \"gone\"; revisions here: \
             canary, old; tags: prod. No webhook answers, and new pods start without a proxy. Name another: kubectl label \
             namespace app istio.io/rev=NAME --overwrite; or make the tag: istioctl tag set gone --revision REVISION",
        );
        check(
            "old",
            "",
            "istio.io/rev=gone",
            "WARNING: the pod has label istio.io/rev=gone, but there is no revision or tag \"gone\"; revisions here: old. No \
             webhook answers, and new pods start without a proxy. Name another in its workload's template; or make the tag: \
             istioctl tag set gone --revision old",
        );
        check(
            "canary",
            "istio-injection=enabled",
            "",
            "WARNING: namespace app has label istio-injection=enabled, which asks for the revision or tag \"default\", but \
             there is no revision or tag \"default\"; revisions here: canary. No webhook answers, and new pods start without a \
             proxy. Make the tag: istioctl tag set default --revision canary",
        );
        check(
            "",
            "",
            "sidecar.istio.io/inject=true",
            "WARNING: the pod has label sidecar.istio.io/inject=true, which asks for the revision or tag \"default\", but there \
             is no revision or tag \"default\"; revisions here: none. No webhook answers, and new pods start without a proxy. \
             Install one: istioctl install",
        );
    }

    #[test]
    fn a_label_without_a_value_is_to_be_removed() {
        check(
            "canary",
            "istio.io/rev=",
            "",
            "WARNING: namespace app has label istio.io/rev without a value, which names no revision or tag. No webhook answers, \
             and new pods start without a proxy. Remove it: kubectl label namespace app istio.io/rev-; or name a revision or tag",
        );
        check(
            "canary",
            "",
            "istio.io/rev=",
            "WARNING: the pod has label istio.io/rev without a value, which names no revision or tag. No webhook answers, and \
             new pods start without a proxy. Remove it from its workload's template, or name a revision or tag there",
        );
    }

    #[test]
    fn nothing_is_told_where_somebody_answers_or_nobody_is_asked() {
        check("canary prod>canary", "istio.io/rev=prod", "", "");
        check("canary", "istio.io/rev=canary", "istio.io/rev=gone", "");
        check("default", "istio-injection=enabled", "istio.io/rev=gone", "");
        check("canary", "istio-injection=disabled", "istio.io/rev=gone", "");
        check("canary", "istio.io/rev=gone", "sidecar.istio.io/inject=false", "");
        check("canary", "", "", "");
        let (namespace, pod) = (labels("istio.io/rev=canary"), labels("istio.io/rev=gone"));
        let told = told("app", &namespace, &pod, &injectors("canary", Precedence::Pod)).unwrap();
        assert!(
            told.starts_with("WARNING: the pod has label istio.io/rev=gone, but"),
            "{told}"
        );
    }

    #[test]
    fn an_injector_that_is_switched_off_is_named() {
        let mut injectors = injectors("default", Precedence::Namespace);
        let never = Requirement::In(DEACTIVATED_KEY.to_owned(), vec!["never-match".to_owned()]);
        for webhook in &mut injectors[0].webhooks {
            webhook.namespaces = Selector(vec![never.clone()]);
            webhook.objects = Selector(vec![never.clone()]);
        }
        let told = told("app", &labels("istio-injection=enabled"), &labels(""), &injectors).unwrap();
        assert!(
            told.contains("but the injector of that name (istio-sidecar-injector-default) is switched off.")
                && told.ends_with("Make the tag: istioctl tag set default --revision default"),
            "{told}"
        );
    }
}
