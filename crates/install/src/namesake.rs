//! A revision is not called like a tag: both would inject whoever is labelled so, and the name would mean two control
//! planes (revisions.md §12, T13). [`crate::tag`] refuses the reverse. Pure.

use api::names::{DEFAULT_REVISION, label};

use crate::tag::Inventory;

/// A tag that has the name of the revision that is to be installed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "revision {revision:?} has the name of a tag, which points at revision {target:?}: both would inject every pod that is \
     labelled istio.io/rev={revision}. Choose another name, or give the tag another one first: istioctl tag set <TAG> \
     --revision {target}, label whoever follows {revision:?} (istioctl tag list) with istio.io/rev=<TAG>, then istioctl tag \
     remove {revision}"
)]
pub struct Namesake {
    /// The revision.
    pub revision: String,
    /// The revision that the tag points at.
    pub target: String,
}

/// Refuses a revision whose name a tag of this mesh has. (`default` is both, and means the same.)
///
/// # Errors
/// There is such a tag.
pub fn check(revision: &str, before: &Inventory) -> Result<(), Namesake> {
    match before.of_tag(revision).next() {
        Some(tag) if revision != DEFAULT_REVISION => Err(Namesake {
            revision: revision.to_owned(),
            target: tag.label(label::REVISION).to_owned(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Object;
    use serde_json::json;

    fn tag(name: &str, revision: &str) -> Object {
        Object(json!({"kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name, "labels": {"istio.io/tag": name, "istio.io/rev": revision}}}))
    }

    fn service(name: &str, revision: &str) -> Object {
        Object(
            json!({"kind": "Service", "metadata": {"name": format!("istiod-revision-tag-{name}"),
            "labels": {"istio.io/tag": name, "istio.io/rev": revision}}}),
        )
    }

    /// Revision `revision` is installed; expected is the revision that a tag of its name points at.
    fn case(revision: &str, expected: Option<&str>) {
        let before = Inventory {
            webhooks: vec![tag("prod", "1-22-1"), tag("default", "1-22-1")],
            // Of another mesh.
            strangers: vec![tag("theirs", "other")],
            services: vec![service("half", "1-22-1")],
            ..Inventory::default()
        };
        let found = check(revision, &before).err();
        assert_eq!(found.map(|found| found.target).as_deref(), expected, "{revision}");
    }

    #[test]
    fn a_revision_is_not_called_like_a_tag() {
        case("prod", Some("1-22-1"));
        // Whoever made it was cut off, and the same command again makes the rest.
        case("half", Some("1-22-1"));
        case("1-22-1", None);
        case("new", None);
        case("default", None);
        case("theirs", None);
    }
}
