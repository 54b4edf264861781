//! The checks.

mod annotations;
mod certificates;
mod clusters;
mod conditions;
pub(crate) mod definitions;
mod deployments;
mod deprecation;
mod destination_rules;
mod destinations;
mod envoy_filters;
mod expiry;
mod external;
mod fields;
mod gateway_api;
mod gateways;
mod hosts;
mod image;
mod image_auto;
mod injection;
mod membership;
mod networks;
mod pods;
mod policies;
mod ports;
mod remedy;
mod revisions;
mod schema;
mod selecting;
mod served;
mod service_entries;
pub(crate) mod skew;
mod telemetry;
mod unreachable;
mod virtual_services;
mod webhook;

use serde_json::Value;

use crate::message::Message;
use crate::objects::Objects;

/// One check.
#[derive(Debug)]
pub struct Analyzer {
    /// Name, as `--list-analyzers` shows it.
    pub name: &'static str,
    /// What it looks for.
    pub about: &'static str,
    /// Kinds of what runs, without which it would find everything missing.
    needs: &'static [&'static str],
    check: fn(&Objects, &mut Vec<Message>),
}

const fn analyzer(name: &'static str, about: &'static str, check: fn(&Objects, &mut Vec<Message>)) -> Analyzer {
    Analyzer {
        name,
        about,
        needs: &[],
        check,
    }
}

impl Analyzer {
    const fn needs(self, needs: &'static [&'static str]) -> Self {
        Self { needs, ..self }
    }
}

/// Which checks run, and what of their findings is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// Findings about objects of other namespaces are left out; those about cluster-wide objects stay.
    pub namespace: Option<&'a str>,
    /// Names of the checks to run; none means all.
    pub only: &'a [String],
}

/// What a run found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Findings: worst first, each once.
    pub messages: Vec<Message>,
    /// Checks that ran.
    pub executed: Vec<&'static str>,
    /// Checks that did not, because nothing is known of what they look at.
    pub skipped: Vec<&'static str>,
}

