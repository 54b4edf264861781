//! What a proxy has against what its istiod sent: `proxy-status POD` (revisions.md §6.5).

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value;
use similar::TextDiff;

use super::super::proxy_config::dump::{canonical, items, part, text as field};
use crate::failure::Failure;

/// Lines around a difference.
const CONTEXT: usize = 7;

/// One kind of configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Section {
    /// `Clusters`, `Listeners` or `Routes`.
    pub kind: &'static str,
    /// Whether both sides are the same.
    pub matches: bool,
    /// Names that only istiod has, that only Envoy has, and that differ.
    pub only_istiod: Vec<String>,
    /// See above.
    pub only_envoy: Vec<String>,
    /// See above.
    pub different: Vec<String>,
    /// When Envoy loaded the newest of it, if that is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loaded: Option<Timestamp>,
    /// The differences, as `diff -u` shows them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub diff: String,
}

/// The parts of a dump that discovery delivers: title, kind of the part, list, item.
const KINDS: [(&str, &str, &str, &str); 3] = [
    ("Clusters", "ClustersConfigDump", "dynamic_active_clusters", "/cluster"),
    (
        "Listeners",
        "ListenersConfigDump",
        "dynamic_listeners",
        "/active_state/listener",
    ),
    ("Routes", "RoutesConfigDump", "dynamic_route_configs", "/route_config"),
];

/// Compares the dump of an istiod with that of Envoy.
///
/// # Errors
/// If Envoy's dump lacks a kind.
pub fn compare(istiod: &Value, envoy: &Value) -> Result<Vec<Section>, Failure> {
    KINDS
        .iter()
        .map(|(title, kind, list, item)| {
            let of = |dump: &Value| part(dump, kind).map(|part| named(part, list, item));
            // An istiod that sent nothing of a kind has no part for it.
            let sent = of(istiod).unwrap_or_default();
            let mut section = section(title, &sent, &of(envoy)?);
            section.loaded = Some(part(envoy, kind)?).filter(|_| *title == "Routes").and_then(loaded);
            Ok(section)
        })
        .collect()
}

/// Items by name, each as JSON that does not depend on who wrote it.
fn named(part: &Value, list: &str, item: &str) -> Vec<(String, String)> {
    // istiod writes protobuf's JSON, Envoy its own with the names of the fields.
    let lists = [(list, item)];
    let other: Vec<(String, String)> = lists.iter().map(|(list, item)| (camel(list), camel(item))).collect();
    let mut all = items(part, &lists);
    for (list, item) in &other {
        if list != lists[0].0 {
            all.extend(items(part, &[(list, item)]));
        }
    }
    let mut named: Vec<(String, String)> = all
        .iter()
        .map(|item| {
            let plain = install::yaml::sorted(&canonical(item));
            let shown = serde_json::to_string_pretty(&plain).unwrap_or_default();
            (field(item, "/name").to_owned(), shown)
        })
        .collect();
    named.sort();
    named.dedup();
    named
}

/// When the newest route was loaded.
fn loaded(part: &Value) -> Option<Timestamp> {
    let times = items(part, &[("dynamic_route_configs", "/last_updated")]);
    times.iter().filter_map(|time| time.as_str()?.parse().ok()).max()
}

fn camel(name: &str) -> String {
    super::super::proxy_config::dump::camel_name(name)
}

fn section(kind: &'static str, istiod: &[(String, String)], envoy: &[(String, String)]) -> Section {
    let absent = |from: &[(String, String)], names: &[(String, String)]| -> Vec<String> {
        let missing = names
            .iter()
            .filter(|(name, _)| from.iter().all(|(other, _)| other != name));
        missing.map(|(name, _)| name.clone()).collect()
    };
    let different = istiod
        .iter()
        .filter(|(name, body)| envoy.iter().any(|(other, theirs)| other == name && theirs != body))
        .map(|(name, _)| name.clone())
        .collect();
    let matches = istiod == envoy;
    let whole = |items: &[(String, String)]| {
        let bodies: Vec<&str> = items.iter().map(|(_, body)| body.as_str()).collect();
        bodies.join("\n") + "\n"
    };
    let diff = if matches {
        String::new()
    } else {
        TextDiff::from_lines(&whole(istiod), &whole(envoy))
            .unified_diff()
            .context_radius(CONTEXT)
            .header(&format!("Istiod {kind}"), &format!("Envoy {kind}"))
            .to_string()
    };
    Section {
        kind,
        matches,
        only_istiod: absent(envoy, istiod),
        only_envoy: absent(istiod, envoy),
        different,
        loaded: None,
        diff,
    }
}

/// As text: `Clusters Match`, or what differs, first in one line, then in full; times are those of this machine's zone.
pub fn text(sections: &[Section]) -> String {
    text_in(sections, &TimeZone::system())
}

fn text_in(sections: &[Section], zone: &TimeZone) -> String {
    let mut text = String::new();
    for section in sections {
        let loaded = section.loaded.map(|time| {
            let time = time.to_zoned(zone.clone());
            format!(" (RDS last loaded at {})", time.strftime("%a, %d %b %Y %H:%M:%S %Z"))
        });
        let loaded = loaded.unwrap_or_default();
        if section.matches {
            text.push_str(&format!("{} Match{loaded}\n", section.kind));
            continue;
        }
        text.push_str(&format!("{} Don't Match{loaded}\n", section.kind));
        for (title, names) in [
            ("only istiod has", &section.only_istiod),
            ("only Envoy has", &section.only_envoy),
            ("different", &section.different),
        ] {
            if !names.is_empty() {
                text.push_str(&format!("  {title}: {}\n", names.join(", ")));
            }
        }
        text.push_str(&section.diff);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn dump(cluster: Value, route: &str) -> Value {
        json!({"configs": [
            {"@type": "x/envoy.admin.v3.ClustersConfigDump", "dynamic_active_clusters": [{"cluster": cluster, "last_updated": "now"}]},
            {"@type": "x/envoy.admin.v3.ListenersConfigDump"},
            {"@type": "x/envoy.admin.v3.RoutesConfigDump", "dynamic_route_configs": [{"route_config": {"name": route}}]},
        ]})
    }

    #[test]
    fn differences_are_named_before_they_are_shown() {
        let sent = dump(json!({"name": "a", "connect_timeout": "1s"}), "80");
        let has = dump(json!({"name": "a", "connect_timeout": "2s"}), "8080");
        let told = |sections: &[Section]| text_in(sections, &TimeZone::UTC);
        insta::assert_snapshot!(told(&compare(&sent, &has).unwrap()));
        let same = compare(&sent, &sent).unwrap();
        assert_eq!(told(&same), "Clusters Match\nListeners Match\nRoutes Match\n");
        let mut loaded = sent.clone();
        loaded["configs"][2]["dynamic_route_configs"][0]["last_updated"] = "2026-11-26T19:00:00.123Z".into();
        assert_eq!(
            told(&compare(&sent, &loaded).unwrap()),
            "Clusters Match\nListeners Match\nRoutes Match (RDS last loaded at Thu, 26 Nov 2026 19:00:00 UTC)\n"
        );
    }
}
