//! Pieces of Kubernetes objects in values: a chart writes them into its objects as they are.

use api::install::{SNIPPETS, Shape};
use serde_json::Value;

use super::Mistake;
use crate::schema::{Path, Schema};

/// Pieces that Kubernetes would not know.
pub(super) fn mistakes(spec: &Value) -> Vec<Mistake> {
    let mut found = Vec::new();
    for (place, shape) in SNIPPETS {
        let mut path = Path::of(&["spec", "values"]);
        for field in place.split('.') {
            path = path.field(field);
        }
        let value = place
            .split('.')
            .try_fold(&spec["values"], |value, field| value.get(field));
        let Some(value) = value else { continue };
        found.extend(of(place, shape, value, &path));
    }
    found
}

fn of(place: &'static str, shape: &'static Shape, value: &Value, path: &Path) -> Vec<Mistake> {
    let mistakes = Schema::from(shape).mistakes(value, path).into_iter();
    let wrap = |mistake| Mistake::Snippet {
        place,
        mistake: Box::new(mistake),
    };
    mistakes.map(wrap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_that_kubernetes_does_not_have_is_named() {
        let spec = json!({"values": {
            "global": {"defaultTolerations": [{"key": "a", "operator": "Exists"}, {"kee": "b"}]},
            "pilot": {"affinity": {"nodeAffinities": {}}, "volumeMounts": [{"name": "a", "mountPath": "/a", "readOnly": true}]},
        }});
        let told: Vec<String> = mistakes(&spec).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "invalid schema for global.defaultTolerations: spec.values.global.defaultTolerations[1]: unknown field \"kee\" (did you mean \"key\"?)",
                "invalid schema for pilot.affinity: spec.values.pilot.affinity: unknown field \"nodeAffinities\" (did you mean \"nodeAffinity\"?)",
            ]
        );
    }
}
