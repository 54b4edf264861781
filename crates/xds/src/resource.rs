//! Content-addressed resources: the one thing that translation makes and the discovery protocol sends.
//!
//! A [`Resource`] is a name, the hash of its content and its encoded bytes. Its version *is* the hash, so equal
//! content never counts as a change. A [`ResourceSet`] is an immutable, ordered collection of them, shared by all
//! streams that are owed the same configuration.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};
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

impl ContentHash {
    /// As it is written on the wire: 32 hexadecimal digits.
    pub fn to_digits(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        digits
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_digits()).unwrap_or_default())
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
        let length = message.encoded_len();
        let mut body = head::<M>(length, length);
        message.encode_raw(&mut body);
        Self::of_body(name, body)
    }

    /// A resource whose message is already encoded.
    pub fn of_message<M: Name>(name: impl Into<Arc<str>>, message: &[u8]) -> Self {
        let mut body = head::<M>(message.len(), message.len());
        body.extend_from_slice(message);
        Self::of_body(name, body)
    }

    fn of_body(name: impl Into<Arc<str>>, body: BytesMut) -> Self {
        let body = body.freeze();
        Self {
            name: name.into(),
            hash: ContentHash::of(&body),
            body: body.into(),
        }
    }

    /// A resource whose message is already encoded, in pieces; fields of a message may come in any order.
    pub fn of_pieces<M: Name>(name: impl Into<Arc<str>>, message: Vec<Bytes>) -> Self {
        let length: usize = message.iter().map(Bytes::len).sum();
        let mut pieces = vec![head::<M>(length, 0).freeze()];
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

/// The start of an `Any`: everything that comes before its message of that length, and room for so much more.
fn head<M: Name>(length: usize, room: usize) -> BytesMut {
    let url = M::type_url();
    let mut head = BytesMut::with_capacity(url.len() + room + 16);
    string::encode(1, &url, &mut head);
    if length > 0 {
        encode_key(2, WireType::LengthDelimited, &mut head);
        encode_varint(length as u64, &mut head);
    }
    head
}

/// An immutable, ordered set of resources of one type: its own, and possibly those of a set below it that others share.
#[derive(Clone, Debug, Default)]
pub struct ResourceSet {
    /// Has none below itself.
    base: Option<Arc<ResourceSet>>,
    /// By name.
    own: Box<[Arc<Resource>]>,
    /// Number of resources of both.
    len: usize,
    hash: Option<ContentHash>,
    /// What sets over this one need to know for their own hash; empty if there is one below.
    parts: Parts,
}

/// FNV-1a of a resource's name, to sort names into parts by: quick, the same everywhere, and no secret.
pub fn name_hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// One byte of [`name_hash`], into which all of it goes.
pub fn name_byte(name: &str) -> u8 {
    let hash = name_hash(name);
    (hash ^ (hash >> 16)).to_be_bytes()[3]
}

/// A set is hashed in parts by its resources' names, and the hash of the set is one of the parts' hashes. So it says
/// only what is in the set, not how it is layered, and a set over another hashes no more than the parts that its own
/// resources are in.
#[derive(Clone, Debug, Default)]
struct Parts {
    /// Part of each resource.
    of: Box<[u8]>,
    /// Hashes of the parts that are not empty, in order.
    hashes: Box<[(u8, ContentHash)]>,
}

impl Parts {
    /// Number of parts.
    const COUNT: u8 = 64;

    /// The hash of the name decides.
    fn of_name(name: &str) -> u8 {
        name_byte(name) % Self::COUNT
    }

    /// Hashes of the parts that these resources are in. They are in name order.
    fn hash<'a>(resources: impl Iterator<Item = (u8, &'a Arc<Resource>)>) -> Vec<(u8, ContentHash)> {
        let mut hashers: [Option<Sha256>; Self::COUNT as usize] = [const { None }; Self::COUNT as usize];
        for (part, resource) in resources {
            let hasher = hashers[usize::from(part)].get_or_insert_default();
            hasher.update((resource.name.len() as u64).to_be_bytes());
            hasher.update(resource.name.as_bytes());
            hasher.update(resource.hash.0);
            // A set that only knows the hash of a resource must not be taken for one that has it.
            hasher.update([u8::from(resource.body.is_empty())]);
        }
        let hashed = |(part, hasher): (u8, Option<Sha256>)| Some((part, ContentHash::of_all(hasher?)));
        (0..).zip(hashers).filter_map(hashed).collect()
    }

    fn total<'a>(hashes: impl IntoIterator<Item = &'a (u8, ContentHash)>) -> ContentHash {
        let mut hasher = Sha256::new();
        for (part, hash) in hashes {
            hasher.update([*part]);
            hasher.update(hash.0);
        }
        ContentHash::of_all(hasher)
    }
}

