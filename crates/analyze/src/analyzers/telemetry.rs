//! Providers that Telemetries name, or do not.

use super::fields::{list, text};
use crate::message::{DEPRECATED, INVALID_TELEMETRY_PROVIDER, Message};
use crate::objects::{Objects, name, namespace};

pub(super) fn providers(objects: &Objects, messages: &mut Vec<Message>) {
    if list(objects.mesh_config(), "/defaultProviders/accessLogging")
        .next()
        .is_some()
    {
        return;
    }
    for telemetry in objects.of_kind("Telemetry") {
        for log in list(telemetry, "/spec/accessLogging") {
            if log["disabled"] != true && list(log, "/providers").next().is_none() {
                messages.push(Message::about(
                    INVALID_TELEMETRY_PROVIDER,
                    telemetry,
                    format!(
                        "The Telemetry {} in namespace {:?} with empty providers will be ignored.",
                        name(telemetry),
                        namespace(telemetry)
                    ),
                ));
            }
        }
    }
}

pub(super) fn lightstep(objects: &Objects, messages: &mut Vec<Message>) {
    let gone: Vec<&str> = list(objects.mesh_config(), "/extensionProviders")
        .filter(|provider| provider.get("lightstep").is_some())
        .map(|provider| text(provider, "/name"))
        .collect();
    for telemetry in objects.of_kind("Telemetry") {
        let named = list(telemetry, "/spec/tracing").flat_map(|tracing| list(tracing, "/providers"));
        for provider in named
            .map(|provider| text(provider, "/name"))
            .filter(|name| gone.contains(name))
        {
            let text = format!(
                "Deprecated: The Lightstep provider {provider} is deprecated, please migrate to OpenTelemetry provider."
            );
            messages.push(Message::about(DEPRECATED, telemetry, text));
        }
    }
}
