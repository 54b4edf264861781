//! `proxy-config bootstrap` and `ecds`: what Envoy was started with, and extensions.

use serde_json::Value;

use super::dump::{items, merged, part, text};
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
    let part = merged(dump, "EcdsConfigDump", "ecds_filters")?;
    let mut rows = vec![row(["ECDS NAME", "TYPE"])];
    for filter in items(&part, &[("ecds_filters", "/ecds_filter")]) {
        let url = text(&filter, "/typed_config/@type");
        rows.push(row([text(&filter, "/name"), url.rsplit('/').next().unwrap_or(url)]));
    }
    Ok((rows, 5))
}