impl ResourceSet {
    /// Builds a set; of two resources with one name the later wins.
    pub fn new(resources: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        let own = in_order(resources);
        let of: Box<[u8]> = own.iter().map(|resource| Parts::of_name(&resource.name)).collect();
        let hashes = Parts::hash(of.iter().copied().zip(&own));
        Self {
            base: None,
            len: own.len(),
            own,
            hash: Some(Parts::total(&hashes)),
            parts: Parts {
                of,
                hashes: hashes.into(),
            },
        }
    }

    /// Builds a set from one that others share, and resources that lie over it.
    pub fn over(base: Arc<ResourceSet>, own: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        if base.base.is_some() {
            return Self::new(base.iter().cloned().chain(own));
        }
        let own = in_order(own);
        let touched: BTreeSet<u8> = own.iter().map(|resource| Parts::of_name(&resource.name)).collect();
        let below = base.parts.of.iter().zip(&base.own);
        let below: Vec<Arc<Resource>> = below
            .filter(|(part, _)| touched.contains(part))
            .map(|(_, resource)| resource.clone())
            .collect();
        let both = Layers {
            base: &below,
            own: &own,
        };
        let mut hashes = Parts::hash(both.map(|resource| (Parts::of_name(&resource.name), resource)));
        hashes.extend(base.parts.hashes.iter().filter(|(part, _)| !touched.contains(part)));
        hashes.sort_unstable();
        let hidden = own.iter().filter(|r| base.get(&r.name).is_some()).count();
        Self {
            len: own.len() + base.len - hidden,
            base: Some(base),
            own,
            hash: Some(Parts::total(&hashes)),
            parts: Parts::default(),
        }
    }

    /// This set without some of its resources and with others; `None` if the ones are not its own, or the others take
    /// the place of what was not to go.
    pub fn replace(&self, gone: &[&Arc<Resource>], new: Vec<Arc<Resource>>) -> Option<Self> {
        // What goes is held, and a name is held once.
        let names: HashSet<&str> = gone.iter().map(|gone| &*gone.name).collect();
        let goes = |resource: &Arc<Resource>| names.contains(&*resource.name);
        let held = |resource: &&Arc<Resource>| self.get(&resource.name).is_some_and(|held| Arc::ptr_eq(held, resource));
        let free = |resource: &Arc<Resource>| self.get(&resource.name).is_none_or(goes);
        let known = gone.iter().all(held) && new.iter().all(free);
        known.then(|| Self::new(self.iter().filter(|resource| !goes(resource)).cloned().chain(new)))
    }

    /// Version of the whole set: a hash over names and content hashes, however they are layered; `None` only for the
    /// default (empty) set.
    pub fn hash(&self) -> Option<ContentHash> {
        self.hash
    }

    /// The resource of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        match self.own.binary_search_by(|own| (*own.name).cmp(name)) {
            Ok(at) => self.own.get(at),
            Err(_) => self.base.as_ref()?.get(name),
        }
    }

    /// All resources in name order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        Layers {
            base: self.base.as_ref().map(|base| &*base.own).unwrap_or_default(),
            own: &self.own,
        }
    }

    /// The set below this one and the resources that lie over it, if there is one and none of its resources is hidden.
    pub fn layers(&self) -> Option<(&Arc<ResourceSet>, &[Arc<Resource>])> {
        let base = self.base.as_ref()?;
        (self.len == base.len + self.own.len()).then_some((base, &self.own))
    }

    /// The resources of this set and of another among which all differences are, each in name order.
    pub fn apart<'a>(
        &'a self,
        other: &'a Self,
    ) -> (
        impl Iterator<Item = &'a Arc<Resource>>,
        impl Iterator<Item = &'a Arc<Resource>>,
    ) {
        let same = match (self.layers(), other.layers()) {
            (Some((a, _)), Some((b, _))) => Arc::ptr_eq(a, b),
            _ => false,
        };
        let layers = |set: &'a Self| Layers {
            base: set
                .base
                .as_ref()
                .filter(|_| !same)
                .map(|base| &*base.own)
                .unwrap_or_default(),
            own: &set.own,
        };
        (layers(self), layers(other))
    }

    /// Number of resources.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

