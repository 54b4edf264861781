//! Preference of localities: shares, failover by region, failover by labels.

use std::collections::BTreeMap;

use api::mesh_config::MeshConfig;
use api::names::label;
use api::networking::destination_rule::{LocalityDistribute, LocalityFailover, LocalityLb, TrafficPolicy};
use mesh::{Endpoint, Locality, Service};

use super::{Assignment, Group};
use crate::client::Client;

/// The policy with the mesh's outlier detection where it has none.
pub(super) fn with_mesh_outliers(mesh: &MeshConfig, policy: Option<TrafficPolicy>) -> Option<TrafficPolicy> {
    let Some(outliers) = mesh
        .default_traffic_policy
        .as_ref()
        .and_then(|p| p.outlier_detection.clone())
    else {
        return policy;
    };
    let mut policy = policy.unwrap_or_default();
    policy.outlier_detection = policy.outlier_detection.or(Some(outliers));
    Some(policy)
}

/// The preference in force: the rule's, the service's, the mesh's; and whether it holds without outlier detection.
fn setting(mesh: &MeshConfig, service: &Service, policy: Option<&TrafficPolicy>) -> Option<(LocalityLb, bool)> {
    let enabled = |setting: &LocalityLb| setting.enabled != Some(false);
    if let Some(own) = policy
        .and_then(|p| p.load_balancer.as_ref())
        .and_then(|b| b.locality_lb_setting.as_ref())
    {
        return enabled(own).then(|| (own.clone(), false));
    }
    let zone = [label::NETWORK, label::REGION, label::ZONE];
    let node = [
        label::NETWORK,
        label::REGION,
        label::ZONE,
        label::SUBZONE,
        label::HOSTNAME,
    ];
    let labels: Option<&[&str]> = match service.traffic_distribution.as_deref() {
        Some("PreferClose" | "PreferSameZone") => Some(&zone),
        Some("PreferSameNode") => Some(&node),
        _ => None,
    };
    if let Some(labels) = labels {
        let failover_priority = labels.iter().map(|l| (*l).to_owned()).collect();
        return Some((
            LocalityLb {
                failover_priority,
                ..LocalityLb::default()
            },
            true,
        ));
    }
    let general = &mesh.locality_lb_setting;
    enabled(general).then(|| (general.clone(), false))
}

/// Whether a cluster weighs localities.
pub(crate) fn is_locality_weighted(mesh: &MeshConfig, service: &Service, policy: Option<&TrafficPolicy>) -> bool {
    let Some((setting, forced)) = setting(mesh, service, policy) else {
        return false;
    };
    let fails_over = forced || policy.is_some_and(|p| p.outlier_detection.is_some());
    !setting.distribute.is_empty()
        || (fails_over && (!setting.failover.is_empty() || !setting.failover_priority.is_empty()))
}

/// Sets priorities and weights as seen from the client.
pub(super) fn apply(
    assignment: &mut Assignment,
    chosen: &[&Endpoint],
    mesh: &MeshConfig,
    service: &Service,
    policy: Option<&TrafficPolicy>,
    client: &Client,
) {
    let Some((setting, forced)) = setting(mesh, service, policy) else {
        return;
    };
    let nowhere = Locality::default();
    let here = client.locality.as_ref().unwrap_or(&nowhere);
    if !setting.distribute.is_empty() {
        distribute(assignment, here, &setting.distribute);
        return;
    }
    // Without outlier detection Envoy would never move on to the next priority.
    if !forced && policy.is_none_or(|p| p.outlier_detection.is_none()) {
        return;
    }
    if !setting.failover_priority.is_empty() {
        by_labels(assignment, chosen, client, &setting.failover_priority);
        if !setting.failover.is_empty() {
            by_region(assignment, here, &setting.failover);
        }
    } else {
        by_region(assignment, here, &setting.failover);
    }
}

/// Whether a locality fits a pattern such as `region/zone/*` or `region`.
fn fits(locality: &Locality, pattern: &str) -> bool {
    let wanted = Locality::parse(pattern);
    let part = |have: &str, want: &str| want.is_empty() || want == "*" || have == want;
    if !part(&locality.region, &wanted.region) {
        return false;
    }
    if wanted.region == "*" || wanted.zone == "*" || wanted.zone.is_empty() {
        return true;
    }
    part(&locality.zone, &wanted.zone) && part(&locality.subzone, &wanted.subzone)
}

