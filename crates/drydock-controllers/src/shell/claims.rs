//! Adoption and release: which of the objects that match a selector belong to an owner.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Kind;
use crate::meta::{Claim, claim, controller_ref};
use crate::{Error, selector};

/// The candidates that `owner` owns, after adopting orphans that it selects and letting go of what it no longer selects.
///
/// # Errors
/// The server refused an adoption or release.
pub async fn claimed<O, K>(
    kind: &Kind<K>,
    owner: &O,
    selector: &LabelSelector,
    candidates: Vec<Arc<K>>,
) -> Result<Vec<Arc<K>>, Error>
where
    O: Resource<DynamicType = ()>,
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static,
{
    let mut owned = Vec::new();
    for object in candidates {
        let selected = selector::matches(selector, object.meta().labels.as_ref());
        match claim(owner, selected, object.meta()) {
            Claim::Owned => owned.push(object),
            Claim::Foreign => {}
            Claim::Adopt => {
                let mut adopted = (*object).clone();
                adopted
                    .meta_mut()
                    .owner_references
                    .get_or_insert_default()
                    .push(controller_ref(owner));
                owned.push(Arc::new(kind.replace(&adopted).await?));
            }
            Claim::Release => {
                let mut released = (*object).clone();
                let owners = released.meta_mut().owner_references.get_or_insert_default();
                owners.retain(|reference| Some(&reference.uid) != owner.meta().uid.as_ref());
                kind.replace(&released).await?;
            }
        }
    }
    Ok(owned)
}