fn in_order(resources: impl IntoIterator<Item = Arc<Resource>>) -> Box<[Arc<Resource>]> {
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
    resources.into_boxed_slice()
}

/// Two lists in name order as one; of two resources with one name the own one counts.
struct Layers<'a> {
    base: &'a [Arc<Resource>],
    own: &'a [Arc<Resource>],
}

impl<'a> Iterator for Layers<'a> {
    type Item = &'a Arc<Resource>;

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.base.first(), self.own.first()) {
            (Some(base), Some(own)) => base.name.cmp(&own.name),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        if order != Ordering::Greater {
            let (first, rest) = self.base.split_first()?;
            self.base = rest;
            if order == Ordering::Less {
                return Some(first);
            }
        }
        let (first, rest) = self.own.split_first()?;
        self.own = rest;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::google::protobuf::StringValue;

    fn resources(words: &str) -> Vec<Arc<Resource>> {
        let resource = |word: &str| {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            Arc::new(Resource::encode(
                name,
                &StringValue {
                    value: value.to_owned(),
                },
            ))
        };
        words.split_whitespace().map(resource).collect()
    }

    fn check(base: &str, own: &str, expected: &str) {
        let set = ResourceSet::over(Arc::new(ResourceSet::new(resources(base))), resources(own));
        let flat = ResourceSet::new(resources(expected));
        let hashes = |set: &ResourceSet| set.iter().map(|r| (r.name.clone(), r.hash)).collect::<Vec<_>>();
        assert_eq!(hashes(&set), hashes(&flat));
        assert_eq!((set.len(), set.is_empty()), (flat.len(), flat.is_empty()));
        assert_eq!(set.hash(), flat.hash(), "the version says how it is layered");
        assert!(
            flat.iter()
                .all(|r| set.get(&r.name).is_some_and(|found| found.hash == r.hash))
        );
        assert!(set.get("nobody").is_none());
    }

    #[test]
    fn own_resources_lie_over_shared_ones() {
        check("b d", "a c e", "a b c d e");
        check("a=1 b=1", "b=2", "a=1 b=2");
        check("", "a", "a");
        check("a", "", "a");
        check("", "", "");
    }

    #[test]
    fn only_what_is_there_is_replaced_and_nothing_else() {
        let set = ResourceSet::new(resources("a=1 b=1 c=1"));
        let b = set.get("b").unwrap();
        let hash = |set: Option<ResourceSet>| set.map(|set| set.hash());
        let all = |words: &str| Some(ResourceSet::new(resources(words)).hash());
        assert_eq!(hash(set.replace(&[b], resources("b=2"))), all("a=1 b=2 c=1"));
        assert_eq!(hash(set.replace(&[b], resources("d=1 aa=1"))), all("a=1 aa=1 c=1 d=1"));
        assert_eq!(hash(set.replace(&[b], Vec::new())), all("a=1 c=1"));
        assert_eq!(hash(set.replace(&[], resources("d=1"))), all("a=1 b=1 c=1 d=1"));
        assert_eq!(hash(set.replace(&[b], resources("a=2"))), None, "a was not to go");
        assert_eq!(
            hash(set.replace(&[&resources("b=1")[0]], resources("b=2"))),
            None,
            "not its own"
        );
    }

    #[test]
    fn layers_of_any_size_have_the_version_of_what_is_in_them() {
        let many = |range: std::ops::Range<u32>| -> String { range.map(|i| format!("r{i}={} ", i / 7)).collect() };
        check(&many(0..300), &many(250..310), &many(0..310));
        let (one, other) = (
            ResourceSet::new(resources(&many(0..300))),
            ResourceSet::new(resources(&many(1..300))),
        );
        assert_ne!(one.hash(), other.hash());
    }

    #[test]
    fn sets_over_one_base_differ_in_what_is_their_own() {
        let base = Arc::new(ResourceSet::new(resources("b d")));
        let (one, two) = (
            ResourceSet::over(base.clone(), resources("a")),
            ResourceSet::over(base.clone(), resources("c")),
        );
        let (one_only, two_only) = one.apart(&two);
        assert_eq!((one_only.count(), two_only.count()), (1, 1));
        assert_ne!(one.hash(), two.hash());
        let hiding = ResourceSet::over(base, resources("b=2"));
        let (all, also_all) = one.apart(&hiding);
        assert_eq!((all.count(), also_all.count()), (3, 2));
    }
}
