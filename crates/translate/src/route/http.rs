//! Routes of a VirtualService, for one listener port.

use std::cell::Cell;
use std::collections::BTreeMap;

use api::names::group;
use api::networking::VirtualService;
use api::networking::virtual_service::{Destination, HttpMatch, HttpRoute, HttpRouteDestination};
use bytes::{Bytes, BytesMut};
use mesh::Config;
use xds::envoy::config::route::v3::{self as route_v3, route, route_action, weighted_cluster};
use xds::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher};

use super::encoded::{self, Shared};
use super::headers::Changes;
use super::made::{Made, Place};
use super::{action, condition, hash};
use crate::client::Client;
use crate::graph::Cx;
use crate::query::Query;
use crate::scope::{self, ScopeKey};
use crate::wire::Fields;
use crate::{naming, proto};

/// For whom routes are made.
pub(super) struct Audience<'a> {
    pub(super) client: &'a Client,
    pub(super) scope: &'a ScopeKey,
    /// Where requests arrive, if it is known.
    pub(super) place: Option<Place>,
    /// Whether routes ask for it.
    pub(super) asks_for_place: Cell<bool>,
    /// Name of the gateway (`mesh` for sidecars) that the routes are for.
    pub(super) gateway: &'a str,
}

impl Audience<'_> {
    fn place(&self) -> Place {
        self.asks_for_place.set(true);
        self.place.unwrap_or_default()
    }
}

/// Routes in order; what follows one that takes everything is unreachable and left out.
pub(super) fn routes(cx: &mut Cx<'_>, to: &Audience<'_>, config: &Config<VirtualService>) -> Made {
    let path = naming::object_path(group::NETWORKING, "virtual-service", &config.meta);
    let metadata = Fields::default().text("config", &path).metadata("istio");
    let (mut some, mut all) = (BytesMut::new(), BytesMut::new());
    for http in &config.spec.http {
        let mut action = None;
        let always = http.matches.is_empty().then_some(None);
        for single in always.into_iter().chain(http.matches.iter().map(Some)) {
            if single.is_some_and(|single| !applies(to, single)) {
                continue;
            }
            let action = action.get_or_insert_with(|| Action::of(cx, to, config, &metadata, http));
            let matches = condition::of(single);
            let is_last = condition::is_everything(&matches);
            let route = route_v3::Route {
                name: match single {
                    Some(single) if !single.name.is_empty() => format!("{}.{}", http.name, single.name),
                    _ => http.name.clone(),
                },
                stat_prefix: single.map(|s| s.stat_prefix.clone()).unwrap_or_default(),
                decorator: Some(route_v3::Decorator {
                    operation: action.operation(&matches),
                    ..Default::default()
                }),
                r#match: Some(matches),
                ..Default::default()
            };
            action.shared.write(&route, if is_last { &mut all } else { &mut some });
            if is_last {
                return Made::new(some, all, to.asks_for_place.get());
            }
        }
    }
    Made::new(some, all, to.asks_for_place.get())
}

