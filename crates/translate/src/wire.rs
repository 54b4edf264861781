//! Messages that are put together from parts which are encoded already. Fields come in the order of their numbers, as if
//! the message were encoded in one piece: its version must not tell how it was made.

use bytes::BufMut;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// Adds a field with this content: a text, bytes or a message.
pub(crate) fn put(number: u32, content: &[u8], out: &mut impl BufMut) {
    put_head(number, content.len(), out);
    out.put_slice(content);
}

/// Adds what comes before the content of a field.
pub(crate) fn put_head(number: u32, length: usize, out: &mut impl BufMut) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

/// Adds what comes before the value of a map's entry, which is a message.
pub(crate) fn put_entry(number: u32, key: &str, length: usize, out: &mut impl BufMut) {
    put_head(number, len(KEY, key.len()) + len(VALUE, length), out);
    put(KEY, key.as_bytes(), out);
    put_head(VALUE, length, out);
}

/// Length of a field whose content has that length.
pub(crate) fn len(number: u32, length: usize) -> usize {
    key_len(number) + encoded_len_varint(length as u64) + length
}

/// A message with more fields, each where its number belongs. They come in the order of their numbers.
pub(crate) fn encode_with<const N: usize>(message: &impl Message, more: [(u32, Option<&[u8]>); N]) -> Vec<u8> {
    let more = || more.iter().filter_map(|(number, content)| Some((*number, (*content)?)));
    let length: usize = more().map(|(number, content)| len(number, content.len())).sum();
    let mut out = Vec::with_capacity(message.encoded_len() + length);
    message.encode_raw(&mut out);
    let mut at = 0;
    for (number, content) in more() {
        let (end, length) = (out.len(), len(number, content.len()));
        at += up_to(number, &out[at..]);
        out.resize(end + length, 0);
        out.copy_within(at..end, at + length);
        put(number, content, &mut &mut out[at..at + length]);
        at += length;
    }
    out
}

/// Adds the fields of two messages as those of one.
pub(crate) fn merge(mut own: &[u8], mut other: &[u8], out: &mut impl BufMut) {
    while let Some(next) = number(other) {
        let before = own.split_at(up_to(next, own));
        out.put_slice(before.0);
        own = before.1;
        let length = match number(own) {
            Some(number) => up_to(number - 1, other),
            None => other.len(),
        };
        let before = other.split_at(length);
        out.put_slice(before.0);
        other = before.1;
    }
    out.put_slice(own);
}

/// Number of the first field.
fn number(mut message: &[u8]) -> Option<u32> {
    let key = varint(&mut message)?;
    u32::try_from(key >> 3).ok().filter(|number| *number > 0)
}

/// Length of the fields up to that number.
fn up_to(number: u32, message: &[u8]) -> usize {
    let mut rest = message;
    loop {
        let before = rest.len();
        if skip(number, &mut rest).is_none() {
            return message.len() - before;
        }
    }
}

/// Skips a field, if its number is at most this.
fn skip(number: u32, rest: &mut &[u8]) -> Option<()> {
    let key = varint(rest).filter(|key| key >> 3 <= u64::from(number))?;
    let length = match key & 7 {
        0 => varint(rest).map(|_| 0)?,
        1 => 8,
        2 => varint(rest)?,
        _ => 4,
    };
    *rest = rest.get(usize::try_from(length).ok()?..)?;
    Some(())
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (first, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(first & 0x7f) << shift;
        if *first < 0x80 {
            return Some(value);
        }
    }
    None
}

/// A `Struct`, encoded as it is made. Keys come in order.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<u8>);

// Numbers of fields: of a map's entries, of what has only one, and of a `Value`.
const KEY: u32 = 1;
const VALUE: u32 = 2;
const ONLY: u32 = 1;
const TEXT: u32 = 3;
const FLAG: u32 = 4;
const OBJECT: u32 = 5;
const LIST: u32 = 6;

impl Fields {
    /// With a text.
    pub(crate) fn text(self, key: &str, text: &str) -> Self {
        self.with(key, TEXT, text.as_bytes())
    }

    /// With "true".
    pub(crate) fn flag(mut self, key: &str) -> Self {
        let value = [(FLAG << 3) as u8, 1];
        put_entry(ONLY, key, value.len(), &mut self.0);
        self.0.extend(value);
        self
    }

    /// With a list of objects.
    pub(crate) fn list<'a>(self, key: &str, objects: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut list = Vec::new();
        for object in objects {
            put_head(ONLY, len(OBJECT, object.0.len()), &mut list);
            put(OBJECT, &object.0, &mut list);
        }
        self.with(key, LIST, &list)
    }

    fn with(mut self, key: &str, kind: u32, content: &[u8]) -> Self {
        put_entry(ONLY, key, len(kind, content.len()), &mut self.0);
        put(kind, content, &mut self.0);
        self
    }

    /// Envoy's metadata: the fields, under a filter's name.
    pub(crate) fn metadata(&self, filter: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() + filter.len() + 16);
        if self.0.is_empty() {
            put_head(ONLY, len(KEY, filter.len()), &mut out);
            put(KEY, filter.as_bytes(), &mut out);
        } else {
            put_entry(ONLY, filter, self.0.len(), &mut out);
            out.extend_from_slice(&self.0);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto;
    use xds::envoy::config::core::v3::Metadata;
    use xds::google::protobuf::{Struct, Value, value};

    #[test]
    fn metadata_is_what_the_message_would_be() {
        let check = |fields: Fields, expected: Struct| {
            let expected: Metadata = proto::metadata([("istio", expected)]);
            assert_eq!(fields.metadata("istio"), expected.encode_to_vec());
        };
        let object = Fields::default().text("a", "b").text("c", "");
        let same = [("a", proto::text("b")), ("c", proto::text(""))];
        let flag = Value {
            kind: Some(value::Kind::BoolValue(true)),
        };
        check(
            Fields::default()
                .flag("f")
                .list("l", [&object, &object])
                .text("t", "text"),
            proto::fields_of([
                ("f", flag),
                ("l", proto::list([proto::object(same.clone()), proto::object(same)])),
                ("t", proto::text("text")),
            ]),
        );
        check(
            Fields::default().list("l", []),
            proto::fields_of([("l", proto::list([]))]),
        );
        check(Fields::default(), Struct::default());
    }
}
