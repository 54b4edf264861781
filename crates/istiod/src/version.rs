//! The version that this build, or the image it runs in, has.

use serde_json::{Value, json};

/// Version number: `TRYSAIL_VERSION` of the image, else that of the build.
pub fn number() -> String {
    std::env::var("TRYSAIL_VERSION")
        .ok()
        .filter(|v| !v.is_empty())
        .unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned())
}

/// The line that `/version` answers: number, commit, state of the tree.
pub fn line() -> String {
    format!("{}-{COMMIT}-Clean", number())
}

/// Commit of the build, if the build was told.
const COMMIT: &str = match option_env!("TRYSAIL_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Build information in the shape that `istioctl version` reads.
pub fn info() -> Value {
    json!({
        "version": number(),
        "revision": COMMIT,
        "golang_version": "",
        "status": "Clean",
        "tag": number(),
    })
}