/// The route to a service without any VirtualService.
pub(super) fn default_route(
    cx: &mut Cx<'_>,
    cluster: String,
    operation: String,
    hash: Option<route_action::HashPolicy>,
) -> Made {
    let action = route_v3::RouteAction {
        cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster)),
        timeout: Some(proto::seconds(0)),
        max_grpc_timeout: Some(proto::seconds(0)),
        hash_policy: hash.into_iter().collect(),
        ..Default::default()
    };
    let route = route_v3::Route {
        name: "default".to_owned(),
        r#match: Some(super::everything()),
        decorator: Some(route_v3::Decorator {
            operation,
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut all = BytesMut::new();
    encoded::write_forward(&route, &action, &cx.bytes(&Query::Retries(false)), &mut all);
    Made::new(BytesMut::new(), all, true)
}

/// Whether a condition can hold for these clients.
fn applies(to: &Audience<'_>, single: &HttpMatch) -> bool {
    if single
        .port
        .is_some_and(|p| p.0 != 0 && p.0 != u32::from(to.place().port))
    {
        return false;
    }
    if !single.gateways.is_empty() {
        return single.gateways.iter().any(|g| g == to.gateway);
    }
    let nothing = BTreeMap::new();
    let labels = to.client.labels.as_deref().unwrap_or(&nothing);
    single.source_labels.iter().all(|(k, v)| labels.get(k) == Some(v))
        && (single.source_namespace.is_empty() || single.source_namespace == to.client.namespace())
}

/// What routes do for all conditions of an HTTP route.
struct Action {
    shared: Shared,
    /// What it is called in traces, but for the path.
    name: String,
}

impl Action {
    fn of(
        cx: &mut Cx<'_>,
        to: &Audience<'_>,
        config: &Config<VirtualService>,
        metadata: &[u8],
        http: &HttpRoute,
    ) -> Self {
        let changes = Changes::of(http.headers.as_ref());
        let mut route = route_v3::Route {
            request_headers_to_add: changes.request_add,
            request_headers_to_remove: changes.request_remove,
            response_headers_to_add: changes.response_add,
            response_headers_to_remove: changes.response_remove,
            ..Default::default()
        };
        let mut retries = Bytes::new();
        if let Some(redirect) = &http.redirect {
            let place = to.place();
            route.action = action::redirect(redirect, place.port, place.is_tls);
        } else if let Some(direct) = &http.direct_response {
            route.action = Some(action::direct_response(direct));
        } else {
            retries = forward(cx, to, http, changes.authority, &mut route);
        }
        let filters = &mut route.typed_per_filter_config;
        if let Some(fault) = &http.fault {
            filters.insert("envoy.filters.http.fault".to_owned(), proto::any(&action::fault(fault)));
        }
        if let Some(cors) = &http.cors_policy {
            filters.insert("envoy.filters.http.cors".to_owned(), proto::any(&action::cors(cors)));
        }
        Self {
            name: name_in_traces(&route, &config.meta.name, to),
            shared: Shared::new(route, Some(metadata), &retries),
        }
    }

    /// Name of the operation in traces.
    fn operation(&self, matches: &route_v3::RouteMatch) -> String {
        use route_v3::route_match::PathSpecifier;
        let name = &self.name;
        match &matches.path_specifier {
            Some(PathSpecifier::Prefix(prefix)) => format!("{name}{prefix}*"),
            Some(PathSpecifier::Path(path)) => format!("{name}{path}"),
            Some(PathSpecifier::SafeRegex(regex)) => format!("{name}{}", regex.regex),
            _ => format!("{name}/*"),
        }
    }
}

/// What a route is called in traces, but for the path: after the service that it leads to, or else its VirtualService.
fn name_in_traces(route: &route_v3::Route, name: &str, to: &Audience<'_>) -> String {
    if let Some(route::Action::Route(forward)) = &route.action
        && let Some(route_action::ClusterSpecifier::Cluster(cluster)) = &forward.cluster_specifier
    {
        let mut parts = cluster.split('|');
        if let (Some("outbound"), Some(port), Some(_), Some(host), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        {
            return format!("{host}:{port}");
        }
    }
    format!("{name}:{}", to.place().port)
}

/// Cluster of a destination. A host that nobody knows still yields a name: the request then fails visibly.
fn cluster(cx: &mut Cx<'_>, to: &Audience<'_>, destination: &Destination) -> (String, u16) {
    if destination.host.is_empty() {
        return ("UnknownService".to_owned(), 0);
    }
    // A sidecar's client addressed the port; a gateway's may have addressed any.
    let is_addressed = destination.port.is_none() && to.client.is_sidecar() && to.place().port != 0;
    let stated = if is_addressed {
        None
    } else {
        scope::stated_port(cx, to.scope, destination)
    };
    let port = stated.unwrap_or_else(|| to.place().port);
    (naming::outbound(port, &destination.subset, &destination.host), port)
}

/// Sets the action of a route that leads to clusters; its retries are left to be added.
fn forward(
    cx: &mut Cx<'_>,
    to: &Audience<'_>,
    http: &HttpRoute,
    authority: String,
    route: &mut route_v3::Route,
) -> Bytes {
    let timeout = proto::duration(http.timeout.unwrap_or_default());
    let mut forward = route_v3::RouteAction {
        timeout: Some(timeout),
        max_grpc_timeout: Some(timeout),
        ..Default::default()
    };
    let mut authority = authority;
    if let Some(rewrite) = &http.rewrite {
        if let Some(regex) = &rewrite.uri_regex_rewrite {
            forward.regex_rewrite = Some(RegexMatchAndSubstitute {
                pattern: Some(RegexMatcher {
                    regex: regex.pattern.clone(),
                    ..Default::default()
                }),
                substitution: regex.rewrite.clone(),
            });
        } else if !rewrite.uri.is_empty() {
            forward.prefix_rewrite.clone_from(&rewrite.uri);
        }
        if !rewrite.authority.is_empty() {
            authority.clone_from(&rewrite.authority);
        }
    }
    if !authority.is_empty() {
        forward.host_rewrite_specifier = Some(route_action::HostRewriteSpecifier::HostRewriteLiteral(authority));
    }
    if let (Some(mirror), Some(share)) = (&http.mirror, action::mirror_share(http)) {
        forward
            .request_mirror_policies
            .push(action::mirror(cluster(cx, to, mirror).0, share));
    }
    for mirror in &http.mirrors {
        let share = match &mirror.percentage {
            Some(percent) => action::share(percent),
            None => Some(action::hundredths(100)),
        };
        if let (Some(share), Some(destination)) = (share, &mirror.destination) {
            forward
                .request_mirror_policies
                .push(action::mirror(cluster(cx, to, destination).0, share));
        }
    }
    let hashed = match http.route.as_slice() {
        [only] => single_destination(cx, to, only, &mut forward, route),
        several => {
            weighted_destinations(cx, to, several, &mut forward);
            false
        }
    };
    route.action = Some(route::Action::Route(forward));
    match &http.retries {
        None => cx.bytes(&Query::Retries(hashed)),
        own => encoded::retries(own.as_ref(), hashed),
    }
}

fn hash_of(
    cx: &mut Cx<'_>,
    to: &Audience<'_>,
    destination: &Destination,
    port: u16,
) -> Option<route_action::HashPolicy> {
    hash::of_destination(cx, to.client, to.scope, &destination.host, &destination.subset, port)
}

fn single_destination(
    cx: &mut Cx<'_>,
    to: &Audience<'_>,
    only: &HttpRouteDestination,
    forward: &mut route_v3::RouteAction,
    route: &mut route_v3::Route,
) -> bool {
    let nothing = Destination::default();
    let destination = only.destination.as_ref().unwrap_or(&nothing);
    let (name, port) = cluster(cx, to, destination);
    forward.cluster_specifier = Some(route_action::ClusterSpecifier::Cluster(name));
    let changes = Changes::of(only.headers.as_ref());
    route.request_headers_to_add.extend(changes.request_add);
    route.request_headers_to_remove.extend(changes.request_remove);
    route.response_headers_to_add.extend(changes.response_add);
    route.response_headers_to_remove.extend(changes.response_remove);
    if !changes.authority.is_empty() && forward.host_rewrite_specifier.is_none() {
        forward.host_rewrite_specifier = Some(route_action::HostRewriteSpecifier::HostRewriteLiteral(
            changes.authority,
        ));
    }
    let hash = hash_of(cx, to, destination, port);
    let hashed = hash.is_some();
    forward.hash_policy.extend(hash);
    hashed
}

fn weighted_destinations(
    cx: &mut Cx<'_>,
    to: &Audience<'_>,
    several: &[HttpRouteDestination],
    forward: &mut route_v3::RouteAction,
) {
    let nothing = Destination::default();
    let mut clusters = Vec::new();
    for share in several.iter().filter(|d| d.weight.0 > 0) {
        let destination = share.destination.as_ref().unwrap_or(&nothing);
        let (name, port) = cluster(cx, to, destination);
        let changes = Changes::of(share.headers.as_ref());
        clusters.push(route_v3::weighted_cluster::ClusterWeight {
            name,
            weight: Some(proto::u32_value(share.weight.0.unsigned_abs())),
            request_headers_to_add: changes.request_add,
            request_headers_to_remove: changes.request_remove,
            response_headers_to_add: changes.response_add,
            response_headers_to_remove: changes.response_remove,
            host_rewrite_specifier: (!changes.authority.is_empty()).then(|| {
                weighted_cluster::cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(changes.authority.clone())
            }),
            ..Default::default()
        });
        forward.hash_policy.extend(hash_of(cx, to, destination, port));
    }
    forward.cluster_specifier = Some(route_action::ClusterSpecifier::WeightedClusters(
        route_v3::WeightedCluster {
            clusters,
            ..Default::default()
        },
    ));
}
