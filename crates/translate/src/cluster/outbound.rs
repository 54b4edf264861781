//! Clusters of other services.

use std::sync::Arc;

use api::mesh_config::MeshConfig;
use api::names::group;
use api::networking::destination_rule::TrafficPolicy;
use mesh::{Endpoints, Port, Protocol, Registry, Resolution, Service, ServiceKey};
use xds::envoy::config::cluster::v3::{Cluster, cluster};
use xds::envoy::config::core::v3 as core;
use xds::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use xds::resource::{Resource, ResourceSet};

use super::draft::Draft;
use super::{policy, upstream_tls};
use crate::authentication::{self, Mode};
use crate::client::Client;
use crate::endpoint::{Order, are_inline};
use crate::graph::Cx;
use crate::query::Query;
use crate::rules::{self, Applied, HostRules};
use crate::seen::Seen;
use crate::wire::Fields;
use crate::{dynamic_dns, naming, proto};

/// The part of a client that clusters of any service depend on.
pub(crate) fn view(cx: &mut Cx<'_>, client: &Client) -> Arc<Client> {
    let sensitivity = cx.sensitivity();
    Arc::new(Client {
        attempt_count: true,
        sidecar: None,
        namespace: client.namespace.clone().filter(|n| sensitivity.names(n)),
        labels: client
            .labels
            .clone()
            .filter(|_| sensitivity.rules_select_by_labels || sensitivity.inline.by_labels),
        locality: client.locality.clone().filter(|_| sensitivity.inline.by_place),
        node: client.node.clone().filter(|_| sensitivity.inline.by_node),
        ..client.clone()
    })
}

/// All clusters that a client of the sort is owed towards other services.
pub(crate) fn outbound(cx: &mut Cx<'_>, client: &Arc<Client>, seen: &Seen) -> Arc<ResourceSet> {
    let mut resources: Vec<Arc<Resource>> = Vec::with_capacity(seen.services.len());
    for service in seen.services.iter() {
        if client.through && service.external {
            continue;
        }
        let narrow = client_for(cx, client, service);
        let all = cx.resources(&Query::Clusters(service.key.clone(), narrow));
        resources.extend(naming::of_ports(&all, service, seen.narrowed));
    }
    Arc::new(ResourceSet::new(resources))
}

/// The client, reduced to what this service's configuration reads of it, so that others share the result.
fn client_for(cx: &mut Cx<'_>, client: &Arc<Client>, service: &Service) -> Arc<Client> {
    let rules = cx.host_rules(&service.key.host);
    let by_namespace = client.namespace.as_ref().is_some_and(|n| rules.names(n));
    let mut order = Order::default();
    if are_inline(service) {
        order = Order::of_service(cx.mesh(), service, &rules);
    }
    order.by_labels |= rules.select_by_labels();
    order.narrow(client, by_namespace)
}

/// Clusters of one service: of each port, and of each port and subset.
pub(crate) fn of_service(cx: &mut Cx<'_>, key: &ServiceKey, client: &Client) -> Vec<Arc<Resource>> {
    let mesh = cx.mesh().clone();
    let Some(service) = cx.service(key).cloned() else {
        return Vec::new();
    };
    let identities = cx.identities(key);
    let rules = cx.host_rules(&key.host);
    let rule = rules.resolve(client, &key.namespace);
    // Names are resolved from inline endpoints; where the proxy does not choose the endpoint, all must have mutual TLS.
    let needs_endpoints = are_inline(&service)
        || service.resolution == Resolution::Passthrough
        || rule.as_ref().is_some_and(|r| r.mentions_passthrough());
    let endpoints = if needs_endpoints {
        cx.endpoints(key)
    } else {
        Arc::default()
    };
    let names = peer_names(&mesh, &service, &identities);
    let namespace_mode = authentication::of_service_namespace(cx, &key.namespace);
    let built = ServiceClusters {
        mesh: &mesh,
        domain: cx.domain(),
        service: &service,
        client,
        endpoints: &endpoints,
        names: &names,
        rule: rule.as_ref(),
        rules: &rules,
        namespace_mode,
    };
    let mut clusters = Vec::new();
    for port in service.ports.iter().filter(|p| p.protocol != Protocol::Udp) {
        built.of_port(cx, port, &mut clusters);
    }
    clusters
}

/// Names that the endpoints' certificates may have, in order.
fn peer_names(
    mesh: &MeshConfig,
    service: &Service,
    identities: &std::collections::BTreeSet<(Arc<str>, Arc<str>)>,
) -> Arc<[String]> {
    let mut names: Vec<String> = service.subject_alt_names.clone();
    for (namespace, account) in identities {
        let domains = std::iter::once(&mesh.trust_domain).chain(&mesh.trust_domain_aliases);
        names.extend(domains.map(|domain| format!("spiffe://{domain}/ns/{namespace}/sa/{account}")));
    }
    names.sort();
    names.dedup();
    names.into()
}

