//! The steps of an injection, in order (revisions.md §5.4).

use std::collections::BTreeMap;

use revision::decision::{PodView, Skip};
use revision::selector::Labels;
use serde_json::{Value, json};

use crate::annotation::{self, AnnotationError};
use crate::config::Config;
use crate::data::{self, Data};
use crate::merge::merge;
use crate::native::NativeSidecars;
use crate::workload::Workload;
use crate::{canonical, metrics, order, overlay, probe, shape};

/// The agent's port for probes and metrics, unless configured.
const DEFAULT_STATUS_PORT: u16 = 15020;

/// Why a pod cannot be injected; its creation is refused with this text.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// An annotation has a value that cannot be used.
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    /// A template is asked for that does not exist.
    #[error("requested template {name:?} not found; have {have}")]
    NoTemplate {
        /// What was asked for.
        name: String,
        /// What there is.
        have: String,
    },
    /// A template does not compile or fails on this pod.
    #[error("template {name:?} of the injector configuration: {message}")]
    Template {
        /// Name of the template.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// The pod itself is at fault.
    #[error("{0}")]
    Pod(String),
}

/// A pod to inject, and what the request says about it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The pod as it was sent.
    pub pod: &'a Value,
    /// Namespace of the request.
    pub namespace: &'a str,
    /// Annotations of the namespace (OpenShift's UID ranges), if it is known.
    pub namespace_annotations: Option<&'a Labels>,
    /// Environment variables from the webhook's path: cluster, network and others.
    pub environment: &'a BTreeMap<String, String>,
    /// The pod's workload, if the caller knows it; else it is told from the pod's owner.
    pub workload: Option<&'a Workload>,
}

/// What became of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It stays as it is.
    Skipped(Skip),
    /// The injected pod.
    Injected(Value),
}

/// An injector: configuration of injector and mesh, for one revision.
#[derive(Debug)]
pub struct Injector {
    /// Templates and values.
    pub config: Config,
    /// Mesh configuration as JSON.
    pub mesh: Value,
    /// The revision that serves the request; empty for the unnamed one.
    pub revision: String,
    /// Which proxies are init containers that keep running, unless a pod says otherwise.
    pub native_sidecars: NativeSidecars,
    /// Cryptographic policy that proxies are told (`COMPLIANCE_POLICY`); empty for none.
    pub compliance_policy: String,
}

impl Injector {
    /// Injects one pod.
    ///
    /// # Errors
    /// The pod, one of its annotations or a template is wrong.
    pub fn inject(&self, request: Request<'_>) -> Result<Outcome, InjectError> {
        shape::check(request.pod).map_err(InjectError::Pod)?;
        let (labels, annotations) = (
            strings(&request.pod["metadata"]["labels"]),
            strings(&request.pod["metadata"]["annotations"]),
        );
        let view = PodView {
            namespace: request.namespace,
            labels: &labels,
            annotations: &annotations,
            host_network: request.pod["spec"]["hostNetwork"].as_bool() == Some(true),
        };
        if let Err(skip) = self.config.policy.admits(view) {
            return Ok(Outcome::Skipped(skip));
        }
        annotation::validate(&request.pod["metadata"]["annotations"])?;
        overlay::check(request.pod).map_err(InjectError::Pod)?;
        self.run(request).map(Outcome::Injected)
    }

    fn run(&self, request: Request<'_>) -> Result<Value, InjectError> {
        let mut original = request.pod.clone();
        prepare(&mut original);
        let annotations = original["metadata"]["annotations"].clone();
        let usual = self
            .native_sidecars
            .on(original["spec"]["nodeName"].as_str().unwrap_or_default());
        let native = is_native(&annotations).unwrap_or(usual);
        // Templates see the pod as it was before any injection. They are laid over it as it is: what an earlier
        // injection moved into its containers, such as the application's own probes, is nowhere else.
        let mut stripped = original.clone();
        overlay::undo(&mut stripped, self.mesh_status_port());
        stripped["metadata"]["namespace"] = json!(request.namespace);
        let mut pod = original.clone();
        let workload = request
            .workload
            .cloned()
            .unwrap_or_else(|| Workload::of(&original, request.namespace));
        let proxy_config = data::proxy_config(&self.mesh, &annotations).map_err(InjectError::Pod)?;
        let platform = OpenShift::of(request.namespace_annotations);
        let mut template = json!({});
        for name in self.template_names(&annotations) {
            let compiled = self.config.template(&name).ok_or_else(|| InjectError::NoTemplate {
                name: name.clone(),
                have: self.config.template_names().collect::<Vec<_>>().join(", "),
            })?;
            let failed = |message: String| InjectError::Template {
                name: name.clone(),
                message,
            };
            let data = Data {
                pod: &stripped,
                workload: &workload,
                config: &self.config,
                mesh: &self.mesh,
                proxy_config: &proxy_config,
                revision: &self.revision,
                native: usual,
                compliance_policy: &self.compliance_policy,
                uid: platform.last_user,
                gid: platform.last_group,
            };
            let text = compiled.map_err(|message| failed(message.to_owned()))?;
            let text = text
                .render(&name, &data.to_value())
                .map_err(|error| failed(error.to_string()))?;
            let mut fragment: Value = serde_saphyr::from_str(&text).map_err(|error| failed(error.to_string()))?;
            shape::check(&fragment).map_err(failed)?;
            canonical::canonicalise(&mut fragment);
            merge(&mut template, &fragment);
            if native {
                overlay::follow_native_proxy(&mut pod, &template);
            }
            merge(&mut pod, &fragment);
        }
        let overrides = overlay::reapply(&mut pod, &original, &template, platform.first_user);
        let mode = annotations
            .get("sidecar.istio.io/interceptionMode")
            .or(proxy_config.get("interceptionMode"));
        overlay::follow_proxy_user(&mut pod, mode.is_some_and(|mode| mode == "TPROXY"));
        self.finish(&mut pod, &template, &proxy_config, request, overrides)?;
        Ok(pod)
    }

