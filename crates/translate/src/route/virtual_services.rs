//! VirtualServices with their short names made full and their delegates put in place.

use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use api::networking::VirtualService;
use api::networking::virtual_service::{Destination, HttpMatch, HttpRoute, StringMatch};
use mesh::{Config, Shelf, Visibility};

use crate::graph::Cx;
use crate::host::{full_name, is_full_name};

/// A VirtualService that is ready for use. Most that are equal are the same.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    config: Arc<Config<VirtualService>>,
    /// The object that it was made of, if of nothing else.
    source: Option<Arc<Config<VirtualService>>>,
    /// Whether routes of requests depend on labels of the client.
    pub(crate) selects_by_labels: bool,
}

impl Ready {
    /// Gateways that it is for, by their full names; `mesh` for sidecars, which one that names none is for.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = &str> {
        let named = &self.config.spec.gateways;
        let default = named.is_empty().then_some("mesh");
        default.into_iter().chain(named.iter().map(String::as_str))
    }

    /// Whether it routes connections, and not only requests.
    pub(crate) fn routes_connections(&self) -> bool {
        !self.config.spec.tcp.is_empty() || !self.config.spec.tls.is_empty()
    }

    fn new(config: Arc<Config<VirtualService>>, source: Option<Arc<Config<VirtualService>>>) -> Self {
        let mut matches = config.spec.http.iter().flat_map(|route| &route.matches);
        Self {
            selects_by_labels: matches.any(|condition| !condition.source_labels.is_empty()),
            config,
            source,
        }
    }
}

impl Deref for Ready {
    type Target = Config<VirtualService>;

    fn deref(&self) -> &Self::Target {
        &self.config
    }
}

impl PartialEq for Ready {
    fn eq(&self, other: &Self) -> bool {
        let same_source = match (&self.source, &other.source) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            _ => false,
        };
        same_source || Arc::ptr_eq(&self.config, &other.config) || self.config == other.config
    }
}

/// Numbers in an object are read from JSON, which has none that differs from itself.
impl Eq for Ready {}

impl Hash for Ready {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.meta.namespace.hash(state);
        self.meta.name.hash(state);
    }
}

/// All VirtualServices that have hosts, ready for use, older first, and who may see each.
pub(crate) fn all(cx: &mut Cx<'_>) -> Vec<(Ready, Visibility)> {
    let mesh = cx.mesh();
    let written = cx.all();
    let mut all: Vec<(Ready, Visibility)> = resolved(written, cx.domain())
        .into_iter()
        .map(|routes| {
            let default = &mesh.default_virtual_service_export_to;
            let visibility = Visibility::parse(&routes.spec.export_to, default, &routes.meta.namespace);
            (routes, visibility)
        })
        .collect();
    all.sort_by(|(a, _), (b, _)| a.meta.age_order(&b.meta));
    all
}

fn resolved(all: &Shelf<Config<VirtualService>>, domain: &str) -> Vec<Ready> {
    all.iter()
        .filter(|vs| !vs.spec.hosts.is_empty())
        .map(|vs| {
            if is_ready(vs) {
                return Ready::new(vs.clone(), Some(vs.clone()));
            }
            let mut spec = vs.spec.clone();
            let delegates = spec.http.iter().any(|route| route.delegate.is_some());
            if delegates {
                spec.http = spec
                    .http
                    .into_iter()
                    .flat_map(|route| with_delegate(all, vs, route, domain))
                    .collect();
            }
            expand(&mut spec, &vs.meta.namespace, domain);
            let ready = Arc::new(Config {
                meta: vs.meta.clone(),
                spec,
                status: None,
            });
            Ready::new(ready, (!delegates).then(|| vs.clone()))
        })
        .collect()
}

/// Whether there is nothing to do: it has full names only and delegates nothing, as most that programs write.
fn is_ready(vs: &Config<VirtualService>) -> bool {
    let spec = &vs.spec;
    let is_full = |host: &String| is_full_name(host);
    let gateways = |list: &Vec<String>| {
        list.iter()
            .all(|name| name == "mesh" || (name.contains('/') && !name.starts_with("./")))
    };
    let destination = |destination: &Option<Destination>| destination.as_ref().is_none_or(|d| is_full(&d.host));
    let http = |route: &HttpRoute| {
        route.delegate.is_none()
            && route.matches.iter().all(|m| gateways(&m.gateways))
            && route.route.iter().all(|r| destination(&r.destination))
            && destination(&route.mirror)
            && route.mirrors.iter().all(|m| destination(&m.destination))
    };
    gateways(&spec.gateways)
        && spec.hosts.iter().all(is_full)
        && spec.http.iter().all(http)
        && spec.tls.is_empty()
        && spec.tcp.is_empty()
}

