//! A look at a request before it is decoded: a few bytes of it may become many in memory, a name of none is a string of
//! twenty-four. What has too many fields for what it may ask is not decoded at all.

use bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};
use tonic::Status;

use crate::limits::Limits;

/// Numbers of fields of a request.
#[derive(Debug)]
pub(crate) struct Shape {
    /// The node message.
    pub node: u32,
    /// Why a response was rejected.
    pub error: u32,
    /// The other way to name resources, which Envoy does not use and this server does not understand.
    pub locators: &'static [u32],
}

/// Fields of a request besides names and versions; there are fewer.
const OTHERS: usize = 64;
/// Fields of an error: code, text, details.
const ERROR_FIELDS: usize = 32;

/// Whether the request may be decoded. What is no message at all is left to the decoder.
pub(crate) fn check(message: &[u8], shape: &Shape, limits: &Limits) -> Result<(), Status> {
    let (mut count, mut node, mut error) = (0_usize, 0_usize, 0_usize);
    for (field, content) in Fields(message) {
        count += 1;
        if shape.locators.contains(&field) {
            return Err(Status::unimplemented(
                "resources are asked for by locators, which are not supported; ask by name",
            ));
        }
        if field == shape.node {
            node += content.len();
        } else if field == shape.error {
            error += Fields(content).take(ERROR_FIELDS + 1).count();
        }
    }
    if node > limits.node_bytes {
        return Err(Status::resource_exhausted(format!(
            "a node message of {node} bytes; at most {} are accepted (XDS_MAX_NODE_BYTES)",
            limits.node_bytes
        )));
    }
    // Names, and the versions of those that the proxy holds.
    let most = limits.names.saturating_mul(2).saturating_add(OTHERS);
    if count > most {
        return Err(Status::resource_exhausted(format!(
            "a request of {count} fields; at most {} names are accepted (XDS_MAX_NAMES)",
            limits.names
        )));
    }
    if error > ERROR_FIELDS {
        return Err(Status::resource_exhausted("a rejection with too many details"));
    }
    Ok(())
}

/// Number and content of each field of a message; the content of a number is empty. Ends at what cannot be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let (field, wire) = decode_key(&mut self.0).ok()?;
        let length = match wire {
            WireType::Varint => {
                decode_varint(&mut self.0).ok()?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut self.0).ok()?).ok()?,
            // Skipped by the decoder with a bound of its own; no request has any.
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let content = self.0.get(..length)?;
        self.0.advance(length);
        Some((field, content))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use prost::Message;
    use tonic::Code;
    use xds::envoy::config::core::v3::Node;
    use xds::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest, ResourceLocator};
    use xds::google::protobuf::Any;
    use xds::google::rpc;

    use super::*;
    use crate::server::Request;

    fn limits() -> Limits {
        Limits {
            names: 10,
            node_bytes: 100,
            ..Limits::default()
        }
    }

    fn check_delta(request: &DeltaDiscoveryRequest, expected: Code) {
        let found = check(&request.encode_to_vec(), &DeltaDiscoveryRequest::SHAPE, &limits());
        assert_eq!(found.map_or_else(|status| status.code(), |()| Code::Ok), expected);
    }

    fn check_sotw(request: &DiscoveryRequest, expected: Code) {
        let found = check(&request.encode_to_vec(), &DiscoveryRequest::SHAPE, &limits());
        assert_eq!(found.map_or_else(|status| status.code(), |()| Code::Ok), expected);
    }

    fn node(bytes: usize) -> Option<Node> {
        Some(Node {
            id: "x".repeat(bytes),
            ..Node::default()
        })
    }

    fn error(details: usize) -> Option<rpc::Status> {
        Some(rpc::Status {
            message: "no".repeat(1000),
            details: vec![Any::default(); details],
            ..rpc::Status::default()
        })
    }

    #[test]
    fn incremental_requests_are_bounded_before_they_are_decoded() {
        let names = |count: usize| vec![String::new(); count];
        let asks = |node, subscribe, unsubscribe, error_detail| DeltaDiscoveryRequest {
            node,
            resource_names_subscribe: names(subscribe),
            resource_names_unsubscribe: names(unsubscribe),
            error_detail,
            ..DeltaDiscoveryRequest::default()
        };
        check_delta(&asks(node(90), 10, 10, error(4)), Code::Ok);
        check_delta(&asks(node(101), 0, 0, None), Code::ResourceExhausted);
        check_delta(&asks(None, 50, 50, None), Code::ResourceExhausted);
        check_delta(&asks(None, 0, 0, error(1000)), Code::ResourceExhausted);
        let located = DeltaDiscoveryRequest {
            resource_locators_subscribe: vec![ResourceLocator::default()],
            ..DeltaDiscoveryRequest::default()
        };
        check_delta(&located, Code::Unimplemented);
    }

    #[test]
    fn full_state_requests_are_bounded_before_they_are_decoded() {
        let asks = |node, names, error_detail| DiscoveryRequest {
            node,
            resource_names: vec![String::new(); names],
            error_detail,
            ..DiscoveryRequest::default()
        };
        check_sotw(&asks(node(90), 10, error(4)), Code::Ok);
        check_sotw(&asks(node(101), 0, None), Code::ResourceExhausted);
        check_sotw(&asks(None, 100, None), Code::ResourceExhausted);
        check_sotw(&asks(None, 0, error(1000)), Code::ResourceExhausted);
        let located = DiscoveryRequest {
            resource_locators: vec![ResourceLocator::default()],
            ..DiscoveryRequest::default()
        };
        check_sotw(&located, Code::Unimplemented);
    }

    #[test]
    fn a_node_in_parts_counts_as_one() {
        let part = DeltaDiscoveryRequest {
            node: node(60),
            ..DeltaDiscoveryRequest::default()
        };
        let found = check(
            &part.encode_to_vec().repeat(2),
            &DeltaDiscoveryRequest::SHAPE,
            &limits(),
        );
        assert_eq!(found.unwrap_err().code(), Code::ResourceExhausted);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = check(&bytes, &DeltaDiscoveryRequest::SHAPE, &limits());
        }
    }
}
