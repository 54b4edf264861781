//! Local images: loaded from OCI layouts, OCI tars and docker archives, unpacked once, found by reference.
//!
//! Content-addressed: a layer is stored under the digest of its uncompressed tar (`layers/<hex>`), an image under the
//! digest of its manifest; a reference is only a pointer. Compressed blobs are not kept, containers mount the layers.

mod archive;
mod layer;
mod outer;
mod reference;
mod store;

pub use reference::Reference;
pub use store::{Image, ImageStore, Loaded};

/// Hex SHA-256 of `data`.
pub(crate) fn sha256(data: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data).as_ref())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}
