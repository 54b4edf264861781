//! A set of field paths as a tree, with the `FieldsV1` encoding.

use super::{element, shape::Node};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Deepest nesting that is decoded.
const MAX_DEPTH: usize = 128;

/// A set of paths. Each node says whether the path that ends there is a member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    member: bool,
    children: BTreeMap<String, Set>,
}

impl Set {
    /// Adds the path.
    pub fn insert(&mut self, path: &[String]) {
        match path.split_first() {
            None => self.member = true,
            Some((step, rest)) => self.children.entry(step.clone()).or_default().insert(rest),
        }
    }

    /// Whether the set has no path (the root itself does not count).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.children.values().all(|c| !c.member && c.is_empty())
    }

    /// Whether the one-step path is a member.
    #[must_use]
    pub fn has(&self, step: &str) -> bool {
        self.children.get(step).is_some_and(|c| c.member)
    }

    /// The paths that begin with `step`, without it; `None` when there is nothing below.
    #[must_use]
    pub fn below(&self, step: &str) -> Option<&Set> {
        self.children.get(step).filter(|c| !c.is_empty())
    }

    /// Paths in either set.
    #[must_use]
    pub fn union(&self, other: &Set) -> Set {
        let mut out = self.clone();
        out.absorb(other);
        out
    }

    fn absorb(&mut self, other: &Set) {
        self.member |= other.member;
        for (step, child) in &other.children {
            self.children.entry(step.clone()).or_default().absorb(child);
        }
    }

    /// Paths in this set and not in the other (paths below a path of the other stay).
    #[must_use]
    pub fn difference(&self, other: &Set) -> Set {
        self.combine(other, |a, b| a && !b)
    }

    /// Paths in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Set) -> Set {
        self.combine(other, |a, b| a && b)
    }

    fn combine(&self, other: &Set, keep: fn(bool, bool) -> bool) -> Set {
        let nothing = Set::default();
        let children = self
            .children
            .iter()
            .map(|(step, child)| {
                (
                    step.clone(),
                    child.combine(other.children.get(step).unwrap_or(&nothing), keep),
                )
            })
            .filter(|(_, child)| child.member || !child.children.is_empty())
            .collect();
        Set {
            member: keep(self.member, other.member),
            children,
        }
    }

    /// Without what lies at or below the paths of `others`.
    #[must_use]
    pub fn without_below(&self, others: &Set) -> Set {
        if others.member {
            return Set::default();
        }
        let children = self
            .children
            .iter()
            .map(|(step, child)| {
                (
                    step.clone(),
                    others
                        .children
                        .get(step)
                        .map_or_else(|| child.clone(), |o| child.without_below(o)),
                )
            })
            .filter(|(_, child)| child.member || !child.children.is_empty())
            .collect();
        Set {
            member: self.member,
            children,
        }
    }

    /// Only what lies at or below the top-level field `name`.
    #[must_use]
    pub fn only(&self, name: &str) -> Set {
        let step = element::field(name);
        let children = self
            .children
            .get(&step)
            .map(|c| BTreeMap::from([(step, c.clone())]))
            .unwrap_or_default();
        Set {
            member: false,
            children,
        }
    }

    /// With every declared field that has owned paths below it as a member itself.
    #[must_use]
    pub fn with_named_fields(&self, node: Node<'_>) -> Set {
        let children = self
            .children
            .iter()
            .map(|(step, child)| {
                let name = step.strip_prefix("f:");
                let below = match name {
                    Some(name) => node.field(name),
                    None => node.element(),
                };
                let mut out = child.with_named_fields(below);
                if !out.children.is_empty() && name.is_some_and(|n| node.declares(n)) {
                    out.member = true;
                }
                (step.clone(), out)
            })
            .collect();
        Set {
            member: self.member,
            children,
        }
    }

    /// All paths, printed as in messages (`.spec.containers[name="c"].image`).
    #[must_use]
    pub fn printed(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.print(&mut String::new(), &mut out);
        out
    }

    fn print(&self, path: &mut String, out: &mut Vec<String>) {
        // Members first, then what lies below: the order in which conflicts are listed.
        for pass in [true, false] {
            for (step, child) in &self.children {
                let length = path.len();
                path.push_str(&element::printed(step));
                if pass && child.member {
                    out.push(path.clone());
                }
                if !pass {
                    child.print(path, out);
                }
                path.truncate(length);
            }
        }
    }

    /// The `fieldsV1` object.
    #[must_use]
    pub fn to_fields(&self) -> Value {
        let mut map = Map::new();
        for (step, child) in &self.children {
            let mut below = child.to_fields();
            if child.member
                && !child.children.is_empty()
                && let Value::Object(inner) = &mut below
            {
                inner.insert(".".into(), Value::Object(Map::new()));
                inner.sort_keys();
            }
            map.insert(step.clone(), below);
        }
        Value::Object(map)
    }

    /// Reads a `fieldsV1` object; `None` when it is none or too deep.
    #[must_use]
    pub fn from_fields(value: &Value) -> Option<Set> {
        Self::read(value, 0)
    }

    fn read(value: &Value, depth: usize) -> Option<Set> {
        if depth > MAX_DEPTH {
            return None;
        }
        let map = value.as_object()?;
        let mut set = Set {
            member: map.is_empty() && depth > 0,
            ..Set::default()
        };
        for (step, below) in map {
            if step == "." {
                set.member = true;
                continue;
            }
            let known = matches!(step.split_once(':'), Some(("f" | "k" | "v" | "i", _)));
            if !known {
                return None;
            }
            set.children.insert(step.clone(), Self::read(below, depth + 1)?);
        }
        Some(set)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn set(paths: &[&str]) -> Set {
        let mut out = Set::default();
        for path in paths {
            out.insert(&path.split('/').map(str::to_owned).collect::<Vec<_>>());
        }
        out
    }

    #[test]
    fn sets_are_written_and_read() {
        let s = set(&["f:data", "f:data/f:k", r#"f:list/k:{"name":"a"}/f:v"#]);
        let fields = json!({"f:data": {".": {}, "f:k": {}}, "f:list": {r#"k:{"name":"a"}"#: {"f:v": {}}}});
        assert_eq!(s.to_fields(), fields);
        assert_eq!(Set::from_fields(&fields).unwrap(), s);
        assert_eq!(s.printed(), [".data", ".data.k", r#".list[name="a"].v"#]);
        assert!(Set::from_fields(&json!({"x": {}})).is_none());
    }

    #[test]
    fn a_parent_survives_the_loss_of_its_children() {
        let s = set(&["f:data", "f:data/f:k"]).difference(&set(&["f:data/f:k"]));
        assert_eq!(s.to_fields(), json!({"f:data": {}}));
        assert!(set(&["f:a"]).difference(&set(&["f:a"])).is_empty());
        assert_eq!(set(&["f:a", "f:b/f:c"]).without_below(&set(&["f:b"])), set(&["f:a"]));
    }
}
