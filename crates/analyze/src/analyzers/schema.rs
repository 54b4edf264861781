//! What the admission webhook says of each object alone.

use crate::message::{Message, SCHEMA_ERROR, SCHEMA_WARNING};
use crate::objects::Objects;
use crate::validation::{Verdict, judge};

/// A check of one kind; the kind is part of the check's name.
macro_rules! of_kind {
    ($function:ident, $kind:literal) => {
        pub(super) fn $function(objects: &Objects, messages: &mut Vec<Message>) {
            check($kind, objects, messages);
        }
    };
}

of_kind!(authorization_policy, "AuthorizationPolicy");
of_kind!(destination_rule, "DestinationRule");
of_kind!(envoy_filter, "EnvoyFilter");
of_kind!(gateway, "Gateway");
of_kind!(peer_authentication, "PeerAuthentication");
of_kind!(proxy_config, "ProxyConfig");
of_kind!(request_authentication, "RequestAuthentication");
of_kind!(service_entry, "ServiceEntry");
of_kind!(sidecar, "Sidecar");
of_kind!(telemetry, "Telemetry");
of_kind!(wasm_plugin, "WasmPlugin");
of_kind!(workload_entry, "WorkloadEntry");
of_kind!(workload_group, "WorkloadGroup");

pub(super) fn virtual_service(objects: &Objects, messages: &mut Vec<Message>) {
    check("VirtualService", objects, messages);
    for service in objects.of_kind("VirtualService") {
        super::unreachable::check(service, messages);
    }
}

fn check(kind: &str, objects: &Objects, messages: &mut Vec<Message>) {
    for object in objects.of_kind(kind) {
        let Verdict { errors, warnings } = judge(object);
        let about = |code, text: String| Message::about(code, object, text);
        messages.extend(
            errors
                .into_iter()
                .map(|error| about(SCHEMA_ERROR, format!("Schema validation error: {error}"))),
        );
        messages.extend(
            warnings
                .into_iter()
                .map(|warning| about(SCHEMA_WARNING, format!("Schema validation warning: {warning}"))),
        );
    }
}
