//! Both variants of the protocol as one.

use std::collections::BTreeMap;

use ads::Protocol;
use prost::Message;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use xds::envoy::config::core::v3::Node;
use xds::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use xds::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use xds::google::protobuf::{Any, StringValue};
use xds::google::rpc::Status;

use crate::net::Net;
use crate::world;

/// A request, in the words of either variant.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub url: &'static str,
    /// Full state: all names. Incremental: names to add.
    pub names: Vec<String>,
    pub drop: Vec<String>,
    /// Name → version, of what is held from before.
    pub held: BTreeMap<String, String>,
    pub version: String,
    pub nonce: String,
    pub error: Option<String>,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Told {
    pub url: &'static str,
    pub nonce: String,
    pub version: String,
    /// Name → version and content.
    pub resources: BTreeMap<String, (String, String)>,
    pub removed: Vec<String>,
}

pub enum Wire {
    Delta(
        mpsc::Sender<DeltaDiscoveryRequest>,
        tonic::Streaming<DeltaDiscoveryResponse>,
    ),
    Sotw(mpsc::Sender<DiscoveryRequest>, tonic::Streaming<DiscoveryResponse>),
}

/// A connection over the simulated network, with the smallest windows there are: what is not read soon stops the
/// server.
pub async fn channel(net: &Net, client: usize, replica: usize) -> Result<Channel, tonic::transport::Error> {
    let net = net.clone();
    let connector = tower::service_fn(move |_: http::Uri| {
        let net = net.clone();
        async move {
            let io: Result<DuplexStream, std::io::Error> = net.connect(client, replica).await;
            io.map(hyper_util::rt::TokioIo::new)
        }
    });
    Endpoint::from_static("http://istiod")
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535)
        .connect_with_connector(connector)
        .await
}

impl Wire {
    /// Opens a stream and says the first words, which arrive together.
    pub async fn open(
        protocol: Protocol,
        channel: Channel,
        node: &str,
        first: Vec<Ask>,
    ) -> Result<Self, tonic::Status> {
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let node = Some(Node {
            id: node.to_owned(),
            ..Node::default()
        });
        match protocol {
            Protocol::Delta => {
                let (sender, receiver) = mpsc::channel(256);
                for ask in first {
                    let request = DeltaDiscoveryRequest {
                        node: node.clone(),
                        ..ask.into_delta()
                    };
                    sender.try_send(request).unwrap();
                }
                let stream = client.delta_aggregated_resources(ReceiverStream::new(receiver)).await?;
                Ok(Self::Delta(sender, stream.into_inner()))
            }
            Protocol::Sotw => {
                let (sender, receiver) = mpsc::channel(256);
                for ask in first {
                    let request = DiscoveryRequest {
                        node: node.clone(),
                        ..ask.into_sotw()
                    };
                    sender.try_send(request).unwrap();
                }
                let stream = client
                    .stream_aggregated_resources(ReceiverStream::new(receiver))
                    .await?;
                Ok(Self::Sotw(sender, stream.into_inner()))
            }
        }
    }

    /// Says something; an ended stream is noticed when it is read.
    pub async fn ask(&self, ask: Ask) {
        match self {
            Self::Delta(sender, _) => drop(sender.send(ask.into_delta()).await),
            Self::Sotw(sender, _) => drop(sender.send(ask.into_sotw()).await),
        }
    }

    /// Reads a response; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Told>, tonic::Status> {
        match self {
            Self::Delta(_, stream) => Ok(stream.message().await?.map(Told::of_delta)),
            Self::Sotw(_, stream) => Ok(stream.message().await?.map(Told::of_sotw)),
        }
    }
}

impl Ask {
    fn into_delta(self) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            type_url: self.url.into(),
            resource_names_subscribe: self.names,
            resource_names_unsubscribe: self.drop,
            initial_resource_versions: self.held,
            response_nonce: self.nonce,
            error_detail: self.error.map(status),
            ..Default::default()
        }
    }

    fn into_sotw(self) -> DiscoveryRequest {
        DiscoveryRequest {
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

fn url_of(text: &str) -> &'static str {
    world::TYPES
        .into_iter()
        .find(|url| *url == text)
        .unwrap_or_else(|| panic!("nobody asked for {text}"))
}

fn content(any: &Any) -> String {
    StringValue::decode(&any.value[..]).unwrap().value
}

impl Told {
    fn of_delta(message: DeltaDiscoveryResponse) -> Self {
        let resources = message.resources.into_iter().map(|resource| {
            let content = content(&resource.resource.unwrap());
            assert!(
                content.starts_with(&format!("{} ", resource.name)),
                "{} holds another",
                resource.name
            );
            (resource.name, (resource.version, content))
        });
        Self {
            url: url_of(&message.type_url),
            nonce: message.nonce,
            version: message.system_version_info,
            resources: resources.collect(),
            removed: message.removed_resources,
        }
    }

    fn of_sotw(message: DiscoveryResponse) -> Self {
        // Full-state resources have no name on the outside; here the content starts with it.
        let resources = message.resources.iter().map(|any| {
            let content = content(any);
            let name = content.split(' ').next().unwrap_or_default().to_owned();
            (name, (String::new(), content))
        });
        Self {
            url: url_of(&message.type_url),
            nonce: message.nonce,
            version: message.version_info,
            resources: resources.collect(),
            removed: Vec::new(),
        }
    }
}