struct ServiceClusters<'a> {
    mesh: &'a MeshConfig,
    domain: &'a str,
    service: &'a Service,
    client: &'a Client,
    endpoints: &'a Endpoints,
    names: &'a Arc<[String]>,
    rule: Option<&'a Applied>,
    rules: &'a HostRules,
    namespace_mode: Mode,
}

impl ServiceClusters<'_> {
    fn of_port(&self, cx: &mut Cx<'_>, port: &Port, clusters: &mut Vec<Arc<Resource>>) {
        let spec = self.rule.map(|r| &r.spec);
        let whole = rules::policy_for_port(spec.and_then(|s| s.traffic_policy.as_ref()), port.number);
        let whole = policy::with_mesh_defaults(self.mesh, whole);
        let inferred = spec.and_then(|s| s.traffic_policy.clone());
        clusters.extend(self.build(cx, port, "", whole.as_ref(), inferred.as_ref(), None));
        // The proxy resolves names, and knows no endpoints to choose among.
        let subsets = spec
            .map(|s| s.subsets.as_slice())
            .filter(|_| !dynamic_dns::is_resolved_by_proxy(self.service));
        for subset in subsets.unwrap_or_default() {
            let merged = rules::policy_for_subset(whole.as_ref(), subset.traffic_policy.as_ref(), port.number);
            let own = subset.traffic_policy.as_ref();
            clusters.extend(self.build(cx, port, &subset.name, merged.as_ref(), own, Some(&subset.labels)));
        }
    }

    fn discovery(&self) -> cluster::DiscoveryType {
        match self.service.resolution {
            Resolution::Endpoints => cluster::DiscoveryType::Eds,
            Resolution::Dns => cluster::DiscoveryType::StrictDns,
            Resolution::DnsRoundRobin => cluster::DiscoveryType::LogicalDns,
            // A gateway has no original destination to go by.
            Resolution::Passthrough if !self.client.is_sidecar() && self.service.registry == Registry::Kubernetes => {
                cluster::DiscoveryType::Eds
            }
            _ => cluster::DiscoveryType::OriginalDst,
        }
    }

    fn build(
        &self,
        cx: &mut Cx<'_>,
        port: &Port,
        subset: &str,
        policy: Option<&TrafficPolicy>,
        inference: Option<&TrafficPolicy>,
        labels: Option<&std::collections::BTreeMap<String, String>>,
    ) -> Option<Arc<Resource>> {
        let host = &*self.service.key.host;
        let name = if self.client.through {
            naming::sni(port.number, subset, host)
        } else {
            naming::outbound(port.number, subset, host)
        };
        let balancer = policy.and_then(|p| p.load_balancer.as_ref());
        let passthrough = balancer.and_then(|b| b.simple.as_deref()) == Some("PASSTHROUGH");
        let discovery = if passthrough {
            cluster::DiscoveryType::OriginalDst
        } else {
            self.discovery()
        };
        let mut draft = Draft::new(name.clone(), discovery, self.mesh.connect_timeout);
        let by_name = dynamic_dns::is_resolved_by_proxy(self.service);
        draft.cluster.common_lb_config = Some(Default::default());
        if by_name {
            draft.cluster.cluster_discovery_type = Some(dynamic_dns::cluster_type(self.service, self.family()));
        }
        let pattern = &self.mesh.outbound_cluster_stat_name;
        if !pattern.is_empty() {
            let stat = naming::stat_name(pattern, self.service, subset, port, self.domain);
            draft.cluster.alt_stat_name = format!("{stat};");
        }
        if matches!(
            discovery,
            cluster::DiscoveryType::StrictDns | cluster::DiscoveryType::LogicalDns
        ) {
            let assignment = crate::endpoint::inline(
                cx,
                &name,
                self.endpoints,
                port,
                labels,
                self.client,
                self.service,
                policy,
            )?;
            self.set_dns(&mut draft.cluster);
            draft.cluster.load_assignment = Some(assignment);
        }
        if self.client.preserve_case && (port.protocol.is_http() || port.protocol.is_unknown()) {
            draft.preserve_case();
        }
        if port.protocol.is_http2() {
            draft.set_http2();
        } else if port.protocol.is_unknown() && self.client.is_sidecar() {
            draft.set_downstream_protocol();
        }
        draft.metadata = Some(self.metadata(subset, policy));
        let pool = policy.and_then(|p| p.connection_pool.clone());
        if policy::upgrades_to_http2(self.mesh, port.protocol, pool.as_ref()) {
            draft.set_http2();
        }
        policy::apply_connection_pool(
            &mut draft,
            self.mesh,
            &pool.unwrap_or_default(),
            policy.and_then(|p| p.retry_budget.as_ref()),
        );
        if let Some(outlier) = policy.and_then(|p| p.outlier_detection.as_ref()) {
            policy::apply_outlier_detection(&mut draft, outlier);
        }
        let weighted = crate::endpoint::is_locality_weighted(self.mesh, self.service, policy);
        policy::apply_load_balancer(&mut draft, balancer, weighted);
        let origin = upstream_tls::Origin {
            flavour: self.client.flavour,
            is_sidecar: self.client.is_sidecar(),
            selected_by_rule: self.rule.is_some_and(|r| r.spec.workload_selector.is_some())
                && self.rules.select_by_labels(),
        };
        let to = upstream_tls::Destination {
            sni: naming::sni(port.number, subset, host),
            identities: self.names,
            entry_names: if self.service.registry == Registry::External {
                self.names
            } else {
                &[]
            },
            automatic: self.automatic_mtls(port, inference),
        };
        if !self.client.through {
            upstream_tls::apply(
                cx,
                &mut draft,
                self.mesh,
                &origin,
                policy.and_then(|p| p.tls.as_ref()),
                &to,
            );
            if let Some(setting) = policy.and_then(|p| p.proxy_protocol.as_ref()) {
                upstream_tls::add_proxy_protocol(&mut draft.cluster, setting);
            }
        }
        if by_name {
            draft.cluster.common_lb_config = None;
        }
        if by_name && (draft.http.is_some() || draft.cluster.transport_socket.is_some()) {
            draft.http().upstream_http_protocol_options = Some(dynamic_dns::checks());
        }
        if draft.is_original_dst() || by_name {
            draft.cluster.lb_policy = cluster::LbPolicy::ClusterProvided as i32;
        }
        if draft.discovery() == Some(cluster::DiscoveryType::Eds) {
            draft.cluster.eds_cluster_config = Some(cluster::EdsClusterConfig {
                eds_config: Some(proto::ads()),
                service_name: name,
            });
        }
        upstream_tls::add_metadata_exchange(&mut draft.cluster, self.client.flavour);
        Some(draft.finish())
    }

    /// Whether mutual TLS is used without a rule that says so.
    fn automatic_mtls(&self, port: &Port, policy: Option<&TrafficPolicy>) -> bool {
        if !self.mesh.enable_auto_mtls || self.service.external || self.namespace_mode == Mode::Disable {
            return false;
        }
        let passthrough = self.service.resolution == Resolution::Passthrough
            || policy
                .and_then(|p| p.load_balancer.as_ref())
                .and_then(|b| b.simple.as_deref())
                == Some("PASSTHROUGH");
        if !passthrough {
            return true;
        }
        // Where the proxy does not choose the endpoint, all of them must have it.
        let mut of_port = self
            .endpoints
            .list
            .iter()
            .filter(|e| *e.service_port == *port.name)
            .peekable();
        of_port.peek().is_some() && of_port.all(|e| e.workload.mutual_tls)
    }

    fn family(&self) -> cluster::DnsLookupFamily {
        dynamic_dns::family(self.client.ipv4, self.client.ipv6)
    }

    fn set_dns(&self, cluster: &mut Cluster) {
        cluster.dns_lookup_family = self.family() as i32;
        cluster.typed_dns_resolver_config = Some(core::TypedExtensionConfig {
            name: "envoy.network.dns_resolver.cares".to_owned(),
            typed_config: Some(proto::any(&CaresDnsResolverConfig {
                udp_max_queries: Some(proto::u32_value(100)),
                ..Default::default()
            })),
        });
        {
            cluster.dns_jitter = Some(proto::duration(api::lenient::Duration::millis(100)));
            cluster.dns_refresh_rate = self.mesh.dns_refresh_rate.map(proto::duration);
            cluster.respect_dns_ttl = true;
        }
    }

    fn metadata(&self, subset: &str, policy: Option<&TrafficPolicy>) -> Vec<u8> {
        let mut istio = Fields::default();
        if let Some(rule) = self.rule {
            let mode = policy.and_then(|p| p.tls.as_ref()).map(|t| t.mode.as_str());
            // Only Istio's own mutual TLS carries the ALPN by which servers tell it apart.
            if self.client.flavour == crate::proxy::Flavour::Contrib && mode.is_some_and(|m| m != "ISTIO_MUTUAL") {
                istio = istio.text("alpn_override", "false");
            }
            let path = naming::object_path(group::NETWORKING, "destination-rule", &rule.meta);
            istio = istio.text("config", &path);
        }
        if self.service.external && subset.is_empty() {
            istio = istio.flag("external");
        }
        if !dynamic_dns::is_resolved_by_proxy(self.service) {
            istio = istio.list("services", [&service_metadata(self.service)]);
        }
        if !subset.is_empty() {
            istio = istio.text("subset", subset);
        }
        istio.metadata("istio")
    }
}

/// How metadata names a service.
pub(super) fn service_metadata(service: &Service) -> Fields {
    Fields::default()
        .text("host", &service.key.host)
        .text("name", &service.name)
        .text("namespace", &service.key.namespace)
}
