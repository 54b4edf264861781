//! Functions of sprig and Helm, by topic.

mod dictionaries;
mod encoding;
mod lists;
mod logic;
mod numbers;
mod texts;

use std::borrow::Cow;

use gotmpl::{Template, TemplateError, Value};

/// Adds every function to a template.
pub(crate) fn all(template: Template) -> Template {
    let template = logic::add(template);
    let template = texts::add(template);
    let template = lists::add(template);
    let template = dictionaries::add(template);
    let template = numbers::add(template);
    encoding::add(template)
}

type Result<T> = std::result::Result<T, TemplateError>;

fn wrong(function: &str, message: impl std::fmt::Display) -> TemplateError {
    TemplateError::Exec(format!("{function}: {message}"))
}

/// Exactly two arguments.
pub(crate) fn two<'a>(function: &str, arguments: &'a [Value]) -> Result<(&'a Value, &'a Value)> {
    match arguments {
        [first, second] => Ok((first, second)),
        _ => Err(wrong(function, format!("takes 2 arguments, got {}", arguments.len()))),
    }
}

/// The argument at a position.
fn at<'a>(function: &str, arguments: &'a [Value], position: usize) -> Result<&'a Value> {
    arguments
        .get(position)
        .ok_or_else(|| wrong(function, format!("argument {} is missing", position + 1)))
}

/// The last argument, which a pipeline fills.
fn last<'a>(function: &str, arguments: &'a [Value]) -> Result<&'a Value> {
    arguments
        .last()
        .ok_or_else(|| wrong(function, "an argument is missing"))
}

/// An argument as text: strings as they are, other scalars as Go prints them.
pub(crate) fn text<'a>(function: &str, value: &'a Value) -> Result<Cow<'a, str>> {
    match value {
        Value::String(text) => Ok(Cow::Borrowed(text)),
        Value::Nil => Ok(Cow::Borrowed("")),
        Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Float(_) => Ok(Cow::Owned(value.to_string())),
        other => Err(wrong(function, format!("wants text, got {}", other.type_name()))),
    }
}

fn whole(function: &str, value: &Value) -> Result<i64> {
    match value {
        Value::Int(number) => Ok(*number),
        Value::Uint(number) => i64::try_from(*number).map_err(|_| wrong(function, "number is too large")),
        Value::Float(number) => Ok(*number as i64),
        Value::Bool(flag) => Ok(i64::from(*flag)),
        Value::String(text) => Ok(text.trim().parse().unwrap_or(0)),
        Value::Nil => Ok(0),
        other => Err(wrong(function, format!("wants a number, got {}", other.type_name()))),
    }
}

/// A length or width from a template, bounded so that a template cannot ask for gigabytes.
fn length(function: &str, value: &Value) -> Result<usize> {
    const LONGEST: i64 = 1 << 20;
    let number = whole(function, value)?;
    if !(0..=LONGEST).contains(&number) {
        return Err(wrong(function, format!("{number} is not between 0 and {LONGEST}")));
    }
    Ok(usize::try_from(number).unwrap_or(0))
}

fn list<'a>(function: &str, value: &'a Value) -> Result<&'a [Value]> {
    match value {
        Value::List(items) => Ok(items),
        Value::Nil => Ok(&[]),
        other => Err(wrong(function, format!("wants a list, got {}", other.type_name()))),
    }
}

fn string(text: impl AsRef<str>) -> Value {
    Value::String(text.as_ref().into())
}
