//! Dictionaries.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{Template, Value};

use super::{Result, at, last, string, text, two, wrong};

type Map = BTreeMap<Arc<str>, Value>;

pub(super) fn add(template: Template) -> Template {
    template
        .func("dict", |arguments| {
            let mut map = Map::new();
            for pair in arguments.chunks(2) {
                let value = pair.get(1).cloned().unwrap_or_else(|| string(""));
                map.insert(text("dict", &pair[0])?.as_ref().into(), value);
            }
            Ok(Value::Map(Arc::new(map)))
        })
        .func("get", |arguments| {
            let (map, key) = two("get", arguments)?;
            let key = text("get", key)?;
            Ok(dictionary("get", map)?
                .get(&*key)
                .cloned()
                .unwrap_or_else(|| string("")))
        })
        .func("set", |arguments| {
            let key = text("set", at("set", arguments, 1)?)?;
            let mut map = dictionary("set", at("set", arguments, 0)?)?;
            map.insert(key.as_ref().into(), at("set", arguments, 2)?.clone());
            Ok(Value::Map(Arc::new(map)))
        })
        .func("unset", |arguments| {
            let (map, key) = two("unset", arguments)?;
            let mut map = dictionary("unset", map)?;
            map.remove(&*text("unset", key)?);
            Ok(Value::Map(Arc::new(map)))
        })
        .func("hasKey", |arguments| {
            let (map, key) = two("hasKey", arguments)?;
            Ok(Value::Bool(
                dictionary("hasKey", map)?.contains_key(&*text("hasKey", key)?),
            ))
        })
        .func("keys", |arguments| {
            let mut keys = Vec::new();
            for argument in arguments {
                keys.extend(dictionary("keys", argument)?.into_keys().map(Value::String));
            }
            Ok(Value::List(keys.into()))
        })
        .func("values", |arguments| {
            Ok(Value::List(
                dictionary("values", last("values", arguments)?)?
                    .into_values()
                    .collect(),
            ))
        })
        .func("pick", |arguments| selected("pick", arguments, true))
        .func("omit", |arguments| selected("omit", arguments, false))
        .func("dig", |arguments| {
            let [keys @ .., fallback, map] = arguments else {
                return Err(wrong("dig", "takes keys, a fallback and a dictionary"));
            };
            let mut value = map.clone();
            for key in keys {
                match value.field(&text("dig", key)?) {
                    Some(inner) => value = inner.clone(),
                    None => return Ok(fallback.clone()),
                }
            }
            Ok(value)
        })
        .func("pluck", |arguments| {
            let key = text("pluck", at("pluck", arguments, 0)?)?;
            Ok(Value::List(
                arguments[1..]
                    .iter()
                    .filter_map(|map| map.field(&key).cloned())
                    .collect(),
            ))
        })
        .func("deepCopy", |arguments| Ok(last("deepCopy", arguments)?.clone()))
        .func("merge", |arguments| merged("merge", arguments.iter().rev()))
        .func("mergeOverwrite", |arguments| merged("mergeOverwrite", arguments.iter()))
}

fn dictionary(function: &str, value: &Value) -> Result<Map> {
    match value {
        Value::Map(map) => Ok((**map).clone()),
        Value::Nil => Ok(Map::new()),
        other => Err(wrong(
            function,
            format!("wants a dictionary, got {}", other.type_name()),
        )),
    }
}

fn selected(function: &str, arguments: &[Value], keep: bool) -> Result<Value> {
    let mut map = dictionary(function, at(function, arguments, 0)?)?;
    let keys: Result<Vec<_>> = arguments[1..].iter().map(|key| text(function, key)).collect();
    let keys = keys?;
    map.retain(|key, _| keys.iter().any(|wanted| **wanted == **key) == keep);
    Ok(Value::Map(Arc::new(map)))
}

/// Later dictionaries win, key by key and level by level.
fn merged<'a>(function: &str, maps: impl Iterator<Item = &'a Value>) -> Result<Value> {
    let mut result = Map::new();
    for map in maps {
        overlay(&mut result, dictionary(function, map)?);
    }
    Ok(Value::Map(Arc::new(result)))
}

fn overlay(below: &mut Map, above: Map) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Map(inner)), Value::Map(upper)) => overlay(Arc::make_mut(inner), (*upper).clone()),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}
