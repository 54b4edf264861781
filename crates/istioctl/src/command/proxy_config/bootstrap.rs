//! `proxy-config bootstrap` and `ecds`: what Envoy was started with, and extensions.

use serde_json::Value;

use super::dump::{self, items, part, text};
use crate::failure::Failure;
use crate::table::row;

/// Versions of the proxy and of Envoy.
pub fn versions(dump: &Value) -> Result<String, Failure> {
    let part = part(dump, "BootstrapConfigDump")?;
    let node = &part["bootstrap"]["node"];
    let sha = text(node, "/metadata/ISTIO_PROXY_SHA");
    Ok(format!(
        "Istio Version:       {}\nIstio Proxy Version: {}\nEnvoy Version:       {}\n",
        text(node, "/metadata/ISTIO_VERSION"),
        sha.rsplit(':').next().unwrap_or(sha),
        envoy(node)
    ))
}

/// `1.18.3/Clean/RELEASE/BoringSSL`; parts that are not told are left out.
fn envoy(node: &Value) -> String {
    let either = |a: &str, b: &str| {
        node.pointer(a)
            .or_else(|| node.pointer(b))
            .cloned()
            .unwrap_or(Value::Null)
    };
    let build = either("/userAgentBuildVersion", "/user_agent_build_version");
    let number = |names: [&str; 2]| {
        names
            .into_iter()
            .find_map(|name| build["version"].get(name)?.as_u64())
            .unwrap_or(0)
    };
    let (major, minor, patch) = (
        number(["majorNumber", "major_number"]),
        number(["minorNumber", "minor_number"]),
        number(["patch", "patch"]),
    );
    let mut version = format!("{major}.{minor}.{patch}");
    for key in ["revision.status", "build.type", "ssl.version"] {
        let part = build["metadata"][key].as_str().unwrap_or_default();
        if !part.is_empty() {
            version.push('/');
            version.push_str(part);
        }
    }
    version
}

/// Columns of extensions.
pub fn extensions(dump: &Value) -> Result<(Vec<Vec<String>>, usize), Failure> {
    let part = dump::extensions(dump)?;
    let mut rows = vec![row(["ECDS NAME", "TYPE"])];
    for filter in items(&part, &[("ecds_filters", "/ecds_filter")]) {
        let url = text(&filter, "/typed_config/@type");
        rows.push(row([text(&filter, "/name"), url.rsplit('/').next().unwrap_or(url)]));
    }
    Ok((rows, 5))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn check(parts: Value, expected: &str) {
        let (rows, padding) = extensions(&json!({ "configs": parts })).unwrap();
        assert_eq!(crate::table::columns(&rows, padding), expected);
    }

    #[test]
    fn a_proxy_without_extensions_is_as_good_as_any() {
        let bootstrap = json!({"@type": "x/envoy.admin.v3.BootstrapConfigDump"});
        check(json!([bootstrap]), "ECDS NAME     TYPE\n");
        let part = |name: &str| {
            json!({"@type": "x/envoy.admin.v3.EcdsConfigDump", "ecds_filters": [
                {"ecds_filter": {"name": name, "typed_config": {"@type": "x/envoy.Wasm"}}}]})
        };
        check(
            json!([bootstrap, part("a"), part("b")]),
            "ECDS NAME     TYPE\na             envoy.Wasm\nb             envoy.Wasm\n",
        );
        assert!(extensions(&json!({})).is_err());
    }
}
