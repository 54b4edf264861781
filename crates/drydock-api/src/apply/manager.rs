//! Ownership after each write, and server-side apply itself.

use super::{
    conflict::Conflicts,
    last_applied,
    managed::{Entry, Key, Managed},
    merge::{drop_nulls, merge},
    remove::remove,
    set::Set,
    shape::Node,
    validate, walk,
};
use crate::{error::ApiError, hooks::FieldManager, objects::text, resource::ResourceInfo, schema};
use serde_json::{Map, Value, json};

/// Fields that nobody owns: identity and what the server sets.
const STRIPPED: [&str; 11] = [
    "apiVersion",
    "kind",
    "metadata",
    "metadata/name",
    "metadata/namespace",
    "metadata/creationTimestamp",
    "metadata/selfLink",
    "metadata/uid",
    "metadata/clusterName",
    "metadata/generation",
    "metadata/resourceVersion",
];

/// The field manager of the pipeline.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ownership;

impl FieldManager for Ownership {
    fn update(
        &self,
        resource: &ResourceInfo,
        subresource: Option<&str>,
        live: Option<&Value>,
        new: &mut Value,
        manager: &str,
    ) {
        let now = jiff::Timestamp::now();
        Context::new(resource, subresource, &now).update(live, new, manager);
    }

    fn apply(
        &self,
        resource: &ResourceInfo,
        subresource: Option<&str>,
        live: Option<&Value>,
        patch: &Value,
        manager: &str,
        force: bool,
    ) -> Result<Value, ApiError> {
        let now = jiff::Timestamp::now();
        Context::new(resource, subresource, &now).apply(live, patch, manager, force)
    }
}

/// What a write happens on.
struct Context<'a> {
    node: Node<'a>,
    api_version: String,
    kind: &'a str,
    subresource: &'a str,
    reset: Reset,
    time: String,
    /// What a new object is compared with: for a built-in kind the encoding of its zero value, in which structs are there.
    nothing: Value,
}

/// Fields that a request on this resource or subresource cannot set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reset {
    Nothing,
    /// The main resource of a kind with a status subresource.
    Status,
    /// The status subresource of a built-in kind.
    Spec,
    /// The status subresource of a custom resource.
    AllButStatus,
}

impl<'a> Context<'a> {
    fn new(resource: &'a ResourceInfo, subresource: Option<&'a str>, now: &jiff::Timestamp) -> Self {
        let reset = match subresource {
            None if resource.subresource("status").is_some() => Reset::Status,
            Some("status") if resource.custom => Reset::AllButStatus,
            Some("status") => Reset::Spec,
            _ => Reset::Nothing,
        };
        let mut nothing = json!({});
        if let Some(schema) = resource.strategy.schema().filter(|_| !resource.custom) {
            schema::normalize(schema, &mut nothing);
        }
        Context {
            nothing,
            node: Node(resource.strategy.schema()),
            api_version: resource.api_version(),
            kind: &resource.kind,
            subresource: subresource.unwrap_or_default(),
            reset,
            time: jiff::Timestamp::from_second(now.as_second())
                .unwrap_or_default()
                .to_string(),
        }
    }

    fn filter(&self, set: Set) -> Set {
        let top = |name: &str| {
            let mut s = Set::default();
            s.insert(&[format!("f:{name}")]);
            s
        };
        match self.reset {
            Reset::Nothing => set,
            Reset::Status => set.without_below(&top("status")),
            Reset::Spec => set.without_below(&top("spec")),
            Reset::AllButStatus => set.only("status"),
        }
    }

    fn key(&self, manager: &str, applied: bool) -> Key {
        Key {
            manager: manager.into(),
            applied,
            api_version: if applied {
                String::new()
            } else {
                self.api_version.clone()
            },
            subresource: self.subresource.into(),
        }
    }

    fn update(&self, live: Option<&Value>, new: &mut Value, manager: &str) {
        let given = self.subresource.is_empty().then_some(&*new);
        let mut managed = Managed::start(live, given);
        let before = Managed::read(&live.map(managed_fields).unwrap_or_default()).unwrap_or_default();
        take_managed_fields(new);
        let old = live.map_or_else(|| self.nothing.clone(), |live| plain(Some(live)));
        let comparison = walk::compare(self.node, &old, new).map(|s| self.filter(s));
        yield_fields(&mut managed, &comparison, None);
        let taken = strip(comparison.modified.union(&comparison.added));
        if !taken.is_empty() {
            let key = self.key(manager, false);
            let previous = managed.0.remove(&key).map(|e| e.set).unwrap_or_default();
            let entry = Entry {
                api_version: self.api_version.clone(),
                time: Some(self.time.clone()),
                set: taken.union(&previous),
            };
            managed.0.insert(key, entry);
        }
        managed.0.retain(|_, e| !e.set.is_empty());
        managed.cap();
        if comparison.is_same() && managed.same_fields(&before) {
            managed = before;
        }
        put_managed_fields(new, &managed);
    }

