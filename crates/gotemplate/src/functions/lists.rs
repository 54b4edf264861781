//! Lists.

use gotmpl::{Template, Value};

use super::{at, last, length, list, two, whole, wrong};

pub(super) fn add(template: Template) -> Template {
    template
        .func("list", |arguments| Ok(Value::List(arguments.into())))
        .func("tuple", |arguments| Ok(Value::List(arguments.into())))
        .func("append", |arguments| {
            let (items, item) = two("append", arguments)?;
            let items = list("append", items)?;
            Ok(Value::List(items.iter().chain([item]).cloned().collect()))
        })
        .func("prepend", |arguments| {
            let (items, item) = two("prepend", arguments)?;
            let items = list("prepend", items)?;
            Ok(Value::List([item].into_iter().chain(items).cloned().collect()))
        })
        .func("concat", |arguments| {
            let mut all = Vec::new();
            for argument in arguments {
                all.extend_from_slice(list("concat", argument)?);
            }
            Ok(Value::List(all.into()))
        })
        .func("first", |arguments| {
            Ok(list("first", last("first", arguments)?)?
                .first()
                .cloned()
                .unwrap_or(Value::Nil))
        })
        .func("last", |arguments| {
            Ok(list("last", last("last", arguments)?)?
                .last()
                .cloned()
                .unwrap_or(Value::Nil))
        })
        .func("rest", |arguments| {
            let items = list("rest", last("rest", arguments)?)?;
            Ok(Value::List(items.iter().skip(1).cloned().collect()))
        })
        .func("initial", |arguments| {
            let items = list("initial", last("initial", arguments)?)?;
            Ok(Value::List(
                items.iter().take(items.len().saturating_sub(1)).cloned().collect(),
            ))
        })
        .func("reverse", |arguments| {
            Ok(Value::List(
                list("reverse", last("reverse", arguments)?)?
                    .iter()
                    .rev()
                    .cloned()
                    .collect(),
            ))
        })
        .func("compact", |arguments| {
            let items = list("compact", last("compact", arguments)?)?;
            Ok(Value::List(
                items.iter().filter(|item| item.is_truthy()).cloned().collect(),
            ))
        })
        .func("uniq", |arguments| {
            let mut kept: Vec<Value> = Vec::new();
            for item in list("uniq", last("uniq", arguments)?)? {
                if !kept.contains(item) {
                    kept.push(item.clone());
                }
            }
            Ok(Value::List(kept.into()))
        })
        .func("has", |arguments| {
            let (item, items) = two("has", arguments)?;
            Ok(Value::Bool(list("has", items)?.contains(item)))
        })
        .func("without", |arguments| {
            let items = list("without", at("without", arguments, 0)?)?;
            Ok(Value::List(
                items
                    .iter()
                    .filter(|item| !arguments[1..].contains(item))
                    .cloned()
                    .collect(),
            ))
        })
        .func("until", |arguments| {
            let count = length("until", last("until", arguments)?)?;
            Ok(Value::List((0..count as i64).map(Value::Int).collect()))
        })
        .func("untilStep", |arguments| {
            let number = |position| whole("untilStep", at("untilStep", arguments, position)?);
            let (start, stop, step) = (number(0)?, number(1)?, number(2)?);
            if step <= 0 {
                return Err(wrong("untilStep", "the step must be positive"));
            }
            length("untilStep", &Value::Int((stop - start).max(0) / step))?;
            let step = usize::try_from(step).unwrap_or(usize::MAX);
            Ok(Value::List((start..stop).step_by(step).map(Value::Int).collect()))
        })
}
