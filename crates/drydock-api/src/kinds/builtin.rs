//! The strategy of built-in kinds.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{config, defaults, names, pods, selector_text, services, text, workloads};
use crate::{
    crd,
    error::ApiError,
    field::FieldError,
    meta,
    resource::{self, Column, Registry, Removal, ResourceInfo, Strategy, UpdateContext},
    schema::{self, Schema},
    table,
};

/// Registers all built-in resources.
pub fn register(registry: &Registry) {
    resource::register(registry, |group, version, kind| {
        Arc::new(Builtin::new(group, version, kind))
    });
}

/// One built-in kind.
#[derive(Debug)]
pub struct Builtin {
    group: String,
    version: String,
    kind: String,
    schema: Option<&'static Schema>,
}

impl Builtin {
    /// The strategy of a kind.
    pub fn new(group: &str, version: &str, kind: &str) -> Self {
        let schema = schema::builtin(&schema::names(group, version, kind));
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            schema,
        }
    }

    /// Group and kind, to match on.
    fn id(&self) -> (&str, &str) {
        (&self.group, &self.kind)
    }

    fn has_status(&self) -> bool {
        self.schema.is_some_and(|schema| schema.fields.contains_key("status"))
    }

    /// Kinds whose `metadata.generation` counts changes of the specification.
    fn counts_generations(&self) -> bool {
        matches!(
            self.id(),
            ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
                | ("", "Pod" | "ReplicationController")
                | ("batch", _)
                | ("networking.k8s.io", "Ingress" | "NetworkPolicy" | "IngressClass")
                | ("policy", _)
                | ("admissionregistration.k8s.io", _)
                | ("apiextensions.k8s.io", _)
                | ("flowcontrol.apiserver.k8s.io", _)
                | ("scheduling.k8s.io", _)
                | ("discovery.k8s.io", _)
        )
    }
}

/// Whether anything but metadata and status differs.
fn spec_differs(new: &Value, old: &Value) -> bool {
    let strip = |object: &Value| {
        let mut object = object.clone();
        if let Some(map) = object.as_object_mut() {
            map.shift_remove("metadata");
            map.shift_remove("status");
        }
        object
    };
    strip(new) != strip(old)
}

fn carry(object: &mut Value, old: &Value, field: &str) {
    if let Some(map) = object.as_object_mut() {
        match old.get(field) {
            Some(value) => map.insert(field.into(), value.clone()),
            None => map.shift_remove(field),
        };
    }
}

impl Strategy for Builtin {
    fn schema(&self) -> Option<&Schema> {
        self.schema
    }

    fn present(&self, _: &ResourceInfo, object: &mut Value) {
        match (self.group.as_str(), self.version.as_str(), self.kind.as_str()) {
            ("events.k8s.io", ..) => config::event_from_core(object),
            ("autoscaling", "v1", _) => config::autoscaler_to_v1(object),
            _ => {}
        }
    }

    fn store_form(&self, _: &ResourceInfo, object: &mut Value) {
        match (self.group.as_str(), self.version.as_str(), self.kind.as_str()) {
            ("events.k8s.io", ..) => config::event_to_core(object),
            ("autoscaling", "v1", _) => config::autoscaler_from_v1(object),
            _ => {}
        }
    }

    fn default(&self, object: &mut Value) {
        defaults::apply(&self.group, &self.version, &self.kind, object);
    }

    fn prepare_create(&self, ctx: &UpdateContext<'_>, object: &mut Value) -> Result<(), ApiError> {
        if self.has_status()
            && let Some(map) = object.as_object_mut()
        {
            map.shift_remove("status");
        }
        if self.counts_generations() {
            meta::set(object, "generation", 1);
        }
        match self.id() {
            ("", "Pod") => pods::prepare_create(ctx, object)?,
            ("", "Namespace") => config::prepare_namespace(object),
            ("batch", "Job") => workloads::prepare_job(object),
            ("apps", "DaemonSet") => workloads::count_template(object, None),
            ("apiextensions.k8s.io", _) => crd::definition::prepare_create(object),
            ("", "PersistentVolume") => object["status"] = json!({ "phase": "Pending" }),
            ("", "PersistentVolumeClaim") => object["status"] = json!({ "phase": "Pending" }),
            ("certificates.k8s.io", _) => config::prepare_request(ctx.user, object),
            _ => {}
        }
        Ok(())
    }

