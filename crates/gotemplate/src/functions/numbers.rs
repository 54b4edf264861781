//! Numbers and versions.

use gotmpl::{Template, Value};

use super::{Result, at, last, text, two, whole, wrong};

pub(super) fn add(template: Template) -> Template {
    let template = fold(template, "add", 0, i64::checked_add);
    let template = fold(template, "mul", 1, i64::checked_mul);
    template
        .func("sub", |arguments| binary("sub", arguments, i64::checked_sub))
        .func("div", |arguments| binary("div", arguments, i64::checked_div))
        .func("mod", |arguments| binary("mod", arguments, i64::checked_rem))
        .func("add1", |arguments| {
            Ok(Value::Int(whole("add1", last("add1", arguments)?)?.saturating_add(1)))
        })
        .func("max", |arguments| extreme("max", arguments, Iterator::max))
        .func("min", |arguments| extreme("min", arguments, Iterator::min))
        .func("int", |arguments| {
            Ok(Value::Int(whole("int", last("int", arguments)?)?))
        })
        .func("int64", |arguments| {
            Ok(Value::Int(whole("int64", last("int64", arguments)?)?))
        })
        .func("atoi", |arguments| {
            Ok(Value::Int(whole("atoi", last("atoi", arguments)?)?))
        })
        .func("float64", |arguments| {
            let value = last("float64", arguments)?;
            Ok(Value::Float(text("float64", value)?.trim().parse().unwrap_or(0.0)))
        })
        .func("semverCompare", |arguments| {
            let (constraint, version) = two("semverCompare", arguments)?;
            let (constraint, version) = (text("semverCompare", constraint)?, text("semverCompare", version)?);
            let requirement = semver::VersionReq::parse(&constraint.replace("-0", ""))
                .map_err(|error| wrong("semverCompare", format!("{constraint:?}: {error}")))?;
            let mut version = semver::Version::parse(version.trim_start_matches('v'))
                .map_err(|error| wrong("semverCompare", format!("{version:?}: {error}")))?;
            // Vendors append to Kubernetes' version; the comparison is about the release.
            version.pre = semver::Prerelease::EMPTY;
            Ok(Value::Bool(requirement.matches(&version)))
        })
}

fn overflow(function: &str) -> gotmpl::TemplateError {
    wrong(function, "the result is no 64-bit number")
}

fn fold(template: Template, name: &'static str, start: i64, step: fn(i64, i64) -> Option<i64>) -> Template {
    template.func(name, move |arguments| {
        let mut result = start;
        for argument in arguments {
            result = step(result, whole(name, argument)?).ok_or_else(|| overflow(name))?;
        }
        Ok(Value::Int(result))
    })
}

fn binary(name: &str, arguments: &[Value], step: fn(i64, i64) -> Option<i64>) -> Result<Value> {
    let (left, right) = (
        whole(name, at(name, arguments, 0)?)?,
        whole(name, at(name, arguments, 1)?)?,
    );
    step(left, right).map(Value::Int).ok_or_else(|| overflow(name))
}

fn extreme(name: &str, arguments: &[Value], pick: fn(std::vec::IntoIter<i64>) -> Option<i64>) -> Result<Value> {
    let numbers: Result<Vec<i64>> = arguments.iter().map(|argument| whole(name, argument)).collect();
    pick(numbers?.into_iter())
        .map(Value::Int)
        .ok_or_else(|| wrong(name, "an argument is missing"))
}
