//! Carries a plan out: first what calls the control plane, then, once nothing does, what answers.

use std::fmt;
use std::time::Duration;

use api::names::{DEFAULT_REVISION, label};
use revision::name::{Revision, Tag};
use serde_json::Value;
use tokio::time::Instant;

use super::{Plan, Stays, UninstallError, validator};
use crate::api_server::{ApiServer, RequestError, kind};
use crate::object::{Id, Object};
use crate::proof::ProofError;
use crate::retag::{self, ChangeError};
use crate::tag::{self, Request, TagError};

/// How long pods of a removed control plane may take to end.
const ENDING: Duration = Duration::from_secs(60);
/// Attempts at an object that others keep writing to.
const ATTEMPTS: u32 = 10;

/// Something that removing did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// The tag `default` was moved first.
    DefaultMoved(String),
    /// A validator that stays does not lead to the revision any more.
    ValidatorStays(Stays),
    /// An object is gone.
    Object(Id),
    /// An object was gone already.
    Absent(Id),
    /// An object could not be removed; others of its kind were tried nevertheless.
    Failed(Id, String),
    /// What was left of the plan was not tried.
    Stopped(Stop, Vec<Id>),
}

/// Why not all of a plan was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The object is not the one that the plan was made for, or belongs to another revision or tag meanwhile.
    Changed(Id),
    /// These webhooks still call what was to go next: without it, pods and configuration would be refused.
    Called(Vec<Id>),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(id) => write!(
                f,
                "{} was changed since it was read, so that nothing more was removed; run the command again to see what \
                 would go now",
                id.path()
            ),
            Self::Called(webhooks) => {
                let names: Vec<String> = webhooks.iter().map(Id::path).collect();
                let verb = if names.len() == 1 { "calls" } else { "call" };
                write!(
                    f,
                    "{} still {verb} the control plane, which stays, because nothing that it selects could be created \
                     without; once that is gone, run the command again",
                    names.join(", ")
                )
            }
        }
    }
}

/// Carries a plan out. The validator and injection of the default revision are repointed before anything goes; what
/// serves goes only when nothing is left that calls it.
pub async fn execute(
    server: &ApiServer,
    plan: &Plan,
    namespace: &str,
    report: &mut (dyn FnMut(Removed) + Send),
) -> Result<(), UninstallError> {
    if let Some(target) = &plan.default_moves_to {
        move_default(server, namespace, target).await?;
        report(Removed::DefaultMoved(target.clone()));
    }
    if let Some(stays) = &plan.validator {
        validator::settle(server, stays, namespace).await?;
        report(Removed::ValidatorStays(stays.clone()));
    }
    let mut ending = Vec::new();
    let (mut is_free, mut is_complete) = (false, true);
    for (index, object) in plan.remove.iter().enumerate() {
        let stopped = |stop| Removed::Stopped(stop, plan.remove[index..].iter().map(Object::id).collect());
        if !is_webhook(object) && !is_free {
            let callers = callers(plan, namespace, &webhooks(server).await?);
            if !callers.is_empty() {
                report(stopped(Stop::Called(callers)));
                is_complete = false;
                break;
            }
            is_free = true;
        }
        let removed = match remove(server, object, plan).await {
            Ok(Outcome::Gone) => Removed::Object(object.id()),
            Ok(Outcome::Absent) => Removed::Absent(object.id()),
            Ok(Outcome::Changed) => {
                report(stopped(Stop::Changed(object.id())));
                is_complete = false;
                break;
            }
            // Each of the others would be waited for as long, and what became of this one has to be seen first.
            Err(error @ RequestError::TimedOut { .. }) => return Err(error.into()),
            Err(error) => Removed::Failed(object.id(), error.to_string()),
        };
        if object.kind() == "Deployment" {
            // One that may not be deleted does not end.
            match removed {
                Removed::Failed(..) => is_complete = false,
                _ => ending.push(object.id()),
            }
        }
        report(removed);
    }
    let mut ended = true;
    for deployment in &ending {
        ended &= gone(server, deployment).await;
    }
    if ended && is_complete {
        validator::conclude(server, plan).await?;
    }
    Ok(())
}

/// What became of an object.
enum Outcome {
    Gone,
    Absent,
    Changed,
}

