//! Tags that come with an installation (`values.revisionTags`) are objects of its chart, which are applied by force. One
//! that points elsewhere would move without `--overwrite`, without a proof that the new revision answers and without a
//! way back: that is what `istioctl tag set` is for. Pure.

use api::names::label;

use crate::object::Object;
use crate::tag::Inventory;

/// A tag of the values that points at another revision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "values.revisionTags: the tag {tag:?} points at revision {target:?}, and an installation moves no tags. Install without \
     it, then: istioctl tag set {tag} --revision {revision} --overwrite"
)]
pub struct Elsewhere {
    /// The tag.
    pub tag: String,
    /// The revision that it points at.
    pub target: String,
    /// The revision that is installed.
    pub revision: String,
}

/// Refuses tags among the rendered objects that point at another revision.
///
/// # Errors
/// There is such a tag.
pub fn check<'a>(rendered: impl IntoIterator<Item = &'a Object>, before: &Inventory) -> Result<(), Elsewhere> {
    for object in rendered {
        let (tag, revision) = (object.label(label::TAG), object.label(label::REVISION));
        match before.target(tag) {
            Some(target) if !tag.is_empty() && target != revision => {
                return Err(Elsewhere {
                    tag: tag.to_owned(),
                    target: target.to_owned(),
                    revision: revision.to_owned(),
                });
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tagged(tag: &str, revision: &str) -> Object {
        Object(json!({"kind": "MutatingWebhookConfiguration",
            "metadata": {"name": format!("istio-revision-tag-{tag}"), "labels": {"istio.io/tag": tag, "istio.io/rev": revision}}}))
    }

    /// Revision `new` brings the tag `prod`; the cluster has these.
    fn case(live: &[(&str, &str)]) -> String {
        let before = Inventory {
            webhooks: live.iter().map(|(tag, revision)| tagged(tag, revision)).collect(),
            ..Inventory::default()
        };
        let untagged = Object(json!({"metadata": {"labels": {"istio.io/rev": "new"}}}));
        match check(&[untagged, tagged("prod", "new")], &before) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_installation_moves_no_tags() {
        assert_eq!(case(&[]), "");
        assert_eq!(case(&[("prod", "new"), ("other", "old"), ("", "old")]), "");
        insta::assert_snapshot!(case(&[("prod", "old")]), @r#"values.revisionTags: the tag "prod" points at revision "old", and an installation moves no tags. Install without it, then: istioctl tag set prod --revision new --overwrite"#);
    }
}