    fn apply(&self, live: Option<&Value>, patch: &Value, manager: &str, force: bool) -> Result<Value, ApiError> {
        if patch.pointer("/metadata/managedFields").is_some_and(|v| !v.is_null()) {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        let problems = validate::problems(self.node, patch);
        if !problems.is_empty() {
            let (group_version, kind) = (self.api_version.as_str(), self.kind);
            let group_version = if group_version.contains('/') {
                group_version.to_owned()
            } else {
                format!("/{group_version}")
            };
            return Err(ApiError::unclassified(format!(
                "failed to create typed patch object ({}/{}; {group_version}, Kind={kind}): {}",
                text(patch, &["metadata", "namespace"]),
                text(patch, &["metadata", "name"]),
                validate::joined(&problems)
            )));
        }
        let old = plain(live);
        let managed = self.initial(live, &old);
        let outcome = match self.merge_in(&old, patch, &managed, manager, force) {
            Err(conflicts) if manager == last_applied::KUBECTL => {
                let rest = conflicts.without(&last_applied::allowed(self.node, &old));
                if !rest.0.is_empty() {
                    return Err(rest.error());
                }
                self.merge_in(&old, patch, &managed, manager, true)
            }
            other => other,
        };
        let (mut object, managed) = outcome.map_err(|conflicts| conflicts.error())?;
        if manager == last_applied::KUBECTL && last_applied::present(&object) {
            last_applied::refresh(&mut object, patch);
        }
        put_managed_fields(&mut object, &managed);
        Ok(object)
    }

    /// The live managers; an object that nobody managed so far belongs to `before-first-apply`.
    fn initial(&self, live: Option<&Value>, old: &Value) -> Managed {
        let mut managed = Managed::start(live, None);
        if live.is_some() && managed.0.is_empty() {
            let all = strip(walk::compare(self.node, &json!({}), old).added);
            if !all.is_empty() {
                let entry = Entry {
                    api_version: self.api_version.clone(),
                    time: Some(self.time.clone()),
                    set: all,
                };
                managed.0.insert(
                    Key {
                        subresource: String::new(),
                        ..self.key("before-first-apply", false)
                    },
                    entry,
                );
            }
        }
        managed
    }

    fn merge_in(
        &self,
        old: &Value,
        patch: &Value,
        managed: &Managed,
        manager: &str,
        force: bool,
    ) -> Result<(Value, Managed), Conflicts> {
        let mut managed = managed.clone();
        let key = self.key(manager, true);
        let last = managed.0.remove(&key);
        let claimed = self.filter(walk::fields(self.node, patch));
        let merged = merge(self.node, old, patch);
        managed.0.insert(
            key.clone(),
            Entry {
                api_version: self.api_version.clone(),
                time: None,
                set: claimed,
            },
        );
        let mut object = match &last {
            Some(last) if !last.set.is_empty() => self.prune(&merged, &managed, &last.set),
            _ => merged,
        };
        drop_nulls(&mut object);
        let comparison = walk::compare(self.node, old, &object).map(|s| self.filter(s));
        let conflicts = conflicts(&managed, &comparison, &key);
        if !force && !conflicts.0.is_empty() {
            return Err(conflicts);
        }
        yield_fields(&mut managed, &comparison, Some(&key));
        let changed = *old != object;
        if let Some(entry) = managed.0.get_mut(&key) {
            entry.set = strip(std::mem::take(&mut entry.set));
            entry.time = if changed {
                Some(self.time.clone())
            } else {
                last.and_then(|l| l.time)
            };
        }
        managed.0.retain(|_, e| !e.set.is_empty());
        Ok((object, managed))
    }

    /// Removes what the manager applied before and no longer does, unless somebody else owns it.
    fn prune(&self, merged: &Value, managed: &Managed, last: &Set) -> Value {
        let named = |set: &Set| set.with_named_fields(self.node);
        let pruned = remove(self.node, merged, &named(last));
        let everyone = managed.0.values().fold(Set::default(), |all, e| all.union(&e.set));
        let present = walk::fields(self.node, merged);
        let left = walk::fields(self.node, &pruned);
        let owned_back = named(&present).difference(&named(&left).union(&named(&everyone)));
        let pruned = remove(self.node, merged, &owned_back);
        let left = walk::fields(self.node, &pruned);
        let dangling = named(&present).difference(&named(&left)).intersection(&named(last));
        remove(self.node, merged, &dangling)
    }
}

fn conflicts(managed: &Managed, comparison: &walk::Comparison, own: &Key) -> Conflicts {
    let touched = comparison.modified.union(&comparison.added);
    Conflicts(
        managed
            .0
            .iter()
            .filter(|(key, _)| *key != own)
            .map(|(key, entry)| (key.clone(), entry.set.intersection(&touched)))
            .filter(|(_, set)| !set.is_empty())
            .collect(),
    )
}

/// Takes from every other manager what was changed or removed.
fn yield_fields(managed: &mut Managed, comparison: &walk::Comparison, own: Option<&Key>) {
    let gone = comparison.modified.union(&comparison.added).union(&comparison.removed);
    for (key, entry) in &mut managed.0 {
        if Some(key) != own {
            entry.set = entry.set.difference(&gone);
        }
    }
}

fn strip(set: Set) -> Set {
    let mut stripped = Set::default();
    for path in STRIPPED {
        stripped.insert(&path.split('/').map(|p| format!("f:{p}")).collect::<Vec<_>>());
    }
    stripped.insert(&["f:metadata".into(), "f:managedFields".into()]);
    set.difference(&stripped)
}

fn managed_fields(object: &Value) -> Value {
    object.pointer("/metadata/managedFields").cloned().unwrap_or_default()
}

fn plain(live: Option<&Value>) -> Value {
    let mut object = live.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    take_managed_fields(&mut object);
    object
}

fn take_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

fn put_managed_fields(object: &mut Value, managed: &Managed) {
    if managed.0.is_empty() {
        take_managed_fields(object);
    } else {
        object["metadata"]["managedFields"] = managed.write();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::schema::builtin;

    fn context(time: i64) -> Context<'static> {
        Context {
            node: Node(builtin("core.v1.ConfigMap")),
            api_version: "v1".into(),
            kind: "ConfigMap",
            subresource: "",
            reset: Reset::Nothing,
            time: jiff::Timestamp::from_second(time).unwrap().to_string(),
            nothing: json!({}),
        }
    }

    fn config(data: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
    }

    /// Managers and their fields, one per line.
    fn owners(object: &Value) -> Vec<String> {
        object["metadata"]["managedFields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| {
                format!(
                    "{} {} {}",
                    e["manager"].as_str().unwrap(),
                    e["operation"].as_str().unwrap(),
                    e["fieldsV1"]
                )
            })
            .collect()
    }

