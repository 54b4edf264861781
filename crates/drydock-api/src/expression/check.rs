//! Checks an expression against what is known of its variables: undefined fields, undeclared names and
//! operators on types that do not go together. What is not known is not complained about.

use super::Expression;
use crate::schema::{Schema, Type};
use kube_cel::cel::{
    IdedExpr,
    common::ast::{ComprehensionExpr, EntryExpr, Expr, LiteralValue},
};
use std::collections::BTreeMap;

/// What is known of a value.
#[derive(Debug, Clone, Copy)]
pub enum Known<'a> {
    /// Nothing.
    Any,
    /// Its structure.
    Node(&'a Schema),
    /// A scalar type in CEL's words: `bool`, `int`, `double`, `string`.
    Scalar(&'static str),
}

/// Names that are types or constants and need no declaration.
const TYPES: [&str; 14] = [
    "bool",
    "bytes",
    "double",
    "duration",
    "dyn",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "timestamp",
    "type",
    "uint",
    "optional",
];

/// Functions of CEL and of Kubernetes' libraries, by bare name.
const FUNCTIONS: &str = " size contains startsWith endsWith matches has all exists exists_one map filter \
    getFullYear getMonth getDate getDayOfMonth getDayOfWeek getDayOfYear getHours getMinutes getSeconds getMilliseconds \
    isSorted sum min max indexOf lastIndexOf slice flatten distinct reverse sort sortBy first last \
    find findAll url isURL getScheme getHost getHostname getPort getEscapedPath getQuery \
    quantity isQuantity sign isInteger asInteger asApproximateFloat isGreaterThan isLessThan compareTo add sub \
    ip isIP isCanonical family isUnspecified isLoopback isLinkLocalMulticast isLinkLocalUnicast isGlobalUnicast \
    cidr isCIDR containsIP containsCIDR masked prefixLength named validate \
    charAt join lowerAscii upperAscii replace split substring trim quote format \
    greatest least ceil floor round trunc abs sqrt isInf isNaN isFinite bitAnd bitOr bitXor bitNot bitShiftLeft bitShiftRight \
    equivalent intersects of ofNonZeroValue none orValue or hasValue value optMap optFlatMap \
    semver isSemver major minor patch encode decode escapeKey bind transformList transformMap \
    group serviceAccount resource subresource namespace name fieldSelector labelSelector path check allowed reason errored error \
    bool bytes double duration dyn int list string timestamp type uint ";

/// The first problem, with line, column and the line itself; `None` if there is none.
#[must_use]
pub fn problem(expression: &Expression, variables: &BTreeMap<String, Known<'_>>) -> Option<String> {
    let mut checker = Checker {
        source: &expression.source,
        scopes: vec![variables.clone()],
        found: None,
    };
    checker.infer(&expression.tree);
    checker.found
}

/// Whether the result may be of type `wanted` (`bool`, `string`).
#[must_use]
pub fn may_be(expression: &Expression, variables: &BTreeMap<String, Known<'_>>, wanted: &str) -> bool {
    let mut checker = Checker {
        source: &expression.source,
        scopes: vec![variables.clone()],
        found: None,
    };
    match checker.infer(&expression.tree) {
        Known::Scalar(kind) => kind == wanted,
        _ => true,
    }
}

struct Checker<'s, 'a> {
    source: &'s str,
    scopes: Vec<BTreeMap<String, Known<'a>>>,
    found: Option<String>,
}

impl<'a> Checker<'_, 'a> {
    fn infer(&mut self, expression: &IdedExpr) -> Known<'a> {
        match &expression.expr {
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Known::Scalar("bool"),
                LiteralValue::Int(_) => Known::Scalar("int"),
                LiteralValue::Double(_) => Known::Scalar("double"),
                LiteralValue::String(_) => Known::Scalar("string"),
                _ => Known::Any,
            },
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => {
                let operand = self.infer(&select.operand);
                let found = self.field(operand, &select.field, chain(&select.operand));
                if select.test { Known::Scalar("bool") } else { found }
            }
            Expr::Call(call) => {
                let mut parts = Vec::new();
                if let Some(target) = &call.target {
                    parts.push(self.infer(target));
                }
                for argument in &call.args {
                    parts.push(self.infer(argument));
                }
                self.function(&call.func_name);
                self.call(&call.func_name, &parts)
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::List(list) => {
                for element in &list.elements {
                    self.infer(element);
                }
                Known::Any
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.infer(&entry.key);
                        self.infer(&entry.value);
                    }
                }
                Known::Any
            }
            Expr::Struct(_) | Expr::Unspecified => Known::Any,
        }
    }

    fn name(&mut self, name: &str) -> Known<'a> {
        if let Some(known) = self.scopes.iter().rev().find_map(|scope| scope.get(name)) {
            return *known;
        }
        if !TYPES.contains(&name) && !name.starts_with('@') {
            let at = word(self.source, name);
            self.report(at, &format!("undeclared reference to '{name}' (in container '')"));
        }
        Known::Any
    }

    fn field(&mut self, operand: Known<'a>, name: &str, operand_text: Option<String>) -> Known<'a> {
        let schema = match operand {
            Known::Any => return Known::Any,
            Known::Scalar(kind) => {
                let at = dot(self.source, operand_text.as_deref(), name);
                self.report(at, &format!("type '{kind}' does not support field selection"));
                return Known::Any;
            }
            Known::Node(schema) => schema,
        };
        let target = schema.resolve();
        match target.ty {
            Type::Object => match target.fields.get(&unescaped(name)) {
                Some(below) => known(below),
                None if target.preserve_unknown || target.fields.is_empty() => Known::Any,
                None => {
                    let at = dot(self.source, operand_text.as_deref(), name);
                    self.report(at, &format!("undefined field '{name}'"));
                    Known::Any
                }
            },
            Type::Map => target.items.as_deref().map_or(Known::Any, known),
            _ => Known::Any,
        }
    }

    /// Reports a function that does not exist, at its opening parenthesis.
    fn function(&mut self, name: &str) {
        let bare = name.rsplit('.').next().unwrap_or(name);
        let operator = !name.starts_with(|c: char| c.is_alphabetic());
        if operator || FUNCTIONS.contains(&format!(" {bare} ")) {
            return;
        }
        let at = self.source.find(&format!("{bare}(")).map(|at| at + bare.len());
        self.report(at, &format!("undeclared reference to '{bare}' (in container '')"));
    }

    fn call(&mut self, name: &str, parts: &[Known<'a>]) -> Known<'a> {
        match (name, parts) {
            ("_&&_" | "_||_" | "!_" | "@in" | "startsWith" | "endsWith" | "contains" | "matches", _) => {
                Known::Scalar("bool")
            }
            ("_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_", [a, b]) => {
                self.comparable(name, *a, *b);
                Known::Scalar("bool")
            }
            ("_+_" | "_-_" | "_*_" | "_/_" | "_%_", [a, b]) => {
                self.comparable(name, *a, *b);
                match (scalar(*a), scalar(*b)) {
                    (Some(a), Some(b)) if a == b => Known::Scalar(a),
                    _ => Known::Any,
                }
            }
            ("_[_]", [list, _]) => element(*list),
            ("size" | "int", _) => Known::Scalar("int"),
            ("string", _) => Known::Scalar("string"),
            ("double", _) => Known::Scalar("double"),
            _ => Known::Any,
        }
    }

    fn comparable(&mut self, operator: &str, a: Known<'a>, b: Known<'a>) {
        if let (Some(a), Some(b)) = (scalar(a), scalar(b))
            && a != b
        {
            let sign = operator.trim_matches('_');
            let at = self.source.find(sign);
            self.report(
                at,
                &format!("found no matching overload for '{operator}' applied to '({a}, {b})'"),
            );
        }
    }

    fn comprehension(&mut self, comprehension: &ComprehensionExpr) -> Known<'a> {
        let range = self.infer(&comprehension.iter_range);
        let item = match range {
            Known::Node(schema) if schema.resolve().ty == Type::List => element(range),
            Known::Node(_) => Known::Scalar("string"),
            other => other,
        };
        let item = if matches!(item, Known::Scalar(_)) && !matches!(range, Known::Node(_)) {
            Known::Any
        } else {
            item
        };
        let mut scope = BTreeMap::from([
            (comprehension.iter_var.clone(), item),
            (comprehension.accu_var.clone(), Known::Any),
        ]);
        if let Some(second) = &comprehension.iter_var2 {
            scope.insert(second.clone(), Known::Any);
            scope.insert(comprehension.iter_var.clone(), Known::Any);
        }
        self.scopes.push(scope);
        for part in [
            &comprehension.accu_init,
            &comprehension.loop_cond,
            &comprehension.loop_step,
            &comprehension.result,
        ] {
            self.infer(part);
        }
        self.scopes.pop();
        Known::Any
    }

    fn report(&mut self, at: Option<usize>, text: &str) {
        if self.found.is_some() {
            return;
        }
        let at = at.unwrap_or(0);
        let before = self.source.get(..at).unwrap_or_default();
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let shown = self.source.lines().nth(line).unwrap_or_default();
        self.found = Some(format!(
            "ERROR: <input>:{}:{}: {text}\n | {shown}\n | {}^",
            line + 1,
            column + 1,
            ".".repeat(column)
        ));
    }
}

fn known(schema: &Schema) -> Known<'_> {
    match schema.resolve().ty {
        Type::Boolean => Known::Scalar("bool"),
        Type::Int32 | Type::Int64 => Known::Scalar("int"),
        Type::Number => Known::Scalar("double"),
        Type::String => Known::Scalar("string"),
        Type::Object | Type::Map | Type::List => Known::Node(schema),
        _ => Known::Any,
    }
}