    /// What is done after the templates, in Istio's order.
    fn finish(
        &self,
        pod: &mut Value,
        template: &Value,
        proxy_config: &Value,
        request: Request<'_>,
        overrides: Option<String>,
    ) -> Result<(), InjectError> {
        // Only a proxy answers probes; templates such as gRPC's without one leave the pod's own.
        let has_proxy = proxy_container(pod).is_some();
        let status_port = status_port(pod, proxy_config);
        let mut variables = self.cluster_environment(pod, request);
        let merge = self.mesh["enablePrometheusMerge"].as_bool().unwrap_or(true);
        let told = metrics::merge(pod, merge, self.mesh_status_port()).map_err(InjectError::Pod)?;
        // What an earlier injection told the agent is still so.
        if let Some(config) = told.or_else(|| told_before(pod, metrics::VARIABLE)) {
            variables.push((metrics::VARIABLE.to_owned(), config));
        }
        if has_proxy
            && status_port != 0
            && self.rewrites_probes(&pod["metadata"]["annotations"])
            && let Some(probers) = probe::rewrite(pod, status_port)
        {
            variables.push((probe::PROBERS.to_owned(), probers));
        }
        if let Some(proxy) = proxy_container(pod) {
            append_environment(proxy, variables);
            let proxy = proxy.clone();
            metrics::tell_secure_port(pod, &proxy);
        }
        let annotations = &mut pod["metadata"]["annotations"];
        for (name, value) in &self.config.injected_annotations {
            annotations[name] = json!(value);
        }
        if let Some(overrides) = overrides
            && annotations.get(overlay::OVERRIDES).is_none()
        {
            annotations[overlay::OVERRIDES] = json!(overrides);
        }
        let revision = if self.revision.is_empty() {
            revision::name::DEFAULT
        } else {
            &self.revision
        };
        annotations[overlay::STATUS] = json!(overlay::status(template, revision));
        let hold = proxy_config["holdApplicationUntilProxyStarts"]
            .as_bool()
            .unwrap_or(false)
            || self
                .config
                .flag(&["global", "proxy", "holdApplicationUntilProxyStarts"])
                .unwrap_or(false);
        order::arrange(pod, hold);
        Ok(())
    }

    /// Cluster and network as the chart values name them.
    fn known_topology(&self) -> BTreeMap<String, String> {
        let named = [
            (
                "ISTIO_META_CLUSTER_ID",
                self.config.value(&["global", "multiCluster", "clusterName"]),
            ),
            ("ISTIO_META_NETWORK", self.config.value(&["global", "network"])),
        ];
        let texts = named
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?.as_str()?)));
        texts
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .collect()
    }

    fn mesh_status_port(&self) -> u16 {
        let port = self.mesh["defaultConfig"]["statusPort"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok());
        port.unwrap_or(DEFAULT_STATUS_PORT)
    }

    fn rewrites_probes(&self, annotations: &Value) -> bool {
        let annotation = annotations
            .get("sidecar.istio.io/rewriteAppHTTPProbers")
            .and_then(Value::as_str);
        annotation.and_then(metrics::flag).unwrap_or_else(|| {
            let values = self.config.flag(&["sidecarInjectorWebhook", "rewriteAppHTTPProbe"]);
            values.unwrap_or(false)
        })
    }

    /// The templates that a pod asks for, with aliases resolved once.
    fn template_names(&self, annotations: &Value) -> Vec<String> {
        let asked = annotations.get(annotation::TEMPLATES).and_then(Value::as_str);
        let names: Vec<String> = match asked {
            // A name that is missing between commas is one that does not exist.
            Some(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
            None => self.config.default_templates.clone(),
        };
        let expand = |name: String| self.config.aliases.get(&name).cloned().unwrap_or_else(|| vec![name]);
        names.into_iter().flat_map(expand).collect()
    }

    /// Variables that the webhook's path sets; they replace those of the template and stand at the end, by name.
    fn cluster_environment(&self, pod: &mut Value, request: Request<'_>) -> Vec<(String, String)> {
        let mut variables = self.known_topology();
        variables.extend(request.environment.clone());
        if let Some(network) = pod["metadata"]["labels"]
            .get("topology.istio.io/network")
            .and_then(Value::as_str)
        {
            variables.insert("ISTIO_META_NETWORK".to_owned(), network.to_owned());
        }
        variables.retain(|name, value| name != "ISTIO_META_NETWORK" || !value.is_empty());
        if let Some(network) = variables.get("ISTIO_META_NETWORK") {
            pod["metadata"]["labels"]["topology.istio.io/network"] = json!(network);
        }
        if let Some(environment) = proxy_container(pod).and_then(|proxy| proxy["env"].as_array_mut()) {
            environment.retain(|variable| {
                variable["name"]
                    .as_str()
                    .is_none_or(|name| !variables.contains_key(name))
            });
        }
        variables.into_iter().collect()
    }
}

