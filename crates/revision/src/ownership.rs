//! Which objects a revision answers for (revisions.md §4.1).

use std::collections::BTreeSet;

use crate::name::DEFAULT;
use crate::selector::Labels;
use crate::webhook::REVISION_KEY;

/// Names under which one revision can be selected: its own, and every tag that points at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    own: String,
    names: BTreeSet<String>,
    legacy_default: bool,
}

impl Names {
    /// Names of `own`, given every (revision, tag) pair found on webhook configurations and tag Services.
    ///
    /// `validator_default` is the revision that the default validating webhook names, and `default_tag_exists` says
    /// whether the tag `default` is installed: without it, the validator decides who is the default.
    pub fn new<'a>(
        own: &str,
        tags: impl IntoIterator<Item = (&'a str, &'a str)>,
        validator_default: Option<&str>,
        default_tag_exists: bool,
    ) -> Self {
        let mut names: BTreeSet<String> = tags
            .into_iter()
            .filter(|(revision, _)| *revision == own)
            .map(|(_, tag)| tag.to_owned())
            .collect();
        names.insert(own.to_owned());
        let legacy_default = !default_tag_exists && validator_default == Some(own);
        Self {
            own: own.to_owned(),
            names,
            legacy_default,
        }
    }

    /// Whether the revision is the default one.
    pub fn is_default(&self) -> bool {
        self.names.contains(DEFAULT) || self.legacy_default
    }

    /// Whether an object belongs to the revision: by its own label, else by its namespace's, else if it is default.
    ///
    /// `namespace` is `None` while the namespace is not known; the object is then taken as ours.
    pub fn owns(&self, object: &Labels, namespace: Option<&Labels>) -> bool {
        let selected = match (object.get(REVISION_KEY), namespace) {
            (Some(name), _) => name.as_str(),
            (None, None) => return true,
            (None, Some(namespace)) => namespace.get(REVISION_KEY).map_or("", String::as_str),
        };
        self.names.contains(selected) || (selected.is_empty() && self.is_default())
    }

    /// Whether the revision reads a configuration object: unlabelled, or labelled with exactly its own name. Tags are
    /// not resolved here, as in Istio.
    pub fn reads(&self, object: &Labels) -> bool {
        object.get(REVISION_KEY).is_none_or(|name| *name == self.own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rev(name: &str) -> Labels {
        Labels::from([(REVISION_KEY.to_owned(), name.to_owned())])
    }

    #[test]
    fn tags_make_objects_ours_but_not_readable() {
        let names = Names::new("canary", [("canary", "prod"), ("stable", "default")], None, true);
        assert!(names.owns(&rev("prod"), None));
        assert!(!names.owns(&rev("default"), None));
        assert!(!names.owns(&Labels::new(), Some(&Labels::new())));
        assert!(names.owns(&Labels::new(), Some(&rev("canary"))));
        assert!(names.reads(&rev("canary")) && !names.reads(&rev("prod")));
        assert!(names.reads(&Labels::new()));
    }

    #[test]
    fn the_validator_names_the_default_only_without_a_default_tag() {
        assert!(Names::new("canary", [], Some("canary"), false).is_default());
        assert!(!Names::new("canary", [], Some("canary"), true).is_default());
        assert!(Names::new("canary", [("canary", "default")], None, true).is_default());
    }

    /// The rule of revisions.md §4.1 as it stands there, against every combination.
    #[test]
    fn the_rule_for_every_combination() {
        let labels = [
            None,
            Some(""),
            Some("canary"),
            Some("stable"),
            Some("prod"),
            Some("default"),
            Some("unknown"),
        ];
        let read = |label: Option<&str>| label.map(rev).unwrap_or_default();
        for (prod, default) in [
            (None, None),
            (Some("canary"), None),
            (Some("canary"), Some("stable")),
            (None, Some("canary")),
        ] {
            for validator in [None, Some("canary"), Some("stable")] {
                let pair = |revision: Option<&'static str>, tag| revision.map(|revision| (revision, tag));
                let tags = pair(prod, "prod").into_iter().chain(pair(default, "default"));
                let names = Names::new("canary", tags, validator, default.is_some());
                let mine = |name: &str| match name {
                    "canary" => true,
                    "prod" => prod == Some("canary"),
                    "default" => default == Some("canary"),
                    "" => default == Some("canary") || (default.is_none() && validator == Some("canary")),
                    _ => false,
                };
                for object in labels {
                    for namespace in labels {
                        let selected = object.or(namespace).unwrap_or_default();
                        assert_eq!(
                            names.owns(&read(object), Some(&read(namespace))),
                            mine(selected),
                            "object {object:?} in namespace {namespace:?}, prod {prod:?}, default {default:?}, validator {validator:?}"
                        );
                    }
                    // While its namespace is not known, an object that says nothing is ours.
                    assert_eq!(names.owns(&read(object), None), object.is_none_or(mine));
                }
            }
        }
    }
}
