//! Content-addressed resources: the one thing that translation makes and the discovery protocol sends.
//!
//! A [`Resource`] is a name, the hash of its content and its encoded bytes. Its version *is* the hash, so equal
//! content never counts as a change. A [`ResourceSet`] is an immutable, ordered collection of them, shared by all
//! streams that are owed the same configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use prost::{Message, Name};
use sha2::{Digest, Sha256};

/// Hash of a resource's encoded content: the first 16 bytes of its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 16]);

impl ContentHash {
    /// Hash of a byte string.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest[..16]);
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

/// One named discovery resource, encoded once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Name by which proxies subscribe to it.
    pub name: Arc<str>,
    /// Hash of `body`; its text form is the resource's version on the wire.
    pub hash: ContentHash,
    /// Encoded `google.protobuf.Any` (type URL and message).
    pub body: Bytes,
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
            body,
        }
    }
}

/// An immutable, ordered set of resources of one type.
#[derive(Clone, Debug, Default)]
pub struct ResourceSet {
    resources: BTreeMap<Arc<str>, Arc<Resource>>,
    hash: Option<ContentHash>,
}

impl ResourceSet {
    /// Builds a set; of two resources with one name the later wins.
    pub fn new(resources: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        let resources: BTreeMap<_, _> = resources.into_iter().map(|r| (r.name.clone(), r)).collect();
        let mut hasher = Sha256::new();
        for resource in resources.values() {
            hasher.update((resource.name.len() as u64).to_be_bytes());
            hasher.update(resource.name.as_bytes());
            hasher.update(resource.hash.0);
            // A set that only knows the hash of a resource must not be taken for one that has it.
            hasher.update([u8::from(resource.body.is_empty())]);
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.finalize()[..16]);
        Self {
            resources,
            hash: Some(ContentHash(hash)),
        }
    }

    /// Version of the whole set: a hash over names and content hashes; `None` only for the default (empty) set.
    pub fn hash(&self) -> Option<ContentHash> {
        self.hash
    }

    /// The resource of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.resources.get(name)
    }

    /// All resources in name order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
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
