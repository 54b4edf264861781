//! What differs between two manifests, object by object and value by value, and between two documents line by line.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use regex::Regex;
use serde_json::{Map, Value};
use similar::{Algorithm, ChangeTag, DiffOp, TextDiff, capture_diff_slices_deadline};

use crate::object::Object;
use crate::yaml::{self, YamlError};

/// Longest time for the comparison of two lists or texts; afterwards it is coarser, never wrong.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most patterns of one flag.
const MOST_PATTERNS: usize = 100;

/// Why manifests cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum DifferenceError {
    /// A manifest is no YAML.
    #[error("{name}: {source}")]
    Yaml {
        /// Name of the file or folder.
        name: String,
        /// What is wrong.
        source: YamlError,
    },
    /// A document is no object.
    #[error("{name}: document {number} has no kind or no metadata.name")]
    NoObject {
        /// Name of the file or folder.
        name: String,
        /// Which document, from one.
        number: usize,
    },
    /// A pattern is malformed.
    #[error(
        "{pattern:?} selects nothing that there could be: write Kind:namespace:name, each a regular expression or *"
    )]
    Pattern {
        /// The pattern.
        pattern: String,
    },
    /// There are too many patterns.
    #[error("more than {MOST_PATTERNS} patterns in one list")]
    Patterns,
    /// A renaming is malformed.
    #[error("{0:?} renames nothing: write Kind:namespace:name->Kind:namespace:name")]
    Renaming(String),
}

/// Which objects are compared, and how.
#[derive(Debug, Default)]
pub struct Selection {
    select: Vec<Regex>,
    ignore: Vec<(Regex, Option<String>)>,
    rename: Vec<(Regex, [String; 3])>,
    /// Whole objects line by line instead of single values.
    pub verbose: bool,
}

impl Selection {
    /// Reads the lists of `--select`, `--ignore` and `--rename`.
    pub fn parse(select: &str, ignore: &str, rename: &str) -> Result<Self, DifferenceError> {
        let list = |text: &str| -> Result<Vec<String>, DifferenceError> {
            let items: Vec<String> = text
                .split(',')
                .map(|item| item.trim().to_owned())
                .filter(|item| !item.is_empty())
                .collect();
            if items.len() > MOST_PATTERNS {
                return Err(DifferenceError::Patterns);
            }
            Ok(items)
        };
        let mut selection = Self::default();
        for item in list(select)? {
            selection.select.push(pattern(&item)?);
        }
        for item in list(ignore)? {
            // A fourth part is a path: only that is ignored.
            let path = item.splitn(4, ':').nth(3).filter(|path| !path.is_empty());
            let object: Vec<&str> = item.split(':').take(3).collect();
            selection
                .ignore
                .push((pattern(&object.join(":"))?, path.map(str::to_owned)));
        }
        for item in list(rename)? {
            let renaming = || DifferenceError::Renaming(item.clone());
            let (from, to) = item.split_once("->").ok_or_else(renaming)?;
            let to: Vec<String> = to.split(':').map(|part| part.trim().to_owned()).collect();
            let to = <[String; 3]>::try_from(to).map_err(|_| renaming())?;
            selection.rename.push((pattern(from.trim())?, to));
        }
        Ok(selection)
    }

    fn takes(&self, key: &str) -> bool {
        let ignored = |(pattern, path): &(Regex, Option<String>)| path.is_none() && pattern.is_match(key);
        (self.select.is_empty() || self.select.iter().any(|pattern| pattern.is_match(key)))
            && !self.ignore.iter().any(ignored)
    }

    fn ignored_paths(&self, key: &str) -> Vec<&str> {
        let matching = self.ignore.iter().filter(|(pattern, _)| pattern.is_match(key));
        matching.filter_map(|(_, path)| path.as_deref()).collect()
    }

    fn renamed(&self, key: String) -> String {
        let Some((_, to)) = self.rename.iter().find(|(from, _)| from.is_match(&key)) else {
            return key;
        };
        let parts = key.splitn(3, ':').zip(to);
        let parts = parts.map(|(old, new)| if matches!(new.as_str(), "" | "*") { old } else { new });
        parts.collect::<Vec<_>>().join(":")
    }
}