    fn prepare_update(&self, ctx: &UpdateContext<'_>, object: &mut Value, old: &Value) -> Result<(), ApiError> {
        match (ctx.subresource, self.id()) {
            (Some("status"), ("certificates.k8s.io", _)) => carry(object, old, "spec"),
            (Some("status"), id) => {
                let status = object.get("status").cloned();
                let labels = object.pointer("/metadata/labels").cloned();
                let annotations = object.pointer("/metadata/annotations").cloned();
                let finalizers = object.pointer("/metadata/finalizers").cloned();
                let managed = object.pointer("/metadata/managedFields").cloned();
                *object = old.clone();
                object["status"] = status.unwrap_or_else(|| json!({}));
                meta::set(object, "managedFields", managed.unwrap_or(Value::Null));
                if !matches!(id.0, "apps" | "batch" | "policy" | "autoscaling") {
                    meta::set(object, "labels", labels.unwrap_or(Value::Null));
                }
                meta::set(object, "annotations", annotations.unwrap_or(Value::Null));
                meta::set(object, "finalizers", finalizers.unwrap_or(Value::Null));
                if id == ("", "Pod") {
                    pods::complete_status(object);
                }
                return Ok(());
            }
            (Some("ephemeralcontainers"), _) => pods::only_ephemeral(object, old),
            (Some("resize"), _) => pods::only_resources(object, old),
            (Some("finalize"), _) => {
                let finalizers = object.pointer("/spec/finalizers").cloned().unwrap_or_else(|| json!([]));
                *object = old.clone();
                object["spec"]["finalizers"] = finalizers;
                return Ok(());
            }
            (Some("approval"), _) => config::only_conditions(object, old),
            (Some("binding"), _) => {}
            (_, ("", "Pod")) => {
                carry(object, old, "status");
                pods::prepare_update(object, old);
            }
            (_, ("", "Namespace")) => {
                carry(object, old, "status");
                object["spec"]["finalizers"] = old.pointer("/spec/finalizers").cloned().unwrap_or_else(|| json!([]));
            }
            (_, ("apiextensions.k8s.io", _)) => {
                carry(object, old, "status");
                crd::definition::prepare_update(object);
            }
            (_, ("", "Node")) => carry(object, old, "status"),
            _ => {
                if self.has_status() {
                    carry(object, old, "status");
                }
            }
        }
        if self.id() == ("apps", "DaemonSet") {
            workloads::count_template(object, Some(old));
        }
        if self.counts_generations() {
            let annotations = |object: &Value| object.pointer("/metadata/annotations").cloned();
            let annotated = self.id() == ("apps", "Deployment") && annotations(object) != annotations(old);
            let mut settled = object.clone();
            if let Some(schema) = self.schema {
                schema::normalize(schema, &mut settled);
            }
            if annotated || spec_differs(&settled, old) {
                meta::set(object, "generation", meta::generation(old) + 1);
            }
        }
        Ok(())
    }

    fn allocate(&self, ctx: &UpdateContext<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), ApiError> {
        if self.id() == ("", "Service") && ctx.subresource.is_none() {
            services::allocate(ctx, object, old)?;
        }
        Ok(())
    }

    fn removed(&self, ctx: &UpdateContext<'_>, object: &Value) {
        if self.id() == ("", "Service") {
            ctx.core.ranges.release(object);
        }
    }

    fn validate(&self, _ctx: &UpdateContext<'_>, object: &Value) -> Vec<FieldError> {
        match self.id() {
            ("", "Pod") => pods::validate(object),
            ("", "Service") => services::validate(object, None),
            ("apps" | "batch", _) | ("", "ReplicationController" | "PodTemplate") => {
                workloads::validate(&self.kind, object, None)
            }
            _ => config::validate(&self.group, &self.kind, object, None),
        }
    }