/// All checks of a run.
pub const ALL: &[Analyzer] = &[
    analyzer(
        "annotations.K8sAnalyzer",
        "Checks for misplaced and invalid Istio annotations in Kubernetes resources",
        annotations::check,
    ),
    analyzer(
        "applicationUID.Analyzer",
        "Checks that no application runs as the proxy's user",
        pods::user_id,
    ),
    analyzer(
        "auth.AuthorizationPoliciesAnalyzer",
        "Checks the validity of authorization policies",
        policies::authorization,
    )
    .needs(&["Namespace", "Pod"]),
    analyzer(
        "authn.BlockedCIDRsAnalyzer",
        "Checks that istiod is told where it may fetch keys of tokens from",
        policies::blocked_cidrs,
    )
    .needs(&["Deployment"]),
    analyzer(
        "conditions.ConditionAnalyzer",
        "Checks for negative status conditions on resources",
        conditions::check,
    ),
    analyzer(
        "deployment.MultiServiceAnalyzer",
        "Checks association between services and pods",
        deployments::services,
    ),
    analyzer(
        "deprecation.DeprecationAnalyzer",
        "Checks for deprecated Istio types and fields",
        deprecation::check,
    ),
    analyzer(
        "destinationrule.CaCertificateAnalyzer",
        "Checks that TLS to a destination verifies whom it talks to",
        destination_rules::verification,
    ),
    analyzer(
        "destinationrule.SubsetSelectPodAnalyzer",
        "Checks if pods are selected by subsets in destination rules",
        destinations::selected,
    )
    .needs(&["Pod", "Service"]),
    analyzer(
        "envoyfilter.EnvoyPatchAnalyzer",
        "Checks the patches of EnvoyFilters",
        envoy_filters::check,
    ),
    analyzer(
        "externalcontrolplane.ExternalControlPlaneAnalyzer",
        "Checks that webhooks of an external control plane have a host",
        external::check,
    ),
    analyzer(
        "gateway.CertificateAnalyzer",
        "Checks that no two gateways have one certificate",
        certificates::duplicates,
    ),
    analyzer(
        "gateway.ConflictingGatewayAnalyzer",
        "Checks that gateways do not want the same port and host of the same proxies",
        gateways::conflicts,
    ),
    analyzer(
        "gateway.IngressGatewayPortAnalyzer",
        "Checks that the ports of gateways are those of the Service in front of their proxies",
        gateways::ports,
    )
    .needs(&["Pod", "Service"]),
    analyzer(
        "gateway.SecretAnalyzer",
        "Checks a gateway's referenced secrets for correctness",
        certificates::secrets,
    )
    .needs(&["Pod", "Secret"]),
    analyzer(
        "injection.Analyzer",
        "Checks conditions related to Istio sidecar injection",
        injection::check,
    )
    .needs(&["Namespace"]),
    analyzer(
        "injection.ImageAnalyzer",
        "Checks that running proxies have the image that would be injected now",
        image::check,
    )
    .needs(&["Namespace", "Pod"]),
    analyzer(
        "injection.ImageAutoAnalyzer",
        "Makes sure that Pods and Deployments with `image: auto` are going to be injected",
        image_auto::check,
    )
    .needs(&["Namespace"]),
    analyzer(
        "k8sgateway.CRDVersionAnalyzer",
        "Checks that Gateway API CRDs are at the version that is needed",
        gateway_api::versions,
    ),
    analyzer(
        "k8sgateway.SelectorAnalyzer",
        "Checks that selectors are effective for Kubernetes gateways",
        gateway_api::selectors,
    )
    .needs(&["Pod"]),
    analyzer(
        "meshnetworks.MeshNetworksAnalyzer",
        "Checks the validity of MeshNetworks in the cluster",
        networks::registries,
    ),
    analyzer(
        "revision.Analyzer",
        "Checks that labels of namespaces and pods name a revision or tag, and that tags name a revision",
        revisions::check,
    ),
    analyzer(
        "revision.CertificateAnalyzer",
        "Checks that no certificate which the mesh depends on ends soon",
        expiry::check,
    ),
    analyzer(
        "revision.ControlPlaneAnalyzer",
        "Checks that an istiod is ready behind every injector",
        served::check,
    )
    .needs(&["Pod", "Service"]),
    analyzer(
        "revision.CustomResourceAnalyzer",
        "Checks that definitions of custom resources have what the control plane reads",
        definitions::check,
    ),
    analyzer(
        "revision.SkewAnalyzer",
        "Checks that proxies are not too far from their control plane's version",
        skew::check,
    ),
    analyzer(
        "revision.WebhookAnalyzer",
        "Checks that the Service behind a validating webhook exists",
        webhook::validators,
    ),
    analyzer(
        "schema.ValidationAnalyzer.AuthorizationPolicy",
        "Runs schema validation as an analyzer on 'AuthorizationPolicy' resources",
        schema::authorization_policy,
    ),
    analyzer(
        "schema.ValidationAnalyzer.DestinationRule",
        "Runs schema validation as an analyzer on 'DestinationRule' resources",
        schema::destination_rule,
    ),
    analyzer(
        "schema.ValidationAnalyzer.EnvoyFilter",
        "Runs schema validation as an analyzer on 'EnvoyFilter' resources",
        schema::envoy_filter,
    ),
    analyzer(
        "schema.ValidationAnalyzer.Gateway",
        "Runs schema validation as an analyzer on 'Gateway' resources",
        schema::gateway,
    ),
    analyzer(
        "schema.ValidationAnalyzer.PeerAuthentication",
        "Runs schema validation as an analyzer on 'PeerAuthentication' resources",
        schema::peer_authentication,
    ),
    analyzer(
        "schema.ValidationAnalyzer.ProxyConfig",
        "Runs schema validation as an analyzer on 'ProxyConfig' resources",
        schema::proxy_config,
    ),
    analyzer(
        "schema.ValidationAnalyzer.RequestAuthentication",
        "Runs schema validation as an analyzer on 'RequestAuthentication' resources",
        schema::request_authentication,
    ),
    analyzer(
        "schema.ValidationAnalyzer.ServiceEntry",
        "Runs schema validation as an analyzer on 'ServiceEntry' resources",
        schema::service_entry,
    ),
    analyzer(
        "schema.ValidationAnalyzer.Sidecar",
        "Runs schema validation as an analyzer on 'Sidecar' resources",
        schema::sidecar,
    ),
    analyzer(
        "schema.ValidationAnalyzer.Telemetry",
        "Runs schema validation as an analyzer on 'Telemetry' resources",
        schema::telemetry,
    ),
    analyzer(
        "schema.ValidationAnalyzer.VirtualService",
        "Runs schema validation as an analyzer on 'VirtualService' resources",
        schema::virtual_service,
    ),
    analyzer(
        "schema.ValidationAnalyzer.WasmPlugin",
        "Runs schema validation as an analyzer on 'WasmPlugin' resources",
        schema::wasm_plugin,
    ),
    analyzer(
        "schema.ValidationAnalyzer.WorkloadEntry",
        "Runs schema validation as an analyzer on 'WorkloadEntry' resources",
        schema::workload_entry,
    ),
    analyzer(
        "schema.ValidationAnalyzer.WorkloadGroup",
        "Runs schema validation as an analyzer on 'WorkloadGroup' resources",
        schema::workload_group,
    ),
    analyzer(
        "service.PortNameAnalyzer",
        "Checks that names of ports say their protocol",
        ports::names,
    ),
    analyzer(
        "serviceentry.Analyzer",
        "Checks that ServiceEntries have the addresses that their protocol needs",
        ports::addresses,
    ),
    analyzer(
        "serviceentry.ConflictingServiceEntryProtocolAnalyzer",
        "Checks if several ServiceEntries define one host and port with different protocols",
        service_entries::protocols,
    ),
    analyzer(
        "services.MultiClusterServiceAnalyzer",
        "Checks that a Service is the same in all clusters that have it",
        clusters::services,
    ),
    analyzer(
        "sidecar.SelectorAnalyzer",
        "Validates that sidecars that define a workload selector match at least one pod, and that no two select one pod",
        selecting::sidecars,
    )
    .needs(&["Pod"]),
    analyzer(
        "telemetry.DefaultSelectorAnalyzer",
        "Validates that there aren't multiple telemetry resources that have no selector",
        selecting::default_telemetries,
    ),
    analyzer(
        "telemetry.LightstepAnalyzer",
        "Validates that the lightstep provider is not used any more",
        telemetry::lightstep,
    ),
    analyzer(
        "telemetry.ProviderAnalyzer",
        "Validates that providers in telemetry resource is valid",
        telemetry::providers,
    ),
    analyzer(
        "telemetry.SelectorAnalyzer",
        "Validates that telemetries that define a selector match at least one pod, and that no two select one pod",
        selecting::telemetries,
    )
    .needs(&["Pod"]),
    analyzer(
        "virtualservice.ConflictingMeshGatewayHostsAnalyzer",
        "Checks if multiple virtual services associated with the mesh gateway have conflicting hosts",
        virtual_services::conflicting_hosts,
    ),
    analyzer(
        "virtualservice.DestinationHostAnalyzer",
        "Checks the destination hosts associated with each virtual service",
        destinations::services,
    )
    .needs(&["Service"]),
    analyzer(
        "virtualservice.DestinationRuleAnalyzer",
        "Checks the destination rules associated with each virtual service",
        destinations::subsets,
    ),
    analyzer(
        "virtualservice.GatewayAnalyzer",
        "Checks that the gateways of VirtualServices exist and have their hosts",
        virtual_services::gateways,
    ),
    analyzer(
        "virtualservice.JWTClaimRouteAnalyzer",
        "Checks that a VirtualService that routes by claims has a RequestAuthentication",
        virtual_services::token_claims,
    )
    .needs(&["Pod"]),
    analyzer(
        "webhook.Analyzer",
        "Checks the validity of Istio webhooks",
        webhook::check,
    )
    .needs(&["MutatingWebhookConfiguration"]),
];