/// `Kind:namespace:name`, where nothing and `*` stand for anything.
fn pattern(text: &str) -> Result<Regex, DifferenceError> {
    let parts = text
        .split(':')
        .map(|part| if matches!(part, "" | "*") { ".*" } else { part });
    Regex::new(&parts.collect::<Vec<_>>().join(":")).map_err(|_| DifferenceError::Pattern {
        pattern: text.to_owned(),
    })
}

/// The differences of two manifests, each with the name that errors call it by; empty if there are none.
pub fn manifests(a: (&str, &str), b: (&str, &str), selection: &Selection) -> Result<String, DifferenceError> {
    let of_a = objects(a)?
        .into_iter()
        .map(|(key, object)| (selection.renamed(key), object));
    let of_a: BTreeMap<String, Value> = of_a.filter(|(key, _)| selection.takes(key)).collect();
    let of_b = objects(b)?.into_iter();
    let of_b: BTreeMap<String, Value> = of_b.filter(|(key, _)| selection.takes(key)).collect();
    let mut told = BTreeMap::new();
    for (key, a) in &of_a {
        let Some(b) = of_b.get(key) else {
            told.insert(key, format!("\n\nObject {key} is missing in B:\n\n"));
            continue;
        };
        let difference = if selection.verbose {
            lines(&yaml::to_sorted(a), &yaml::to_sorted(b))
        } else {
            values(a, b, &selection.ignored_paths(key))
        };
        if !difference.is_empty() {
            told.insert(key, format!("\n\nObject {key} has diffs:\n\n{difference}"));
        }
    }
    for key in of_b.keys().filter(|key| !of_a.contains_key(*key)) {
        told.insert(key, format!("\n\nObject {key} is missing in A:\n\n"));
    }
    Ok(told.into_values().collect())
}

fn objects((name, text): (&str, &str)) -> Result<BTreeMap<String, Value>, DifferenceError> {
    let documents = yaml::documents(text).map_err(|source| DifferenceError::Yaml {
        name: name.to_owned(),
        source,
    })?;
    let mut objects = BTreeMap::new();
    for (number, document) in documents.into_iter().enumerate() {
        let object = Object(document);
        if object.kind().is_empty() || object.name().is_empty() {
            return Err(DifferenceError::NoObject {
                name: name.to_owned(),
                number: number + 1,
            });
        }
        let key = format!("{}:{}:{}", object.kind(), object.namespace(), object.name());
        objects.insert(key, object.0);
    }
    Ok(objects)
}

/// Values that differ, as a tree of paths with `OLD -> NEW` at its leaves.
fn values(a: &Value, b: &Value, ignored: &[&str]) -> String {
    let mut found = Found {
        tree: Value::Object(Map::new()),
        ignored,
    };
    found.compare(&opened(a), &opened(b), &mut Vec::new());
    if found.tree.as_object().is_some_and(Map::is_empty) {
        return String::new();
    }
    yaml::to_sorted(&found.tree) + "\n"
}

/// A ConfigMap's data is compared as what it is: YAML.
fn opened(object: &Value) -> Value {
    let mut object = object.clone();
    if object["kind"] == "ConfigMap"
        && let Some(data) = object.get_mut("data").and_then(Value::as_object_mut)
    {
        for value in data.values_mut() {
            let inner = value.as_str().and_then(|text| yaml::document(text).ok());
            if let Some(inner) = inner.filter(Value::is_object) {
                *value = inner;
            }
        }
    }
    object
}

struct Found<'a> {
    tree: Value,
    ignored: &'a [&'a str],
}