    fn validate_update(&self, ctx: &UpdateContext<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        match (ctx.subresource, self.id()) {
            (Some("ephemeralcontainers"), _) => pods::validate_ephemeral(object, old),
            (Some("resize"), _) => pods::validate_resize(object, old),
            (Some("status"), ("", "Namespace")) => config::validate_namespace_status(object),
            (Some("status"), ("", "Pod")) => pods::validate_status(object, old),
            (Some("status"), ("", "Service")) => services::validate_status(object),
            (Some(sub), _) if sub != "scale" => Vec::new(),
            (_, ("", "Pod")) => pods::validate_update(object, old),
            (_, ("", "Service")) => services::validate(object, Some(old)),
            (_, ("apps" | "batch", _) | ("", "ReplicationController" | "PodTemplate")) => {
                workloads::validate(&self.kind, object, Some(old))
            }
            _ => config::validate(&self.group, &self.kind, object, Some(old)),
        }
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        match self.id() {
            ("", "Pod") => pods::warnings(object, old),
            ("apiextensions.k8s.io", _) => crd::definition::warnings(object),
            ("", "Secret") => config::secret_warnings(object, old),
            ("apps" | "batch", _) => workloads::warnings(&self.kind, object, old),
            _ => Vec::new(),
        }
    }

    fn creates_on_update(&self) -> bool {
        matches!(
            self.id(),
            ("", "Service" | "Event" | "Endpoints" | "LimitRange")
                | ("coordination.k8s.io", _)
                | ("events.k8s.io", _)
                | ("rbac.authorization.k8s.io", _)
                | ("node.k8s.io", _)
        )
    }

    fn unconditional_update(&self) -> bool {
        !matches!(
            self.id(),
            (
                "coordination.k8s.io" | "apiextensions.k8s.io" | "apiregistration.k8s.io",
                _
            ) | ("admissionregistration.k8s.io", _)
                | ("policy", _)
                | ("node.k8s.io", _)
                | ("networking.k8s.io", "IngressClass")
        ) || self.creates_on_update()
    }

    fn returns_deleted(&self) -> bool {
        matches!(
            self.id(),
            (
                "",
                "Pod"
                    | "Service"
                    | "ServiceAccount"
                    | "PersistentVolume"
                    | "PersistentVolumeClaim"
                    | "PodTemplate"
                    | "ResourceQuota"
            ) | (
                "storage.k8s.io",
                "StorageClass" | "VolumeAttachment" | "CSINode" | "CSIDriver"
            ) | ("apiextensions.k8s.io", _)
        )
    }

    fn removal(&self, object: &Value, grace: Option<i64>) -> Removal {
        match self.id() {
            ("", "Pod") => pods::removal(object, grace),
            ("", "Namespace") => match super::list(object, "/spec/finalizers") {
                [] => Removal::Now,
                _ => Removal::Held,
            },
            ("apiextensions.k8s.io", _) => Removal::Held,
            _ => Removal::Now,
        }
    }

    fn last_state(&self, mut object: Value) -> Value {
        if self.id() == ("", "Pod") {
            if !meta::is_deleting(&object) {
                meta::set(&mut object, "deletionTimestamp", schema::time::now());
            }
            meta::set(&mut object, "deletionGracePeriodSeconds", 0);
        }
        object
    }

    fn mark_deleted(&self, object: &mut Value) {
        match self.id() {
            ("", "Namespace") => object["status"]["phase"] = "Terminating".into(),
            ("apiextensions.k8s.io", _) => crd::definition::mark_deleted(object),
            _ => {}
        }
    }

    fn is_gone(&self, object: &Value) -> bool {
        meta::is_deleting(object)
            && meta::finalizers(object).is_empty()
            && match self.id() {
                ("", "Namespace") => super::list(object, "/spec/finalizers").is_empty(),
                _ => {
                    object
                        .pointer("/metadata/deletionGracePeriodSeconds")
                        .and_then(Value::as_i64)
                        .unwrap_or(0)
                        == 0
                }
            }
    }

