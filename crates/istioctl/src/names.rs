//! What a name after `-r` means in a mesh: a tag, a revision, or nothing that is there. All commands go by this, and say
//! it in the same words.

use std::collections::{BTreeMap, BTreeSet};

use api::names::{label, object};
use install::api_server::{RequestError, kind};
use install::object::{Id, Object};
use revision::name::{DEFAULT, Revision};

use crate::cluster::Cluster;
use crate::failure::Failure;

/// Names of the revisions and tags of the mesh in one system namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The revision that each tag points at.
    tags: BTreeMap<String, String>,
    /// Revisions that have an injector or a control plane.
    revisions: BTreeSet<String>,
    /// Who may not read webhooks knows no tags: a name is taken for a revision.
    is_partial: bool,
}

impl Names {
    /// Reads them.
    pub async fn read(cluster: &Cluster, system: &str) -> Result<Self, Failure> {
        let webhooks = kind("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration");
        let inside = |group: &str, name: &str| {
            let mut id = kind(group, "v1", name);
            system.clone_into(&mut id.namespace);
            id
        };
        let (deployments, pods) = (inside("apps", "Deployment"), inside("", "Pod"));
        let (webhooks, deployments, pods) = futures::join!(
            cluster.server.list(&webhooks, ""),
            cluster.server.list(&deployments, "app=istiod"),
            cluster.server.list(&pods, "app=istiod")
        );
        // A control plane shows in its webhooks, Deployment and pods; one of them is enough.
        let planes: Vec<Object> = deployments.into_iter().chain(pods).flatten().collect();
        match webhooks {
            Ok(webhooks) => Ok(Self::of(Some(&webhooks), &planes, system)),
            Err(RequestError::Refused { code: 403, message, .. }) => {
                anstream::eprintln!("❗ which names are tags is not known, they are taken for revisions: {message}");
                Ok(Self::of(None, &planes, system))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Those of mutating webhooks that lead into the namespace, unless these may not be read, and of istiod's Deployments
    /// and pods.
    pub fn of(webhooks: Option<&[Object]>, planes: &[Object], system: &str) -> Self {
        let leads_here = |configuration: &&Object| {
            let webhooks = configuration.0["webhooks"].as_array().into_iter().flatten();
            let mut namespaces = webhooks.filter_map(|webhook| webhook.pointer("/clientConfig/service/namespace"));
            namespaces.all(|namespace| namespace == system)
        };
        let mut names = Self {
            is_partial: webhooks.is_none(),
            ..Self::default()
        };
        for object in webhooks.into_iter().flatten().filter(leads_here).chain(planes) {
            let revision = object.label(label::REVISION).to_owned();
            match object.label(label::TAG) {
                _ if revision.is_empty() => {}
                "" => drop(names.revisions.insert(revision)),
                tag => drop(names.tags.insert(tag.to_owned(), revision)),
            }
        }
        names
    }

    /// The revision that a tag of that name points at, else the one of that name.
    pub fn target<'a>(&'a self, name: &'a str) -> &'a str {
        self.tags.get(name).map_or(name, String::as_str)
    }

    /// Whether there is such a tag or revision, as far as is known.
    pub fn has(&self, name: &str) -> bool {
        self.is_partial || self.tags.contains_key(name) || self.revisions.contains(name)
    }

    /// There is none: what there is instead.
    pub fn absent(&self, name: &str) -> String {
        format!("there is no revision or tag {name:?}; {}", self.present())
    }

    /// What there is.
    pub fn present(&self) -> String {
        let (revisions, tags) = (self.revisions.iter(), self.tags.keys());
        present_with_tags(revisions.map(String::as_str), tags.map(String::as_str))
    }
}

/// The revisions that there are, for somebody who named another.
pub fn present<'a>(revisions: impl Iterator<Item = &'a str>) -> String {
    match revisions.collect::<Vec<_>>().as_slice() {
        [] => "revisions here: none".to_owned(),
        names => format!("revisions here: {}", names.join(", ")),
    }
}

/// The revisions and tags that there are.
pub fn present_with_tags<'a>(revisions: impl Iterator<Item = &'a str>, tags: impl Iterator<Item = &'a str>) -> String {
    let revisions = present(revisions);
    match tags.collect::<Vec<_>>().as_slice() {
        [] => revisions,
        tags => format!("{revisions}; tags: {}", tags.join(", ")),
    }
}

/// What a command was told after `-r`, and what it stands for.
#[derive(Clone, Debug)]
pub struct Named {
    /// The revision; without a name the default one.
    pub revision: Revision,
    /// That nothing of it is there, and what is.
    pub absent: Option<String>,
}

impl Named {
    /// Looks a name up; without one the default revision is meant, whether it is there or not.
    pub async fn read(cluster: &Cluster, system: &str, name: Option<&str>) -> Result<Self, Failure> {
        let names = Names::read(cluster, system).await?;
        let named = Self::of(&names, name)?;
        let is_there = named.absent.is_none() || is_configured(cluster, system, &named.revision).await?;
        Ok(if is_there { named.configured() } else { named })
    }