impl Found<'_> {
    fn compare(&mut self, a: &Value, b: &Value, path: &mut Vec<String>) {
        if a == b || self.is_ignored(path) {
            return;
        }
        match (a, b) {
            (Value::Object(a), Value::Object(b)) => {
                for (key, value) in a {
                    self.below(key.clone(), value, b.get(key).unwrap_or(&Value::Null), path);
                }
                for (key, value) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
                    self.below(key.clone(), &Value::Null, value, path);
                }
            }
            (Value::Array(a), Value::Array(b)) => {
                for (old, new) in aligned(a, b) {
                    let step = match (old, new) {
                        (Some(old), Some(new)) if old == new => format!("[#{old}]"),
                        (Some(old), Some(new)) => format!("[{old}->{new}]"),
                        (Some(old), None) => format!("[{old}->?]"),
                        (None, Some(new)) => format!("[?->{new}]"),
                        (None, None) => continue,
                    };
                    let item = |list: &[Value], at: Option<usize>| at.and_then(|at| list.get(at)).cloned();
                    let (old, new) = (item(a, old), item(b, new));
                    self.below(step, &old.unwrap_or(Value::Null), &new.unwrap_or(Value::Null), path);
                }
            }
            (a, b) => match (is_empty(a), is_empty(b)) {
                (true, true) => {}
                (false, true) => self.tell(path, format!("{} -> <empty> (REMOVED)", shown(a))),
                (true, false) => self.tell(path, format!("<empty> -> {} (ADDED)", shown(b))),
                (false, false) => self.tell(path, format!("{} -> {}", shown(a), shown(b))),
            },
        }
    }

    fn below(&mut self, step: String, a: &Value, b: &Value, path: &mut Vec<String>) {
        path.push(step);
        self.compare(a, b, path);
        path.pop();
    }

    fn is_ignored(&self, path: &[String]) -> bool {
        let whole = path.join(".");
        self.ignored.iter().any(|pattern| wildcard(pattern, &whole))
    }

    fn tell(&mut self, path: &[String], difference: String) {
        let mut at = &mut self.tree;
        for step in path {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            at = &mut at[step.as_str()];
        }
        *at = Value::String(difference);
    }
}