/// Checks that are not part of a run, because they say more than most want to hear.
pub const EXTRA: &[Analyzer] = &[analyzer(
    "annotations.AlphaAnalyzer",
    "Checks for alpha Istio annotations in Kubernetes resources",
    annotations::alpha,
)];

/// Is there a check of that name?
pub fn is_known(name: &str) -> bool {
    ALL.iter().chain(EXTRA).any(|analyzer| analyzer.name == name)
}

/// Runs one check, if there is one of that name.
pub fn run_one(name: &str, objects: &Objects) -> Option<Vec<Message>> {
    let analyzer = ALL.iter().chain(EXTRA).find(|analyzer| analyzer.name == name)?;
    let mut messages = Vec::new();
    (analyzer.check)(objects, &mut messages);
    Some(messages)
}

/// Rules of a VirtualService that no request reaches, in a sentence each.
pub(crate) fn never_reached(object: &Value) -> Vec<String> {
    let mut messages = Vec::new();
    if object["kind"] == "VirtualService" {
        unreachable::check(object, &mut messages);
    }
    messages.into_iter().map(|message| message.text).collect()
}

/// Namespaces that are nobody's business here.
pub(crate) fn is_system(namespace: &str) -> bool {
    api::names::SYSTEM_NAMESPACES.contains(&namespace) || namespace == api::names::ROOT_NAMESPACE
}

