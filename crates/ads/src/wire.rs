//! Responses as gRPC sees them: a small head of one stream's own (length, version, nonce, removals), then pieces of
//! encoded resources that all streams share.
//!
//! Protobuf fields may come in any order, so what differs between streams goes first and the resources last. Pieces
//! are cut at resources whose name says so, not at a size: two sets that differ in one resource share all other
//! pieces, and so do the proxies of different classes.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use xds::resource::{Body, ContentHash, Resource, name_hash};

use crate::diff::{Shared, lock};
use crate::stream::Protocol;

/// Bytes in front of each gRPC message: a flag and the length.
pub(crate) const GRPC_HEAD: usize = 5;
/// Room for the head of a response that removes nothing, in bytes.
const HEAD: usize = 160;
/// One resource in this many ends a piece.
const CUT_EVERY: u32 = 32;
/// A piece ends when it has this size, wherever it is.
const LARGEST_PIECE: usize = 64 << 10;

/// A resource of this size is not copied into a piece.
const LARGE: usize = 32 << 10;

const RESOURCES: u32 = 2;

/// What a response says besides its resources.
#[derive(Debug, Default)]
pub struct Head<'a> {
    /// Version of the set this response leads to.
    pub version: &'a [u8],
    /// Type URL.
    pub type_url: &'a str,
    /// Nonce to be echoed.
    pub nonce: &'a str,
    /// Names that are gone (incremental protocol only).
    pub removed: &'a [Arc<str>],
    /// Identifier of the control plane; empty for configuration.
    pub control_plane: &'a str,
}

impl Head<'_> {
    /// The head of a message whose resources take `resource_bytes`, gRPC's own head included.
    pub fn encode(&self, protocol: Protocol, resource_bytes: usize) -> Bytes {
        let mut head = BytesMut::with_capacity(HEAD);
        head.put_bytes(0, GRPC_HEAD);
        let fields = &mut head;
        put_bytes(1, self.version, fields);
        put_bytes(4, self.type_url.as_bytes(), fields);
        put_bytes(5, self.nonce.as_bytes(), fields);
        if !self.control_plane.is_empty() {
            let tag = if protocol == Protocol::Delta { 7 } else { 6 };
            let mut identifier = BytesMut::new();
            put_bytes(1, self.control_plane.as_bytes(), &mut identifier);
            put_bytes(tag, &identifier, fields);
        }
        if protocol == Protocol::Delta {
            for name in self.removed {
                put_bytes(6, name.as_bytes(), fields);
            }
        }
        let length = u32::try_from(head.len() - GRPC_HEAD + resource_bytes).unwrap_or(u32::MAX);
        // The first byte says that nothing is compressed.
        head[1..GRPC_HEAD].copy_from_slice(&length.to_be_bytes());
        head.freeze()
    }
}

/// A response on its way out.
#[derive(Debug, Default)]
pub struct Frames {
    head: Option<Bytes>,
    pieces: Option<Arc<[Body]>>,
    /// Piece, and part of it, that is next.
    next: (usize, usize),
}

impl Frames {
    /// A head, then pieces.
    pub fn new(head: Bytes, pieces: Arc<[Body]>) -> Self {
        let mut frames = Self {
            head: Some(head),
            pieces: Some(pieces),
            next: (0, 0),
        };
        frames.settle();
        frames
    }

    /// The next bytes to send. Every frame costs a call of the kernel, so that small pieces are copied together as
    /// long as they fit `size`; what is large is sent from where it is.
    pub fn next_frame(&mut self, size: usize) -> Option<Bytes> {
        let first = self.next()?;
        let (parts, length) = self.fitting(first.len(), size);
        if parts == 0 {
            return Some(first);
        }
        let mut frame = BytesMut::with_capacity(length);
        frame.put(first);
        (0..parts).filter_map(|_| self.next()).for_each(|part| frame.put(part));
        Some(frame.freeze())
    }

    /// How many of the next parts fit into a frame of `size` behind what it has already, and its length with them.
    fn fitting(&self, begun: usize, size: usize) -> (usize, usize) {
        let (piece, part) = self.next;
        let pieces = self.pieces.as_deref().unwrap_or_default();
        let rest = pieces
            .get(piece)
            .map(|piece| &piece.pieces()[part..])
            .unwrap_or_default();
        let later = pieces.iter().skip(piece + 1).flat_map(Body::pieces);
        let (mut parts, mut length) = (0, begun);
        for next in rest.iter().chain(later) {
            if length + next.len() > size {
                break;
            }
            parts += 1;
            length += next.len();
        }
        (parts, length)
    }

    fn current(&self) -> Option<&Bytes> {
        let (piece, part) = self.next;
        self.pieces.as_ref()?.get(piece)?.pieces().get(part)
    }

