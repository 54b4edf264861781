//! TCP proxies: to one cluster, or to several by weight.

use api::lenient::Duration;
use api::networking::destination_rule::{ConsistentHash, DestinationRule};
use mesh::{Protocol, Service};
use xds::envoy::config::listener::v3::Filter;
use xds::envoy::extensions::filters::network::mongo_proxy::v3::MongoProxy;
use xds::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use xds::envoy::r#type::v3::{HashPolicy, hash_policy};

use super::{Common, Traffic, filters};
use crate::naming;
use crate::proto;

/// A proxy to a fixed cluster, without settings.
pub(super) fn plain(common: &Common, traffic: Traffic, cluster: &str) -> Filter {
    let proxy = TcpProxy {
        stat_prefix: cluster.to_owned(),
        cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster(cluster.to_owned())),
        access_log: common.telemetry.access_logs(traffic),
        idle_timeout: idle_timeout(common),
        ..Default::default()
    };
    filter(&proxy)
}

pub(super) fn filter(proxy: &TcpProxy) -> Filter {
    filters::network("envoy.filters.network.tcp_proxy", proto::any(proxy))
}

fn idle_timeout(common: &Common) -> Option<xds::google::protobuf::Duration> {
    common
        .class
        .idle_timeout
        .as_deref()
        .and_then(|t| t.parse::<Duration>().ok())
        .map(proto::duration)
}

/// A destination of a connection.
pub(super) struct Target {
    pub(super) cluster: String,
    pub(super) weight: u32,
}

/// What a DestinationRule says about connections.
#[derive(Default)]
pub(super) struct Settings {
    idle: Option<Duration>,
    longest: Option<Duration>,
    by_source: bool,
    tunnel: Option<tcp_proxy::TunnelingConfig>,
}

impl Settings {
    /// Settings for a service's subset.
    pub(super) fn of(rule: Option<&DestinationRule>, subset: &str) -> Self {
        let Some(rule) = rule else { return Self::default() };
        let policy = rule.traffic_policy.as_ref();
        let of_subset = rule
            .subsets
            .iter()
            .find(|s| s.name == subset)
            .and_then(|s| s.traffic_policy.as_ref());
        let pool = policy
            .and_then(|p| p.connection_pool.as_ref())
            .and_then(|p| p.tcp.as_ref());
        let hash: Option<&ConsistentHash> = of_subset
            .or(policy)
            .and_then(|p| p.load_balancer.as_ref())
            .and_then(|b| b.consistent_hash.as_ref());
        let tunnel = of_subset
            .and_then(|p| p.tunnel.as_ref())
            .or(policy.and_then(|p| p.tunnel.as_ref()));
        Self {
            idle: pool.and_then(|p| p.idle_timeout),
            longest: pool.and_then(|p| p.max_connection_duration),
            by_source: hash.is_some_and(|h| h.use_source_ip == Some(true)),
            tunnel: tunnel.map(|tunnel| tcp_proxy::TunnelingConfig {
                hostname: if tunnel.target_host.contains(':') {
                    format!("[{}]:{}", tunnel.target_host, tunnel.target_port.0)
                } else {
                    format!("{}:{}", tunnel.target_host, tunnel.target_port.0)
                },
                use_post: tunnel.protocol == "POST",
                ..Default::default()
            }),
        }
    }
}

impl Settings {
    /// The same without a tunnel.
    pub(super) fn without_tunnel(self) -> Self {
        Self { tunnel: None, ..self }
    }
}

/// Filters of a chain that proxies connections.
pub(super) fn chain(
    common: &Common,
    traffic: Traffic,
    stat_prefix: &str,
    targets: Vec<Target>,
    settings: Settings,
    protocol: Protocol,
) -> Vec<Filter> {
    let specifier = match <[Target; 1]>::try_from(targets) {
        Ok([only]) => tcp_proxy::ClusterSpecifier::Cluster(only.cluster),
        Err(several) => tcp_proxy::ClusterSpecifier::WeightedClusters(tcp_proxy::WeightedCluster {
            clusters: several
                .into_iter()
                .map(|t| tcp_proxy::weighted_cluster::ClusterWeight {
                    name: t.cluster,
                    weight: t.weight,
                    ..Default::default()
                })
                .collect(),
        }),
    };
    let proxy = TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        cluster_specifier: Some(specifier),
        access_log: common.telemetry.access_logs(traffic),
        idle_timeout: settings.idle.map(proto::duration).or_else(|| idle_timeout(common)),
        max_downstream_connection_duration: settings.longest.map(proto::duration),
        hash_policy: if settings.by_source {
            vec![HashPolicy {
                policy_specifier: Some(hash_policy::PolicySpecifier::SourceIp(hash_policy::SourceIp {})),
            }]
        } else {
            Vec::new()
        },
        tunneling_config: settings.tunnel,
        ..Default::default()
    };
    let mut list = Vec::new();
    if protocol == Protocol::Mongo {
        let mongo = MongoProxy {
            stat_prefix: stat_prefix.to_owned(),
            ..Default::default()
        };
        list.push(filters::network(
            "envoy.filters.network.mongo_proxy",
            proto::any(&mongo),
        ));
    }
    list.push(filter(&proxy));
    list
}

/// Prefix of statistics for connections to a service.
pub(super) fn stat_prefix(
    common: &Common,
    service: Option<&Service>,
    port: u16,
    subset: &str,
    cluster: &str,
    domain: &str,
) -> String {
    let pattern = &common.mesh.outbound_cluster_stat_name;
    match service {
        Some(service) if !pattern.is_empty() => {
            let unnamed = mesh::Port {
                name: String::new(),
                number: port,
                protocol: Protocol::Tcp,
                target: mesh::TargetPort::Same,
            };
            naming::stat_name(pattern, service, subset, &unnamed, domain)
        }
        _ => cluster.to_owned(),
    }
}
