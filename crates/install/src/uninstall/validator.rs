//! A validator that stays, although the revision that it leads to goes: the one of the chart `base`. It must not refuse
//! every change of the configuration because nobody answers any more.
//!
//! Where nobody is left to ask it is opened, but whose revision its label names closes it again, as long as that lives. So
//! the label goes with the same write, and comes back when the control plane is gone: who installs the revision again
//! finds its validator.

use api::names::{label, object};
use revision::name::Revision;
use serde_json::Value;

use super::{Plan, UninstallError};
use crate::api_server::{ApiServer, kind};
use crate::object::Object;
use crate::retag::ChangeError;
use crate::tag::{self, Inventory, TagError, leads_to};

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stays {
    /// It leads to another revision from now on, which can serve.
    With(String),
    /// Nobody is left to ask: it lets pass what it cannot ask about.
    Open,
}

/// Whether a plan leaves such a validator behind, and what is to become of it.
pub(super) fn that_stays(revision: &str, namespace: &str, plan: &Plan, inventory: &Inventory) -> Option<Stays> {
    let service = Revision::parse(revision).ok()?.istiod();
    let leads_here = |object: &&Object| {
        object.name() == object::DEFAULT_VALIDATOR
            && object.text("/webhooks/0/clientConfig/service/name") == service
            && leads_to(object, namespace)
    };
    let validator = inventory.validators.iter().find(leads_here)?;
    // With the tag `default` it moves or goes anyway.
    if plan.default_moves_to.is_some() || plan.ids().contains(&validator.id()) {
        return None;
    }
    // Where nothing else is left, it was seen to, unless that was cut off before it had its label back.
    if plan.remove.is_empty() && !validator.label(label::REVISION).is_empty() {
        return None;
    }
    let successor = plan.successor(inventory).filter(|other| inventory.is_ready(other));
    Some(successor.map_or(Stays::Open, |other| Stays::With(other.to_owned())))
}

/// Does it, before anything goes.
pub(super) async fn settle(server: &ApiServer, stays: &Stays, namespace: &str) -> Result<(), UninstallError> {
    let inventory = crate::inventory::read(server, namespace)
        .await
        .map_err(ChangeError::from)?;
    match stays {
        Stays::With(other) => {
            let revision = Revision::parse(other).map_err(|error| ChangeError::from(TagError::from(error)))?;
            let validator = tag::validator_of(&revision, namespace, &inventory).map_err(ChangeError::from)?;
            server.apply(&validator, tag::FIELD_MANAGER, false).await?;
        }
        Stays::Open => {
            for validator in inventory.validators.iter().filter_map(opened) {
                server.replace(&validator, tag::FIELD_MANAGER, false).await?;
            }
        }
    }
    Ok(())
}

/// Does what is left of it, once nothing of the control plane lives.
pub(super) async fn conclude(server: &ApiServer, plan: &Plan) -> Result<(), UninstallError> {
    let (Some(Stays::Open), Some(revision)) = (&plan.validator, &plan.revision) else {
        return Ok(());
    };
    let mut id = kind("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration");
    object::DEFAULT_VALIDATOR.clone_into(&mut id.name);
    if let Some(mut validator) = server
        .get(&id)
        .await?
        .filter(|live| live.label(label::REVISION).is_empty())
    {
        validator.set_label(label::REVISION, revision);
        server.replace(&validator, tag::FIELD_MANAGER, false).await?;
    }
    Ok(())
}

/// The validator, letting pass everything if nobody answers, and nobody's to write.
fn opened(validator: &Object) -> Option<Object> {
    let mut validator = Some(validator)
        .filter(|object| object.name() == object::DEFAULT_VALIDATOR)?
        .clone();
    if let Some(labels) = validator
        .0
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.shift_remove(label::REVISION);
    }
    for webhook in validator.0.get_mut("webhooks")?.as_array_mut()? {
        webhook["failurePolicy"] = "Ignore".into();
    }
    Some(validator)
}
