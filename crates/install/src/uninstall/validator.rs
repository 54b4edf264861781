//! A validator that stays, although the revision that it leads to goes: the one that Helm's chart `base` made. It must
//! not refuse every change of the configuration because nobody answers any more.

use api::names::{DEFAULT_REVISION, object};
use revision::name::{Revision, Tag};

use super::{Plan, UninstallError};
use crate::api_server::ApiServer;
use crate::object::Object;
use crate::retag::ChangeError;
use crate::tag::{self, Inventory, Request, TagError, leads_to};

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
            let validator = repointed(other, namespace, &inventory).map_err(ChangeError::from)?;
            server.apply(&validator, tag::FIELD_MANAGER, false).await?;
        }
        Stays::Open => {
            for validator in inventory.validators.iter().filter_map(opened) {
                server.replace(&validator, tag::FIELD_MANAGER).await?;
            }
        }
    }
    Ok(())
}

/// Of the validator, what says where it leads, for another revision.
fn repointed(other: &str, namespace: &str, inventory: &Inventory) -> Result<Object, TagError> {
    let request = Request {
        tag: Tag::parse(DEFAULT_REVISION)?,
        revision: Revision::parse(other)?,
        namespace: namespace.to_owned(),
        overwrite: true,
        force: true,
        automatic: false,
        webhook_name: None,
        labels: Default::default(),
    };
    let objects = tag::build(&request, inventory, false)?.apply;
    let validator = objects
        .into_iter()
        .find(|object| object.name() == object::DEFAULT_VALIDATOR);
    validator.ok_or_else(|| TagError::NoTag(DEFAULT_REVISION.to_owned()))
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
