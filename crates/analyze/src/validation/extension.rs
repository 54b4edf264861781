//! Extensions of the proxy: WebAssembly modules, Lua.

use serde_json::Value;

use super::field::Problems;

/// Schemes that a module is fetched by; without one it is an image.
const SCHEMES: [&str; 4] = ["http", "https", "file", "oci"];

/// A TrafficExtension.
pub(super) fn check(spec: &Value, problems: &mut Problems) {
    problems.require(
        spec["wasm"].is_null() != spec["lua"].is_null(),
        "spec",
        "exactly one of wasm or lua must be set",
    );
    if !spec["wasm"].is_null() {
        check_module("spec.wasm", &spec["wasm"], problems);
    }
}

/// A module: where it is, and the environment of its virtual machine.
pub(super) fn check_module(field: &str, module: &Value, problems: &mut Problems) {
    let url = module["url"].as_str().unwrap_or_default();
    let (known, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (SCHEMES.contains(&scheme), rest),
        None => (true, url),
    };
    problems.require(
        known && is_address(rest),
        format!("{field}.url"),
        format!("{url:?}: url must have schema one of [{}]", SCHEMES.join(", ")),
    );
    for (index, variable) in module["vmConfig"]["env"].as_array().into_iter().flatten().enumerate() {
        problems.require(
            variable["name"].as_str().is_some_and(|name| !name.is_empty()),
            format!("{field}.vmConfig.env[{index}].name"),
            "a name is required",
        );
        let of_host = variable["valueFrom"] == "HOST";
        let given = variable["value"].as_str().is_some_and(|value| !value.is_empty());
        problems.require(
            !(of_host && given),
            format!("{field}.vmConfig.env[{index}]"),
            "value may only be set when valueFrom is INLINE",
        );
    }
}

/// Whether the rest of a URL has no characters that must be written as `%XX`, and those rightly.
fn is_address(rest: &str) -> bool {
    let escapes = rest.split('%').skip(1);
    let path = rest.split('#').next().unwrap_or_default();
    !path.is_empty()
        && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
        && escapes.into_iter().all(|escape| {
            escape
                .get(..2)
                .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
        })
}
