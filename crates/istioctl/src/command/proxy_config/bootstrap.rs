//! `proxy-config bootstrap` and `ecds`: what Envoy was started with, and extensions.

use serde_json::Value;

use super::dump::{self, items, part, text};
use crate::failure::Failure;
use crate::table::{columns, row};

/// Versions of the proxy and of Envoy.
pub fn versions(dump: &Value) -> Result<String, Failure> {
    let part = part(dump, "BootstrapConfigDump")?;
    let node = &part["bootstrap"]["node"];
    let sha = text(node, "/metadata/ISTIO_PROXY_SHA");
    // A mark of the build before the commit.
    let commit = sha.split(':').nth(1).unwrap_or(sha);
    let version = envoy(node);
    let lines = [
        ("Istio Version:", text(node, "/metadata/ISTIO_VERSION")),
        ("Istio Proxy Version:", commit),
        ("Envoy Version:", &version),
    ];
    let said: Vec<_> = lines
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(title, value)| row([title, value]))
        .collect();
    Ok(columns(&said, 1))
}

/// `1.18.3-dev/Clean/RELEASE/BoringSSL`; parts that are not told are left out.
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
    for (before, key) in [
        ('-', "build.label"),
        ('/', "revision.status"),
        ('/', "build.type"),
        ('/', "ssl.version"),
    ] {
        let part = build["metadata"][key].as_str().unwrap_or_default();
        if !part.is_empty() {
            version.push(before);
            version.push_str(part);
        }
    }
    version
}

/// Columns of extensions.
pub fn extensions(dump: &Value) -> Result<(Vec<Vec<String>>, usize), Failure> {
    let part = dump::extensions(dump)?;
    let mut filters = items(&part, &[("ecds_filters", "/ecds_filter")]);
    filters.sort_by(|left, right| name(left).cmp(&name(right)));
    let rows = filters.iter().map(|filter| {
        let (url, name) = name(filter);
        row([name, url.rsplit('/').next().unwrap_or(url)])
    });
    Ok((std::iter::once(row(["ECDS NAME", "TYPE"])).chain(rows).collect(), 5))
}

/// By which extensions are sorted: type, then name.
fn name(filter: &Value) -> (&str, &str) {
    (text(filter, "/typed_config/@type"), text(filter, "/name"))
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

    #[test]
    fn versions_that_a_proxy_does_not_tell_are_left_out() {
        let of = |node: Value| {
            versions(
                &json!({"configs": [{"@type": "x/envoy.admin.v3.BootstrapConfigDump", "bootstrap": {"node": node}}]}),
            )
            .unwrap()
        };
        let build = json!({"version": {"major_number": 1, "minor_number": 30}, "metadata": {"build.label": "dev", "build.type": "RELEASE"}});
        assert_eq!(
            of(
                json!({"metadata": {"ISTIO_VERSION": "1.30.0", "ISTIO_PROXY_SHA": "istio-proxy:1a2b"}, "user_agent_build_version": build})
            ),
            "Istio Version:       1.30.0\nIstio Proxy Version: 1a2b\nEnvoy Version:       1.30.0-dev/RELEASE\n"
        );
        assert_eq!(of(json!({})), "Envoy Version: 0.0.0\n");
    }

    #[test]
    fn extensions_of_all_places_are_sorted_by_type_and_name() {
        let part = |filters: &[(&str, &str)]| {
            let filters: Vec<Value> = filters
                .iter()
                .map(|(name, kind)| json!({"ecds_filter": {"name": name, "typed_config": {"@type": format!("type.googleapis.com/{kind}")}}}))
                .collect();
            json!({"@type": "x/envoy.admin.v3.EcdsConfigDump", "ecds_filters": filters})
        };
        let dump = json!({"configs": [part(&[("b", "x.Wasm"), ("a", "x.Wasm")]), part(&[("c", "x.Stats")])]});
        let (rows, _) = extensions(&dump).unwrap();
        assert_eq!(
            rows[1..],
            [row(["c", "x.Stats"]), row(["a", "x.Wasm"]), row(["b", "x.Wasm"])]
        );
    }
}
