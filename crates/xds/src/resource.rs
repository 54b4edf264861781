//! Content-addressed resources: the one thing that translation makes and the discovery protocol sends.
//!
//! A [`Resource`] is a name, the hash of its content and its encoded bytes. Its version *is* the hash, so equal
//! content never counts as a change. A [`ResourceSet`] is an immutable, ordered collection of them, shared by all
//! streams that are owed the same configuration.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, string};
use prost::{Message, Name};
use sha2::{Digest, Sha256};

/// Hash of a resource's encoded content: the first 16 bytes of its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 16]);

impl ContentHash {
    /// Hash of a byte string.
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_all(Sha256::new_with_prefix(bytes))
    }

    /// Hash of everything that was put into the hasher.
    fn of_all(hasher: Sha256) -> Self {
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.finalize()[..16]);
        Self(hash)
    }

    /// Reads a version as it is written on the wire: 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let mut hash = [0; 16];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
        }
        Some(Self(hash))
    }

    /// The bytes of the hash.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Encoded bytes, in pieces that other bodies may share.
#[derive(Clone, Debug)]
pub struct Body(Pieces);

#[derive(Clone, Debug)]
enum Pieces {
    One(Bytes),
    Many(Arc<[Bytes]>),
}

impl Body {
    /// The pieces, in order; together they are the whole.
    pub fn pieces(&self) -> &[Bytes] {
        match &self.0 {
            Pieces::One(bytes) => std::slice::from_ref(bytes),
            Pieces::Many(pieces) => pieces,
        }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.pieces().iter().map(Bytes::len).sum()
    }

    /// Whether there are no bytes: such a resource only stands for a name.
    pub fn is_empty(&self) -> bool {
        self.pieces().iter().all(Bytes::is_empty)
    }

    /// All in one; copies if there are several pieces.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Pieces::One(bytes) => bytes.clone(),
            Pieces::Many(pieces) => pieces.concat().into(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Pieces::One(bytes))
    }
}

impl From<Vec<Bytes>> for Body {
    fn from(pieces: Vec<Bytes>) -> Self {
        Self(Pieces::Many(pieces.into()))
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}

impl Eq for Body {}

/// One named discovery resource, encoded once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Name by which proxies subscribe to it.
    pub name: Arc<str>,
    /// Hash of `body`; its text form is the resource's version on the wire.
    pub hash: ContentHash,
    /// Encoded `google.protobuf.Any` (type URL and message).
    pub body: Body,
}

impl Resource {
    /// Encodes a message into a resource.
    pub fn encode<M: Message + Name>(name: impl Into<Arc<str>>, message: &M) -> Self {
        let any = crate::google::protobuf::Any {
            type_url: M::type_url(),
            value: message.encode_to_vec().into(),
        };
        let body = Bytes::from(any.encode_to_vec());
        Self {
            name: name.into(),
            hash: ContentHash::of(&body),
            body: body.into(),
        }
    }

    /// A resource whose message is already encoded, in pieces; fields of a message may come in any order.
    pub fn of_pieces<M: Name>(name: impl Into<Arc<str>>, message: Vec<Bytes>) -> Self {
        let length: usize = message.iter().map(Bytes::len).sum();
        let mut head = BytesMut::new();
        string::encode(1, &M::type_url(), &mut head);
        encode_key(2, WireType::LengthDelimited, &mut head);
        encode_varint(length as u64, &mut head);
        let mut pieces = vec![head.freeze()];
        pieces.extend(message);
        let mut hasher = Sha256::new();
        pieces.iter().for_each(|piece| hasher.update(piece));
        Self {
            name: name.into(),
            hash: ContentHash::of_all(hasher),
            body: pieces.into(),
        }
    }
}

/// An immutable, ordered set of resources of one type.
#[derive(Clone, Debug, Default)]
pub struct ResourceSet {
    /// By name.
    resources: Box<[Arc<Resource>]>,
    hash: Option<ContentHash>,
}

impl ResourceSet {
    /// Builds a set; of two resources with one name the later wins.
    pub fn new(resources: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        let mut resources: Vec<Arc<Resource>> = resources.into_iter().collect();
        // The sort is stable, so of one name the last is the one that came last.
        resources.sort_by(|a, b| a.name.cmp(&b.name));
        resources.dedup_by(|later, kept| {
            let same = later.name == kept.name;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        let mut hasher = Sha256::new();
        for resource in &resources {
            hasher.update((resource.name.len() as u64).to_be_bytes());
            hasher.update(resource.name.as_bytes());
            hasher.update(resource.hash.0);
            // A set that only knows the hash of a resource must not be taken for one that has it.
            hasher.update([u8::from(resource.body.is_empty())]);
        }
        Self {
            resources: resources.into_boxed_slice(),
            hash: Some(ContentHash::of_all(hasher)),
        }
    }

    /// Version of the whole set: a hash over names and content hashes; `None` only for the default (empty) set.
    pub fn hash(&self) -> Option<ContentHash> {
        self.hash
    }

    /// The resource of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        let at = self.resources.binary_search_by(|own| (*own.name).cmp(name)).ok()?;
        self.resources.get(at)
    }

    /// All resources in name order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.iter()
    }

    /// Number of resources.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }
}
