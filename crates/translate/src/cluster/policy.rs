//! Traffic policy of a DestinationRule on a cluster: limits, outlier detection, load balancing.

use api::mesh_config::MeshConfig;
use api::networking::destination_rule::{
    ConnectionPool, LoadBalancer, OutlierDetection, RetryBudget, TcpKeepalive, TrafficPolicy, Warmup,
};
use mesh::Protocol;
use xds::envoy::config::cluster::v3::{self as cluster_v3, CircuitBreakers, circuit_breakers, cluster};
use xds::envoy::config::core::v3 as core;
use xds::envoy::r#type::v3 as envoy_type;

use super::draft::Draft;
use crate::proto;

/// The policy with the mesh's defaults for what it leaves open.
pub(super) fn with_mesh_defaults(mesh: &MeshConfig, policy: Option<TrafficPolicy>) -> Option<TrafficPolicy> {
    let Some(defaults) = &mesh.default_traffic_policy else {
        return policy;
    };
    let mut policy = policy.unwrap_or_default();
    policy.connection_pool = policy.connection_pool.or_else(|| defaults.connection_pool.clone());
    policy.outlier_detection = policy.outlier_detection.or_else(|| defaults.outlier_detection.clone());
    Some(policy)
}

/// No limits: Envoy's own defaults are too low for a proxy of all traffic.
fn thresholds() -> circuit_breakers::Thresholds {
    let unlimited = Some(proto::u32_value(u32::MAX));
    circuit_breakers::Thresholds {
        max_connections: unlimited,
        max_pending_requests: unlimited,
        max_requests: unlimited,
        max_retries: unlimited,
        ..Default::default()
    }
}

fn positive(value: Option<api::lenient::I32>) -> Option<xds::google::protobuf::UInt32Value> {
    value
        .and_then(|v| u32::try_from(v.0).ok())
        .filter(|v| *v > 0)
        .map(proto::u32_value)
}

pub(super) fn apply_connection_pool(
    draft: &mut Draft,
    mesh: &MeshConfig,
    pool: &ConnectionPool,
    budget: Option<&RetryBudget>,
) {
    let mut limits = thresholds();
    let http = pool.http.clone().unwrap_or_default();
    let tcp = pool.tcp.clone().unwrap_or_default();
    limits.max_requests = positive(http.http2_max_requests).or(limits.max_requests);
    limits.max_pending_requests = positive(http.http1_max_pending_requests).or(limits.max_pending_requests);
    limits.max_retries = positive(http.max_retries).or(limits.max_retries);
    limits.max_connections = positive(tcp.max_connections).or(limits.max_connections);
    limits.retry_budget = budget.map(|budget| circuit_breakers::thresholds::RetryBudget {
        budget_percent: Some(envoy_type::Percent {
            value: budget.percent.map_or(20.0, |p| p.0),
        }),
        min_retry_concurrency: Some(proto::u32_value(budget.min_retry_concurrency.map_or(3, |n| n.0).max(1))),
        ..Default::default()
    });
    draft.cluster.connect_timeout = Some(proto::duration(tcp.connect_timeout.unwrap_or(mesh.connect_timeout)));
    apply_keepalive(draft, mesh.tcp_keepalive.as_ref(), tcp.tcp_keepalive.as_ref());
    draft.cluster.circuit_breakers = Some(CircuitBreakers {
        thresholds: vec![limits],
        ..Default::default()
    });

    let idle = http.idle_timeout.or(tcp.idle_timeout);
    let per_connection = positive(http.max_requests_per_connection);
    let streams = positive(http.max_concurrent_streams);
    if idle.is_some()
        || per_connection.is_some()
        || streams.is_some()
        || tcp.max_connection_duration.is_some()
        || http.http2_keepalive.is_some()
    {
        let common = draft.http().common_http_protocol_options.get_or_insert_default();
        if let Some(idle) = idle {
            common.idle_timeout = Some(proto::duration(idle));
        }
        if per_connection.is_some() {
            common.max_requests_per_connection = per_connection;
        }
        if let Some(longest) = tcp.max_connection_duration {
            common.max_connection_duration = Some(proto::duration(longest));
        }
        if let Some(http2) = draft.http2() {
            if streams.is_some() {
                http2.max_concurrent_streams = streams;
            }
            if let Some(keepalive) = &http.http2_keepalive {
                http2.connection_keepalive = Some(core::KeepaliveSettings {
                    interval: keepalive.interval.map(proto::duration),
                    timeout: keepalive.timeout.map(proto::duration),
                    ..Default::default()
                });
            }
        }
    }
    if http.use_client_protocol {
        draft.set_downstream_protocol();
    }
}