    /// Looks a name up among those that are known.
    pub fn of(names: &Names, name: Option<&str>) -> Result<Self, Failure> {
        let given = name.filter(|name| !name.is_empty());
        Ok(Self {
            revision: Revision::parse(names.target(given.unwrap_or(DEFAULT)))?,
            absent: given.filter(|name| !names.has(name)).map(|name| names.absent(name)),
        })
    }

    /// Its mesh configuration is there: a revision that serves from elsewhere has neither webhooks nor pods.
    pub fn configured(self) -> Self {
        Self { absent: None, ..self }
    }

    /// The revision, if it is there.
    pub fn present(self) -> Result<Revision, Failure> {
        match self.absent {
            Some(absent) => Err(Failure::new(absent)),
            None => Ok(self.revision),
        }
    }
}

/// Whether there is a mesh configuration of the revision.
async fn is_configured(cluster: &Cluster, system: &str, revision: &Revision) -> Result<bool, Failure> {
    let id = Id {
        name: object::mesh_config_map(revision.label()),
        namespace: system.to_owned(),
        ..kind("", "v1", "ConfigMap")
    };
    match cluster.server.get(&id).await {
        Ok(found) => Ok(found.is_some()),
        Err(RequestError::Refused { code: 403, .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn webhook(tag: &str, revision: &str, namespace: &str) -> Object {
        Object(
            json!({"metadata": {"labels": {"istio.io/tag": tag, "istio.io/rev": revision}},
            "webhooks": [{"clientConfig": {"service": {"namespace": namespace, "name": "istiod"}}}]}),
        )
    }

    fn names(system: &str) -> Names {
        let plane = Object(json!({"metadata": {"labels": {"istio.io/rev": "bare"}}}));
        let webhooks = [
            webhook("", "canary", "istio-system"),
            webhook("prod", "other", "other-system"),
            webhook("prod", "canary", "istio-system"),
            webhook("default", "1-22-1", "istio-system"),
        ];
        Names::of(Some(&webhooks), &[plane], system)
    }

    #[test]
    fn a_tag_means_the_revision_that_it_points_at_in_its_mesh() {
        let check = |system: &str, name: &str, target: &str, there: bool| {
            let names = names(system);
            assert_eq!(
                (names.target(name), names.has(name)),
                (target, there),
                "{name} in {system}"
            );
        };
        check("istio-system", "prod", "canary", true);
        check("istio-system", "default", "1-22-1", true);
        check("istio-system", "canary", "canary", true);
        check("istio-system", "bare", "bare", true);
        check("istio-system", "gone", "gone", false);
        check("other-system", "prod", "other", true);
        check("other-system", "default", "default", false);
    }

    #[test]
    fn who_is_not_there_is_told_who_is() {
        assert_eq!(
            names("istio-system").absent("typo"),
            "there is no revision or tag \"typo\"; revisions here: bare, canary; tags: default, prod"
        );
        assert_eq!(
            Names::default().absent("typo"),
            "there is no revision or tag \"typo\"; revisions here: none"
        );
    }
}
