//! The list of managers on an object: `metadata.managedFields`.

use super::set::Set;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Most `Update` managers an object keeps; older ones are joined as `ancient-changes`.
const MAX_UPDATERS: usize = 10;
/// Most entries that are read.
const MAX_ENTRIES: usize = 1000;

/// What makes an entry one: for appliers the version does not count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Manager's name.
    pub manager: String,
    /// `Apply` or `Update`.
    pub applied: bool,
    /// API version, empty for appliers.
    pub api_version: String,
    /// `status`, `scale`, … or empty.
    pub subresource: String,
}

/// One manager's fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Version the fields are in.
    pub api_version: String,
    /// RFC 3339 seconds; absent when the manager never changed anything.
    pub time: Option<String>,
    /// The fields.
    pub set: Set,
}

/// All managers of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Managed(pub BTreeMap<Key, Entry>);

impl Managed {
    /// Reads the list; `None` when an entry cannot be understood.
    #[must_use]
    pub fn read(list: &Value) -> Option<Managed> {
        let mut out = BTreeMap::new();
        for entry in list
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .take(MAX_ENTRIES)
        {
            let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let applied = match text("operation").as_str() {
                "Apply" => true,
                "Update" => false,
                _ => return None,
            };
            if text("fieldsType") != "FieldsV1" {
                return None;
            }
            let set = match entry.get("fieldsV1") {
                Some(fields) => Set::from_fields(fields)?,
                None => Set::default(),
            };
            let key = Key {
                manager: text("manager"),
                applied,
                api_version: if applied { String::new() } else { text("apiVersion") },
                subresource: text("subresource"),
            };
            let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
            out.insert(
                key,
                Entry {
                    api_version: text("apiVersion"),
                    time,
                    set,
                },
            );
        }
        Some(Managed(out))
    }

    /// The managers to go on from: those the request carries if it may and does, else the live ones.
    /// A list with one empty entry means: forget everything.
    #[must_use]
    pub fn start(live: Option<&Value>, given: Option<&Value>) -> Managed {
        let list = |object: Option<&Value>| {
            object
                .and_then(|o| o.pointer("/metadata/managedFields"))
                .cloned()
                .unwrap_or(Value::Null)
        };
        let given = list(given);
        if given
            .as_array()
            .is_some_and(|a| matches!(a.as_slice(), [Value::Object(one)] if one.is_empty()))
        {
            return Managed::default();
        }
        match Managed::read(&given) {
            Some(managed) if !managed.0.is_empty() => managed,
            _ => Managed::read(&list(live)).unwrap_or_default(),
        }
    }

    /// Whether both hold the same managers with the same fields, times aside.
    #[must_use]
    pub fn same_fields(&self, other: &Managed) -> bool {
        self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .zip(&other.0)
                .all(|((ka, a), (kb, b))| ka == kb && a.set == b.set && a.api_version == b.api_version)
    }

    /// Joins the oldest `Update` managers when there are too many.
    pub fn cap(&mut self) {
        let mut updaters: Vec<(Option<String>, Key)> = self
            .0
            .iter()
            .filter(|(k, _)| !k.applied)
            .map(|(k, e)| (e.time.clone(), k.clone()))
            .collect();
        if updaters.len() <= MAX_UPDATERS {
            return;
        }
        updaters.sort();
        let mut count = updaters.len();
        let mut first: BTreeMap<String, Key> = BTreeMap::new();
        for (time, key) in updaters {
            if count <= MAX_UPDATERS {
                break;
            }
            let bucket = Key {
                manager: "ancient-changes".into(),
                subresource: String::new(),
                ..key.clone()
            };
            let Some(oldest) = first.get(&key.api_version).cloned() else {
                first.insert(key.api_version.clone(), key);
                continue;
            };
            if !self.0.contains_key(&bucket)
                && let Some(entry) = self.0.remove(&oldest)
            {
                self.0.insert(bucket.clone(), entry);
            }
            if let (Some(entry), Some(joined)) = (self.0.remove(&key), self.0.get_mut(&bucket)) {
                joined.set = joined.set.union(&entry.set);
                joined.time = time;
                count -= 1;
            }
        }
    }

    /// The `managedFields` list: appliers first, then by time, name, version and subresource.
    #[must_use]
    pub fn write(&self) -> Value {
        let mut entries: Vec<(&Key, &Entry)> = self.0.iter().collect();
        entries.sort_by_key(|(k, e)| {
            (
                !k.applied,
                e.time.clone(),
                k.manager.clone(),
                e.api_version.clone(),
                k.subresource.clone(),
            )
        });
        entries
            .into_iter()
            .map(|(key, entry)| {
                let mut out = Map::new();
                if !key.manager.is_empty() {
                    out.insert("manager".into(), json!(key.manager));
                }
                out.insert("operation".into(), json!(if key.applied { "Apply" } else { "Update" }));
                out.insert("apiVersion".into(), json!(entry.api_version));
                if let Some(time) = &entry.time {
                    out.insert("time".into(), json!(time));
                }
                out.insert("fieldsType".into(), json!("FieldsV1"));
                out.insert("fieldsV1".into(), entry.set.to_fields());
                if !key.subresource.is_empty() {
                    out.insert("subresource".into(), json!(key.subresource));
                }
                Value::Object(out)
            })
            .collect()
    }
}
