//! Tags and Helm: a field has one writer, so that what a release made is moved by Helm, or taken over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use api::names::{label, object};
use revision::name::{DEFAULT, Revision};
use serde_json::{Value, json};

use super::Inventory;
use crate::object::Object;
use crate::owner;

/// Chart that makes tags and nothing else, so that an upgrade moves them.
const CHART_OF_TAGS: &str = "revisiontags";

/// A tag that Helm made, and another revision that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfHelm {
    /// The tag.
    pub tag: String,
    /// The release, as `name -n namespace`.
    pub release: String,
    /// The chart that it was made with.
    pub chart: String,
    /// The revision that was asked for.
    pub revision: String,
    /// The other tags of the release.
    pub others: BTreeSet<String>,
}

impl Inventory {
    /// The release that made a tag, if one did.
    pub fn release(&self, tag: &str) -> Option<String> {
        self.of_tag(tag).find_map(owner::release)
    }

    /// A tag that Helm made is Helm's to move.
    pub(super) fn of_helm(&self, tag: &str, revision: &str) -> Option<OfHelm> {
        let found = self.of_tag(tag).find(|object| owner::release(object).is_some())?;
        let release = owner::release(found)?;
        let of_release = |object: &&Object| owner::release(object).as_ref() == Some(&release);
        let tags = self.webhooks.iter().chain(&self.services).filter(of_release);
        let others = tags.map(|object| object.label(label::TAG).to_owned());
        let chart = found.label(label::HELM_CHART);
        Some(OfHelm {
            tag: tag.to_owned(),
            others: others.filter(|other| !other.is_empty() && other != tag).collect(),
            // The chart's version follows.
            chart: chart.rsplit_once('-').map_or(chart, |(chart, _)| chart).to_owned(),
            release,
            revision: revision.to_owned(),
        })
    }
}

/// What has to follow for each release that made one of these tags, which go or become others': as long as it asks for
/// them, it would bring them back.
pub fn bereft(inventory: &Inventory, tags: &BTreeSet<&str>) -> Vec<String> {
    let mut releases: BTreeMap<String, (OfHelm, Vec<&str>)> = BTreeMap::new();
    for tag in tags {
        if let Some(found) = inventory.of_helm(tag, DEFAULT) {
            let release = releases.entry(found.release.clone()).or_insert((found, Vec::new()));
            release.0.others.retain(|other| !tags.contains(other.as_str()));
            release.1.push(tag);
        }
    }
    let told = |(found, tags): &(OfHelm, Vec<&str>)| {
        format!(
            "Helm release {} still asks for the tags that it made, and would bring them back: {}. Afterwards, take them out \
             of it: {}",
            found.release,
            tags.join(", "),
            found.without()
        )
    };
    releases.values().map(told).collect()
}

impl OfHelm {
    /// What has to follow once the tag is taken over, so that Helm and others do not both want it.
    pub fn told(&self) -> String {
        let Self { tag, release, .. } = self;
        format!(
            "{tag:?} is still asked for by Helm release {release}; take it out of the release, which leaves the tag alone: {}",
            self.without()
        )
    }

    /// The command that takes the tag out of the release.
    fn without(&self) -> String {
        let others: Vec<String> = self.others.iter().map(|other| format!("{other:?}")).collect();
        self.upgrade(&format!("--set-json 'revisionTags=[{}]'", others.join(",")))
    }

    /// `helm upgrade` of the release with a further setting.
    fn upgrade(&self, setting: &str) -> String {
        let (name, namespace) = self.release.split_once(' ').unwrap_or((&self.release, ""));
        let chart = &self.chart;
        format!("helm upgrade {name} manifests/charts/{chart} {namespace} --reuse-values {setting}")
    }
}

impl fmt::Display for OfHelm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tag, release, .. } = self;
        write!(
            f,
            "{tag:?} belongs to Helm release {release}, which would move it back. "
        )?;
        let pass = if self.chart == CHART_OF_TAGS {
            let revision = if self.revision == DEFAULT { "" } else { &self.revision };
            let way = self.upgrade(&format!("--set revision={revision}"));
            write!(f, "It and the other tags of that release move with: {way}. ")?;
            "Or pass"
        } else {
            "Pass"
        };
        // First it is made, then Helm lets go of it: the other way round nobody would answer in between.
        write!(
            f,
            "{pass} --force to take it over, once {} has proved that it answers; then take it out of the release, which leaves \
             it alone: {}",
            self.revision,
            self.without()
        )
    }
}

/// Of a validator that Helm made (chart `base`) only what says where it leads is the tag's; all else stays Helm's, which
/// also leaves it where the tag leads.
pub(super) fn repointed(revision: &Revision, mut webhook: Value) -> Object {
    if let Some(fields) = webhook.as_object_mut() {
        fields.retain(|field, _| matches!(field.as_str(), "name" | "clientConfig" | "objectSelector"));
    }
    Object(json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": object::DEFAULT_VALIDATOR, "labels": {label::REVISION: revision.label()}},
        "webhooks": [webhook],
    }))
}
