//! The checks.

mod destination_rules;
mod external;
mod gateways;
mod image;
mod injection;
mod pods;
mod ports;
mod revisions;
mod virtual_services;
mod webhook;

use crate::message::Message;
use crate::objects::Objects;

/// One check.
#[derive(Debug)]
pub struct Analyzer {
    /// Name, as `--list-analyzers` shows it.
    pub name: &'static str,
    /// What it looks for.
    pub about: &'static str,
    check: fn(&Objects, &mut Vec<Message>),
}

const fn analyzer(name: &'static str, about: &'static str, check: fn(&Objects, &mut Vec<Message>)) -> Analyzer {
    Analyzer { name, about, check }
}

/// All checks.
pub const ALL: &[Analyzer] = &[
    analyzer(
        "applicationUID.Analyzer",
        "Checks that no application runs as the proxy's user",
        pods::user_id,
    ),
    analyzer(
        "destinationrule.CaCertificateAnalyzer",
        "Checks that TLS to a destination verifies whom it talks to",
        destination_rules::verification,
    ),
    analyzer(
        "externalcontrolplane.ExternalControlPlaneAnalyzer",
        "Checks that webhooks of an external control plane have a host",
        external::check,
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
    ),
    analyzer(
        "injection.Analyzer",
        "Checks conditions related to Istio sidecar injection",
        injection::check,
    ),
    analyzer(
        "injection.ImageAnalyzer",
        "Checks that running proxies have the image that would be injected now",
        image::check,
    ),
    analyzer(
        "revision.Analyzer",
        "Checks that labels of namespaces and pods name a revision or tag, and that tags name a revision",
        revisions::check,
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
        "virtualservice.GatewayAnalyzer",
        "Checks that the gateways of VirtualServices exist and have their hosts",
        virtual_services::gateways,
    ),
    analyzer(
        "webhook.Analyzer",
        "Checks the validity of Istio webhooks",
        webhook::check,
    ),
];

/// Runs one check, if there is one of that name.
pub fn run_one(name: &str, objects: &Objects) -> Option<Vec<Message>> {
    let analyzer = ALL.iter().find(|analyzer| analyzer.name == name)?;
    let mut messages = Vec::new();
    (analyzer.check)(objects, &mut messages);
    Some(messages)
}

/// Namespaces that are nobody's business here.
pub(crate) fn is_system(namespace: &str) -> bool {
    api::names::SYSTEM_NAMESPACES.contains(&namespace) || namespace == api::names::ROOT_NAMESPACE
}

/// Runs all checks. With a namespace, findings about objects of other namespaces are left out; findings about
/// cluster-wide objects stay. Worst first, each once.
pub fn run(objects: &Objects, namespace: Option<&str>) -> Vec<Message> {
    let mut messages = Vec::new();
    for analyzer in ALL {
        (analyzer.check)(objects, &mut messages);
    }
    if let Some(namespace) = namespace {
        messages.retain(|message| concerns(message, namespace));
    }
    messages.sort_by(|a, b| b.level.cmp(&a.level).then_with(|| a.cmp(b)));
    messages.dedup();
    messages
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
