//! Requests as gRPC frames them. What arrives is kept only until a message is whole: between requests a stream holds
//! no buffer, however large its largest request was. All requests that are on their way at one time share a number of
//! bytes; a large one is not read on before it has its own.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body as _;
use prost::Message;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;

use crate::fields::{self, Shape};
use crate::limits::Limits;
use crate::room::{Room, Taking};
use crate::wire::GRPC_HEAD;

/// A request of this size fits the frame in which it begins, and needs no room of its own.
const SMALL: usize = 16 << 10;

/// A request, and its room if it was large.
#[derive(Debug)]
pub(crate) struct Received<R> {
    pub message: R,
    pub room: Option<OwnedSemaphorePermit>,
}

/// The messages of a request body.
pub(crate) struct Requests<R> {
    body: Body,
    framing: Framing,
    limits: Arc<Limits>,
    room: Arc<Room>,
    /// Of the request that is being received.
    own: Option<OwnedSemaphorePermit>,
    taking: Option<Taking>,
    message: PhantomData<fn() -> R>,
}

impl<R: Message + Default> Requests<R> {
    /// Messages within these limits.
    pub(crate) fn new(body: Body, limits: Arc<Limits>, room: Arc<Room>) -> Self {
        Self {
            body,
            framing: Framing {
                buffer: BytesMut::new(),
                bound: limits.request_bytes,
            },
            limits,
            room,
            own: None,
            taking: None,
            message: PhantomData,
        }
    }

    /// Whether no request has begun that is not whole.
    pub(crate) fn is_between(&self) -> bool {
        self.framing.buffer.is_empty()
    }

    /// The next message; `None` when the peer has said its last.
    pub(crate) fn poll_next(
        &mut self,
        shape: &Shape,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Received<R>, Status>>> {
        loop {
            match self.framing.next() {
                Ok(None) => {}
                Ok(Some(message)) => return Poll::Ready(Some(self.decode(shape, message))),
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
            ready!(self.poll_room(cx));
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

    /// Ready when the request that has begun may be read on.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let large = self.framing.expects().filter(|bytes| *bytes > SMALL);
        let Some(bytes) = large.filter(|_| self.own.is_none()) else {
            return Poll::Ready(());
        };
        let taking = self.taking.get_or_insert_with(|| self.room.take(bytes));
        // Nobody closes the semaphore.
        self.own = ready!(taking.as_mut().poll(cx)).ok();
        self.taking = None;
        Poll::Ready(())
    }

    fn decode(&mut self, shape: &Shape, message: Bytes) -> Result<Received<R>, Status> {
        let room = self.own.take();
        fields::check(&message, shape, &self.limits)?;
        let message = R::decode(message)
            .map_err(|error| Status::invalid_argument(format!("the request cannot be decoded: {error}")))?;
        Ok(Received { message, room })
    }
}

/// Bytes in, messages out.
struct Framing {
    buffer: BytesMut,
    bound: usize,
}

impl Framing {
    /// Size of the request that has begun, if that is known.
    fn expects(&self) -> Option<usize> {
        let length = self.buffer.get(1..GRPC_HEAD)?;
        Some(length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    /// The next whole message, not decoded.
    fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(length) = self.expects() else {
            return Ok(None);
        };
        if self.buffer[0] != 0 {
            return Err(Status::unimplemented("requests are compressed; send them as they are"));
        }
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
    use http_body::Frame;
    use proptest::prelude::*;
    use tokio::sync::mpsc;
    use xds::envoy::service::discovery::v3::DeltaDiscoveryRequest;

    use super::*;
    use crate::server::Request;

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

    struct Chunks(mpsc::UnboundedReceiver<Vec<u8>>);

    impl http_body::Body for Chunks {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            let chunk = ready!(self.0.poll_recv(cx));
            Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk.into()))))
        }
    }

    /// A peer whose request of so many bytes has begun to arrive, and the rest of it.
    struct Arriving {
        requests: Requests<DeltaDiscoveryRequest>,
        more: mpsc::UnboundedSender<Vec<u8>>,
        rest: Vec<u8>,
    }

    impl Arriving {
        fn new(bytes: usize, room: &Arc<Room>) -> Self {
            let (more, chunks) = mpsc::unbounded_channel();
            let request = DeltaDiscoveryRequest {
                type_url: "x".repeat(bytes),
                ..DeltaDiscoveryRequest::default()
            };
            let mut begin = framed(&request.encode_to_vec());
            let rest = begin.split_off(20);
            more.send(begin).unwrap();
            let body = Body::new(Chunks(chunks));
            Self {
                requests: Requests::new(body, Arc::default(), room.clone()),
                more,
                rest,
            }
        }

        fn poll(&mut self) -> Option<Received<DeltaDiscoveryRequest>> {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            match self.requests.poll_next(&DeltaDiscoveryRequest::SHAPE, &mut cx) {
                Poll::Pending => None,
                Poll::Ready(received) => Some(received.unwrap().unwrap()),
            }
        }

        fn arrive(&mut self) {
            self.more.send(std::mem::take(&mut self.rest)).unwrap();
        }
    }

    #[test]
    fn large_requests_wait_for_room_and_small_ones_do_not() {
        let room = Arc::new(Room::new(100_000));
        let mut one = Arriving::new(80_000, &room);
        assert!(one.poll().is_none() && !one.requests.is_between());
        let mut other = Arriving::new(70_000, &room);
        assert!(other.poll().is_none());
        other.arrive();
        assert!(other.poll().is_none(), "there is no room for both");
        let mut small = Arriving::new(1000, &room);
        small.arrive();
        assert!(small.poll().is_some_and(|received| received.room.is_none()));
        one.arrive();
        let received = one.poll().unwrap();
        assert!(one.requests.is_between());
        assert!(other.poll().is_none(), "what is not worked on yet still takes room");
        drop(received);
        assert_eq!(other.poll().unwrap().message.type_url.len(), 70_000);
    }

    #[test]
    fn one_that_is_larger_than_all_room_waits_until_it_is_alone_and_one_that_leaves_makes_room() {
        let room = Arc::new(Room::new(100_000));
        let mut gone = Arriving::new(80_000, &room);
        assert!(gone.poll().is_none());
        let mut huge = Arriving::new(300_000, &room);
        huge.arrive();
        assert!(huge.poll().is_none());
        drop(gone);
        assert!(huge.poll().is_some());
    }
}
