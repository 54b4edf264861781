//! Both variants of the protocol as one.

use std::collections::BTreeMap;

use ads::Protocol;
use prost::Message;
use xds::envoy::config::core::v3::Node;
use xds::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use xds::google::protobuf::{Any, StringValue};
use xds::google::rpc::Status;

use crate::Configuration;

/// A request, in the words of either variant.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Type.
    pub url: &'static str,
    /// Who asks, if it is said.
    pub node: Option<Node>,
    /// Full state: all names. Incremental: names to add.
    pub names: Vec<String>,
    /// Names that are no longer asked for.
    pub drop: Vec<String>,
    /// Name → version, of what is held from before.
    pub held: BTreeMap<String, String>,
    /// Version that was accepted last.
    pub version: String,
    /// The response that this answers.
    pub nonce: String,
    /// Why it is rejected.
    pub error: Option<String>,
}

impl Ask {
    /// In the incremental variant.
    pub fn into_delta(self) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            node: self.node,
            type_url: self.url.into(),
            resource_names_subscribe: self.names,
            resource_names_unsubscribe: self.drop,
            initial_resource_versions: self.held,
            response_nonce: self.nonce,
            error_detail: self.error.map(status),
            ..Default::default()
        }
    }

    /// In the variant of full states.
    pub fn into_sotw(self) -> DiscoveryRequest {
        DiscoveryRequest {
            node: self.node,
            type_url: self.url.into(),
            resource_names: self.names,
            version_info: self.version,
            response_nonce: self.nonce,
            error_detail: self.error.map(status),
            ..Default::default()
        }
    }
}

fn status(message: String) -> Status {
    Status {
        message,
        ..Default::default()
    }
}

/// A resource, as it was told.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Version; full states have none.
    pub version: String,
    /// What it says.
    pub content: Any,
    /// What it refers to, as type and name.
    pub refers: Vec<(&'static str, String)>,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Told {
    /// Type.
    pub url: &'static str,
    /// What the answer names.
    pub nonce: String,
    /// Version of the set.
    pub version: String,
    /// By name.
    pub resources: BTreeMap<String, Resource>,
    /// Names of what is gone.
    pub removed: Vec<String>,
}

impl Resource {
    fn new<C: Configuration>(url: &'static str, version: String, content: Any) -> Self {
        let refers = C::refers(url, &content);
        Self {
            version,
            content,
            refers,
        }
    }
}

impl Told {
    /// From the incremental variant.
    ///
    /// # Panics
    /// It is of a type that nobody asked for, or a resource is not what its name says.
    pub fn of_delta<C: Configuration>(message: DeltaDiscoveryResponse) -> Self {
        let url = url_of::<C>(&message.type_url);
        let resources = message.resources.into_iter().map(|resource| {
            let content = resource.resource.unwrap_or_default();
            assert_eq!(C::name(&content), resource.name, "a resource holds another");
            (resource.name, Resource::new::<C>(url, resource.version, content))
        });
        Self {
            url,
            nonce: message.nonce,
            version: message.system_version_info,
            resources: resources.collect(),
            removed: message.removed_resources,
        }
    }

    /// From the variant of full states.
    ///
    /// # Panics
    /// It is of a type that nobody asked for.
    pub fn of_sotw<C: Configuration>(message: DiscoveryResponse) -> Self {
        let url = url_of::<C>(&message.type_url);
        let resources = message.resources.into_iter();
        let resources = resources.map(|any| (C::name(&any), Resource::new::<C>(url, String::new(), any)));
        Self {
            url,
            nonce: message.nonce,
            version: message.version_info,
            resources: resources.collect(),
            removed: Vec::new(),
        }
    }

    /// From the frames of a stream that has no wire.
    ///
    /// # Panics
    /// They are no response.
    pub fn of_frames<C: Configuration>(protocol: Protocol, frames: impl Iterator<Item = impl AsRef<[u8]>>) -> Self {
        let bytes: Vec<u8> = frames.flat_map(|frame| frame.as_ref().to_vec()).skip(5).collect();
        match protocol {
            Protocol::Delta => DeltaDiscoveryResponse::decode(&*bytes).map(Self::of_delta::<C>),
            Protocol::Sotw => DiscoveryResponse::decode(&*bytes).map(Self::of_sotw::<C>),
        }
        .unwrap_or_else(|error| panic!("no response: {error}"))
    }
}

fn url_of<C: Configuration>(text: &str) -> &'static str {
    C::TYPES
        .iter()
        .find(|url| **url == text)
        .unwrap_or_else(|| panic!("nobody asked for {text}"))
}

/// The text of a made-up resource.
///
/// # Panics
/// It is none.
pub fn text(any: &Any) -> String {
    StringValue::decode(&*any.value)
        .unwrap_or_else(|error| panic!("no text: {error}"))
        .value
}
