//! The checks.

mod image;
mod injection;
mod revisions;
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

/// All checks.
pub const ALL: &[Analyzer] = &[
    Analyzer {
        name: "injection.Analyzer",
        about: "Checks conditions related to Istio sidecar injection",
        check: injection::check,
    },
    Analyzer {
        name: "injection.ImageAnalyzer",
        about: "Checks that running proxies have the image that would be injected now",
        check: image::check,
    },
    Analyzer {
        name: "revision.Analyzer",
        about: "Checks that labels of namespaces and pods name a revision or tag, and that tags name a revision",
        check: revisions::check,
    },
    Analyzer {
        name: "webhook.Analyzer",
        about: "Checks the validity of Istio webhooks",
        check: webhook::check,
    },
];

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
    let Some((kind, name)) = message.origin.as_deref().and_then(|origin| origin.split_once(' ')) else {
        return true;
    };
    match name.split_once('.') {
        Some((_, of)) if !kind.ends_with("WebhookConfiguration") => of == namespace,
        _ if kind == "Namespace" => name == namespace,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