    fn default_propagation(&self) -> &'static str {
        match self.id() {
            ("", "ReplicationController") | ("batch", "Job") => "Orphan",
            _ => "Background",
        }
    }

    fn scale(&self, object: &Value) -> Option<Value> {
        let labels = match self.id() {
            ("apps", "Deployment" | "ReplicaSet" | "StatefulSet") => selector_text(&object["spec"]["selector"]),
            ("", "ReplicationController") => selector_text(&json!({ "matchLabels": object["spec"]["selector"] })),
            _ => return None,
        };
        let replicas = object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
        let observed = object.pointer("/status/replicas").and_then(Value::as_i64).unwrap_or(0);
        let mut metadata = json!({});
        for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            if let Some(value) = object["metadata"].get(field) {
                metadata[field] = value.clone();
            }
        }
        let mut scale = json!({
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": metadata,
            "spec": {},
            "status": { "replicas": observed },
        });
        if replicas != 0 {
            scale["spec"]["replicas"] = replicas.into();
        }
        if !labels.is_empty() {
            scale["status"]["selector"] = labels.into();
        }
        Some(scale)
    }

    fn set_scale(&self, object: &mut Value, replicas: i64) {
        object["spec"]["replicas"] = replicas.into();
    }

    fn field(&self, object: &Value, label: &str) -> Option<String> {
        let pointer = format!("/{}", label.replace('.', "/"));
        Some(match (self.id(), label) {
            ((_, "Event"), "source") => match text(object, "/source/component") {
                "" => text(object, "/reportingComponent").to_owned(),
                component => component.to_owned(),
            },
            (("", "Pod"), "spec.hostNetwork") | (("", "Node"), "spec.unschedulable") => object
                .pointer(&pointer)
                .and_then(Value::as_bool)
                .unwrap_or(false)
                .to_string(),
            (("", "Pod"), "spec.serviceAccountName") => text(object, &pointer).to_owned(),
            (("batch", "Job"), "status.successful") => object
                .pointer("/status/succeeded")
                .and_then(Value::as_i64)
                .unwrap_or(0)
                .to_string(),
            (("", "ReplicationController") | ("apps", "ReplicaSet"), "status.replicas") => object
                .pointer(&pointer)
                .and_then(Value::as_i64)
                .unwrap_or(0)
                .to_string(),
            _ => text(object, &pointer).to_owned(),
        })
    }

    fn field_labels(&self) -> Vec<String> {
        let labels: &[&str] = match self.id() {
            ("", "Pod") => &[
                "spec.nodeName",
                "spec.restartPolicy",
                "spec.schedulerName",
                "spec.serviceAccountName",
                "spec.hostNetwork",
                "status.phase",
                "status.podIP",
                "status.podIPs",
                "status.nominatedNodeName",
            ],
            ("", "Secret") => &["type"],
            ("", "Namespace") => &["status.phase"],
            ("", "Node") => &["spec.unschedulable"],
            ("", "Service") => &["spec.clusterIP", "spec.type"],
            ("", "ReplicationController") | ("apps", "ReplicaSet") => &["status.replicas"],
            ("batch", "Job") => &["status.successful"],
            ("certificates.k8s.io", _) => &["spec.signerName"],
            ("", "Event") => &[
                "involvedObject.kind",
                "involvedObject.namespace",
                "involvedObject.name",
                "involvedObject.uid",
                "involvedObject.apiVersion",
                "involvedObject.resourceVersion",
                "involvedObject.fieldPath",
                "reason",
                "reportingComponent",
                "source",
                "type",
            ],
            ("events.k8s.io", _) => &[
                "regarding.kind",
                "regarding.namespace",
                "regarding.name",
                "regarding.uid",
                "regarding.apiVersion",
                "regarding.resourceVersion",
                "regarding.fieldPath",
                "reason",
                "reportingController",
                "type",
            ],
            _ => &[],
        };
        labels.iter().map(|&label| label.to_owned()).collect()
    }

    fn unknown_field_label(&self, label: &str) -> String {
        match self.id() {
            ("", "Pod" | "Secret" | "Namespace" | "Node" | "Event" | "ReplicationController" | "Service")
            | ("apps", "ReplicaSet")
            | ("events.k8s.io", _) => format!("field label not supported: {label}"),
            ("batch", "Job") => format!("field label {label:?} not supported for Job"),
            _ => format!("{label:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""),
        }
    }

    fn name_problem(&self, name: &str, _prefix: bool) -> Option<String> {
        match self.id() {
            ("", "Namespace") => names::dns_label(name),
            ("", "Service") => names::dns_label(name),
            ("rbac.authorization.k8s.io", _) | ("apiregistration.k8s.io" | "certificates.k8s.io", _)
                if self.kind != "CertificateSigningRequest" =>
            {
                names::path_segment(name)
            }
            ("apps", "StatefulSet") => names::dns_label(name).map(|problem| {
                if name.len() > 63 {
                    problem
                } else {
                    names::dns_subdomain(name).unwrap_or(problem)
                }
            }),
            _ => names::dns_subdomain(name),
        }
    }

    fn columns(&self) -> Option<Vec<Column>> {
        Some(table::builtin_columns(&self.group, &self.kind))
    }

    fn cells(&self, object: &Value) -> Vec<Value> {
        table::builtin_cells(&self.group, &self.kind, object)
    }
}
