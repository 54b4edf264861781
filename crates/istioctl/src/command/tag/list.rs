//! `istioctl tag list`: every tag with who follows it, and tags that lead to nobody.

use std::collections::BTreeMap;

use clap::Args;
use install::api_server::kind;
use install::inventory;
use install::object::Object;
use install::served::{self, Absence};
use install::tag::{self, Inventory};

use super::followers::{Decided, Leader, Question};
use crate::cli::Global;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::out::{self, Format, put};
use crate::policies::Policies;
use crate::table::{columns, row};

/// Flags of `list`.
#[derive(Debug, Args)]
pub struct ListFlags {
    /// Output format.
    #[arg(short, long, default_value = "table")]
    output: Format,
}

pub(super) async fn run(global: &Global, flags: ListFlags) -> Result<(), Failure> {
    let cluster = Cluster::connect(global).await?;
    let system = &global.istio_namespace;
    let before = inventory::read(&cluster.server, system).await?;
    let everywhere = kind("", "v1", "Pod");
    let (pods, policies) = futures::join!(cluster.server.list(&everywhere, ""), Policies::read(&cluster, system));
    let pods = pods.unwrap_or_else(|error| {
        anstream::eprintln!("❗ namespaces of which only pods follow a tag are left out: {error}");
        Vec::new()
    });
    let rows = listed(&before, &policies, &pods);
    if rows.is_empty() {
        put("No Istio revision tags found.\n");
        return Ok(());
    }
    match flags.output {
        Format::Table => {
            let mut lines = vec![row(["TAG", "REVISION", "NAMESPACES"])];
            lines.extend(rows.iter().map(|r| row([&r.tag, &r.revision, &r.namespaces.join(",")])));
            put(&columns(&lines, 1));
        }
        Format::Json => {
            let mut text = Vec::new();
            let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
            serde::Serialize::serialize(&rows, &mut serde_json::Serializer::with_formatter(&mut text, formatter))?;
            put(&format!("{}\n", String::from_utf8_lossy(&text)));
        }
        Format::Yaml => out::data(&rows, flags.output)?,
    }
    for line in unserved(&rows, &served::unserved(system, &before)) {
        anstream::eprintln!("❗ {line}");
    }
    Ok(())
}

/// What is wrong with tags behind which no istiod is.
fn unserved(rows: &[tag::Row], asleep: &BTreeMap<String, Absence>) -> Vec<String> {
    let told = |(revision, absence): (&String, &Absence)| {
        let tags = rows
            .iter()
            .filter(|row| row.revision == *revision && !row.tag.is_empty());
        let tags: Vec<&str> = tags.map(|row| row.tag.as_str()).collect();
        let told = absence.told(revision);
        (!tags.is_empty()).then(|| format!("Tags that point at revision {revision}: {}. {told}", tags.join(", ")))
    };
    asleep.iter().filter_map(told).collect()
}

/// The lines of the list, with every namespace that follows: by its label, by `istio-injection`, or by pods that choose
/// for themselves.
fn listed(before: &Inventory, policies: &Policies, pods: &[Object]) -> Vec<tag::Row> {
    let mut rows = tag::list(before);
    let decided = Decided::new(&before.webhooks, &before.namespaces, pods);
    for row in &mut rows {
        let leader = match row.tag.as_str() {
            "" => Leader::Revision(&row.revision),
            tag => Leader::Tag(tag),
        };
        let question = Question {
            leader,
            admits: &row.revision,
            is_there: None,
        };
        row.namespaces.extend(decided.followers(question, policies).into_keys());
        row.namespaces.sort();
        row.namespaces.dedup();
    }
    rows
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::command::tag::fixture;
    use revision::name::Tag;

    #[test]
    fn every_namespace_that_follows_is_listed() {
        let tagged = |tag: &str| {
            let webhooks = revision::webhook::of_tag(&Tag::parse(tag).unwrap(), Default::default());
            fixture::configuration(tag, "new", tag, &webhooks)
        };
        let namespace = |name: &str, labels: serde_json::Value| {
            Object(serde_json::json!({"metadata": {"name": name, "labels": labels}}))
        };
        let before = Inventory {
            webhooks: vec![tagged("default"), tagged("prod")],
            namespaces: vec![
                namespace("by-injection", serde_json::json!({"istio-injection": "enabled"})),
                namespace("by-name", serde_json::json!({"istio.io/rev": "default"})),
                namespace("by-pod", serde_json::json!({})),
                namespace("other", serde_json::json!({"istio.io/rev": "prod"})),
                namespace("refuses", serde_json::json!({"istio-injection": "disabled"})),
            ],
            ..Inventory::default()
        };
        let pod = |namespace: &str| {
            Object(serde_json::json!({"metadata": {"name": "a", "namespace": namespace,
                "labels": {"sidecar.istio.io/inject": "true"}}}))
        };
        let rows = listed(&before, &Policies::default(), &["by-pod", "refuses"].map(pod));
        let rows: Vec<_> = rows
            .iter()
            .map(|row| (row.tag.as_str(), row.namespaces.join(",")))
            .collect();
        assert_eq!(
            rows,
            [
                ("default", "by-injection,by-name,by-pod".to_owned()),
                ("prod", "other".to_owned())
            ]
        );
    }

    #[test]
    fn a_tag_that_leads_to_nobody_is_marked() {
        let row = |tag: &str, revision: &str| tag::Row {
            tag: tag.to_owned(),
            revision: revision.to_owned(),
            namespaces: Vec::new(),
        };
        let rows = [
            row("default", "new"),
            row("prod", "old"),
            row("stable", "old"),
            row("", "idle"),
        ];
        let absence = |gone| Absence { gone, refuses: true };
        let asleep = [("old", absence(true)), ("idle", absence(false))];
        let asleep = asleep.map(|(revision, absence)| (revision.to_owned(), absence)).into();
        let told = unserved(&rows, &asleep).join("\n");
        insta::assert_snapshot!(told, @"Tags that point at revision old: prod, stable. Revision old is gone, but its injector is not: new pods that it selects are refused. Restart none of them before the revision is installed again, or its rest removed: istioctl uninstall --revision old");
    }
}
