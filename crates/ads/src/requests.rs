//! Requests as gRPC frames them. What arrives is kept only until a message is whole: between requests a stream holds
//! no buffer, however large its largest request was.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body as _;
use prost::Message;
use tonic::Status;
use tonic::body::Body;

use crate::wire::GRPC_HEAD;

/// The messages of a request body.
pub(crate) struct Requests<R> {
    body: Body,
    framing: Framing,
    message: PhantomData<fn() -> R>,
}

impl<R: Message + Default> Requests<R> {
    /// Messages of at most `bound` bytes.
    pub(crate) fn new(body: Body, bound: usize) -> Self {
        Self {
            body,
            framing: Framing {
                buffer: BytesMut::new(),
                bound,
            },
            message: PhantomData,
        }
    }

    /// The next message; `None` when the peer has said its last.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<R, Status>>> {
        loop {
            match self.framing.next() {
                Ok(None) => {}
                Ok(Some(message)) => {
                    let decoded = R::decode(message)
                        .map_err(|error| Status::invalid_argument(format!("the request cannot be decoded: {error}")));
                    return Poll::Ready(Some(decoded));
                }
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None if self.framing.buffer.is_empty() => return Poll::Ready(None),
                None => {
                    self.framing.buffer = BytesMut::new();
                    let status = Status::invalid_argument("the stream ended in the middle of a request");
                    return Poll::Ready(Some(Err(status)));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.framing.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
            }
        }
    }
}

/// Bytes in, messages out.
struct Framing {
    buffer: BytesMut,
    bound: usize,
}

impl Framing {
    /// The next whole message, not decoded.
    fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if self.buffer.len() < GRPC_HEAD {
            return Ok(None);
        }
        let mut head = &self.buffer[..GRPC_HEAD];
        if head.get_u8() != 0 {
            return Err(Status::unimplemented("requests are compressed; send them as they are"));
        }
        let length = head.get_u32() as usize;
        if length > self.bound {
            return Err(Status::out_of_range(format!(
                "a request of {length} bytes is larger than the limit of {}",
                self.bound
            )));
        }
        if self.buffer.len() < GRPC_HEAD + length {
            return Ok(None);
        }
        self.buffer.advance(GRPC_HEAD);
        let message = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn framing() -> Framing {
        Framing {
            buffer: BytesMut::new(),
            bound: 64,
        }
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend(message);
        bytes
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_bytes_arrive(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..8),
            step in 1..40_usize,
        ) {
            let mut framing = framing();
            let bytes: Vec<u8> = messages.iter().flat_map(|m| framed(m)).collect();
            let mut read = Vec::new();
            for part in bytes.chunks(step) {
                framing.buffer.extend_from_slice(part);
                while let Some(message) = framing.next().unwrap() {
                    read.push(message.to_vec());
                }
            }
            prop_assert_eq!(read, messages);
            prop_assert_eq!(framing.buffer.capacity(), 0, "nothing is kept between requests");
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut framing = framing();
            framing.buffer.extend_from_slice(&bytes);
            while let Ok(Some(message)) = framing.next() {
                prop_assert!(message.len() <= framing.bound);
            }
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_arrives() {
        let mut framing = framing();
        framing.buffer.extend_from_slice(&[0, 0, 0, 0, 65]);
        assert_eq!(framing.next().unwrap_err().code(), tonic::Code::OutOfRange);
    }
}
