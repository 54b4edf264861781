//! Text: case, trimming, indentation, searching.

use gotmpl::{Template, Value};
use regex::Regex;

use super::{Result, at, last, length, list, string, text, two, whole, wrong};

pub(super) fn add(template: Template) -> Template {
    let template = simple(template, "upper", |text| text.to_uppercase());
    let template = simple(template, "lower", |text| text.to_lowercase());
    let template = simple(template, "trim", |text| text.trim().to_owned());
    let template = simple(template, "nospace", |text| text.split_whitespace().collect());
    let template = simple(template, "squote", |text| format!("'{text}'"));
    let template = simple(template, "title", title);
    let template = pair(template, "trimSuffix", |affix, text| {
        string(text.strip_suffix(affix).unwrap_or(text))
    });
    let template = pair(template, "trimPrefix", |affix, text| {
        string(text.strip_prefix(affix).unwrap_or(text))
    });
    let template = pair(template, "trimAll", |cut, text| {
        string(text.trim_matches(|c| cut.contains(c)))
    });
    let template = pair(template, "hasPrefix", |affix, text| {
        Value::Bool(text.starts_with(affix))
    });
    let template = pair(template, "hasSuffix", |affix, text| Value::Bool(text.ends_with(affix)));
    let template = pair(template, "contains", |part, text| Value::Bool(text.contains(part)));
    template
        .func("quote", |arguments| {
            let quoted = arguments.iter().filter(|value| !matches!(value, Value::Nil)).map(quote);
            Ok(string(quoted.collect::<Vec<_>>().join(" ")))
        })
        .func("toString", |arguments| {
            let value = last("toString", arguments)?;
            Ok(string(
                text("toString", value)
                    .map(|t| t.into_owned())
                    .unwrap_or_else(|_| value.to_string()),
            ))
        })
        .func("trunc", |arguments| {
            let (width, value) = two("trunc", arguments)?;
            Ok(string(truncate(whole("trunc", width)?, &text("trunc", value)?)))
        })
        .func("substr", |arguments| {
            let (start, end) = (
                length("substr", at("substr", arguments, 0)?)?,
                whole("substr", at("substr", arguments, 1)?)?,
            );
            let value = text("substr", at("substr", arguments, 2)?)?;
            let end = usize::try_from(end).unwrap_or(usize::MAX);
            Ok(string(value.chars().take(end).skip(start).collect::<String>()))
        })
        .func("repeat", |arguments| {
            let (count, value) = two("repeat", arguments)?;
            let (count, value) = (length("repeat", count)?, text("repeat", value)?);
            length("repeat", &Value::Int((count * value.len()) as i64))?;
            Ok(string(value.repeat(count)))
        })
        .func("replace", |arguments| {
            let old = text("replace", at("replace", arguments, 0)?)?;
            let new = text("replace", at("replace", arguments, 1)?)?;
            Ok(string(
                text("replace", at("replace", arguments, 2)?)?.replace(&*old, &new),
            ))
        })
        .func("cat", |arguments| {
            let parts: Result<Vec<_>> = arguments.iter().map(|value| text("cat", value)).collect();
            Ok(string(parts?.join(" ")))
        })
        .func("indent", |arguments| {
            let (width, value) = two("indent", arguments)?;
            Ok(string(indent(length("indent", width)?, &text("indent", value)?)))
        })
        .func("nindent", |arguments| {
            let (width, value) = two("nindent", arguments)?;
            Ok(string(format!(
                "\n{}",
                indent(length("nindent", width)?, &text("nindent", value)?)
            )))
        })
        .func("join", |arguments| {
            let (separator, value) = two("join", arguments)?;
            let parts: Vec<String> = match value {
                Value::List(items) => items.iter().map(|item| item.to_string()).collect(),
                other => vec![other.to_string()],
            };
            Ok(string(parts.join(&text("join", separator)?)))
        })
        .func("splitList", |arguments| {
            let (separator, value) = two("splitList", arguments)?;
            let (separator, value) = (text("splitList", separator)?, text("splitList", value)?);
            Ok(Value::List(value.split(&*separator).map(string).collect()))
        })
        .func("split", |arguments| {
            let (separator, value) = two("split", arguments)?;
            let (separator, value) = (text("split", separator)?, text("split", value)?);
            let parts = value.split(&*separator).enumerate();
            Ok(Value::Map(std::sync::Arc::new(
                parts.map(|(i, part)| (format!("_{i}").into(), string(part))).collect(),
            )))
        })
        .func("sortAlpha", |arguments| {
            let mut items: Vec<String> = list("sortAlpha", last("sortAlpha", arguments)?)?
                .iter()
                .map(Value::to_string)
                .collect();
            items.sort();
            Ok(Value::List(items.into_iter().map(string).collect()))
        })
        .func("regexMatch", |arguments| {
            let (pattern, value) = two("regexMatch", arguments)?;
            Ok(Value::Bool(
                regex("regexMatch", pattern)?.is_match(&text("regexMatch", value)?),
            ))
        })
        .func("regexReplaceAll", |arguments| {
            let pattern = regex("regexReplaceAll", at("regexReplaceAll", arguments, 0)?)?;
            let value = text("regexReplaceAll", at("regexReplaceAll", arguments, 1)?)?;
            let with = text("regexReplaceAll", at("regexReplaceAll", arguments, 2)?)?;
            Ok(string(pattern.replace_all(&value, &*with)))
        })
}

fn simple(template: Template, name: &'static str, function: fn(&str) -> String) -> Template {
    template.func(name, move |arguments| {
        Ok(string(function(&text(name, last(name, arguments)?)?)))
    })
}

fn pair(template: Template, name: &'static str, function: fn(&str, &str) -> Value) -> Template {
    template.func(name, move |arguments| {
        let (first, second) = two(name, arguments)?;
        Ok(function(&text(name, first)?, &text(name, second)?))
    })
}

fn regex(function: &str, pattern: &Value) -> Result<Regex> {
    let pattern = text(function, pattern)?;
    regex::RegexBuilder::new(&pattern)
        .size_limit(1 << 20)
        .build()
        .map_err(|error| wrong(function, error))
}

/// Go's `%q`, which for the texts of charts is JSON's quoting.
fn quote(value: &Value) -> String {
    serde_json::Value::String(value.to_string()).to_string()
}

fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .map(|c| {
            let upper = start && c.is_alphabetic();
            start = c.is_whitespace();
            if upper { c.to_ascii_uppercase() } else { c }
        })
        .collect()
}

/// A negative width keeps the end.
fn truncate(width: i64, text: &str) -> String {
    let characters = text.chars().count();
    let keep = usize::try_from(width.unsigned_abs())
        .unwrap_or(usize::MAX)
        .min(characters);
    if width >= 0 {
        text.chars().take(keep).collect()
    } else {
        text.chars().skip(characters - keep).collect()
    }
}

fn indent(width: usize, text: &str) -> String {
    let padding = " ".repeat(width);
    text.split('\n')
        .map(|line| format!("{padding}{line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