fn distribute(assignment: &mut Assignment, here: &Locality, rules: &[LocalityDistribute]) {
    let Some(rule) = rules.iter().find(|rule| fits(here, &rule.from)) else {
        return;
    };
    let mut open: Vec<usize> = (0..assignment.groups.len()).collect();
    for (pattern, share) in &rule.to {
        let (fit, rest): (Vec<usize>, Vec<usize>) = open
            .into_iter()
            .partition(|index| fits(&assignment.groups[*index].locality, pattern));
        open = rest;
        let total: u64 = fit.iter().map(|i| u64::from(assignment.groups[*i].sum())).sum();
        for index in fit {
            let group = &mut assignment.groups[index];
            let weight = (u64::from(group.sum()) * u64::from(share.0)).div_ceil(total.max(1));
            if weight > 0 {
                group.weight = Some(u32::try_from(weight).unwrap_or(u32::MAX));
            }
        }
    }
    for index in open {
        let group = &mut assignment.groups[index];
        group.weight = Some(group.sum());
        group.endpoints.clear();
    }
}

fn by_region(assignment: &mut Assignment, here: &Locality, failover: &[LocalityFailover]) {
    for group in &mut assignment.groups {
        let there = &group.locality;
        let distance = if there.region != here.region {
            match failover.iter().find(|f| f.from == here.region) {
                Some(rule) if there.region != rule.to => 4,
                _ => 3,
            }
        } else if there.zone != here.zone {
            2
        } else if there.subzone != here.subzone {
            1
        } else {
            0
        };
        group.priority = group.priority * 5 + distance;
    }
    compact(assignment);
}

/// Splits localities by how many of the labels, from the first on, agree with the client's.
fn by_labels(assignment: &mut Assignment, chosen: &[&Endpoint], client: &Client, labels: &[String]) {
    let own = client_labels(client);
    let wanted: Vec<(&str, Option<String>)> = labels
        .iter()
        .map(|entry| match entry.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (entry.as_str(), own.get(entry.as_str()).cloned()),
        })
        .collect();
    let mut groups = Vec::new();
    for group in std::mem::take(&mut assignment.groups) {
        let mut parts: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for (index, message) in group.endpoints {
            let theirs = chosen.get(index).map(|e| endpoint_labels(e)).unwrap_or_default();
            let agreed = wanted
                .iter()
                .take_while(|(key, value)| {
                    theirs.get(*key).map_or("", String::as_str) == value.as_deref().unwrap_or("")
                })
                .count();
            parts
                .entry((wanted.len() - agreed) as u32)
                .or_default()
                .push((index, message));
        }
        for (priority, endpoints) in parts {
            groups.push(Group {
                locality: group.locality.clone(),
                priority,
                weight: None,
                endpoints,
            });
        }
    }
    assignment.groups = groups;
    compact(assignment);
}

/// Priorities without gaps: Envoy reads them as a list.
fn compact(assignment: &mut Assignment) {
    let mut used: Vec<u32> = assignment.groups.iter().map(|g| g.priority).collect();
    used.sort_unstable();
    used.dedup();
    for group in &mut assignment.groups {
        group.priority = used.iter().position(|p| *p == group.priority).unwrap_or_default() as u32;
    }
}

fn with_topology(
    labels: &BTreeMap<String, String>,
    locality: &Locality,
    node: Option<&str>,
) -> BTreeMap<String, String> {
    let mut all = labels.clone();
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            all.insert(key.to_owned(), value.to_owned());
        }
    };
    put(label::REGION, &locality.region);
    put(label::ZONE, &locality.zone);
    put(label::SUBZONE, &locality.subzone);
    put(label::HOSTNAME, node.unwrap_or_default());
    all
}

fn client_labels(client: &Client) -> BTreeMap<String, String> {
    let labels = client.labels.as_deref().cloned().unwrap_or_default();
    let mut all = with_topology(
        &labels,
        &client.locality.clone().unwrap_or_default(),
        client.node.as_deref(),
    );
    all.insert(label::CLUSTER.to_owned(), client.cluster.to_string());
    all
}

fn endpoint_labels(endpoint: &Endpoint) -> BTreeMap<String, String> {
    let workload = &endpoint.workload;
    let mut all = with_topology(&workload.labels, &workload.locality, workload.node.as_deref());
    all.insert(label::CLUSTER.to_owned(), workload.cluster.to_string());
    if !workload.network.is_empty() {
        all.insert(label::NETWORK.to_owned(), workload.network.to_string());
    }
    all
}
