//! CEL expressions with Kubernetes' function libraries: compiling, evaluating, and error texts as the real server's.

pub mod check;

use kube_cel::{
    KubeCelExt,
    cel::{Context, ExecutionError, IdedExpr, Value as Cel, objects::Key, parser::Parser},
};
use serde_json::Value;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

/// Longest expression that is compiled, bytes.
const MAX_LENGTH: usize = 64 * 1024;

/// A compiled expression.
pub struct Expression {
    source: String,
    tree: IdedExpr,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

impl Expression {
    /// Parses an expression.
    ///
    /// # Errors
    /// What is wrong with it, in the parser's words.
    pub fn compile(source: &str) -> Result<Self, String> {
        if source.len() > MAX_LENGTH {
            return Err(format!("expression is longer than {MAX_LENGTH} bytes"));
        }
        let tree = Parser::new().enable_optional_syntax(true).parse(source).map_err(|e| {
            // The real server indents the quoted line.
            e.to_string().replace("\n| ", "\n | ")
        })?;
        Ok(Expression {
            source: source.to_owned(),
            tree,
        })
    }

    /// The text it was compiled from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the variable is mentioned.
    #[must_use]
    pub fn mentions(&self, variable: &str) -> bool {
        self.tree.references().has_variable(variable)
    }

    /// Evaluates with the variables of `context`.
    ///
    /// # Errors
    /// The run-time error, worded as Kubernetes words it.
    pub fn evaluate(&self, context: &Context<'_>) -> Result<Cel, String> {
        Cel::resolve(&self.tree, context).map_err(|e| wording(&e))
    }

    /// Evaluates to a boolean.
    ///
    /// # Errors
    /// The run-time error, or that the result is something else.
    pub fn holds(&self, context: &Context<'_>) -> Result<bool, String> {
        match self.evaluate(context)? {
            Cel::Bool(yes) => Ok(yes),
            other => Err(format!("expression returned {:?}, not a boolean", other.type_of())),
        }
    }

    /// Evaluates to a text.
    ///
    /// # Errors
    /// The run-time error, or that the result is something else.
    pub fn text(&self, context: &Context<'_>) -> Result<String, String> {
        match self.evaluate(context)? {
            Cel::String(text) => Ok(text.to_string()),
            other => Err(format!("expression returned {:?}, not a string", other.type_of())),
        }
    }
}

/// Most compiled expressions that are kept.
const MAX_CACHED: usize = 4096;

/// What compiling a text gave.
type Compiled = Result<Arc<Expression>, String>;

static COMPILED: LazyLock<Mutex<HashMap<String, Compiled>>> = LazyLock::new(Mutex::default);

/// The compiled expression, from the cache if it was compiled before.
///
/// # Errors
/// What is wrong with the expression.
pub fn cached(source: &str) -> Compiled {
    let mut cache = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = cache.get(source) {
        return known.clone();
    }
    if cache.len() >= MAX_CACHED {
        cache.clear();
    }
    let fresh = Expression::compile(source).map(Arc::new);
    cache.insert(source.to_owned(), fresh.clone());
    fresh
}

/// A context with all functions and no variables.
#[must_use]
pub fn context() -> Context<'static> {
    Context::default().with_all()
}

thread_local! {
    static FUNCTIONS: Context<'static> = context();
}

/// Lends a context with all functions and no variables: making one registers a hundred functions.
pub fn with_functions<R>(work: impl FnOnce(&Context<'static>) -> R) -> R {
    FUNCTIONS.with(work)
}

/// A JSON value for use in expressions; keys stay as they are.
#[must_use]
pub fn value(json: &Value) -> Cel {
    match json {
        Value::Null => Cel::Null,
        Value::Bool(b) => Cel::Bool(*b),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(i), _) => Cel::Int(i),
            (None, Some(f)) => Cel::Float(f),
            (None, None) => Cel::Null,
        },
        Value::String(s) => Cel::String(Arc::new(s.clone())),
        Value::Array(list) => Cel::List(Arc::new(list.iter().map(value).collect())),
        Value::Object(map) => object(map.iter().map(|(k, v)| (k.clone(), value(v)))),
    }
}

/// A map value.
pub fn object(entries: impl Iterator<Item = (String, Cel)>) -> Cel {
    let map: HashMap<Key, Cel> = entries.map(|(k, v)| (Key::String(Arc::new(k)), v)).collect();
    Cel::Map(kube_cel::cel::objects::Map { map: Arc::new(map) })
}

fn wording(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::UndeclaredReference(name) => format!("undeclared reference to '{name}'"),
        ExecutionError::NoSuchOverload => "no such overload".into(),
        ExecutionError::DivisionByZero(_) => "division by zero".into(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".into(),
        ExecutionError::Overflow(..) => "integer overflow".into(),
        ExecutionError::IndexOutOfBounds(Cel::Int(i)) => format!("index out of bounds: {i}"),
        ExecutionError::FunctionError { function, message } => match function.as_str() {
            "duration" => "type conversion error from 'string' to 'google.protobuf.Duration'".into(),
            "timestamp" => "type conversion error from 'string' to 'google.protobuf.Timestamp'".into(),
            "quantity" => crate::schema::quantity::ERROR.into(),
            name @ ("int" | "uint" | "double") if message.starts_with("string parse error") => {
                format!("type conversion error from 'string' to '{name}'")
            }
            _ => message.clone(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn check(source: &str, expected: Result<bool, &str>) {
        let mut context = context();
        let object = json!({"metadata": {"name": "a", "labels": {"istio.io/rev": "canary"}}, "n": 3});
        context.add_variable_from_value("object", value(&object));
        let got = Expression::compile(source).unwrap().holds(&context);
        assert_eq!(got.as_ref().copied().map_err(String::as_str), expected, "{source}");
    }

    #[test]
    fn expressions_see_objects_as_they_are() {
        check("object.metadata.labels['istio.io/rev'] == 'canary'", Ok(true));
        check("object.metadata.labels[?'go'].orValue('') == ''", Ok(true));
        check("has(object.metadata.annotations)", Ok(false));
        check("object.spec.x == 1", Err("no such key: spec"));
        check("object.metadata.name.startsWith('a') && object.n + 1 == 4", Ok(true));
        assert!(Expression::compile("object.").is_err());
    }
}