/// Full name of a gateway that an object mentions: `namespace/name`, or `mesh`.
pub(crate) fn gateway_name(name: &str, namespace: &str) -> String {
    match name.split_once('/') {
        _ if name == "mesh" => name.to_owned(),
        None => format!("{namespace}/{name}"),
        Some((".", name)) => format!("{namespace}/{name}"),
        Some(_) => name.to_owned(),
    }
}

fn expand(spec: &mut VirtualService, namespace: &str, domain: &str) {
    for host in &mut spec.hosts {
        *host = full_name(host, namespace, domain);
    }
    let gateways = |list: &mut Vec<String>| {
        for gateway in list {
            *gateway = gateway_name(gateway, namespace);
        }
    };
    gateways(&mut spec.gateways);
    for route in &mut spec.http {
        route.matches.iter_mut().for_each(|m| gateways(&mut m.gateways));
        expand_route(route, namespace, domain);
    }
    for route in &mut spec.tls {
        route.matches.iter_mut().for_each(|m| gateways(&mut m.gateways));
        route
            .route
            .iter_mut()
            .filter_map(|r| r.destination.as_mut())
            .for_each(|d| destination(d, namespace, domain));
    }
    for route in &mut spec.tcp {
        route.matches.iter_mut().for_each(|m| gateways(&mut m.gateways));
        route
            .route
            .iter_mut()
            .filter_map(|r| r.destination.as_mut())
            .for_each(|d| destination(d, namespace, domain));
    }
}

fn expand_route(route: &mut HttpRoute, namespace: &str, domain: &str) {
    let mut each = |d: &mut Destination| destination(d, namespace, domain);
    route
        .route
        .iter_mut()
        .filter_map(|r| r.destination.as_mut())
        .for_each(&mut each);
    route.mirror.iter_mut().for_each(&mut each);
    route
        .mirrors
        .iter_mut()
        .filter_map(|m| m.destination.as_mut())
        .for_each(&mut each);
}

fn destination(destination: &mut Destination, namespace: &str, domain: &str) {
    if !is_full_name(&destination.host) {
        destination.host = full_name(&destination.host, namespace, domain);
    }
}

/// The routes that stand for a route: itself, or those of its delegate under its conditions.
fn with_delegate(
    all: &Shelf<Config<VirtualService>>,
    root: &Config<VirtualService>,
    route: HttpRoute,
    domain: &str,
) -> Vec<HttpRoute> {
    let Some(reference) = &route.delegate else {
        return vec![route];
    };
    let namespace = if reference.namespace.is_empty() {
        &*root.meta.namespace
    } else {
        reference.namespace.as_str()
    };
    let Some(delegate) = all.get(namespace, &reference.name) else {
        return Vec::new();
    };
    // Only an object without hosts is meant as a delegate, and it must be exported to the root.
    let export = &delegate.spec.export_to;
    let exported = export.is_empty()
        || export.iter().any(|e| {
            e == "*" || *e == *root.meta.namespace || (e == "." && delegate.meta.namespace == root.meta.namespace)
        });
    if !delegate.spec.hosts.is_empty() || !exported {
        return Vec::new();
    }
    let mut merged = Vec::new();
    for inner in &delegate.spec.http {
        let Some(matches) = merge_matches(&route.matches, &inner.matches) else {
            continue;
        };
        let mut result = inner.clone();
        result.matches = matches;
        result.delegate = None;
        result.name = match (route.name.as_str(), inner.name.as_str()) {
            ("", name) => name.to_owned(),
            (name, "") => name.to_owned(),
            (outer, inner) => format!("{outer}-{inner}"),
        };
        result.rewrite = result.rewrite.or_else(|| route.rewrite.clone());
        result.timeout = result.timeout.or(route.timeout);
        result.retries = result.retries.or_else(|| route.retries.clone());
        result.fault = result.fault.or_else(|| route.fault.clone());
        result.mirror = result.mirror.or_else(|| route.mirror.clone());
        result.mirror_percent = result.mirror_percent.or(route.mirror_percent);
        result.mirror_percentage = result.mirror_percentage.or_else(|| route.mirror_percentage.clone());
        result.cors_policy = result.cors_policy.or_else(|| route.cors_policy.clone());
        result.headers = result.headers.or_else(|| route.headers.clone());
        if result.mirrors.is_empty() {
            result.mirrors.clone_from(&route.mirrors);
        }
        // Names in a delegate are meant in its namespace.
        expand_route(&mut result, &delegate.meta.namespace, domain);
        merged.push(result);
    }
    merged
}