fn apply_keepalive(draft: &mut Draft, mesh: Option<&TcpKeepalive>, own: Option<&TcpKeepalive>) {
    if mesh.is_none() && own.is_none() {
        return;
    }
    let pick = |f: fn(&TcpKeepalive) -> Option<u32>| own.and_then(f).or_else(|| mesh.and_then(f)).map(proto::u32_value);
    draft.cluster.upstream_connection_options = Some(cluster_v3::UpstreamConnectionOptions {
        tcp_keepalive: Some(core::TcpKeepalive {
            keepalive_probes: pick(|k| k.probes.map(|p| p.0).filter(|p| *p > 0)),
            keepalive_time: pick(|k| k.time.and_then(|t| u32::try_from(t.seconds).ok())),
            keepalive_interval: pick(|k| k.interval.and_then(|t| u32::try_from(t.seconds).ok())),
        }),
        ..Default::default()
    });
}

/// Whether a cluster is upgraded to HTTP/2.
pub(super) fn upgrades_to_http2(mesh: &MeshConfig, protocol: Protocol, pool: Option<&ConnectionPool>) -> bool {
    if let Some(http) = pool.and_then(|p| p.http.as_ref()) {
        if http.use_client_protocol {
            return false;
        }
        match http.h2_upgrade_policy.as_deref() {
            Some("UPGRADE") => return true,
            Some("DO_NOT_UPGRADE") => return false,
            _ => {}
        }
    }
    protocol.is_http() && mesh.h2_upgrade_policy.as_deref() == Some("UPGRADE")
}

pub(super) fn apply_outlier_detection(draft: &mut Draft, outlier: &OutlierDetection) {
    let number = |value: Option<api::lenient::U32>| value.map(|v| proto::u32_value(v.0));
    let enforce = |value: Option<api::lenient::U32>| value.map(|v| proto::u32_value(if v.0 > 0 { 100 } else { 0 }));
    let split = outlier.split_external_local_origin_errors;
    let local = outlier.consecutive_local_origin_failures.filter(|v| split && v.0 > 0);
    draft.cluster.outlier_detection = Some(cluster_v3::OutlierDetection {
        // Success rates are not used.
        enforcing_success_rate: Some(proto::u32_value(0)),
        consecutive_5xx: number(outlier.consecutive_5xx_errors),
        enforcing_consecutive_5xx: enforce(outlier.consecutive_5xx_errors),
        consecutive_gateway_failure: number(outlier.consecutive_gateway_errors),
        enforcing_consecutive_gateway_failure: enforce(outlier.consecutive_gateway_errors),
        interval: outlier.interval.map(proto::duration),
        base_ejection_time: outlier.base_ejection_time.map(proto::duration),
        max_ejection_percent: positive(outlier.max_ejection_percent),
        split_external_local_origin_errors: split,
        consecutive_local_origin_failure: number(local),
        enforcing_consecutive_local_origin_failure: enforce(local),
        enforcing_local_origin_success_rate: split.then_some(proto::u32_value(0)),
        ..Default::default()
    });
    let share = outlier.min_health_percent.map_or(0, |p| p.0);
    if share >= 0 {
        draft
            .cluster
            .common_lb_config
            .get_or_insert_default()
            .healthy_panic_threshold = Some(envoy_type::Percent {
            value: f64::from(share),
        });
    }
}

