//! Proxies that are newer than their control plane, or much older: such pairs are not tested with each other.

use std::collections::{BTreeMap, BTreeSet};

use api::names::{DEFAULT_REVISION, label};
use serde_json::Value;

use super::fields::{list, text};
use super::injection::proxy;
use crate::message::{Message, VERSION_SKEW};
use crate::objects::{Objects, labels, name, namespace};

/// How many minor versions a proxy may be behind its control plane.
pub(crate) const MOST_BEHIND: u64 = 2;
/// Most pods named in one message.
const NAMED: usize = 20;

/// Major and minor.
pub(crate) type Version = (u64, u64);

/// The version that an image's tag says, if it says one.
fn of_image(image: &str) -> Option<Version> {
    let image = image.split('@').next().unwrap_or_default();
    let (_, tag) = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
    parse(tag)
}

/// `1.30` of `1.30.2-debug`.
pub(crate) fn parse(text: &str) -> Option<Version> {
    let mut parts = text.trim_start_matches('v').split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Why a proxy of one version should not be served by a control plane of another.
pub(crate) fn complaint(proxy: Version, control: Version) -> Option<&'static str> {
    if proxy > control {
        Some("newer than")
    } else if proxy.0 != control.0 || control.1 - proxy.1 > MOST_BEHIND {
        Some("more than two minor versions older than")
    } else {
        None
    }
}

/// Versions of proxies with their pods, by namespace and the revision that injected them.
pub(crate) fn proxies(objects: &Objects) -> BTreeMap<(&str, String, Version), Vec<&str>> {
    let mut found: BTreeMap<(&str, String, Version), Vec<&str>> = BTreeMap::new();
    for pod in objects.of_kind("Pod") {
        let Some(version) = proxy(pod).and_then(|container| of_image(container["image"].as_str()?)) else {
            continue;
        };
        let revision = match pod["metadata"]["annotations"][label::REVISION].as_str() {
            Some(revision) if !revision.is_empty() => revision,
            _ => DEFAULT_REVISION,
        };
        let key = (namespace(pod), revision.to_owned(), version);
        found.entry(key).or_default().push(name(pod));
    }
    found
}

/// Versions of each revision's control plane; several while it is being upgraded.
pub(crate) fn control_planes(objects: &Objects) -> BTreeMap<String, BTreeSet<Version>> {
    let mut found: BTreeMap<String, BTreeSet<Version>> = BTreeMap::new();
    for pod in objects.of_kind("Pod") {
        let labels = labels(pod);
        if labels.get("app").is_none_or(|app| app != "istiod") {
            continue;
        }
        let revision = labels.get(label::REVISION).map_or(DEFAULT_REVISION, String::as_str);
        let images = list(pod, "/spec/containers").filter(|container| container["name"] == "discovery");
        let versions = images.filter_map(|container| of_image(text(container, "/image")));
        found.entry(revision.to_owned()).or_default().extend(versions);
    }
    found
}

pub(super) fn check(objects: &Objects, messages: &mut Vec<Message>) {
    let control_planes = control_planes(objects);
    for ((of, revision, version), pods) in proxies(objects) {
        // While it is upgraded, the nearest of its versions counts.
        let complaints: Vec<_> = control_planes
            .get(&revision)
            .into_iter()
            .flatten()
            .map(|control| (complaint(version, *control), *control))
            .collect();
        let Some((Some(complaint), control)) = complaints.iter().min() else {
            continue;
        };
        let about = objects.get("Namespace", "", of).cloned();
        let about = about.unwrap_or_else(|| serde_json::json!({"kind": "Namespace", "metadata": {"name": of}}));
        messages.push(skewed(
            &about,
            &pods,
            version,
            complaint,
            &format!("their control plane, revision {revision}"),
            *control,
        ));
    }
}

/// The message about the proxies of one version in one namespace.
pub(crate) fn skewed(
    about: &Value,
    pods: &[&str],
    version: Version,
    complaint: &str,
    than: &str,
    control: Version,
) -> Message {
    let names = pods.iter().take(NAMED).copied().collect::<Vec<_>>().join(" ");
    let more = if pods.len() > NAMED { " …" } else { "" };
    let remedy = if complaint == "newer than" {
        "Put the control plane at the version of its proxies, or restart these pods so that they get its version."
    } else {
        "Restart these pods, so that they get the version of their control plane, before it goes further."
    };
    Message::about(
        VERSION_SKEW,
        about,
        format!(
            "Proxies of version {}.{} are {complaint} {than} ({}.{}): [{names}{more}]. {remedy}",
            version.0, version.1, control.0, control.1
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_tags() {
        for (image, version) in [
            ("docker.io/istio/proxyv2:1.30.2-distroless", Some((1, 30))),
            ("localhost:5000/proxyv2", None),
            ("localhost:5000/proxyv2:0.2.0@sha256:00", Some((0, 2))),
            ("proxyv2:latest", None),
        ] {
            assert_eq!(of_image(image), version, "{image}");
        }
    }

    #[test]
    fn a_proxy_may_be_two_minor_versions_behind_and_none_ahead() {
        for (proxy, control, expected) in [
            ((1, 28), (1, 30), None),
            ((1, 27), (1, 30), Some("more than two minor versions older than")),
            ((1, 30), (1, 30), None),
            ((1, 31), (1, 30), Some("newer than")),
            ((0, 9), (1, 0), Some("more than two minor versions older than")),
        ] {
            assert_eq!(complaint(proxy, control), expected, "{proxy:?} {control:?}");
        }
    }
}