/// Each pair of conditions that can hold together; none if no pair can.
fn merge_matches(outer: &[HttpMatch], inner: &[HttpMatch]) -> Option<Vec<HttpMatch>> {
    if inner.is_empty() {
        return Some(outer.to_vec());
    }
    if outer.is_empty() {
        return Some(inner.to_vec());
    }
    let merged: Vec<HttpMatch> = inner
        .iter()
        .flat_map(|i| outer.iter().filter_map(|o| merge_match(o, i)))
        .collect();
    (!merged.is_empty()).then_some(merged)
}

fn merge_match(outer: &HttpMatch, inner: &HttpMatch) -> Option<HttpMatch> {
    if conflicts(outer, inner) {
        return None;
    }
    let mut merged = inner.clone();
    merged.name = match (outer.name.as_str(), inner.name.as_str()) {
        ("", name) => name.to_owned(),
        (name, "") => name.to_owned(),
        (outer, inner) => format!("{outer}-{inner}"),
    };
    merged.uri = merged.uri.or_else(|| outer.uri.clone());
    merged.scheme = merged.scheme.or_else(|| outer.scheme.clone());
    merged.method = merged.method.or_else(|| outer.method.clone());
    merged.authority = merged.authority.or_else(|| outer.authority.clone());
    for (name, condition) in &outer.headers {
        merged.headers.entry(name.clone()).or_insert_with(|| condition.clone());
    }
    for (name, condition) in &outer.without_headers {
        merged
            .without_headers
            .entry(name.clone())
            .or_insert_with(|| condition.clone());
    }
    for (name, condition) in &outer.query_params {
        merged
            .query_params
            .entry(name.clone())
            .or_insert_with(|| condition.clone());
    }
    merged.port = merged.port.or(outer.port);
    for (key, value) in &outer.source_labels {
        merged.source_labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    if merged.source_namespace.is_empty() {
        merged.source_namespace.clone_from(&outer.source_namespace);
    }
    if merged.gateways.is_empty() {
        merged.gateways.clone_from(&outer.gateways);
    }
    merged.ignore_uri_case |= outer.ignore_uri_case;
    if merged.stat_prefix.is_empty() {
        merged.stat_prefix.clone_from(&outer.stat_prefix);
    }
    Some(merged)
}

/// Whether two conditions exclude one another. A regular expression conflicts with anything: nobody can tell.
fn conflicts(outer: &HttpMatch, inner: &HttpMatch) -> bool {
    let text = |outer: Option<&StringMatch>, inner: Option<&StringMatch>| match (outer, inner) {
        (Some(outer), Some(inner)) => text_conflicts(outer, inner),
        _ => false,
    };
    let maps = |a: &std::collections::BTreeMap<String, StringMatch>,
                b: &std::collections::BTreeMap<String, StringMatch>| {
        a.iter().any(|(name, condition)| text(Some(condition), b.get(name)))
    };
    text(outer.uri.as_ref(), inner.uri.as_ref())
        || text(outer.scheme.as_ref(), inner.scheme.as_ref())
        || text(outer.method.as_ref(), inner.method.as_ref())
        || text(outer.authority.as_ref(), inner.authority.as_ref())
        || maps(&outer.headers, &inner.headers)
        || maps(&outer.without_headers, &inner.without_headers)
        || maps(&outer.query_params, &inner.query_params)
        || outer.ignore_uri_case != inner.ignore_uri_case
        || matches!((outer.port, inner.port), (Some(a), Some(b)) if a != b)
        || (!outer.source_namespace.is_empty()
            && !inner.source_namespace.is_empty()
            && outer.source_namespace != inner.source_namespace)
        || outer
            .source_labels
            .iter()
            .any(|(k, v)| inner.source_labels.get(k).is_some_and(|other| other != v))
        || (!inner.gateways.is_empty() && !inner.gateways.iter().all(|g| outer.gateways.contains(g)))
}

fn text_conflicts(outer: &StringMatch, inner: &StringMatch) -> bool {
    if outer.regex.is_some() || inner.regex.is_some() {
        return true;
    }
    match (outer, inner) {
        (StringMatch { exact: Some(outer), .. }, StringMatch { exact: Some(inner), .. }) => outer != inner,
        (StringMatch { exact: Some(_), .. }, StringMatch { prefix: Some(_), .. }) => true,
        (
            StringMatch {
                prefix: Some(outer), ..
            },
            StringMatch { exact: Some(inner), .. },
        ) => !inner.starts_with(outer.as_str()),
        (
            StringMatch {
                prefix: Some(outer), ..
            },
            StringMatch {
                prefix: Some(inner), ..
            },
        ) => !inner.starts_with(outer.as_str()),
        _ => false,
    }
}
