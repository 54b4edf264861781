//! Services that receive logs and spans.

use serde_json::Value as Json;
use xds::envoy::config::core::v3 as core;

use crate::naming;
use crate::seen::Seen;

/// A service, and its cluster.
pub(super) struct Receiver {
    pub(super) host: String,
    pub(super) cluster: String,
}

impl Receiver {
    /// The service that a provider names as `[namespace/]host`; none if nobody knows it.
    pub(super) fn of(settings: &Json, seen: &Seen) -> Option<Self> {
        let named = settings.get("service").and_then(Json::as_str)?;
        let (namespace, host) = match named.split_once('/') {
            Some((namespace, host)) => (Some(namespace), host),
            None => (None, named),
        };
        let port = settings
            .get("port")
            .and_then(|p| p.as_u64().or_else(|| p.as_str()?.parse().ok()));
        let port = u16::try_from(port?).ok()?;
        seen.named(namespace, host)?;
        Some(Self {
            host: host.to_owned(),
            cluster: naming::outbound(port, "", host),
        })
    }

    pub(super) fn grpc(&self) -> core::GrpcService {
        core::GrpcService {
            target_specifier: Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(
                core::grpc_service::EnvoyGrpc {
                    cluster_name: self.cluster.clone(),
                    authority: self.host.clone(),
                    ..Default::default()
                },
            )),
            ..Default::default()
        }
    }
}
