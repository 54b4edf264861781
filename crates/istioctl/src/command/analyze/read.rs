//! What is analysed: files, and what a cluster has.

use std::collections::BTreeMap;
use std::path::Path;

use analyze::objects::Objects;
use api::names::{DEFAULT_REVISION, label, object};
use install::api_server::{RequestError, kind};
use install::object::{Id, Object};
use serde_json::Value;

use crate::cli::Global;
use crate::cluster::{Cluster, own_kinds};
use crate::command::install::read;
use crate::failure::Failure;
use crate::names::{Named, Names};

/// Names of files that are read from folders end so.
const EXTENSIONS: [&str; 3] = ["json", "yaml", "yml"];
/// How deep folders are read.
const DEEPEST: usize = 32;

/// Kinds that are read from a cluster beside the mesh's own; one that the cluster does not have is left out.
const KINDS: [(&str, &str, &str); 13] = [
    ("", "v1", "Namespace"),
    ("", "v1", "Pod"),
    ("", "v1", "Service"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Node"),
    ("", "v1", "Secret"),
    ("apps", "v1", "Deployment"),
    ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration"),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    ("gateway.networking.k8s.io", "v1", "Gateway"),
    ("gateway.networking.k8s.io", "v1", "HTTPRoute"),
    ("gateway.networking.k8s.io", "v1", "GRPCRoute"),
];

/// Files that were given.
#[derive(Debug, Default)]
pub struct Files {
    /// Their names.
    pub names: Vec<String>,
    /// What to say of those that were not read.
    pub notes: Vec<String>,
    /// How many could not be read as YAML of objects.
    pub unreadable: usize,
    /// How many objects they hold.
    pub objects: usize,
    /// Namespaces that objects in them name, and how many do.
    pub namespaces: BTreeMap<String, usize>,
}

impl Files {
    /// Counts an object, or those of a list.
    fn count(&mut self, object: &Value) {
        if let Some(items) = object["items"].as_array() {
            return items.iter().for_each(|item| self.count(item));
        }
        self.objects += 1;
        if let Some(namespace) = object["metadata"]["namespace"].as_str() {
            *self.namespaces.entry(namespace.to_owned()).or_default() += 1;
        }
    }
}

/// Adds the objects of files and folders; those without a namespace are in the one that is given.
pub fn files(given: &[String], namespace: &str, objects: &mut Objects) -> Result<Files, Failure> {
    let mut files = Files::default();
    for name in given {
        expand(Path::new(name), 0, &mut files)?;
    }
    for file in files.names.clone() {
        let wrong = match add(&read(&file)?, &file, namespace, objects, &mut files) {
            Ok(()) => continue,
            Err(wrong) => wrong,
        };
        files.unreadable += 1;
        files.notes.push(format!("Error(s) adding files: {wrong}"));
    }
    Ok(files)
}

fn add(text: &str, file: &str, namespace: &str, objects: &mut Objects, files: &mut Files) -> Result<(), String> {
    let mut wrong = Vec::new();
    for document in gotemplate::documents(text) {
        let line = document.line;
        match install::yaml::documents(document.text) {
            Ok(found) => {
                for object in found {
                    if object["kind"].is_string() && object["apiVersion"].is_string() {
                        files.count(&object);
                        objects.add_from(object, &format!("{file}:{line}"), namespace);
                    } else {
                        wrong.push(format!(
                            "{file}:{line}: no object of Kubernetes: it has no apiVersion and kind"
                        ));
                    }
                }
            }
            Err(error) => wrong.push(format!("{file}:{line}: {error}")),
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("; "))
    }
}

/// Files of a folder, sorted; a file stands for itself.
fn expand(path: &Path, depth: usize, files: &mut Files) -> Result<(), Failure> {
    let name = path.to_string_lossy().into_owned();
    let failed = |error: std::io::Error| Failure::new(format!("cannot read {name}: {error}"));
    if name == "-" {
        files.names.push(name);
        return Ok(());
    }
    if path.metadata().map_err(failed)?.is_dir() {
        if depth == DEEPEST {
            return Err(Failure::new(format!("{name}: folders are read {DEEPEST} deep")));
        }
        let entries: Result<Vec<_>, _> = std::fs::read_dir(path).map_err(failed)?.collect();
        let mut paths: Vec<_> = entries.map_err(failed)?.into_iter().map(|entry| entry.path()).collect();
        paths.sort();
        return paths.iter().try_for_each(|path| expand(path, depth + 1, files));
    }
    let is_known = path
        .extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| EXTENSIONS.contains(&extension));
    if is_known {
        files.names.push(name);
    } else {
        files.notes.push(format!(
            "Skipping file {name}, recognized file extensions are: [.json .yaml .yml]"
        ));
    }
    Ok(())
}