    #[test]
    fn appliers_own_quarrel_and_let_go() {
        let one = context(1)
            .apply(None, &config(json!({"k": "v", "l": "w"})), "m1", false)
            .unwrap();
        assert_eq!(owners(&one), [r#"m1 Apply {"f:data":{"f:k":{},"f:l":{}}}"#]);
        let error = context(2)
            .apply(Some(&one), &config(json!({"k": "other", "l": "x"})), "m2", false)
            .unwrap_err();
        assert_eq!(
            error.message,
            "Apply failed with 2 conflicts: conflicts with \"m1\":\n- .data.k\n- .data.l"
        );
        let two = context(3)
            .apply(Some(&one), &config(json!({"k": "other"})), "m2", true)
            .unwrap();
        assert_eq!(
            owners(&two),
            [r#"m1 Apply {"f:data":{"f:l":{}}}"#, r#"m2 Apply {"f:data":{"f:k":{}}}"#]
        );
        let three = context(4).apply(Some(&two), &config(json!({})), "m2", false).unwrap();
        assert_eq!(three["data"], json!({"l": "w"}));
        let shared = context(5)
            .apply(Some(&three), &config(json!({"l": "w"})), "m3", false)
            .unwrap();
        assert!(
            shared["metadata"]["managedFields"]
                .as_array()
                .unwrap()
                .iter()
                .any(|e| e["manager"] == "m3" && e.get("time").is_none())
        );
        let kept = context(6)
            .apply(Some(&shared), &config(json!({})), "m1", false)
            .unwrap();
        assert_eq!(kept["data"], json!({"l": "w"}), "m3 still owns it");
    }

    #[test]
    fn updaters_take_what_they_change() {
        let mut one = config(json!({"k": "v"}));
        context(1).update(None, &mut one, "creator");
        assert_eq!(owners(&one), [r#"creator Update {"f:data":{".":{},"f:k":{}}}"#]);
        let mut two = one.clone();
        two["data"] = json!({"k": "y"});
        context(2).update(Some(&one), &mut two, "editor");
        assert_eq!(
            owners(&two),
            [
                r#"creator Update {"f:data":{}}"#,
                r#"editor Update {"f:data":{"f:k":{}}}"#
            ]
        );
        let mut same = two.clone();
        context(3).update(Some(&two), &mut same, "editor");
        assert_eq!(same, two, "nothing changed, so no time changes");
    }

    #[test]
    fn kubectl_moves_from_client_side_to_server_side() {
        let mut live = config(json!({"k": "v", "old": "x"}));
        live["metadata"]["annotations"] =
            json!({(last_applied::ANNOTATION): r#"{"apiVersion":"v1","kind":"ConfigMap","data":{"k":"v","old":"x"}}"#});
        context(1).update(None, &mut live, "kubectl-client-side-apply");
        let after = context(2)
            .apply(Some(&live), &config(json!({"k": "w"})), "kubectl", false)
            .unwrap();
        assert_eq!(after["data"], json!({"k": "w", "old": "x"}));
        assert_eq!(
            after["metadata"]["annotations"][last_applied::ANNOTATION],
            "{\"apiVersion\":\"v1\",\"data\":{\"k\":\"w\"},\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"}}\n"
        );
    }
}
