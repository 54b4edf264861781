//! The structs of the built-in kinds, read from the table `builtin.fields`.
//!
//! A line without indentation begins a struct, an indented one is a field:
//! `name[!] [presence] type [set] [map(k,…)] [key(k)] [merge] [replace] [retainKeys] [atomic] [enum(a|b)]
//! [default(json)] [go(Type)] [#N]`; `!` is required; presence `?` pointer, `=` always, `=?` always or null,
//! `~` left out when zero; `[]` and `{}` before a type are lists and maps.
//! Fields stand in the order of their declaration.

use std::{collections::BTreeMap, sync::LazyLock};

use super::{ListType, Presence, Schema, Type};

static TABLE: &str = include_str!("builtin.fields");

static STRUCTS: LazyLock<BTreeMap<&'static str, Schema>> = LazyLock::new(|| {
    let mut structs = BTreeMap::new();
    let mut current: Option<&mut Schema> = None;
    for line in TABLE.lines() {
        if let Some(field) = line.strip_prefix("  ") {
            if let (Some(owner), Some((name, mut schema))) = (current.as_deref_mut(), parse_field(field)) {
                schema.order = owner.fields.len();
                owner.fields.insert(name, schema);
            }
        } else {
            let (name, flags) = line.split_once(' ').unwrap_or((line, ""));
            let schema = Schema {
                ty: Type::Object,
                atomic: flags == "atomic",
                ..Schema::default()
            };
            current = Some(structs.entry(name).or_insert(schema));
        }
    }
    structs
});

/// A built-in struct by name (`core.v1.PodSpec`).
pub fn builtin(name: &str) -> Option<&'static Schema> {
    STRUCTS.get(name)
}

/// All built-in structs with their names.
pub fn all() -> impl Iterator<Item = (&'static str, &'static Schema)> {
    STRUCTS.iter().map(|(name, schema)| (*name, schema))
}

/// Name of the struct of a built-in kind: group and version as in `apps.v1`, `core.v1`.
pub fn names(group: &str, version: &str, kind: &str) -> String {
    let short = match group {
        "" => "core",
        other => other.split('.').next().unwrap_or(other),
    };
    format!("{short}.{version}.{kind}")
}

fn parse_field(line: &str) -> Option<(String, Schema)> {
    let mut words = split_words(line).into_iter().peekable();
    let name = words.next()?;
    let required = name.ends_with('!');
    let presence = match words.peek().copied()? {
        "?" => Some(Presence::Pointer),
        "=" => Some(Presence::Always),
        "=?" => Some(Presence::AlwaysPointer),
        "~" => Some(Presence::OmitZero),
        _ => None,
    };
    if presence.is_some() {
        words.next();
    }
    let mut schema = parse_type(words.next()?);
    schema.required = required;
    schema.presence = presence.unwrap_or_default();
    for word in words {
        if let Some(number) = word.strip_prefix('#') {
            schema.number = number.to_owned();
            continue;
        }
        let (flag, argument) = match word.split_once('(') {
            Some((flag, rest)) => (flag, rest.strip_suffix(')').unwrap_or(rest)),
            None => (word, ""),
        };
        match flag {
            "set" => schema.list_type = ListType::Set,
            "map" => schema.list_type = ListType::Map(argument.split(',').map(str::to_owned).collect()),
            "key" => schema.merge_key = Some(argument.to_owned()),
            "merge" => schema.patch_merge = true,
            "replace" => schema.patch_replace = true,
            "retainKeys" => schema.retain_keys = true,
            "atomic" => schema.atomic = true,
            "enum" => schema.allowed = argument.split('|').map(str::to_owned).collect(),
            "default" => schema.default = serde_json::from_str(argument).ok(),
            "go" => schema.go_type = argument.to_owned(),
            _ => {}
        }
    }
    Some((name.trim_end_matches('!').to_owned(), schema))
}

/// Splits at spaces that are not inside parentheses.
fn split_words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut depth) = (0, 0u32);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b' ' if depth == 0 => {
                words.push(&line[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    words.push(&line[start..]);
    words
}

fn parse_type(text: &str) -> Schema {
    if let Some(element) = text.strip_prefix("[]") {
        return Schema {
            ty: Type::List,
            items: Some(Box::new(parse_type(element))),
            ..Schema::default()
        };
    }
    if let Some(value) = text.strip_prefix("{}") {
        return Schema {
            ty: Type::Map,
            items: Some(Box::new(parse_type(value))),
            ..Schema::default()
        };
    }
    let ty = match text {
        "any" => Type::Any,
        "boolean" => Type::Boolean,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "number" => Type::Number,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "time" => Type::Time,
        "microtime" => Type::MicroTime,
        "intorstring" => Type::IntOrString,
        "quantity" => Type::Quantity,
        reference => {
            return Schema {
                ty: Type::Object,
                reference: Some(reference.to_owned()),
                ..Schema::default()
            };
        }
    };
    Schema {
        ty,
        ..Schema::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_reference_leads_to_a_struct() {
        fn check(owner: &str, schema: &Schema) {
            if let Some(reference) = &schema.reference {
                assert!(builtin(reference).is_some(), "{owner}: {reference}");
            }
            if let Some(items) = &schema.items {
                check(owner, items);
            }
        }
        for (name, schema) in all() {
            schema.fields.values().for_each(|field| check(name, field));
        }
    }

    #[test]
    fn merge_facts_are_read() {
        let ports = builtin("core.v1.Container").unwrap().field("ports").unwrap();
        assert_eq!(ports.merge_key.as_deref(), Some("containerPort"));
        assert_eq!(
            ports.list_type,
            ListType::Map(vec!["containerPort".into(), "protocol".into()])
        );
        assert!(ports.patch_merge);
        let protocol = ports.element().unwrap().field("protocol").unwrap();
        assert_eq!(protocol.default, Some("TCP".into()));
    }
}
