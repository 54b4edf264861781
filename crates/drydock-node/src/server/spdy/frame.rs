//! Frames of SPDY/3.1: eight bytes of head, and header blocks compressed with a dictionary that the draft fixes.

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The dictionary of draft-mbelshe-httpbis-spdy-00 §2.6.10.1.
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");
/// Largest frame taken, largest data frame made (bytes); header blocks may unpack to `MAX_HEADERS`.
const MAX_FRAME: usize = 1 << 20;
pub(super) const MAX_DATA: usize = 32 << 10;
const MAX_HEADERS: usize = 64 << 10;
const MAX_HEADER_COUNT: usize = 128;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;
/// RST_STREAM status: cancelled.
const CANCEL: u32 = 5;

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Open {
        id: u32,
        headers: BTreeMap<String, String>,
        last: bool,
    },
    Data {
        id: u32,
        data: Bytes,
        last: bool,
    },
    Reset {
        id: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    Other,
}

fn bad(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("spdy: {what}"))
}

fn number(bytes: &[u8], at: usize) -> Result<u32> {
    let four = bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .ok_or_else(|| bad("frame too short"))?;
    Ok(u32::from_be_bytes(four))
}

fn control(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80, 3];
    out.extend(kind.to_be_bytes());
    out.push(flags);
    out.extend(&u32::try_from(payload.len()).unwrap_or(0).to_be_bytes()[1..]);
    out.extend(payload);
    out
}

/// A data frame; `payload` is at most [`MAX_DATA`] long.
pub(super) fn data(id: u32, last: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.push(if last { FIN } else { 0 });
    out.extend(&u32::try_from(payload.len()).unwrap_or(0).to_be_bytes()[1..]);
    out.extend(payload);
    out
}

pub(super) fn reset(id: u32) -> Vec<u8> {
    control(RST_STREAM, 0, &[id.to_be_bytes(), CANCEL.to_be_bytes()].concat())
}

pub(super) fn ping(id: u32) -> Vec<u8> {
    control(PING, 0, &id.to_be_bytes())
}

/// The server's compression state: header blocks of one connection build on each other.
pub(super) struct Encoder {
    zlib: Compress,
    primed: bool,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self {
            zlib: Compress::new(Compression::default(), true),
            primed: false,
        }
    }

    /// SYN_REPLY without headers.
    pub(super) fn reply(&mut self, id: u32) -> Vec<u8> {
        let mut payload = id.to_be_bytes().to_vec();
        payload.extend(self.block(&BTreeMap::new()));
        control(SYN_REPLY, 0, &payload)
    }

    fn block(&mut self, headers: &BTreeMap<String, String>) -> Vec<u8> {
        let text = |out: &mut Vec<u8>, t: &str| {
            out.extend(u32::try_from(t.len()).unwrap_or(0).to_be_bytes());
            out.extend(t.as_bytes());
        };
        let mut plain = u32::try_from(headers.len()).unwrap_or(0).to_be_bytes().to_vec();
        for (name, value) in headers {
            text(&mut plain, name);
            text(&mut plain, value);
        }
        if !std::mem::replace(&mut self.primed, true) {
            let _ = self.zlib.set_dictionary(DICTIONARY);
        }
        let mut out = Vec::with_capacity(plain.len() + 256);
        let _ = self.zlib.compress_vec(&plain, &mut out, FlushCompress::Sync);
        out
    }

    /// SYN_STREAM, for tests that play the client.
    #[cfg(test)]
    pub(super) fn open(&mut self, id: u32, headers: &BTreeMap<String, String>, last: bool) -> Vec<u8> {
        let mut payload = id.to_be_bytes().to_vec();
        payload.extend([0; 6]);
        payload.extend(self.block(headers));
        control(SYN_STREAM, if last { FIN } else { 0 }, &payload)
    }
}

