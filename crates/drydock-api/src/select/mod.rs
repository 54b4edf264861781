//! Label and field selectors of list requests.

pub mod fields;
mod labels;

pub use fields::FieldSelector;
pub use labels::LabelSelector;