/// Does a text fit a pattern in which `*` stands for any part?
fn wildcard(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// Which item of one list is which of the other. Items that are equal keep their order; what is between them is paired
/// as long as it is about the same thing.
fn aligned(a: &[Value], b: &[Value]) -> Vec<(Option<usize>, Option<usize>)> {
    let texts = |list: &[Value]| -> Vec<String> { list.iter().map(|item| yaml::sorted(item).to_string()).collect() };
    let deadline = Some(Instant::now() + PATIENCE);
    let mut pairs = Vec::new();
    for operation in capture_diff_slices_deadline(Algorithm::Myers, &texts(a), &texts(b), deadline) {
        match operation {
            DiffOp::Equal { .. } => {}
            DiffOp::Delete { old_index, old_len, .. } => {
                pairs.extend((old_index..old_index + old_len).map(|at| (Some(at), None)))
            }
            DiffOp::Insert { new_index, new_len, .. } => {
                pairs.extend((new_index..new_index + new_len).map(|at| (None, Some(at))))
            }
            DiffOp::Replace {
                old_index,
                old_len,
                new_index,
                new_len,
            } => {
                for offset in 0..old_len.max(new_len) {
                    let old = (offset < old_len).then(|| old_index + offset);
                    let new = (offset < new_len).then(|| new_index + offset);
                    match (old, new) {
                        (Some(x), Some(y)) if !is_about_the_same(&a[x], &b[y]) => {
                            pairs.extend([(old, None), (None, new)]);
                        }
                        pair => pairs.push(pair),
                    }
                }
            }
        }
    }
    pairs
}

/// Things with different names are different things.
fn is_about_the_same(a: &Value, b: &Value) -> bool {
    match (a.get("name"), b.get("name")) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A value on one line, as Go prints it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            let fields = sorted.into_iter().map(|(key, value)| format!("{key}:{}", shown(value)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
    }
}

/// All lines of two texts, marked `-`, `+` or with a blank; empty if the texts are the same.
pub fn lines(a: &str, b: &str) -> String {
    if a == b {
        return String::new();
    }
    let difference = TextDiff::configure().timeout(PATIENCE).diff_lines(a, b);
    let mut text = String::new();
    for change in difference.iter_all_changes() {
        text.push(match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => ' ',
        });
        text.push_str(change.value().trim_end_matches('\n'));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(a: &str, b: &str, expected: &str) {
        let (a, b) = (yaml::document(a).unwrap(), yaml::document(b).unwrap());
        assert_eq!(values(&a, &b, &[]), expected);
    }

    #[test]
    fn values_are_told_by_their_path() {
        check("metadata: {name: a}", "metadata: {name: a}", "");
        check("metadata: []", "metadata: ", "");
        check("a: 1\nb: {c: x}", "a: 2\nb: {c: x}", "a: 1 -> 2\n");
        check("b: {c: x}", "b: {}", "b:\n  c: x -> <empty> (REMOVED)\n");
        check(
            "b: {}",
            "b: {c: {y: [1, z], x: true}}",
            "b:\n  c: <empty> -> map[x:true y:[1 z]] (ADDED)\n",
        );
    }

    #[test]
    fn items_of_lists_are_told_by_their_index() {
        check(
            "l: [a, b, c]",
            "l: [a, e, f]",
            "l:\n  '[#1]': b -> e\n  '[#2]': c -> f\n",
        );
        check(
            "l: [a, b, c]",
            "l: [b, c, a]",
            "l:\n  '[?->2]': <empty> -> a (ADDED)\n  '[0->?]': a -> <empty> (REMOVED)\n",
        );
        check(
            "l: [{name: x, v: 1}, {name: z}]",
            "l: [{name: w, v: 1}, {name: z}]",
            "l:\n  '[?->0]': <empty> -> map[name:w v:1] (ADDED)\n  '[0->?]': map[name:x v:1] -> <empty> (REMOVED)\n",
        );
        check(
            "l: [{name: x, v: 1}]",
            "l: [{name: w}, {name: x, v: 2}]",
            "l:\n  '[?->0]': <empty> -> map[name:w] (ADDED)\n  '[?->1]': <empty> -> map[name:x v:2] (ADDED)\n  '[0->?]': map[name:x v:1] -> <empty> (REMOVED)\n",
        );
    }

    const A: &str = "kind: Service\nmetadata: {name: istiod, namespace: s}\nspec: {a: 1, b: 1}\n---\nkind: ConfigMap\nmetadata: {name: istio, namespace: s}\ndata:\n  mesh: |\n    rootNamespace: s\n";
    const B: &str = "kind: Service\nmetadata: {name: istiod-canary, namespace: s}\nspec: {a: 2, b: 2}\n---\nkind: ConfigMap\nmetadata: {name: istio, namespace: s}\ndata:\n  mesh: |\n    rootNamespace: t\n";

    fn compare(select: &str, ignore: &str, rename: &str) -> String {
        let selection = Selection::parse(select, ignore, rename).unwrap();
        manifests(("a", A), ("b", B), &selection).unwrap()
    }

    #[test]
    fn objects_are_told_by_kind_namespace_and_name() {
        assert_eq!(
            compare("::", "", ""),
            "\n\nObject ConfigMap:s:istio has diffs:\n\ndata:\n  mesh:\n    rootNamespace: s -> t\n\
             \n\nObject Service:s:istiod is missing in B:\n\n\
             \n\nObject Service:s:istiod-canary is missing in A:\n\n"
        );
    }

    #[test]
    fn objects_are_selected_ignored_and_renamed() {
        let renaming = "Service:*:istiod->Service:*:istiod-canary";
        assert_eq!(
            compare("Service:*:*", "", renaming),
            "\n\nObject Service:s:istiod-canary has diffs:\n\nmetadata:\n  name: istiod -> istiod-canary\nspec:\n  a: 1 -> 2\n  b: 1 -> 2\n"
        );
        assert_eq!(compare("::", "ConfigMap:*:istio,Service", ""), "");
        assert_eq!(
            compare("", "ConfigMap,Service::istiod:spec.a,Service::istiod:*.name", renaming),
            "\n\nObject Service:s:istiod-canary has diffs:\n\nspec:\n  b: 1 -> 2\n"
        );
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        let error = |select: &str, rename: &str| Selection::parse(select, "", rename).unwrap_err().to_string();
        assert!(error("Service:(:", "").contains("\"Service:(:\""));
        assert!(error("", "a->b").contains("\"a->b\" renames nothing"));
        let error = manifests(("x.yaml", "kind: Service"), ("b", B), &Selection::default()).unwrap_err();
        assert_eq!(error.to_string(), "x.yaml: document 1 has no kind or no metadata.name");
    }

    #[test]
    fn lines_are_marked() {
        assert_eq!(lines("a\nb\n", "a\nc\n"), " a\n-b\n+c\n");
        assert_eq!(lines("a\n", "a\n"), "");
    }
}
