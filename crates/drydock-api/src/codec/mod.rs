//! Bodies and media types.

pub mod accept;
pub mod document;
pub mod protobuf;
mod protobuf_encode;

pub use accept::{Accept, Format, View};
pub use document::Document;
