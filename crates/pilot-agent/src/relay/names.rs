//! The agent's own subscription on Envoy's stream: istiod's name table, for the DNS proxy. Envoy never sees it.

use bytes::Bytes;
use prost::Message;
use xds::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use xds::istio::networking::nds::v1::NameTable;

/// Type URL of the name table.
pub(super) const TYPE: &str = "type.googleapis.com/istio.networking.nds.v1.NameTable";

/// Which of the two protocols Envoy's stream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// State of the world.
    Sotw,
    /// Incremental.
    Delta,
}

impl Protocol {
    /// By the path of the call.
    pub(super) fn of(path: &str) -> Self {
        if path.ends_with("/DeltaAggregatedResources") {
            Self::Delta
        } else {
            Self::Sotw
        }
    }

    /// The request to subscribe.
    pub(super) fn subscribe(self) -> Bytes {
        self.acknowledge("", "")
    }

    /// The request that acknowledges an answer.
    pub(super) fn acknowledge(self, version: &str, nonce: &str) -> Bytes {
        match self {
            Self::Sotw => {
                let (version_info, response_nonce) = (version.to_owned(), nonce.to_owned());
                let request = DiscoveryRequest {
                    type_url: TYPE.to_owned(),
                    version_info,
                    response_nonce,
                    ..Default::default()
                };
                request.encode_to_vec().into()
            }
            Self::Delta => {
                let response_nonce = nonce.to_owned();
                let request = DeltaDiscoveryRequest {
                    type_url: TYPE.to_owned(),
                    response_nonce,
                    ..Default::default()
                };
                request.encode_to_vec().into()
            }
        }
    }

    /// The table in an answer, if there is one, and the acknowledgement to send.
    pub(super) fn read(self, answer: &[u8]) -> Result<(Option<NameTable>, Bytes), prost::DecodeError> {
        let (resource, version, nonce) = match self {
            Self::Sotw => {
                let answer = DiscoveryResponse::decode(answer)?;
                (answer.resources.into_iter().next(), answer.version_info, answer.nonce)
            }
            Self::Delta => {
                let answer = DeltaDiscoveryResponse::decode(answer)?;
                let first = answer.resources.into_iter().next().and_then(|r| r.resource);
                (first, answer.system_version_info, answer.nonce)
            }
        };
        let table = resource.map(|any| NameTable::decode(any.value)).transpose()?;
        Ok((table, self.acknowledge(&version, &nonce)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use xds::envoy::service::discovery::v3::Resource;
    use xds::google::protobuf::Any;

    #[test]
    fn both_protocols() {
        let table = NameTable {
            table: [("a.example.com".to_owned(), Default::default())].into(),
        };
        let any = Any {
            type_url: TYPE.into(),
            value: table.encode_to_vec().into(),
        };
        let sotw = DiscoveryResponse {
            version_info: "7".into(),
            nonce: "n".into(),
            resources: vec![any.clone()],
            ..Default::default()
        };
        let (read, ack) = Protocol::Sotw.read(&sotw.encode_to_vec()).unwrap();
        assert_eq!(read.unwrap(), table);
        let ack = DiscoveryRequest::decode(ack).unwrap();
        assert_eq!(
            (
                ack.version_info.as_str(),
                ack.response_nonce.as_str(),
                ack.type_url.as_str()
            ),
            ("7", "n", TYPE)
        );
        let resources = vec![Resource {
            resource: Some(any),
            ..Default::default()
        }];
        let delta = DeltaDiscoveryResponse {
            nonce: "n".into(),
            resources,
            ..Default::default()
        };
        let protocol = Protocol::of("/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources");
        let (read, ack) = protocol.read(&delta.encode_to_vec()).unwrap();
        assert_eq!(read.unwrap(), table);
        assert_eq!(DeltaDiscoveryRequest::decode(ack).unwrap().response_nonce, "n");
        assert!(protocol.read(b"\xff\xff").is_err());
    }
}