    /// Goes on to the next piece if all parts of this one are sent; lets go of the pieces after the last.
    fn settle(&mut self) {
        while let Some(pieces) = &self.pieces {
            match pieces.get(self.next.0) {
                Some(piece) if self.next.1 < piece.pieces().len() => return,
                Some(_) => self.next = (self.next.0 + 1, 0),
                None => self.pieces = None,
            }
        }
    }
}

impl Iterator for Frames {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        let next = self.current()?.clone();
        self.next.1 += 1;
        self.settle();
        Some(next)
    }
}

/// Encodes resources into pieces, reusing those that exist. A large resource is not copied: its own pieces are sent.
pub fn pieces(protocol: Protocol, resources: &[Arc<Resource>], shared: &Shared) -> Vec<Body> {
    let mut pieces: Vec<Body> = Vec::new();
    let mut start = 0;
    let mut size = 0;
    for (at, resource) in resources.iter().enumerate() {
        if resource.body.len() >= LARGE {
            if start < at {
                pieces.push(piece(protocol, &resources[start..at], shared).into());
            }
            push_large(protocol, resource, &mut pieces);
            (start, size) = (at + 1, 0);
            continue;
        }
        size += resource.body.len();
        if at + 1 == resources.len() || size >= LARGEST_PIECE || is_cut(&resource.name) {
            pieces.push(piece(protocol, &resources[start..=at], shared).into());
            (start, size) = (at + 1, 0);
        }
    }
    pieces
}

/// Encodes bare `Any`s (answers to questions) as resources of a response; for the incremental protocol they are named
/// by their position, as they have no names.
pub fn answer_pieces(protocol: Protocol, resources: &[Bytes]) -> Vec<Body> {
    let mut out = BytesMut::new();
    for (at, any) in resources.iter().enumerate() {
        let name = at.to_string();
        put_head(protocol, &name, &[], any.len(), &mut out);
        out.put_slice(any);
        put_tail(protocol, &name, &mut out);
    }
    if out.is_empty() {
        Vec::new()
    } else {
        vec![out.freeze().into()]
    }
}

fn piece(protocol: Protocol, resources: &[Arc<Resource>], shared: &Shared) -> Bytes {
    let mut key = Vec::with_capacity(1 + resources.iter().map(|r| 40 + r.name.len()).sum::<usize>());
    key.push(protocol as u8);
    for resource in resources {
        key.extend_from_slice(&(resource.name.len() as u64).to_be_bytes());
        key.extend_from_slice(resource.name.as_bytes());
        key.extend_from_slice(resource.hash.as_bytes());
    }
    let key = ContentHash::of(&key);
    if let Some(known) = lock(&shared.pieces).get(&key) {
        return known;
    }
    let mut out = BytesMut::with_capacity(resources.iter().map(|r| r.body.len() + r.name.len() + 64).sum());
    for resource in resources {
        put_head_of(protocol, resource, &mut out);
        resource.body.pieces().iter().for_each(|piece| out.put_slice(piece));
        put_tail(protocol, &resource.name, &mut out);
    }
    let bytes = out.freeze();
    lock(&shared.pieces).insert(key, bytes.clone(), bytes.len());
    bytes
}

/// A resource that is sent in its own pieces, between what names it.
fn push_large(protocol: Protocol, resource: &Resource, pieces: &mut Vec<Body>) {
    let mut head = BytesMut::new();
    put_head_of(protocol, resource, &mut head);
    pieces.push(head.freeze().into());
    pieces.push(resource.body.clone());
    let mut tail = BytesMut::new();
    put_tail(protocol, &resource.name, &mut tail);
    if !tail.is_empty() {
        pieces.push(tail.freeze().into());
    }
}

fn put_head_of(protocol: Protocol, resource: &Resource, out: &mut BytesMut) {
    put_head(
        protocol,
        &resource.name,
        &resource.hash.to_digits(),
        resource.body.len(),
        out,
    );
}

/// Everything of a resource in a response that comes before its body of that many bytes: the body itself is field 2 of
/// the response, or field 2 of `envoy.service.discovery.v3.Resource`, which is.
fn put_head(protocol: Protocol, name: &str, version: &[u8], body: usize, out: &mut BytesMut) {
    if protocol == Protocol::Delta {
        let len = field_len(1, version.len()) + field_len(2, body) + field_len(3, name.len());
        encode_key(RESOURCES, WireType::LengthDelimited, out);
        encode_varint(len as u64, out);
        put_bytes(1, version, out);
    }
    put_key(2, body, out);
}

/// What comes after it.
fn put_tail(protocol: Protocol, name: &str, out: &mut BytesMut) {
    if protocol == Protocol::Delta {
        put_bytes(3, name.as_bytes(), out);
    }
}

fn field_len(tag: u32, len: usize) -> usize {
    if len == 0 {
        0
    } else {
        key_len(tag) + encoded_len_varint(len as u64) + len
    }
}

