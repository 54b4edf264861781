//! Go templates with the function sets that charts and injection templates rely on.
//!
//! The language itself is the `gotmpl` crate's; this crate adds the functions of sprig and Helm ([`Templates`] has
//! them all), `include` and `tpl`, and the way from and to JSON. It is used by `install` to render charts and by
//! `inject` to render injection templates, so both behave alike. [`documents`] cuts YAML streams for all who read them.
//!
//! Not supported: functions that change a dictionary in place (`set` returns a changed copy), random and time
//! functions (the same input must give the same bytes), and `lookup`, which always answers with nothing, as
//! `helm template` does.

mod documents;
mod functions;
mod json;
mod templates;
mod yaml;

pub use documents::{Document, documents};
pub use gotmpl::{Template, TemplateError, Value};
pub use json::{from_json, json_text, to_json};
pub use templates::{RenderError, Templates};
pub use yaml::{sorted, to_wrapped_yaml, to_yaml};