pub(super) fn apply_load_balancer(draft: &mut Draft, balancer: Option<&LoadBalancer>, locality: bool) {
    let common = draft.cluster.common_lb_config.get_or_insert_default();
    common
        .healthy_panic_threshold
        .get_or_insert(envoy_type::Percent { value: 0.0 });
    if locality {
        common.locality_config_specifier = Some(
            cluster::common_lb_config::LocalityConfigSpecifier::LocalityWeightedLbConfig(
                cluster::common_lb_config::LocalityWeightedLbConfig {},
            ),
        );
    }
    if draft.is_original_dst() {
        draft.cluster.lb_policy = cluster::LbPolicy::ClusterProvided as i32;
        return;
    }
    let slow_start = balancer.and_then(slow_start);
    match balancer.and_then(|b| b.simple.as_deref()) {
        Some("RANDOM") => draft.cluster.lb_policy = cluster::LbPolicy::Random as i32,
        Some("ROUND_ROBIN") => {
            draft.cluster.lb_policy = cluster::LbPolicy::RoundRobin as i32;
            draft.cluster.lb_config = slow_start.map(|slow_start_config| {
                cluster::LbConfig::RoundRobinLbConfig(cluster::RoundRobinLbConfig {
                    slow_start_config: Some(slow_start_config),
                })
            });
        }
        Some("PASSTHROUGH") => {
            draft.cluster.lb_policy = cluster::LbPolicy::ClusterProvided as i32;
            draft.cluster.cluster_discovery_type = Some(cluster::ClusterDiscoveryType::Type(
                cluster::DiscoveryType::OriginalDst as i32,
            ));
            draft.cluster.load_assignment = None;
        }
        _ => {
            draft.cluster.lb_policy = cluster::LbPolicy::LeastRequest as i32;
            draft.cluster.lb_config = slow_start.map(|slow_start_config| {
                cluster::LbConfig::LeastRequestLbConfig(cluster::LeastRequestLbConfig {
                    slow_start_config: Some(slow_start_config),
                    ..Default::default()
                })
            });
        }
    }
    apply_consistent_hash(draft, balancer);
}

fn slow_start(balancer: &LoadBalancer) -> Option<cluster::SlowStartConfig> {
    match (&balancer.warmup, balancer.warmup_duration_secs) {
        (
            Some(Warmup {
                duration,
                minimum_percent,
                aggression,
            }),
            _,
        ) => Some(cluster::SlowStartConfig {
            slow_start_window: duration.map(proto::duration),
            aggression: Some(core::RuntimeDouble {
                default_value: aggression.map_or(1.0, |a| a.0),
                // The key is required; the reference leaves this one, which no runtime sets.
                runtime_key: "(".to_owned(),
            }),
            min_weight_percent: Some(envoy_type::Percent {
                value: minimum_percent.map_or(10.0, |p| p.0),
            }),
        }),
        (None, Some(window)) => Some(cluster::SlowStartConfig {
            slow_start_window: Some(proto::duration(window)),
            ..Default::default()
        }),
        (None, None) => None,
    }
}

fn apply_consistent_hash(draft: &mut Draft, balancer: Option<&LoadBalancer>) {
    let Some(hash) = balancer.and_then(|b| b.consistent_hash.as_ref()) else {
        return;
    };
    let size = |value: u64| Some(xds::google::protobuf::UInt64Value { value });
    if let Some(maglev) = &hash.maglev {
        draft.cluster.lb_policy = cluster::LbPolicy::Maglev as i32;
        if let Some(table) = maglev.table_size.filter(|s| s.0 != 0) {
            draft.cluster.lb_config = Some(cluster::LbConfig::MaglevLbConfig(cluster::MaglevLbConfig {
                table_size: size(table.0),
            }));
        }
        return;
    }
    // Without a size of its own, the ring has 1024 entries.
    let smallest = match (&hash.ring_hash, hash.minimum_ring_size) {
        (Some(ring), _) => ring.minimum_ring_size.filter(|s| s.0 != 0).map(|s| s.0),
        (None, Some(legacy)) if legacy.0 != 0 => Some(legacy.0),
        _ => Some(1024),
    };
    draft.cluster.lb_policy = cluster::LbPolicy::RingHash as i32;
    if let Some(smallest) = smallest {
        draft.cluster.lb_config = Some(cluster::LbConfig::RingHashLbConfig(cluster::RingHashLbConfig {
            minimum_ring_size: size(smallest),
            ..Default::default()
        }));
    }
}