fn scalar(known: Known<'_>) -> Option<&'static str> {
    match known {
        Known::Scalar(kind) => Some(kind),
        _ => None,
    }
}

fn element(list: Known<'_>) -> Known<'_> {
    match list {
        Known::Node(schema) => schema.resolve().items.as_deref().map_or(Known::Any, known),
        _ => Known::Any,
    }
}

/// `a.b.c` for a chain of plain selections.
fn chain(expression: &IdedExpr) -> Option<String> {
    match &expression.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) => Some(format!("{}.{}", chain(&select.operand)?, select.field)),
        _ => None,
    }
}

/// Where the dot before `field` stands.
fn dot(source: &str, operand: Option<&str>, field: &str) -> Option<usize> {
    let exact = operand.and_then(|text| {
        let whole = format!("{text}.{field}");
        word(source, &whole).map(|at| at + text.len())
    });
    exact.or_else(|| source.find(&format!(".{field}")))
}

/// Where `text` stands as a whole word.
fn word(source: &str, text: &str) -> Option<usize> {
    let boundary = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    source
        .match_indices(text)
        .map(|(at, _)| at)
        .find(|at| boundary(source[..*at].chars().next_back()) && boundary(source[at + text.len()..].chars().next()))
}

fn unescaped(name: &str) -> String {
    if let Some(reserved) = name.strip_prefix("__").and_then(|n| n.strip_suffix("__"))
        && !matches!(reserved, "dot" | "dash" | "slash" | "underscores")
    {
        return reserved.to_owned();
    }
    name.replace("__dot__", ".")
        .replace("__dash__", "-")
        .replace("__slash__", "/")
        .replace("__underscores__", "__")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::schema::builtin;

    fn check(source: &str, expected: Option<&str>) {
        let expression = Expression::compile(source).unwrap();
        let variables = BTreeMap::from([(
            "object".to_owned(),
            builtin("core.v1.ConfigMap").map_or(Known::Any, Known::Node),
        )]);
        assert_eq!(problem(&expression, &variables).as_deref(), expected, "{source}");
    }

    #[test]
    fn unknown_fields_and_names_are_found() {
        check("object.data.size() > 0 && object.metadata.name != 'x'", None);
        check(
            "has(object.data) && object.data.all(k, object.data[k].size() < 9)",
            None,
        );
        check(
            "object.data.size() > 0 || object.nope == 1",
            Some(
                "ERROR: <input>:1:33: undefined field 'nope'\n | object.data.size() > 0 || object.nope == 1\n | ................................^",
            ),
        );
        check(
            "nope > 1",
            Some("ERROR: <input>:1:1: undeclared reference to 'nope' (in container '')\n | nope > 1\n | ^"),
        );
        check(
            "object.metadata.name.shout() == 'X'",
            Some(
                "ERROR: <input>:1:27: undeclared reference to 'shout' (in container '')\n | object.metadata.name.shout() == 'X'\n | ..........................^",
            ),
        );
        check(
            "url(object.metadata.name).getHost() == 'a' && quantity('1') < quantity('2')",
            None,
        );
        check(
            "'a,b'.split(',').exists_one(x, x == 'a') && cidr('10.0.0.0/8').containsIP('10.0.0.1')",
            None,
        );
        check(
            "object.metadata.name == 1",
            Some(
                "ERROR: <input>:1:22: found no matching overload for '_==_' applied to '(string, int)'\n | object.metadata.name == 1\n | .....................^",
            ),
        );
    }
}