fn put_bytes(tag: u32, bytes: &[u8], out: &mut BytesMut) {
    put_key(tag, bytes.len(), out);
    out.put_slice(bytes);
}

/// What comes before the bytes of a field; a field without bytes is left out.
fn put_key(tag: u32, len: usize, out: &mut BytesMut) {
    if len > 0 {
        encode_key(tag, WireType::LengthDelimited, out);
        encode_varint(len as u64, out);
    }
}

/// The hash of the name decides, so that the same resource ends a piece in every set.
fn is_cut(name: &str) -> bool {
    name_hash(name).is_multiple_of(CUT_EVERY)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use prost::Message;
    use xds::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
    use xds::google::protobuf::StringValue;

    use super::*;
    use crate::limits::Limits;

    fn resources(count: usize) -> Vec<Arc<Resource>> {
        (0..count)
            .map(|i| {
                Arc::new(Resource::encode(
                    format!("r{i:04}"),
                    &StringValue { value: format!("v{i}") },
                ))
            })
            .collect()
    }

    fn message(protocol: Protocol, head: &Head<'_>, pieces: &[Body]) -> Vec<u8> {
        let size = pieces.iter().map(Body::len).sum();
        let mut bytes = head.encode(protocol, size).to_vec();
        pieces
            .iter()
            .for_each(|piece| bytes.extend_from_slice(&piece.to_bytes()));
        assert_eq!(
            u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize,
            bytes.len() - GRPC_HEAD
        );
        bytes.split_off(GRPC_HEAD)
    }

    #[test]
    fn frames_are_as_large_as_what_they_hold() {
        let shared = Shared::new(&Limits::default());
        let head = Head {
            version: b"7",
            ..Head::default()
        };
        for count in [1, 3, 2000] {
            let pieces = pieces(Protocol::Delta, &resources(count), &shared);
            let whole = message(Protocol::Delta, &head, &pieces).len() + GRPC_HEAD;
            let head = head.encode(Protocol::Delta, pieces.iter().map(Body::len).sum());
            let mut frames = Frames::new(head, pieces.into());
            let mut left = whole;
            while let Some(frame) = frames.next_frame(16 << 10) {
                left -= frame.len();
                let frame = frame.try_into_mut().map_or(0, |own| own.capacity());
                assert!(frame <= (16 << 10).min(whole), "{frame} bytes for {whole}");
            }
            assert_eq!(left, 0);
        }
    }

    #[test]
    fn decodes_as_an_incremental_response() {
        let shared = Shared::new(&Limits::default());
        let resources = resources(100);
        let removed = [Arc::from("gone")];
        let head = Head {
            version: b"7",
            type_url: "t",
            nonce: "n",
            removed: &removed,
            control_plane: "",
        };
        let bytes = message(Protocol::Delta, &head, &pieces(Protocol::Delta, &resources, &shared));
        let response = DeltaDiscoveryResponse::decode(&bytes[..]).unwrap();
        assert_eq!(
            (&*response.nonce, &*response.type_url, &*response.system_version_info),
            ("n", "t", "7")
        );
        assert_eq!(response.removed_resources, ["gone"]);
        assert_eq!(response.resources.len(), 100);
        for (sent, made) in response.resources.iter().zip(&resources) {
            assert_eq!(
                (&*sent.name, sent.version.clone()),
                (&*made.name, made.hash.to_string())
            );
            assert_eq!(sent.resource.as_ref().unwrap().encode_to_vec(), made.body.to_bytes());
        }
    }

    #[test]
    fn decodes_as_a_full_state_response() {
        let shared = Shared::new(&Limits::default());
        let head = Head {
            version: b"7",
            type_url: "t",
            nonce: "n",
            removed: &[],
            control_plane: "me",
        };
        let bytes = message(Protocol::Sotw, &head, &pieces(Protocol::Sotw, &resources(3), &shared));
        let response = DiscoveryResponse::decode(&bytes[..]).unwrap();
        assert_eq!(response.resources.len(), 3);
        assert_eq!(response.control_plane.unwrap().identifier, "me");
    }

    #[test]
    fn sets_that_differ_in_one_resource_share_their_other_pieces() {
        let shared = Shared::new(&Limits::default());
        let mut resources = resources(1000);
        let before = pieces(Protocol::Delta, &resources, &shared);
        resources[500] = Arc::new(Resource::encode("r0500", &StringValue { value: "other".into() }));
        let after = pieces(Protocol::Delta, &resources, &shared);
        let at = |piece: &Body| piece.pieces()[0].as_ptr();
        let kept = after
            .iter()
            .filter(|piece| before.iter().any(|old| at(old) == at(piece)))
            .count();
        assert!(before.len() > 10, "{} pieces", before.len());
        assert_eq!(kept, after.len() - 1);
    }
}
