//! Defaults, choice and failure.

use gotmpl::{Template, Value};

use super::{at, last, text, two, wrong};

pub(super) fn add(template: Template) -> Template {
    template
        .func("default", |arguments| match arguments {
            [fallback] => Ok(fallback.clone()),
            _ => {
                let (fallback, value) = two("default", arguments)?;
                Ok(if value.is_truthy() { value } else { fallback }.clone())
            }
        })
        .func("empty", |arguments| {
            Ok(Value::Bool(!last("empty", arguments)?.is_truthy()))
        })
        .func("coalesce", |arguments| {
            Ok(arguments.iter().find(|v| v.is_truthy()).cloned().unwrap_or(Value::Nil))
        })
        .func("all", |arguments| {
            Ok(Value::Bool(arguments.iter().all(Value::is_truthy)))
        })
        .func("any", |arguments| {
            Ok(Value::Bool(arguments.iter().any(Value::is_truthy)))
        })
        .func("ternary", |arguments| {
            let condition = at("ternary", arguments, 2)?.is_truthy();
            Ok(at("ternary", arguments, usize::from(!condition))?.clone())
        })
        .func("fail", |arguments| {
            Err(wrong("fail", text("fail", at("fail", arguments, 0)?)?))
        })
        .func("required", |arguments| {
            let (message, value) = two("required", arguments)?;
            match value {
                Value::Nil => Err(wrong("required", text("required", message)?)),
                Value::String(value) if value.is_empty() => Err(wrong("required", text("required", message)?)),
                value => Ok(value.clone()),
            }
        })
        .func("lookup", |_| Ok(Value::Map(Default::default())))
        .func("kindOf", |arguments| {
            Ok(super::string(kind(last("kindOf", arguments)?)))
        })
        .func("typeOf", |arguments| {
            Ok(super::string(kind(last("typeOf", arguments)?)))
        })
        .func("kindIs", |arguments| {
            let (name, value) = two("kindIs", arguments)?;
            Ok(Value::Bool(text("kindIs", name)? == kind(value)))
        })
        .func("typeIs", |arguments| {
            let (name, value) = two("typeIs", arguments)?;
            Ok(Value::Bool(text("typeIs", name)? == kind(value)))
        })
}

/// Go's name of a value's kind.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "invalid",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint64",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "slice",
        Value::Map(_) => "map",
        Value::Function(_) => "func",
    }
}