/// Removes what the plan was made for, and nothing else of its name: while somebody was asked, a tag may have been moved
/// and a gateway upgraded in place. What others write without making it another's, such as a status, changes nothing.
async fn remove(server: &ApiServer, object: &Object, plan: &Plan) -> Result<Outcome, RequestError> {
    let mut read = object.clone();
    let mut attempt = 0;
    loop {
        attempt += 1;
        match server.delete_read(&read, true).await {
            Ok(true) => return Ok(Outcome::Gone),
            Ok(false) => return Ok(Outcome::Absent),
            Err(error) if !error.is_conflict() || attempt == ATTEMPTS => return Err(error),
            Err(_) => {}
        }
        match server.get(&object.id()).await? {
            None => return Ok(Outcome::Absent),
            Some(live) if is_same(object, &live, plan) => read = live,
            Some(_) => return Ok(Outcome::Changed),
        }
    }
}

/// The same object, of the same revision and tag, unless everything goes whatever it is of?
fn is_same(read: &Object, live: &Object, plan: &Plan) -> bool {
    let owner = |object: &Object| [label::REVISION, label::TAG].map(|key| object.label(key).to_owned());
    read.text("/metadata/uid") == live.text("/metadata/uid") && (plan.revision.is_none() || owner(read) == owner(live))
}

fn is_webhook(object: &Object) -> bool {
    matches!(
        object.kind(),
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration"
    )
}

async fn webhooks(server: &ApiServer) -> Result<Vec<Object>, RequestError> {
    let admission = |name| kind("admissionregistration.k8s.io", "v1", name);
    let mut found = server.list(&admission("MutatingWebhookConfiguration"), "").await?;
    found.extend(server.list(&admission("ValidatingWebhookConfiguration"), "").await?);
    Ok(found)
}

/// Webhooks that would call what goes next: those that could not be removed, and those that came since the plan was made.
/// A control plane that is called by a URL is not here, and does not go.
fn callers(plan: &Plan, namespace: &str, webhooks: &[Object]) -> Vec<Id> {
    let is_of_plan = |live: &Object| plan.remove.iter().any(|object| object.id() == live.id());
    let leads_here = |live: &Object| {
        let revision = plan.revision.as_deref();
        revision.is_some_and(|revision| live.label(label::REVISION) == revision) && live.called_namespace() == namespace
    };
    let calling = webhooks
        .iter()
        .filter(|live| (is_of_plan(live) || leads_here(live)) && needs_an_answer(live));
    calling.map(Object::id).collect()
}

/// An injector that is not switched off, or a validator that does not let pass what nobody checks.
fn needs_an_answer(webhook: &Object) -> bool {
    if webhook.kind() == "MutatingWebhookConfiguration" {
        return !tag::is_deactivated(webhook);
    }
    let mut webhooks = webhook.0["webhooks"].as_array().into_iter().flatten();
    webhooks.any(|webhook: &Value| webhook["failurePolicy"] != "Ignore")
}

async fn move_default(server: &ApiServer, namespace: &str, target: &str) -> Result<(), UninstallError> {
    let inventory = crate::inventory::read(server, namespace).await?;
    let named = |error| ChangeError::from(TagError::from(error));
    let mut request = Request {
        tag: Tag::parse(DEFAULT_REVISION).map_err(named)?,
        revision: Revision::parse(target).map_err(named)?,
        namespace: namespace.to_owned(),
        overwrite: true,
        force: false,
        // It must not stay with one that goes, whoever made it.
        take_over: true,
        automatic: false,
        webhook_name: None,
        labels: Default::default(),
    };
    let built = tag::build(&request, &inventory, false).map_err(ChangeError::from)?;
    match retag::set(server, &request, &built, &inventory).await {
        // Nobody would know more about the other revision by staying with one that goes.
        Err(ChangeError::Proof(ProofError::Refused { .. })) => {
            request.force = true;
            retag::set(server, &request, &built, &inventory).await?;
        }
        outcome => outcome?,
    }
    Ok(())
}

/// Waits, within bounds, until a Deployment and its pods are gone, so that what follows sees the end state. Tells
/// whether they are.
async fn gone(server: &ApiServer, deployment: &Id) -> bool {
    let deadline = Instant::now() + ENDING;
    let mut pods = kind("", "v1", "Pod");
    deployment.namespace.clone_into(&mut pods.namespace);
    let prefix = format!("{}-", deployment.name);
    while Instant::now() < deadline {
        let left = server.list(&pods, "").await.unwrap_or_default();
        let ours = |pod: &Object| {
            let rest = pod.name().strip_prefix(&prefix);
            // <deployment>-<template hash>-<suffix>
            rest.is_some_and(|rest| rest.split('-').count() == 2)
                && pod.0.pointer("/metadata/deletionTimestamp").is_some()
        };
        // What could not be read may still be there.
        let is_absent = matches!(server.get(deployment).await, Ok(None));
        if is_absent && !left.iter().any(ours) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

#[cfg(test)]
#[path = "removal_tests.rs"]
mod tests;
