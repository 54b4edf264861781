//! Endpoints that somebody wrote by hand for a Service without selector, told in EndpointSlices as well.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};

use super::slices::{Action, Groups, MANAGED_BY, Origin, SERVICE_NAME, settle};
use super::{Family, Ports};
use crate::meta;

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Label of Endpoints that are not to be mirrored.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Annotation of Endpoints that are only a lock.
const LOCK: &str = "control-plane.alpha.kubernetes.io/leader";

/// Whether this controller made the slice.
pub(crate) fn is_ours(slice: &EndpointSlice) -> bool {
    slice
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(MANAGED_BY))
        .is_some_and(|by| by == MANAGER)
}

/// What is to be written so that the slices tell what the Endpoints tell; without Endpoints there are none.
#[must_use]
pub(crate) fn decide(endpoints: Option<&Endpoints>, existing: &[Arc<EndpointSlice>]) -> Vec<Action> {
    let mirrored = endpoints.filter(|endpoints| is_mirrored(endpoints));
    let Some(endpoints) = mirrored else {
        return existing.iter().cloned().map(Action::Delete).collect();
    };
    let families = [Family::V4, Family::V6].map(|family| (family, groups(endpoints, family)));
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), meta::name(&endpoints.metadata).into());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let origin = Origin {
        owner: meta::controller_ref(endpoints),
        namespace: endpoints.metadata.namespace.clone(),
        labels,
    };
    settle(&origin, families.into(), existing)
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    let has = |map: &Option<std::collections::BTreeMap<String, String>>, key| {
        map.as_ref().is_some_and(|map| map.contains_key(key))
    };
    !meta::is_terminating(&endpoints.metadata)
        && !has(&endpoints.metadata.labels, SKIP)
        && !has(&endpoints.metadata.annotations, LOCK)
}

fn groups(endpoints: &Endpoints, family: Family) -> Groups {
    let mut groups = Groups::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let not_ready = subset
            .not_ready_addresses
            .iter()
            .flatten()
            .map(|address| (address, false));
        let of_family = ready.chain(not_ready).filter(|(address, _)| family.has(&address.ip));
        let members: Vec<_> = of_family.map(|(address, ready)| endpoint(address, ready)).collect();
        if !members.is_empty() {
            groups.entry(ports(subset)).or_default().extend(members);
        }
    }
    groups
}

fn ports(subset: &EndpointSubset) -> Ports {
    let all = subset.ports.iter().flatten();
    all.map(|port| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
        (
            Some(port.name.clone().unwrap_or_default()),
            Some(port.port),
            Some(protocol),
            port.app_protocol.clone(),
        )
    })
    .collect()
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..Default::default()
        }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn endpoints(metadata: serde_json::Value) -> Endpoints {
        let mut metadata = metadata;
        metadata["name"] = "e".into();
        let subset = json!({
            "addresses": [{"ip": "192.0.2.1", "hostname": "h"}, {"ip": "2001:db8::1"}],
            "notReadyAddresses": [{"ip": "192.0.2.2"}],
            "ports": [{"name": "http", "port": 80}],
        });
        serde_json::from_value(json!({"metadata": metadata, "subsets": [subset]})).unwrap()
    }

    #[test]
    fn each_family_has_a_slice_of_its_own() {
        let told: Vec<_> = decide(Some(&endpoints(json!({}))), &[])
            .iter()
            .map(|action| match action {
                Action::Create(slice) => {
                    let members = slice.endpoints.iter().map(|endpoint| {
                        let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready);
                        format!("{} {}", endpoint.addresses[0], ready == Some(true))
                    });
                    format!("{}: {}", slice.address_type, members.collect::<Vec<_>>().join(", "))
                }
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(
            told,
            ["IPv4: 192.0.2.1 true, 192.0.2.2 false", "IPv6: 2001:db8::1 true"]
        );
    }

    #[test]
    fn locks_and_the_unwilling_are_left_alone() {
        assert!(decide(Some(&endpoints(json!({"labels": {SKIP: "true"}}))), &[]).is_empty());
        assert!(decide(Some(&endpoints(json!({"annotations": {LOCK: "{}"}}))), &[]).is_empty());
        assert!(decide(None, &[]).is_empty());
    }
}
