//! Descriptions of built-in structs and their fields, for `kubectl explain`, taken from the `k8s-openapi` crate.

use std::{collections::BTreeMap, sync::LazyLock};

use k8s_openapi::schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::Value;

/// What is known about a struct.
#[derive(Debug, Clone, Default)]
pub struct Descriptions {
    /// The struct itself.
    pub own: String,
    /// Its fields.
    pub fields: BTreeMap<String, String>,
}

static ALL: LazyLock<BTreeMap<String, Descriptions>> = LazyLock::new(|| {
    let mut generator = SchemaGenerator::new(SchemaSettings::openapi3());
    roots(&mut generator);
    generator
        .take_definitions(true)
        .into_iter()
        .map(|(name, schema)| (name, read(&schema)))
        .collect()
});

/// What is known about a struct, by its full name (`io.k8s.api.core.v1.Pod`).
pub fn descriptions(name: &str) -> Descriptions {
    ALL.get(name).cloned().unwrap_or_default()
}

fn read(schema: &Value) -> Descriptions {
    let text = |value: &Value| value["description"].as_str().unwrap_or_default().to_owned();
    let fields = schema["properties"].as_object().into_iter().flatten();
    Descriptions {
        own: text(schema),
        fields: fields.map(|(name, field)| (name.clone(), text(field))).collect(),
    }
}

/// Every kind worth explaining brings the structs it is made of.
fn roots(generator: &mut SchemaGenerator) {
    use k8s_openapi::{
        api::{
            admissionregistration::v1 as admission, apps::v1 as apps, autoscaling::v2 as autoscaling,
            batch::v1 as batch, coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery,
            networking::v1 as networking, policy::v1 as policy, rbac::v1 as rbac, scheduling::v1 as scheduling,
            storage::v1 as storage,
        },
        apiextensions_apiserver::pkg::apis::apiextensions::v1 as extensions,
    };
    fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
        let _ = generator.subschema_for::<T>();
    }
    add::<core::Pod>(generator);
    add::<core::Service>(generator);
    add::<core::ConfigMap>(generator);
    add::<core::Secret>(generator);
    add::<core::Namespace>(generator);
    add::<core::Node>(generator);
    add::<core::ServiceAccount>(generator);
    add::<core::Event>(generator);
    add::<core::Endpoints>(generator);
    add::<core::PersistentVolume>(generator);
    add::<core::PersistentVolumeClaim>(generator);
    add::<core::LimitRange>(generator);
    add::<core::ResourceQuota>(generator);
    add::<core::ReplicationController>(generator);
    add::<apps::Deployment>(generator);
    add::<apps::ReplicaSet>(generator);
    add::<apps::StatefulSet>(generator);
    add::<apps::DaemonSet>(generator);
    add::<apps::ControllerRevision>(generator);
    add::<batch::Job>(generator);
    add::<batch::CronJob>(generator);
    add::<autoscaling::HorizontalPodAutoscaler>(generator);
    add::<policy::PodDisruptionBudget>(generator);
    add::<rbac::Role>(generator);
    add::<rbac::ClusterRole>(generator);
    add::<rbac::RoleBinding>(generator);
    add::<rbac::ClusterRoleBinding>(generator);
    add::<networking::Ingress>(generator);
    add::<networking::IngressClass>(generator);
    add::<networking::NetworkPolicy>(generator);
    add::<coordination::Lease>(generator);
    add::<discovery::EndpointSlice>(generator);
    add::<scheduling::PriorityClass>(generator);
    add::<storage::StorageClass>(generator);
    add::<admission::MutatingWebhookConfiguration>(generator);
    add::<admission::ValidatingWebhookConfiguration>(generator);
    add::<admission::ValidatingAdmissionPolicy>(generator);
    add::<admission::ValidatingAdmissionPolicyBinding>(generator);
    add::<extensions::CustomResourceDefinition>(generator);
}
