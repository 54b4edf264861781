//! Who sees a service, a VirtualService, a DestinationRule.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Namespaces that see something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Visibility {
    /// All.
    All,
    /// These only; none if empty.
    Only(BTreeSet<Arc<str>>),
}

impl Visibility {
    /// Reads a list of `.`, `*`, `~` and names, as seen from the namespace that the object is in. An empty list
    /// takes the default.
    pub fn parse<S: AsRef<str>>(list: &[S], default: &[String], namespace: &str) -> Self {
        let mut names = BTreeSet::new();
        let mut all = false;
        let mut add = |entry: &str| match entry.trim() {
            "*" => all = true,
            "." => drop(names.insert(Arc::from(namespace))),
            "~" | "" => {}
            name => drop(names.insert(Arc::from(name))),
        };
        if list.is_empty() {
            default.iter().for_each(|entry| add(entry));
        } else {
            list.iter().for_each(|entry| add(entry.as_ref()));
        }
        if all { Self::All } else { Self::Only(names) }
    }

    /// Whether that namespace sees it.
    pub fn includes(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(namespace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_as_documented() {
        let check = |list: &[&str], default: &[&str], sees: &[&str], blind: &[&str]| {
            let default: Vec<String> = default.iter().map(|s| (*s).to_owned()).collect();
            let visibility = Visibility::parse(list, &default, "own");
            for namespace in sees {
                assert!(visibility.includes(namespace), "{list:?} should include {namespace}");
            }
            for namespace in blind {
                assert!(
                    !visibility.includes(namespace),
                    "{list:?} should not include {namespace}"
                );
            }
        };
        check(&[], &["*"], &["own", "other"], &[]);
        check(&["."], &["*"], &["own"], &["other"]);
        check(&["~"], &["*"], &[], &["own", "other"]);
        check(&["a", "."], &["*"], &["a", "own"], &["b"]);
        check(&[], &["."], &["own"], &["other"]);
    }
}
