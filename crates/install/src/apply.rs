//! Installs: applies components in order, waits for each, makes the default tag, prunes (revisions.md §1.6).
//!
//! Every step may be the last before a crash. So the order is: nothing refers to what is not there yet, webhooks come
//! after the control plane that answers them, and a second run does what is missing.

mod default;
mod gateways;

use std::time::Duration;

use api::names::{DEFAULT_REVISION, label};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api_server::{ApiServer, RequestError, kind};
use crate::component::{Component, Kind};
use crate::input::Operator;
use crate::manifest::apply_rank;
use crate::namesake::{self, Namesake};
use crate::object::Object;
use crate::owner::{self, FIELD_MANAGER};
use crate::precedence::{self, Disagreement};
use crate::progress::{Event, Progress, Silent};
use crate::proof::ProofError;
use crate::rendered_tags::{self, Elsewhere};
use crate::tag::{self, Inventory};
use crate::{inventory, prune, ready, record};

/// How often readiness is looked at.
const POLL: Duration = Duration::from_millis(200);
/// How long old pods may take to end after their successors serve.
const SETTLE: Duration = Duration::from_secs(60);
/// How long istiod may take to fill in its webhooks.
const TRUSTED: Duration = Duration::from_secs(30);

/// Why an installation stopped.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Objects did not become ready.
    #[error("failed to wait for resource: resources not ready after {}s:\n{}", .after.as_secs(), .objects.iter().map(|o| format!("  {o}")).collect::<Vec<_>>().join("\n"))]
    NotReady {
        /// How long was waited.
        after: Duration,
        /// Which objects, each with a reason.
        objects: Vec<String>,
    },
    /// The tag `default` was not moved here, because nobody would inject.
    #[error("the tag \"default\" stays where it was: {0}")]
    DefaultStays(#[from] ProofError),
    /// The revisions would not agree on precedence.
    #[error(transparent)]
    Precedence(#[from] Disagreement),
    /// A tag that comes with it points elsewhere.
    #[error(transparent)]
    Elsewhere(#[from] Elsewhere),
    /// A tag has the revision's name.
    #[error(transparent)]
    Namesake(#[from] Namesake),
    /// What is there could not be read.
    #[error(transparent)]
    Unread(RequestError),
}

impl InstallError {
    /// Was it refused before anything was written?
    pub fn wrote_nothing(&self) -> bool {
        matches!(
            self,
            Self::Precedence(_) | Self::Elsewhere(_) | Self::Namesake(_) | Self::Unread(_)
        )
    }
}

/// An installation that can be carried out.
#[derive(Debug)]
pub struct Installation<'a> {
    /// What was asked for.
    pub operator: &'a Operator,
    /// What that renders.
    pub components: Vec<Component>,
    /// Version of this program, for labels.
    pub version: &'a str,
    /// How long each component may take to become ready.
    pub timeout: Duration,
    /// Only ask the API server whether it would accept.
    pub dry_run: bool,
    /// Go on although the revisions of the cluster will not agree on precedence of labels.
    pub force: bool,
    /// Are the components all that the installation consists of? Else nothing is pruned and no tag is made.
    pub whole: bool,
}

/// What an installation will do that somebody should know.
#[derive(Clone, Debug)]
pub struct Foretold {
    /// Who becomes the default revision, which gateways change sides, and which are not asked for any more, in words.
    pub notes: Vec<String>,
    /// The webhook configurations once it is done.
    pub webhooks: Vec<Object>,
    /// Names of those that it writes.
    pub own: Vec<String>,
}

impl Installation<'_> {
    /// What is to be known before it begins.
    ///
    /// # Errors
    /// It would be refused, or nobody knows.
    pub async fn foretell(&self, server: &ApiServer) -> Result<Foretold, InstallError> {
        let before = inventory::read(server, self.operator.namespace())
            .await
            .map_err(InstallError::Unread)?;
        self.check(&before, &Silent)?;
        let mut notes: Vec<String> = self.new_default(server, &before).await.into_iter().collect();
        notes.extend(self.taken_gateways(server, &before).await?);
        if self.whole {
            let left = prune::gateways(server, self.operator, &self.components, &before).await;
            notes.extend(left.map_err(InstallError::Unread)?);
        }
        let (webhooks, own) = self.webhooks(&before);
        Ok(Foretold { notes, webhooks, own })
    }

    fn injectors(&self) -> impl Iterator<Item = &Object> {
        let objects = self.components.iter().flat_map(|component| &component.objects);
        objects.filter(|object| object.kind() == "MutatingWebhookConfiguration")
    }

    /// The webhook configurations once it is done, and the names of those that it writes.
    fn webhooks(&self, before: &Inventory) -> (Vec<Object>, Vec<String>) {
        let mut own: Vec<String> = self.injectors().map(|object| object.name().to_owned()).collect();
        let stays = |live: &&Object| !own.iter().any(|own| own == live.name());
        let mut after = before.clone();
        after.webhooks = before
            .webhooks
            .iter()
            .filter(stays)
            .chain(self.injectors())
            .cloned()
            .collect();
        after.strangers = before.strangers.iter().filter(stays).cloned().collect();
        if let Some(labels) = self.wants_default_tag(before) {
            own.extend(self.with_default_tag(&mut after, labels));
        }
        (after.webhooks.into_iter().chain(after.strangers).collect(), own)
    }

    /// Carries it out.
    pub async fn run(mut self, server: &ApiServer, progress: &dyn Progress) -> Result<(), InstallError> {
        let namespace = self.operator.namespace().to_owned();
        let before = inventory::read(server, &namespace)
            .await
            .map_err(InstallError::Unread)?;
        self.check(&before, progress)?;
        let default_tag = self.wants_default_tag(&before);
        let created = self.namespace(server, &namespace).await?;
        if self.dry_run && created {
            // Nothing can be tried in a namespace that is not there.
            progress.event(Event::Note(format!(
                "namespace {namespace} does not exist: only cluster-wide objects are tried against the API server"
            )));
            for component in &mut self.components {
                component.objects.retain(|object| object.namespace().is_empty());
            }
        }
        self.prepare(&before, default_tag.is_some());
        let components = std::mem::take(&mut self.components);
        let (gateways, control): (Vec<_>, Vec<_>) = components
            .iter()
            .partition(|c| matches!(c.kind, Kind::IngressGateways | Kind::EgressGateways));
        for component in control {
            self.component(server, component, progress).await?;
        }
        try_join_all(
            gateways
                .into_iter()
                .map(|component| self.component(server, component, progress)),
        )
        .await?;
        if !self.whole {
            return Ok(());
        }
        if self.dry_run {
            // Where the namespace is not there yet, only a part of the components was kept to compare with.
            if !created {
                for id in prune::leftovers(server, self.operator, &components, &before).await? {
                    progress.event(Event::WouldRemove(id));
                }
            }
            return Ok(());
        }
        if let Some(labels) = default_tag {
            self.default_tag(server, &namespace, labels, progress).await?;
        }
        progress.event(Event::Pruning);
        for id in prune::leftovers(server, self.operator, &components, &before).await? {
            server.delete(&id).await?;
        }
        Ok(())
    }

    /// Makes the system namespace if it is not there; tells whether it was not.
    async fn namespace(&self, server: &ApiServer, name: &str) -> Result<bool, InstallError> {
        let mut object = Object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        let network = self.operator.text("/values/global/network");
        let absent = server.get(&object.id()).await?.is_none();
        if !absent && network.is_empty() {
            return Ok(false);
        }
        if !network.is_empty() {
            object.set_label(label::NETWORK, network);
        }
        server.apply(&object, FIELD_MANAGER, self.dry_run).await?;
        Ok(absent)
    }

    /// Refuses what would inject a pod twice, before anything is written.
    fn check(&self, before: &Inventory, progress: &dyn Progress) -> Result<(), InstallError> {
        if self.components.iter().any(|component| component.kind == Kind::Pilot) {
            namesake::check(self.operator.revision_label(), before)?;
        }
        rendered_tags::check(self.injectors(), before)?;
        self.agree(before, progress)
    }

    /// Refuses webhooks that would not exclude those that are there.
    fn agree(&self, before: &Inventory, progress: &dyn Progress) -> Result<(), InstallError> {
        let default_tag = self.wants_default_tag(before).is_some();
        let webhooks: Vec<&Object> = self.injectors().collect();
        let renewed = |live: &Object| default_tag && live.label(label::TAG) == DEFAULT_REVISION;
        match precedence::disagreement(&webhooks, before, renewed) {
            Err(disagreement) if self.force => {
                progress.event(Event::Note(format!("continuing because of --force: {disagreement}")));
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }

    /// Labels everything; fits webhooks to what the cluster has.
    fn prepare(&mut self, before: &Inventory, default_tag: bool) {
        let labels = owner::labels(self.operator, self.version);
        let tagged = before.injects_for(DEFAULT_REVISION);
        // The one that injects now goes on until the tag is there, which then switches it off.
        let injects = tag::unnamed(before).is_some_and(|live| !tag::is_deactivated(live));
        let hidden = self.operator.revision().is_empty() && (tagged || (default_tag && !injects));
        for component in &mut self.components {
            component.objects.sort_by_key(apply_rank);
            for object in &mut component.objects {
                owner::mark(object, &labels, component.kind);
                record::remember(object, self.operator);
                match object.kind() {
                    // With a tag `default`, the unnamed revision's own webhooks would be a second answer to the
                    // same pods: they are never active, not even for a moment.
                    "MutatingWebhookConfiguration" if hidden && object.label(label::TAG).is_empty() => {
                        *object = tag::deactivated(object);
                    }
                    "ValidatingWebhookConfiguration" => keep_failure_policy(object, before),
                    _ => {}
                }
            }
        }
    }

    async fn component(
        &self,
        server: &ApiServer,
        component: &Component,
        progress: &dyn Progress,
    ) -> Result<(), InstallError> {
        progress.event(Event::Processing {
            kind: component.kind,
            waiting: Vec::new(),
        });
        let result = self.apply_and_wait(server, component, progress).await;
        progress.event(match &result {
            Ok(()) => Event::Installed(component.kind),
            Err(error) => Event::Failed(component.kind, error.to_string()),
        });
        result
    }

    async fn apply_and_wait(
        &self,
        server: &ApiServer,
        component: &Component,
        progress: &dyn Progress,
    ) -> Result<(), InstallError> {
        // CRDs, then what they and others make possible, then what serves, then what calls it.
        for stage in component.objects.chunk_by(|a, b| stage(a) == stage(b)) {
            for object in stage {
                server.apply(object, FIELD_MANAGER, self.dry_run).await?;
            }
            if !self.dry_run {
                self.wait(server, component.kind, stage, progress).await?;
            }
        }
        if !self.dry_run {
            for object in component
                .objects
                .iter()
                .filter(|o| o.kind() == "MutatingWebhookConfiguration")
            {
                trusted(server, object, progress).await?;
            }
        }
        Ok(())
    }

    async fn wait(
        &self,
        server: &ApiServer,
        component: Kind,
        objects: &[Object],
        progress: &dyn Progress,
    ) -> Result<(), InstallError> {
        let waited: Vec<&Object> = objects
            .iter()
            .filter(|o| matches!(o.kind(), "CustomResourceDefinition" | "Deployment"))
            .collect();
        let started = Instant::now();
        let mut settled_by = None;
        loop {
            let mut waiting = Vec::new();
            let mut unsettled = false;
            for object in &waited {
                let id = object.id();
                let Some(live) = server.get(&id).await? else {
                    waiting.push(format!("{} (is gone)", id.path()));
                    continue;
                };
                if let Some(reason) = ready::waiting_for(&live) {
                    let problem = pod_problem(server, &live).await;
                    if let Some(problem) = &problem {
                        progress.event(Event::Problem(format!("{}: {problem}", id.path())));
                    }
                    waiting.push(format!("{} ({})", id.path(), problem.unwrap_or(reason)));
                } else if has_ending_pods(server, &live).await {
                    unsettled = true;
                    waiting.push(format!("{} (old pods are ending)", id.path()));
                }
            }
            if waiting.is_empty() {
                return Ok(());
            }
            if unsettled && Instant::now() > *settled_by.get_or_insert_with(|| Instant::now() + SETTLE) {
                return Ok(());
            }
            if started.elapsed() > self.timeout {
                return Err(InstallError::NotReady {
                    after: self.timeout,
                    objects: waiting,
                });
            }
            progress.event(Event::Processing {
                kind: component,
                waiting,
            });
            tokio::time::sleep(POLL).await;
        }
    }
}

/// What is applied and waited for together.
fn stage(object: &Object) -> u8 {
    match apply_rank(object) {
        0 | 1 => 0,
        9 => 2,
        _ => 1,
    }
}

/// Once istiod has closed its validator, `failurePolicy` is istiod's; before that, it stays as open as it is.
fn keep_failure_policy(object: &mut Object, before: &Inventory) {
    let Some(live) = before.validators.iter().find(|live| live.name() == object.name()) else {
        return;
    };
    let policy = live
        .0
        .pointer("/webhooks/0/failurePolicy")
        .and_then(Value::as_str)
        .unwrap_or("Fail")
        .to_owned();
    for webhook in object
        .0
        .get_mut("webhooks")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let Some(webhook) = webhook.as_object_mut() else {
            continue;
        };
        if policy == "Fail" {
            webhook.shift_remove("failurePolicy");
        } else {
            webhook.insert("failurePolicy".to_owned(), policy.clone().into());
        }
    }
}

/// Waits until istiod has put its certificate into its webhooks; without it no pod could be created.
async fn trusted(server: &ApiServer, object: &Object, progress: &dyn Progress) -> Result<(), InstallError> {
    let deadline = Instant::now() + TRUSTED;
    loop {
        let Some(live) = server.get(&object.id()).await? else {
            return Ok(());
        };
        let webhooks = live
            .0
            .get("webhooks")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let open = |webhook: &Value| {
            let client = &webhook["clientConfig"];
            client.get("url").is_some() || client["caBundle"].as_str().is_some_and(|bundle| !bundle.is_empty())
        };
        if webhooks.iter().all(open) {
            return Ok(());
        }
        if Instant::now() > deadline {
            progress.event(Event::Note(format!(
                "{}: istiod has not filled in caBundle after {}s; pods in its namespaces cannot start until it does",
                object.id().path(),
                TRUSTED.as_secs()
            )));
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn pods_of(server: &ApiServer, workload: &Object) -> Vec<Object> {
    let labels = workload
        .0
        .pointer("/spec/selector/matchLabels")
        .and_then(Value::as_object);
    let selector: Vec<String> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    if selector.is_empty() {
        return Vec::new();
    }
    let mut pods = kind("", "v1", "Pod");
    workload.namespace().clone_into(&mut pods.namespace);
    server.list(&pods, &selector.join(",")).await.unwrap_or_default()
}

async fn pod_problem(server: &ApiServer, workload: &Object) -> Option<String> {
    pods_of(server, workload).await.iter().find_map(ready::pod_problem)
}

async fn has_ending_pods(server: &ApiServer, workload: &Object) -> bool {
    if workload.kind() != "Deployment" {
        return false;
    }
    pods_of(server, workload)
        .await
        .iter()
        .any(|pod| pod.0.pointer("/metadata/deletionTimestamp").is_some())
}
