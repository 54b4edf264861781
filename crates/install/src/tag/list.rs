//! Which tags there are.

use std::collections::BTreeSet;

use api::names::label;

use super::Inventory;

/// One line of `istioctl tag list`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Row {
    /// The tag, empty for a revision that has none.
    pub tag: String,
    /// The revision.
    pub revision: String,
    /// Namespaces labelled with the tag.
    pub namespaces: Vec<String>,
}

/// Tags with their revisions and namespaces, sorted by tag as on the upgrade page; a revision without a tag is listed
/// with an empty one, after them.
pub fn list(inventory: &Inventory) -> Vec<Row> {
    let pairs: BTreeSet<(&str, &str)> = inventory
        .webhooks
        .iter()
        .chain(&inventory.services)
        .map(|object| (object.label(label::TAG), object.label(label::REVISION)))
        .filter(|(_, revision)| !revision.is_empty())
        .collect();
    let tagged: BTreeSet<&str> = pairs
        .iter()
        .filter(|(tag, _)| !tag.is_empty())
        .map(|(_, revision)| *revision)
        .collect();
    let mut rows: Vec<Row> = pairs
        .iter()
        .filter(|(tag, revision)| !tag.is_empty() || !tagged.contains(revision))
        .map(|(tag, revision)| {
            let name = if tag.is_empty() { revision } else { tag };
            let namespaces = inventory.namespaces_of(name).into_iter().map(str::to_owned).collect();
            Row {
                tag: (*tag).to_owned(),
                revision: (*revision).to_owned(),
                namespaces,
            }
        })
        .collect();
    rows.sort_by_key(|row| (row.tag.is_empty(), row.tag.clone(), row.revision.clone()));
    rows
}