/// One document of a file.
pub fn document(file: &str) -> Result<Value, Failure> {
    install::yaml::document(&read(file)?).map_err(|error| Failure::new(format!("{file}: {error}")))
}

/// Adds what a cluster has, with the mesh configuration of a revision or tag. Returns what that name means, and what could
/// not be read.
pub async fn cluster(
    cluster: &Cluster,
    system: &str,
    revision: Option<&str>,
    objects: &mut Objects,
) -> Result<(Named, Vec<String>), Failure> {
    let server = &cluster.server;
    let ids: Vec<_> = KINDS
        .iter()
        .map(|(group, version, name)| kind(group, version, name))
        .chain(own_kinds())
        .collect();
    let lists = futures::future::join_all(ids.iter().map(|id| server.list(id, ""))).await;
    let mut notes = Vec::new();
    let mut found = Vec::new();
    let mut refused = Vec::new();
    for (id, list) in ids.iter().zip(lists) {
        match list {
            Ok(list) => found.push((id, list)),
            // Whoever may not read everything is told so, and what can be said without it.
            Err(RequestError::Refused { code: 403, message, .. }) => {
                objects.set_unreadable(&id.kind);
                refused.push(id.kind.as_str());
                notes.push(format!("objects of kind {} are not looked at: {message}", id.kind));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if let (true, Some(first)) = (found.is_empty(), notes.first()) {
        return Err(Failure::new(format!(
            "nothing of the cluster could be read, so nothing was looked at: no {}. The first of {} refusals: {first}",
            refused.join(", "),
            notes.len()
        )));
    }
    let wanted = revision.unwrap_or(DEFAULT_REVISION);
    let named = Named::of(&names(&found, system), revision)?;
    let actual = named.revision.label().to_owned();
    let is_own = |group: &str| api::kind::KINDS.iter().any(|own| own.group == group);
    for (id, list) in found {
        for object in list {
            // Configuration for another revision is not read by this one.
            let of = object.label(label::REVISION);
            if !is_own(&id.group) || of.is_empty() || of == actual || of == wanted {
                objects.add(object.0);
            }
        }
    }
    let named = if objects
        .get("ConfigMap", system, &object::mesh_config_map(&actual))
        .is_some()
    {
        named.configured()
    } else {
        named
    };
    notes.extend(mesh(objects, system, &actual, revision.is_some()));
    Ok((named, notes))
}

/// Names of revisions and tags among the objects that could be read.
fn names(found: &[(&Id, Vec<Object>)], system: &str) -> Names {
    let of_kind = |kind: &str| found.iter().find(|(id, _)| id.kind == kind).map(|(_, list)| list);
    let planes = ["Deployment", "Pod"].iter().filter_map(|kind| of_kind(kind)).flatten();
    let planes: Vec<Object> = planes
        .filter(|object| object.namespace() == system && object.label(label::APP) == "istiod")
        .cloned()
        .collect();
    let webhooks = of_kind("MutatingWebhookConfiguration").map(Vec::as_slice);
    Names::of(webhooks, &planes, system)
}

/// Adds the Services of other clusters, by their contexts in the Kubernetes configuration.
pub async fn remote(global: &Global, contexts: &[String], objects: &mut Objects) -> Result<(), Failure> {
    for context in contexts {
        let mut other = global.clone();
        other.context = Some(context.clone());
        other.cluster = None;
        let cluster = Cluster::connect(&other).await?;
        for service in cluster.server.list(&kind("", "v1", "Service"), "").await? {
            objects.add_remote_service(context, service.0);
        }
    }
    Ok(())
}

/// Takes mesh configuration and networks from the ConfigMap of a revision.
fn mesh(objects: &mut Objects, system: &str, revision: &str, is_named: bool) -> Option<String> {
    let name = object::mesh_config_map(revision);
    let Some(map) = objects.get("ConfigMap", system, &name) else {
        return is_named
            .then(|| format!("there is no ConfigMap {system}/{name}: defaults stand for the mesh configuration"));
    };
    let parsed =
        ["mesh", "meshNetworks"].map(|key| install::yaml::document(map["data"][key].as_str().unwrap_or_default()));
    let [mesh, networks] = parsed;
    let wrong = [("mesh", &mesh), ("meshNetworks", &networks)]
        .iter()
        .find_map(|(key, parsed)| Some(format!("ConfigMap {system}/{name}: {key}: {}", parsed.as_ref().err()?)));
    objects.set_mesh_config(mesh.unwrap_or_default());
    objects.set_mesh_networks(networks.unwrap_or_default());
    wrong
}
