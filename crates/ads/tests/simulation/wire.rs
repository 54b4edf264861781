//! Streams over the simulated network.

use ads::Protocol;
use fake_envoy::{Ask, Told};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use xds::envoy::config::core::v3::Node;
use xds::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use xds::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};

use crate::net::Net;
use crate::world::Words;

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
                    let node = node.clone();
                    sender.try_send(Ask { node, ..ask }.into_delta()).unwrap();
                }
                let stream = client.delta_aggregated_resources(ReceiverStream::new(receiver)).await?;
                Ok(Self::Delta(sender, stream.into_inner()))
            }
            Protocol::Sotw => {
                let (sender, receiver) = mpsc::channel(256);
                for ask in first {
                    let node = node.clone();
                    sender.try_send(Ask { node, ..ask }.into_sotw()).unwrap();
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
            Self::Delta(_, stream) => Ok(stream.message().await?.map(Told::of_delta::<Words>)),
            Self::Sotw(_, stream) => Ok(stream.message().await?.map(Told::of_sotw::<Words>)),
        }
    }
}
