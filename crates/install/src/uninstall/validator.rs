//! A validator that stays, although the revision that it leads to goes: the one of the chart `base`. It must not refuse
//! every change of the configuration because nobody answers any more.

use api::names::object;
use revision::name::Revision;

use super::{Plan, UninstallError};
use crate::api_server::ApiServer;
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
    if plan.default_moves_to.is_some() || plan.remove.contains(&validator.id()) {
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

/// The validator, letting pass everything if nobody answers.
fn opened(validator: &Object) -> Option<Object> {
    let mut validator = Some(validator)
        .filter(|object| object.name() == object::DEFAULT_VALIDATOR)?
        .clone();
    for webhook in validator.0.get_mut("webhooks")?.as_array_mut()? {
        webhook["failurePolicy"] = "Ignore".into();
    }
    Some(validator)
}