/// The client's compression state.
pub(super) struct Decoder {
    zlib: Decompress,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            zlib: Decompress::new(true),
        }
    }

    /// The next frame.
    ///
    /// # Errors
    /// At the end of the connection, and if the client does not speak SPDY/3.1.
    pub(super) async fn next(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> Result<Frame> {
        let mut head = [0; 8];
        reader.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        if length > MAX_FRAME {
            return Err(bad("frame too large"));
        }
        let mut payload = vec![0; length];
        reader.read_exact(&mut payload).await?;
        let last = head[4] & FIN != 0;
        if head[0] & 0x80 == 0 {
            let id = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            return Ok(Frame::Data {
                id,
                data: payload.into(),
                last,
            });
        }
        Ok(match u16::from_be_bytes([head[2], head[3]]) {
            SYN_STREAM => {
                let id = number(&payload, 0)? & 0x7fff_ffff;
                let headers = self.headers(payload.get(10..).ok_or_else(|| bad("SYN_STREAM too short"))?)?;
                Frame::Open { id, headers, last }
            }
            RST_STREAM => Frame::Reset {
                id: number(&payload, 0)? & 0x7fff_ffff,
            },
            PING => Frame::Ping {
                id: number(&payload, 0)?,
            },
            GOAWAY => Frame::GoAway,
            _ => Frame::Other,
        })
    }

    fn headers(&mut self, block: &[u8]) -> Result<BTreeMap<String, String>> {
        let plain = self.inflate(block)?;
        let count = number(&plain, 0)? as usize;
        if count > MAX_HEADER_COUNT {
            return Err(bad("too many headers"));
        }
        let mut at = 4;
        let mut text = || {
            let length = number(&plain, at)? as usize;
            let bytes = plain
                .get(at + 4..(at + 4).saturating_add(length))
                .ok_or_else(|| bad("header too short"))?;
            at += 4 + length;
            Ok::<_, Error>(String::from_utf8_lossy(bytes).into_owned())
        };
        (0..count)
            .map(|_| Ok((text()?.to_ascii_lowercase(), text()?)))
            .collect()
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut piece = vec![0; 8 << 10];
        loop {
            let (in_before, out_before) = (self.zlib.total_in(), self.zlib.total_out());
            let result = self.zlib.decompress(block, &mut piece, FlushDecompress::Sync);
            let taken = (self.zlib.total_in() - in_before) as usize;
            let made = (self.zlib.total_out() - out_before) as usize;
            out.extend_from_slice(&piece[..made]);
            block = &block[taken.min(block.len())..];
            if out.len() > MAX_HEADERS {
                return Err(bad("headers too large"));
            }
            match result {
                Err(e) if e.needs_dictionary().is_some() => {
                    self.zlib
                        .set_dictionary(DICTIONARY)
                        .map_err(|_| bad("foreign dictionary"))?;
                }
                Err(_) => return Err(bad("broken header compression")),
                Ok(Status::StreamEnd) => return Ok(out),
                Ok(_) if block.is_empty() && made < piece.len() || taken == 0 && made == 0 => return Ok(out),
                Ok(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
    }

    #[tokio::test]
    async fn header_blocks_build_on_each_other() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let (one, two) = (
            headers(&[("streamtype", "error"), ("port", "80")]),
            headers(&[("streamtype", "data"), ("port", "80")]),
        );
        let bytes = [
            encoder.open(1, &one, true),
            encoder.open(3, &two, false),
            data(3, true, b"hi"),
            ping(7),
        ]
        .concat();
        let mut reader = bytes.as_slice();
        assert_eq!(
            decoder.next(&mut reader).await.unwrap(),
            Frame::Open {
                id: 1,
                headers: one,
                last: true
            }
        );
        assert_eq!(
            decoder.next(&mut reader).await.unwrap(),
            Frame::Open {
                id: 3,
                headers: two,
                last: false
            }
        );
        assert_eq!(
            decoder.next(&mut reader).await.unwrap(),
            Frame::Data {
                id: 3,
                data: "hi".into(),
                last: true
            }
        );
        assert_eq!(decoder.next(&mut reader).await.unwrap(), Frame::Ping { id: 7 });
        assert!(decoder.next(&mut reader).await.is_err());
    }

    #[tokio::test]
    async fn nonsense_is_an_error() {
        for bytes in [
            &[0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0][..],
            &[0x80, 3, 0, 1, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2],
            &[0, 0, 0, 1, 0, 0xff, 0xff, 0xff],
        ] {
            assert!(Decoder::new().next(&mut &bytes[..]).await.is_err(), "{bytes:?}");
        }
    }
}
