//! A set of named templates with all functions.

use std::sync::{Arc, OnceLock};

use gotmpl::{Template, TemplateError, Value};

use crate::functions;

/// Deepest nesting of `include` and `tpl`, so that a template that includes itself ends in an error.
const DEEPEST: usize = 64;

/// Why rendering failed.
#[derive(Debug, thiserror::Error)]
#[error("template {template}: {source}")]
pub struct RenderError {
    /// Name of the template (for charts: its path in the chart).
    pub template: String,
    /// What the template engine said.
    pub source: TemplateError,
}

/// Named templates that can include each other.
pub struct Templates {
    set: Template,
    late: Arc<OnceLock<Template>>,
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Templates")
            .field("templates", &self.set.templates())
            .finish()
    }
}

impl Templates {
    /// Parses templates given as (name, source). `extend` adds functions or replaces those of sprig and Helm.
    pub fn parse<'a>(
        sources: impl IntoIterator<Item = (&'a str, &'a str)>,
        extend: impl FnOnce(Template) -> Template,
    ) -> Result<Self, RenderError> {
        let late: Arc<OnceLock<Template>> = Arc::default();
        let mut set = extend(functions::all(Template::new("root")));
        set = with_include(set, &late);
        for (name, source) in sources {
            // A file may hold several `define`s; its own text becomes a define of its own under the file's name.
            let parsed = set
                .clone()
                .parse(&without_comments(source))
                .map_err(|source| RenderError {
                    template: name.to_owned(),
                    source,
                })?;
            for defined in parsed.templates() {
                if let (false, Some(tree)) = (defined == "root" || defined == name, parsed.lookup(defined)) {
                    set = set.add_parse_tree(defined, tree.clone());
                }
            }
            if let Some(tree) = parsed.lookup("root") {
                set = set.add_parse_tree(name, tree.clone());
            }
        }
        late.set(set.clone()).ok();
        Ok(Self { set, late })
    }

    /// Renders one template.
    pub fn render(&self, name: &str, data: &Value) -> Result<String, RenderError> {
        let set = self.late.get().unwrap_or(&self.set);
        set.execute_template_to_string(name, data)
            .map_err(|source| RenderError {
                template: name.to_owned(),
                source,
            })
    }
}

/// Comments as empty actions: the engine takes the line break after a comment away even where Go keeps it.
fn without_comments(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{{") {
        let (before, action) = rest.split_at(start);
        let (open, body) = match action.strip_prefix("{{- ") {
            Some(body) => ("{{- ", body),
            None => ("{{", &action[2..]),
        };
        let comment = body
            .trim_start()
            .strip_prefix("/*")
            .and_then(|text| text.split_once("*/"));
        let close = comment.and_then(|(_, after)| {
            ["-}}", "}}"]
                .into_iter()
                .find_map(|close| Some((close, after.trim_start().strip_prefix(close)?)))
        });
        result.push_str(before);
        match close {
            Some((close, after)) => {
                result.push_str(open);
                result.push_str("\"\" ");
                result.push_str(close);
                rest = after;
            }
            None => {
                result.push_str("{{");
                rest = &action[2..];
            }
        }
    }
    result.push_str(rest);
    result
}

thread_local! {
    static DEPTH: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

fn nested<T>(what: &str, run: impl FnOnce() -> Result<T, TemplateError>) -> Result<T, TemplateError> {
    let depth = DEPTH.get();
    if depth >= DEEPEST {
        return Err(TemplateError::Exec(format!(
            "{what}: more than {DEEPEST} nested templates; does one include itself?"
        )));
    }
    DEPTH.set(depth + 1);
    let result = run();
    DEPTH.set(depth);
    result
}

fn with_include(set: Template, late: &Arc<OnceLock<Template>>) -> Template {
    let (include, tpl) = (Arc::clone(late), Arc::clone(late));
    set.func("include", move |arguments| {
        let (name, data) = functions::two("include", arguments)?;
        let name = functions::text("include", name)?;
        let set = include
            .get()
            .ok_or_else(|| TemplateError::Exec("include: templates are still being read".into()))?;
        nested("include", || set.execute_template_to_string(&name, data)).map(|text| Value::String(text.into()))
    })
    .func("tpl", move |arguments| {
        let (source, data) = functions::two("tpl", arguments)?;
        let source = functions::text("tpl", source)?;
        let set = tpl
            .get()
            .ok_or_else(|| TemplateError::Exec("tpl: templates are still being read".into()))?;
        nested("tpl", || set.clone().parse(&source)?.execute_to_string(data)).map(|text| Value::String(text.into()))
    })
}

#[cfg(test)]
#[path = "templates_tests.rs"]
mod tests;
