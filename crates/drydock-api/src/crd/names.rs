//! Which names of a definition are accepted, and the conditions that say so.

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Names in use by the other definitions of the group.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    /// Adds the accepted names of another definition.
    pub fn add(&mut self, accepted: &Value) {
        let mut put = |set: fn(&mut Self) -> &mut BTreeSet<String>, value: &Value| {
            if let Some(name) = value.as_str().filter(|n| !n.is_empty()) {
                set(self).insert(name.to_owned());
            }
        };
        put(|t| &mut t.resources, &accepted["plural"]);
        put(|t| &mut t.resources, &accepted["singular"]);
        for short in accepted["shortNames"].as_array().into_iter().flatten() {
            put(|t| &mut t.resources, short);
        }
        put(|t| &mut t.kinds, &accepted["kind"]);
        put(|t| &mut t.kinds, &accepted["listKind"]);
    }
}

/// The accepted names and the state of the condition `NamesAccepted`: status, reason, message.
#[must_use]
pub fn accept(requested: &Value, accepted: &Value, taken: &Taken) -> (Value, (&'static str, &'static str, String)) {
    let mut out = Map::new();
    let mut verdict = ("True", "NoConflicts", "no conflicts found".to_owned());
    let mut one = |key: &str, reason: &'static str, set: &BTreeSet<String>, always: bool| {
        let wanted = requested[key].as_str().unwrap_or_default();
        let had = accepted[key].as_str().unwrap_or_default();
        let conflict = wanted != had && set.contains(wanted);
        if conflict {
            verdict = ("False", reason, format!("{wanted:?} is already in use"));
        }
        let name = if conflict { had } else { wanted };
        if !name.is_empty() || always {
            out.insert(key.to_owned(), json!(name));
        }
    };
    one("plural", "PluralConflict", &taken.resources, true);
    one("singular", "SingularConflict", &taken.resources, false);
    let shorts = |names: &Value| -> Vec<String> {
        names["shortNames"]
            .as_array()
            .map(|a| a.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            .unwrap_or_default()
    };
    let (wanted, had) = (shorts(requested), shorts(accepted));
    let clash = wanted
        .iter()
        .find(|s| !had.contains(s) && taken.resources.contains(*s))
        .cloned();
    one("kind", "KindConflict", &taken.kinds, true);
    one("listKind", "ListKindConflict", &taken.kinds, false);
    if let Some(name) = &clash
        && verdict.0 == "True"
    {
        verdict = ("False", "ShortNamesConflict", format!("{name:?} is already in use"));
    }
    let names = if clash.is_some() { had } else { wanted };
    if !names.is_empty() {
        out.insert("shortNames".into(), json!(names));
    }
    if let Some(categories) = requested
        .get("categories")
        .filter(|c| c.as_array().is_some_and(|a| !a.is_empty()))
    {
        out.insert("categories".into(), categories.clone());
    }
    (Value::Object(out), verdict)
}

/// Sets a condition; the time changes only with the status.
pub fn set_condition(status: &mut Value, kind: &str, state: &str, reason: &str, message: &str, now: &str) {
    let conditions = &mut status["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Value::Array(list) = conditions else { return };
    let mut fresh = json!({
        "type": kind, "status": state, "lastTransitionTime": now, "reason": reason, "message": message,
    });
    match list.iter_mut().find(|c| c["type"] == kind) {
        Some(old) => {
            if old["status"] == state {
                fresh["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            *old = fresh;
        }
        None => list.push(fresh),
    }
}

/// Whether a condition is `True`.
#[must_use]
pub fn is_true(status: &Value, kind: &str) -> bool {
    status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|c| c["type"] == kind && c["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_kind_is_not_accepted() {
        let mut taken = Taken::default();
        taken.add(&json!({"plural": "gears", "singular": "gear", "kind": "Gear", "listKind": "GearList", "shortNames": ["gr"]}));
        let requested = json!({"plural": "geers", "singular": "gear", "kind": "Gear", "listKind": "GearList", "shortNames": ["gr"]});
        let (names, verdict) = accept(&requested, &json!({}), &taken);
        assert_eq!(names, json!({"plural": "geers", "kind": ""}));
        assert_eq!(
            verdict,
            ("False", "ListKindConflict", "\"GearList\" is already in use".to_owned())
        );
        let (_, verdict) = accept(&json!({"plural": "cogs", "kind": "Cog"}), &json!({}), &taken);
        assert_eq!(verdict.0, "True");
    }
}
