//! Kubernetes label selectors, evaluated as the API server does it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Labels of an object, in order.
pub type Labels = BTreeMap<String, String>;

/// One requirement on one label key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// The key is present with one of the values.
    In(String, Vec<String>),
    /// The key is absent, or present with none of the values.
    NotIn(String, Vec<String>),
    /// The key is present.
    Exists(String),
    /// The key is absent.
    DoesNotExist(String),
    /// Not understood; matches nothing.
    Never,
}

impl Requirement {
    /// Whether labels fulfil the requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
            Self::Never => false,
        }
    }
}

/// All requirements of a selector; an empty one matches everything.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Selector(pub Vec<Requirement>);

impl Selector {
    /// Whether labels fulfil every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }

    /// The same selector as Kubernetes writes it.
    pub fn to_label_selector(&self) -> LabelSelector {
        let expression = |key: &str, operator: &str, values: Option<&[String]>| LabelSelectorRequirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: values.map(<[String]>::to_vec),
        };
        let expressions = self.0.iter().map(|requirement| match requirement {
            Requirement::In(key, values) => expression(key, "In", Some(values)),
            Requirement::NotIn(key, values) => expression(key, "NotIn", Some(values)),
            Requirement::Exists(key) => expression(key, "Exists", None),
            Requirement::DoesNotExist(key) => expression(key, "DoesNotExist", None),
            Requirement::Never => expression(crate::webhook::DEACTIVATED_KEY, "In", Some(&["never-match".to_owned()])),
        });
        LabelSelector {
            match_expressions: Some(expressions.collect()),
            match_labels: None,
        }
    }
}

impl From<&LabelSelector> for Selector {
    fn from(selector: &LabelSelector) -> Self {
        let labels = selector.match_labels.iter().flatten();
        let labels = labels.map(|(key, value)| Requirement::In(key.clone(), vec![value.clone()]));
        let expressions = selector.match_expressions.iter().flatten().map(|expression| {
            let key = expression.key.clone();
            let values = expression.values.clone().unwrap_or_default();
            match expression.operator.as_str() {
                "In" => Requirement::In(key, values),
                "NotIn" => Requirement::NotIn(key, values),
                "Exists" => Requirement::Exists(key),
                "DoesNotExist" => Requirement::DoesNotExist(key),
                _ => Requirement::Never,
            }
        });
        Self(labels.chain(expressions).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        text.split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn not_in_matches_an_absent_key() {
        let requirement = Requirement::NotIn("a".into(), vec!["x".into()]);
        assert!(requirement.matches(&labels("")));
        assert!(requirement.matches(&labels("a=y")));
        assert!(!requirement.matches(&labels("a=x")));
    }

    #[test]
    fn a_selector_survives_the_way_through_kubernetes() {
        let selector = Selector(vec![
            Requirement::In("a".into(), vec!["x".into()]),
            Requirement::NotIn("b".into(), vec!["y".into()]),
            Requirement::Exists("c".into()),
            Requirement::DoesNotExist("d".into()),
        ]);
        assert_eq!(Selector::from(&selector.to_label_selector()), selector);
    }
}
