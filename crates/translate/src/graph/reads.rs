//! What a computation may read of the mesh. Every reader records what it returns, and returns nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::mesh_config::MeshConfig;
use api::{networking, security, telemetry};
use mesh::{Config, Endpoints, Input, Kind, Secret, SecretReader, Service, ServiceKey, Shelf, Snapshot};

use super::Cx;

/// Objects of a kind that translation reads.
pub(crate) trait Listed: Sized + 'static {
    const KIND: Kind;

    fn shelf(snapshot: &Snapshot) -> &Shelf<Config<Self>>;
}

macro_rules! listed {
    ($($object:ty, $kind:ident, $shelf:ident;)*) => {
        $(impl Listed for $object {
            const KIND: Kind = Kind::$kind;

            fn shelf(snapshot: &Snapshot) -> &Shelf<Config<Self>> {
                &snapshot.$shelf
            }
        })*
    };
}

listed! {
    networking::DestinationRule, DestinationRule, destination_rules;
    networking::EnvoyFilter, EnvoyFilter, envoy_filters;
    networking::Gateway, Gateway, gateways;
    networking::Sidecar, Sidecar, sidecars;
    networking::VirtualService, VirtualService, virtual_services;
    security::AuthorizationPolicy, AuthorizationPolicy, authorization_policies;
    security::PeerAuthentication, PeerAuthentication, peer_authentications;
    security::RequestAuthentication, RequestAuthentication, request_authentications;
    telemetry::Telemetry, Telemetry, telemetries;
}

/// All services, without their endpoints.
#[derive(Clone, Copy)]
pub(crate) struct Services<'a>(&'a Snapshot);

impl<'a> Services<'a> {
    /// Older first.
    pub(crate) fn iter(self) -> std::slice::Iter<'a, Arc<Service>> {
        self.0.services().iter()
    }

    /// Those that objects of a namespace define, older first.
    pub(crate) fn of_namespace(self, namespace: &str) -> &'a [Arc<Service>] {
        self.0.services_of_namespace(namespace)
    }

    /// The service of that key.
    pub(crate) fn get(self, key: &ServiceKey) -> Option<&'a Arc<Service>> {
        self.0.service(key)
    }
}

impl<'a> Cx<'a> {
    /// The mesh configuration.
    pub(crate) fn mesh(&mut self) -> &'a Arc<MeshConfig> {
        &self.read(Input::Mesh).mesh
    }

    /// The mesh's root namespace.
    pub(crate) fn root(&mut self) -> Arc<str> {
        self.mesh().root_namespace.as_str().into()
    }

    /// All services, without their endpoints.
    pub(crate) fn services(&mut self) -> Services<'a> {
        Services(self.read(Input::Services))
    }

    /// A service without its endpoints.
    pub(crate) fn service(&mut self, key: &ServiceKey) -> Option<&'a Arc<Service>> {
        self.read(Input::Service(key.clone())).service(key)
    }

    /// The endpoints of a service; none for an unknown one.
    pub(crate) fn endpoints(&mut self, key: &ServiceKey) -> Arc<Endpoints> {
        self.read(Input::Endpoints(key.clone())).endpoints(key)
    }

    /// Namespaces and service accounts that a service's endpoints run under.
    pub(crate) fn identities(&mut self, key: &ServiceKey) -> BTreeSet<(Arc<str>, Arc<str>)> {
        let snapshot = self.read(Input::Identities(key.clone()));
        snapshot.endpoints(key).identities.clone()
    }

    /// A secret, for a reader who may have it.
    pub(crate) fn secret(&mut self, reader: &SecretReader, namespace: &str, name: &str) -> Option<&'a Arc<Secret>> {
        let snapshot = self.read(Input::Secret(namespace.into(), name.into()));
        snapshot.secret(reader, namespace, name)
    }

    /// All objects of a kind.
    pub(crate) fn all<T: Listed>(&mut self) -> &'a Shelf<Config<T>> {
        T::shelf(self.read(Input::Kind(T::KIND)))
    }

    /// All objects of a kind in a namespace, by name.
    pub(crate) fn of_namespace<T: Listed>(
        &mut self,
        namespace: &Arc<str>,
    ) -> impl Iterator<Item = &'a Arc<Config<T>>> + use<'a, T> {
        let snapshot = self.read(Input::InNamespace(T::KIND, namespace.clone()));
        T::shelf(snapshot).in_namespace(namespace)
    }

    /// What never changes: the DNS suffix.
    pub(crate) fn domain(&self) -> &'a str {
        &self.snapshot.domain
    }

    /// The snapshot, for a read that is recorded as `input`.
    fn read(&mut self, input: Input) -> &'a Snapshot {
        // Loops read the same input again and again; one record is enough.
        if self.inputs.last() != Some(&input) {
            self.inputs.push(input);
        }
        self.snapshot
    }
}
