//! The type of a discovery message, without decoding the message.

/// Field 4 of `DiscoveryRequest`, `DiscoveryResponse` and `DeltaDiscoveryResponse`.
const TYPE_URL: u64 = 4;

/// The type URL in field `type_url` of a discovery response (SotW or delta), if the message is well formed.
pub fn type_url(message: &[u8]) -> Option<&str> {
    let mut rest = message;
    let mut found = None;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let length = match key & 7 {
            0 => {
                varint(&mut rest)?;
                continue;
            }
            1 => 8,
            5 => 4,
            2 => usize::try_from(varint(&mut rest)?).ok()?,
            _ => return None,
        };
        let (field, tail) = rest.split_at_checked(length)?;
        if key >> 3 == TYPE_URL && key & 7 == 2 {
            found = std::str::from_utf8(field).ok();
        }
        rest = tail;
    }
    found
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;
    use xds::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
    use xds::google::protobuf::Any;

    #[test]
    fn of_both_protocols() {
        let url = "type.googleapis.com/istio.networking.nds.v1.NameTable";
        let resources = vec![Any {
            type_url: "x".into(),
            value: vec![0; 300].into(),
        }];
        let sotw = DiscoveryResponse {
            type_url: url.into(),
            resources,
            nonce: "n".into(),
            canary: true,
            ..Default::default()
        };
        assert_eq!(type_url(&sotw.encode_to_vec()), Some(url));
        let delta = DeltaDiscoveryResponse {
            type_url: url.into(),
            removed_resources: vec!["a".into()],
            ..Default::default()
        };
        assert_eq!(type_url(&delta.encode_to_vec()), Some(url));
        assert_eq!(type_url(&[]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = type_url(&bytes);
        }
    }
}