/// What the pod itself says, if it says so.
fn is_native(annotations: &Value) -> Option<bool> {
    match annotations.get("sidecar.istio.io/nativeSidecar")?.as_str()? {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

pub(crate) fn strings(map: &Value) -> Labels {
    let fields = map.as_object().into_iter().flatten();
    fields
        .filter_map(|(key, value)| value.as_str().map(|value| (key.clone(), value.to_owned())))
        .collect()
}

/// The shape that later steps count on.
fn prepare(pod: &mut Value) {
    for (parent, field) in [("metadata", "labels"), ("metadata", "annotations")] {
        if !pod[parent][field].is_object() {
            pod[parent][field] = json!({});
        }
    }
    if let Value::Object(metadata) = &mut pod["metadata"] {
        metadata.shift_remove("managedFields");
    }
}

fn proxy_container(pod: &mut Value) -> Option<&mut Value> {
    let is_proxy = |container: &Value| container["name"] == "istio-proxy";
    let has_proxy = |list: &Value| list.as_array().is_some_and(|list| list.iter().any(is_proxy));
    let spec = pod.get_mut("spec")?;
    let list = ["containers", "initContainers"]
        .into_iter()
        .find(|list| has_proxy(&spec[*list]))?;
    spec[list]
        .as_array_mut()?
        .iter_mut()
        .find(|container| is_proxy(container))
}

/// A variable that an earlier injection gave the proxy.
fn told_before(pod: &mut Value, name: &str) -> Option<String> {
    pod["metadata"]["annotations"].get(overlay::STATUS)?;
    let mut environment = proxy_container(pod)?["env"].as_array()?.iter();
    let variable = environment.find(|variable| variable["name"] == name)?;
    variable["value"].as_str().map(str::to_owned)
}

fn append_environment(container: &mut Value, variables: Vec<(String, String)>) {
    if variables.is_empty() {
        return;
    }
    if !container["env"].is_array() {
        container["env"] = json!([]);
    }
    if let Some(environment) = container["env"].as_array_mut() {
        for (name, value) in variables {
            environment.retain(|variable| variable["name"] != name.as_str());
            environment.push(json!({ "name": name, "value": value }));
        }
    }
}

/// The agent's status port: the pod's annotation, else the proxy configuration.
fn status_port(pod: &Value, proxy_config: &Value) -> u16 {
    let annotation = pod["metadata"]["annotations"]
        .get("status.sidecar.istio.io/port")
        .and_then(Value::as_str);
    let configured = proxy_config["statusPort"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok());
    annotation
        .and_then(|port| port.trim().parse().ok())
        .or(configured)
        .unwrap_or(15020)
}

/// OpenShift gives a namespace ranges of user and group numbers: containers get the first, the proxy the last (§5.5).
#[derive(Debug, Default, PartialEq)]
struct OpenShift {
    first_user: Option<i64>,
    last_user: Option<i64>,
    last_group: Option<i64>,
}

impl OpenShift {
    fn of(annotations: Option<&Labels>) -> Self {
        let range = |name: &str| {
            let range = annotations?.get(name)?;
            let first = range.split(',').next()?;
            let sized = first.contains('/');
            let (start, end) = first.split_once(if sized { '/' } else { '-' })?;
            let (start, end): (i64, i64) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
            Some((
                start,
                if sized {
                    start.checked_add(end)?.checked_sub(1)?
                } else {
                    end
                },
            ))
        };
        let users = range("openshift.io/sa.scc.uid-range");
        let groups = range("openshift.io/sa.scc.supplemental-groups").or(users);
        Self {
            first_user: users.map(|(first, _)| first),
            last_user: users.map(|(_, last)| last),
            last_group: groups.map(|(_, last)| last),
        }
    }
}

#[cfg(test)]
#[path = "injector_tests.rs"]
mod tests;
