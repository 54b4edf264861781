//! The objects every cluster has from the start.

use std::net::Ipv4Addr;

use drydock_store::{Error as StoreError, Expect};
use serde_json::{Value, json};

use crate::{Core, meta, objects::Objects, resource::ResourceInfo};

/// Priority classes of the system.
const PRIORITIES: [(&str, i64, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];

/// Makes what is missing: namespaces, the `kubernetes` Service, priority classes, API services.
///
/// # Errors
/// When the store cannot be written.
pub async fn bootstrap(core: &Core, advertise: Ipv4Addr, port: u16) -> Result<(), StoreError> {
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let namespace = json!({
            "kind": "Namespace",
            "apiVersion": "v1",
            "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name } },
            "spec": { "finalizers": ["kubernetes"] },
            "status": { "phase": "Active" },
        });
        ensure(core, "", "namespaces", namespace).await?;
    }
    for (name, value, description) in PRIORITIES {
        let class = json!({
            "kind": "PriorityClass",
            "apiVersion": "scheduling.k8s.io/v1",
            "metadata": { "name": name, "generation": 1 },
            "value": value,
            "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        });
        ensure(core, "scheduling.k8s.io", "priorityclasses", class).await?;
    }
    let roots = core.config.data_dir.join("pki").join("ca.crt");
    let roots = std::fs::read_to_string(roots).unwrap_or_default();
    let authentication = json!({
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": { "name": "extension-apiserver-authentication", "namespace": "kube-system" },
        "data": { "client-ca-file": roots },
    });
    ensure(core, "", "configmaps", authentication).await?;
    kubernetes_service(core, advertise, port).await?;
    api_services(core).await
}

/// Stores an object unless one of its name exists. Identity is filled in.
///
/// # Errors
/// When the store cannot be written.
pub async fn ensure(core: &Core, group: &str, plural: &str, mut object: Value) -> Result<(), StoreError> {
    let Some(resource) = core.registry.any_version(group, plural) else {
        return Ok(());
    };
    let namespace = meta::namespace(&object).to_owned();
    let key = resource.key(&namespace, meta::name(&object));
    if core.store.get(&key).is_some() {
        return Ok(());
    }
    meta::fill_new(&mut object, resource.namespaced, &namespace);
    if let Some(schema) = resource.strategy.schema() {
        crate::schema::normalize(schema, &mut object);
    }
    match core.store.put(&key, Expect::Absent, object).await {
        Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn kubernetes_service(core: &Core, advertise: Ipv4Addr, port: u16) -> Result<(), StoreError> {
    let first = Ipv4Addr::from(u32::from(core.config.service_cidr.network()) + 1).to_string();
    let labels = json!({ "component": "apiserver", "provider": "kubernetes" });
    let service = json!({
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": { "name": "kubernetes", "namespace": "default", "labels": labels },
        "spec": {
            "ports": [{ "name": "https", "protocol": "TCP", "port": 443, "targetPort": port }],
            "clusterIP": first,
            "clusterIPs": [first],
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
        },
        "status": { "loadBalancer": {} },
    });
    replace(core, "", "services", service, "/spec/ports").await?;
    let endpoints = json!({
        "kind": "Endpoints",
        "apiVersion": "v1",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
        },
        "subsets": [{ "addresses": [{ "ip": advertise }], "ports": [{ "name": "https", "port": port, "protocol": "TCP" }] }],
    });
    replace(core, "", "endpoints", endpoints, "/subsets").await?;
    let slice = json!({
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": { "kubernetes.io/service-name": "kubernetes" },
        },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": [advertise], "conditions": { "ready": true } }],
        "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
    });
    replace(core, "discovery.k8s.io", "endpointslices", slice.clone(), "/endpoints").await?;
    replace(core, "discovery.k8s.io", "endpointslices", slice, "/ports").await
}

/// Makes the object, or brings one part of it up to date: the server's address and port may differ after a restart.
async fn replace(core: &Core, group: &str, plural: &str, object: Value, part: &str) -> Result<(), StoreError> {
    let (namespace, name) = (meta::namespace(&object).to_owned(), meta::name(&object).to_owned());
    let Some(current) = core.get(group, plural, &namespace, &name) else {
        return ensure(core, group, plural, object).await;
    };
    let (Some(wanted), Some(is)) = (object.pointer(part), current.pointer(part)) else {
        return Ok(());
    };
    if wanted == is {
        return Ok(());
    }
    let mut changed = Value::clone(&current);
    if let Some(slot) = changed.pointer_mut(part) {
        *slot = wanted.clone();
    }
    let Some(resource) = core.registry.any_version(group, plural) else {
        return Ok(());
    };
    let key = resource.key(&namespace, &name);
    let Some(stored) = core.store.get(&key) else {
        return Ok(());
    };
    match core.store.put(&key, Expect::Revision(stored.revision), changed).await {
        Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Rank of a group among all groups, as the real server has it.
fn group_priority(resource: &ResourceInfo) -> i64 {
    const ORDER: [&str; 20] = [
        "events.k8s.io",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "autoscaling",
        "batch",
        "certificates.k8s.io",
        "networking.k8s.io",
        "policy",
        "rbac.authorization.k8s.io",
        "storage.k8s.io",
        "apiextensions.k8s.io",
        "admissionregistration.k8s.io",
        "scheduling.k8s.io",
        "coordination.k8s.io",
        "node.k8s.io",
        "discovery.k8s.io",
        "resource.k8s.io",
        "flowcontrol.apiserver.k8s.io",
        "internal.apiserver.k8s.io",
        "storagemigration.k8s.io",
    ];
    match resource.group.as_str() {
        _ if resource.custom => 1000,
        "" | "apiregistration.k8s.io" => 18000,
        "apps" => 17800,
        group => ORDER
            .iter()
            .zip(0..)
            .find(|(name, _)| **name == group)
            .map_or(15000, |(_, at)| 17750 - 100 * at),
    }
}

/// The APIService of a group version, as the aggregator keeps it.
pub fn api_service(resource: &ResourceInfo, automanaged: &str) -> Value {
    let name = match resource.group.as_str() {
        "" => format!("{}.", resource.version),
        group => format!("{}.{group}", resource.version),
    };
    let mut spec = json!({
        "version": resource.version,
        "groupPriorityMinimum": group_priority(resource),
        "versionPriority": if resource.custom { 100 } else { 15 },
    });
    if !resource.group.is_empty() {
        spec["group"] = resource.group.clone().into();
    }
    if resource.group.is_empty() {
        spec["versionPriority"] = 1.into();
    }
    json!({
        "kind": "APIService",
        "apiVersion": "apiregistration.k8s.io/v1",
        "metadata": { "name": name, "labels": { "kube-aggregator.kubernetes.io/automanaged": automanaged } },
        "spec": spec,
        "status": { "conditions": [{
            "type": "Available",
            "status": "True",
            "lastTransitionTime": crate::schema::time::now(),
            "reason": "Local",
            "message": "Local APIServices are always available",
        }] },
    })
}

async fn api_services(core: &Core) -> Result<(), StoreError> {
    for resource in core.registry.all().iter().filter(|resource| !resource.custom) {
        ensure(
            core,
            "apiregistration.k8s.io",
            "apiservices",
            api_service(resource, "onstart"),
        )
        .await?;
    }
    Ok(())
}
