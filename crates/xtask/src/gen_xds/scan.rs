//! Finding the serialised file descriptors in a binary.
//!
//! Generated C++ code keeps each `FileDescriptorProto` as one string. It begins with field 1, the file's name
//! (`0x0a`, length, `….proto`), followed by field 2, the package (`0x12`), and its fields follow in ascending groups, so
//! that its end is where the bytes stop looking like its fields.

use prost::Message;
use prost_types::FileDescriptorProto;
use std::collections::BTreeMap;

/// First folders of the files that are looked for.
const ROOTS: [&str; 10] = [
    "envoy/",
    "xds/",
    "udpa/",
    "validate/",
    "google/",
    "opentelemetry/",
    "cel/",
    "contrib/",
    "io/",
    "grpc/",
];
/// Fields of `FileDescriptorProto` by wire type.
const LENGTH_DELIMITED: [u64; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12];
const VARINT: [u64; 3] = [10, 11, 14];
const MAX_FIELD: u64 = 5_000_000;

/// All descriptors by file name. A file that occurs twice is the same file: the last one is taken.
pub fn descriptors(binary: &[u8]) -> BTreeMap<String, FileDescriptorProto> {
    let mut out = BTreeMap::new();
    for offset in 0..binary.len().saturating_sub(16) {
        if !begins(&binary[offset..]) {
            continue;
        }
        let end = end(binary, offset);
        match FileDescriptorProto::decode(&binary[offset..end]) {
            Ok(file) if file.name.is_some() => drop(out.insert(file.name().to_string(), file)),
            _ => {}
        }
    }
    out
}

fn begins(at: &[u8]) -> bool {
    let length = at[1] as usize;
    if at[0] != 0x0a || !(8..0x80).contains(&length) || at.get(2 + length) != Some(&0x12) {
        return false;
    }
    let name = &at[2..2 + length];
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"_/-.".contains(b);
    name.ends_with(b".proto") && name.iter().all(plain) && ROOTS.iter().any(|r| name.starts_with(r.as_bytes()))
}

/// Where the descriptor that begins at `start` ends.
fn end(data: &[u8], start: usize) -> usize {
    let mut at = start;
    loop {
        let Some((tag, body)) = varint(data, at) else { return at };
        let (field, wire) = (tag >> 3, tag & 7);
        let next = match wire {
            // A second name is the next descriptor.
            2 if field == 1 && at != start => None,
            2 if LENGTH_DELIMITED.contains(&field) => varint(data, body)
                .filter(|(n, _)| *n <= MAX_FIELD)
                .map(|(n, from)| from + n as usize),
            0 if VARINT.contains(&field) => varint(data, body).map(|(_, next)| next),
            _ => None,
        };
        match next.filter(|n| *n <= data.len()) {
            Some(next) => at = next,
            None => return at,
        }
    }
}

fn varint(data: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let byte = *data.get(at)?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        at += 1;
        if byte < 0x80 {
            return Some((value, at));
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_descriptors_between_other_bytes() {
        let file = |name: &str| FileDescriptorProto {
            name: Some(name.into()),
            package: Some("envoy.x".into()),
            dependency: vec!["a.proto".into()],
            syntax: Some("proto3".into()),
            ..Default::default()
        };
        let (one, two) = (
            file("envoy/x/one.proto").encode_to_vec(),
            file("xds/two.proto").encode_to_vec(),
        );
        let binary = [&b"\x7fELF \x0a\x10nothing"[..], &one, &two, &[0; 40]].concat();
        let found = descriptors(&binary);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["envoy/x/one.proto", "xds/two.proto"]);
        assert_eq!(found["envoy/x/one.proto"].dependency, ["a.proto"]);
    }
}
