//! Has a pod the shape that everything here reads and writes? Kubernetes refuses one that has not when it decodes it;
//! a file, a template of somebody's own or a caller of the webhook may bring it nevertheless.

use serde_json::Value;

/// Where maps are, if anything is there: `[]` is each item of a list.
const MAPS: [&[&str]; 16] = [
    &["metadata", "labels"],
    &["metadata", "annotations"],
    &["spec", "securityContext"],
    &["spec", "[containers]", "securityContext"],
    &["spec", "[containers]", "resources"],
    &["spec", "[containers]", "[env]"],
    &["spec", "[containers]", "[ports]"],
    &["spec", "[containers]", "[volumeMounts]"],
    &["spec", "[containers]", "lifecycle", "postStart", "httpGet"],
    &["spec", "[containers]", "lifecycle", "preStop", "httpGet"],
    &["spec", "[containers]", "livenessProbe", "httpGet"],
    &["spec", "[containers]", "readinessProbe", "httpGet"],
    &["spec", "[containers]", "startupProbe", "httpGet"],
    &["spec", "[ephemeralContainers]"],
    &["spec", "[volumes]"],
    &["spec", "[imagePullSecrets]"],
];
/// Lists of containers: what holds for `containers` holds for the others.
const CONTAINERS: [&str; 2] = ["containers", "initContainers"];

/// Checks a pod, or a part of one that a template rendered; the error names the first place that is wrong.
///
/// # Errors
/// Something else is where a map or a list belongs.
pub fn check(pod: &Value) -> Result<(), String> {
    MAPS.iter().try_for_each(|path| walk(pod, path, "the pod"))
}

fn walk(value: &Value, path: &[&str], place: &str) -> Result<(), String> {
    let fields = match value {
        Value::Null => return Ok(()),
        Value::Object(fields) => fields,
        other => return Err(wrong(place, "a map", other)),
    };
    let Some((step, rest)) = path.split_first() else {
        return Ok(());
    };
    let below = |field: &str| match place {
        "the pod" => field.to_owned(),
        place => format!("{place}.{field}"),
    };
    let Some(list) = step.strip_prefix('[').and_then(|step| step.strip_suffix(']')) else {
        return fields.get(*step).map_or(Ok(()), |next| walk(next, rest, &below(step)));
    };
    let names: &[&str] = if list == "containers" { &CONTAINERS } else { &[list] };
    for name in names {
        match fields.get(*name) {
            None | Some(Value::Null) => {}
            Some(Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    let place = format!("{}[{index}]", below(name));
                    if item.is_null() {
                        return Err(wrong(&place, "a map", item));
                    }
                    walk(item, rest, &place)?;
                }
            }
            Some(other) => return Err(wrong(&below(name), "a list", other)),
        }
    }
    Ok(())
}

fn wrong(place: &str, wants: &str, has: &Value) -> String {
    let has = match has {
        Value::Object(_) => "a map",
        Value::Array(_) => "a list",
        Value::String(_) => "a text",
        Value::Null => "nothing",
        _ => "a number or a truth value",
    };
    format!("{place}: wants {wants}, has {has}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn case(pod: &Value, expected: &str) {
        assert_eq!(check(pod).err().unwrap_or_default(), expected);
    }

    #[test]
    fn the_place_that_is_wrong_is_named() {
        case(
            &json!({"metadata": {"labels": null}, "spec": {"containers": [{"env": [{"name": "a"}]}]}}),
            "",
        );
        case(&json!({}), "");
        case(&json!("foo"), "the pod: wants a map, has a text");
        case(&json!({"metadata": "foo"}), "metadata: wants a map, has a text");
        case(
            &json!({"spec": {"initContainers": [{}, 3]}}),
            "spec.initContainers[1]: wants a map, has a number or a truth value",
        );
        case(
            &json!({"spec": {"containers": {}}}),
            "spec.containers: wants a list, has a map",
        );
        case(
            &json!({"spec": {"containers": [{"readinessProbe": {"httpGet": []}}]}}),
            "spec.containers[0].readinessProbe.httpGet: wants a map, has a list",
        );
    }
}