/// Runs checks.
pub fn run(objects: &Objects, scope: Scope<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    for analyzer in ALL.iter().chain(EXTRA).filter(|analyzer| is_wanted(analyzer, scope)) {
        if analyzer.needs.iter().any(|kind| objects.lacks(kind)) {
            outcome.skipped.push(analyzer.name);
            continue;
        }
        outcome.executed.push(analyzer.name);
        (analyzer.check)(objects, &mut outcome.messages);
    }
    outcome.messages.retain(|message| {
        scope.namespace.is_none_or(|namespace| concerns(message, namespace)) && !is_suppressed(message, objects)
    });
    sort(&mut outcome.messages);
    outcome
}

fn is_wanted(analyzer: &Analyzer, scope: Scope<'_>) -> bool {
    let is_named = scope.only.iter().any(|name| name == analyzer.name);
    is_named || (scope.only.is_empty() && EXTRA.iter().all(|extra| extra.name != analyzer.name))
}

/// Worst first, each once.
pub(crate) fn sort(messages: &mut Vec<Message>) {
    messages.sort_by(|a, b| b.level.cmp(&a.level).then_with(|| a.cmp(b)));
    messages.dedup();
}

/// Does the object itself say that it is not to be told of this (`*` for anything)?
fn is_suppressed(message: &Message, objects: &Objects) -> bool {
    const SUPPRESS: &str = "galley.istio.io/analyze-suppress";
    let Some(origin) = &message.origin else { return false };
    let kinds = match origin.kind.as_str() {
        "Gateway" => &["Gateway", crate::objects::KUBERNETES_GATEWAY][..],
        kind => &[kind][..],
    };
    kinds
        .iter()
        .filter_map(|kind| objects.get(kind, &origin.namespace, &origin.name))
        .filter_map(|object| object["metadata"]["annotations"][SUPPRESS].as_str())
        .flat_map(|codes| codes.split(','))
        .map(str::trim)
        .any(|code| code == "*" || code == message.code.code)
}

fn concerns(message: &Message, namespace: &str) -> bool {
    match &message.origin {
        Some(origin) if origin.kind == "Namespace" => origin.name == namespace,
        Some(origin) => origin.namespace.is_empty() || origin.namespace == namespace,
        None => true,
    }
}

#[cfg(test)]
mod tests;
