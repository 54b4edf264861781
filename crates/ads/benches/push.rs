//! What one push costs the protocol itself, in time and allocations: no translation, no sockets, only the streams of
//! many sidecars that follow one view. The mesh is that of the load suite: 1,000 services with an endpoint set each.
//!
//! `cargo bench -p ads` prints the table; figures are for all streams of a row together, so `allocs` divided by the
//! number of streams is what one push allocates.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use ads::diff::Shared;
use ads::{Limits, Protocol, Stream, View, kinds};
use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use prost::Message;
use xds::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use xds::google::protobuf::StringValue;
use xds::resource::{Resource, ResourceSet};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const SERVICES: usize = 1000;
/// Largest frame of HTTP/2, in bytes.
const FRAME: usize = 16 << 10;
/// Types in the order in which Envoy asks, with the size of their resources in bytes, as the load suite receives them.
const TYPES: [(&str, usize, usize); 4] = [
    (kinds::CLUSTER, SERVICES, 1_100),
    (kinds::LISTENER, 3, 10_000),
    (kinds::ENDPOINT, SERVICES, 300),
    (kinds::ROUTE, 1, 490_000),
];

fn main() {
    divan::main();
}

/// The mesh, of which one endpoint set is in one of two states.
fn view(state: usize) -> Arc<View> {
    let sets = TYPES.map(|(url, count, size)| {
        let resources = (0..count).map(|number| {
            let state = if url == kinds::ENDPOINT && number == 0 {
                state
            } else {
                0
            };
            let value = format!("{state}").repeat(size);
            Arc::new(Resource::encode(format!("{number:04}"), &StringValue { value }))
        });
        (kinds::intern(url), Arc::new(ResourceSet::new(resources)))
    });
    Arc::new(View::new(BTreeMap::from(sets), SystemTime::UNIX_EPOCH))
}

fn subscriptions() -> Vec<DeltaDiscoveryRequest> {
    let names = |count: usize| (0..count).map(|number| format!("{number:04}")).collect();
    let request = |(url, count, _): (&str, usize, usize)| DeltaDiscoveryRequest {
        type_url: url.to_owned(),
        resource_names_subscribe: match url {
            kinds::CLUSTER | kinds::LISTENER => Vec::new(),
            _ => names(count),
        },
        ..DeltaDiscoveryRequest::default()
    };
    TYPES.map(request).into()
}

/// What is shared by all streams of a server.
struct Server {
    limits: Arc<Limits>,
    shared: Arc<Shared>,
}

impl Server {
    fn new() -> Self {
        let limits = Arc::new(Limits::default());
        let shared = Arc::new(Shared::new(&limits));
        Self { limits, shared }
    }

    fn stream(&self, view: &Arc<View>) -> Stream {
        Stream::new(Protocol::Delta, view.clone(), self.limits.clone(), self.shared.clone())
    }
}

/// Everything that a stream has to say, as the wire takes it.
fn send(stream: &mut Stream, mut frame: impl FnMut(Bytes)) {
    while let Some(mut response) = stream.poll(SystemTime::UNIX_EPOCH) {
        while let Some(bytes) = response.frames.next_frame(FRAME) {
            frame(bytes);
        }
    }
}

/// The acknowledgements of responses in frames.
fn acknowledgements(frames: &[Bytes]) -> Vec<DeltaDiscoveryRequest> {
    let bytes = frames.concat();
    let (mut rest, mut requests) = (&bytes[..], Vec::new());
    while let Some((head, after)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let response = DeltaDiscoveryResponse::decode(&after[..length]).expect("a response");
        requests.push(DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        });
        rest = &after[length..];
    }
    requests
}

/// Streams of sidecars that have everything.
struct Fleet {
    streams: Vec<Stream>,
    /// What each was sent and has not acknowledged.
    sent: Vec<Vec<Bytes>>,
    views: [Arc<View>; 2],
    pushes: usize,
}

impl Fleet {
    fn in_sync(sidecars: usize) -> Self {
        let (server, views) = (Server::new(), [view(0), view(1)]);
        let mut fleet = Self {
            streams: (0..sidecars).map(|_| server.stream(&views[0])).collect(),
            sent: vec![Vec::with_capacity(8); sidecars],
            views,
            pushes: 0,
        };
        for stream in &mut fleet.streams {
            for request in subscriptions() {
                stream.on_delta(request).expect("a subscription");
                let mut frames = Vec::new();
                send(stream, |frame| frames.push(frame));
                acknowledge(stream, acknowledgements(&frames));
            }
            send(stream, |_| panic!("there is more than was asked for"));
        }
        fleet
    }

    /// The other of the two views, after all have acknowledged the last.
    fn next(&mut self) -> Arc<View> {
        for (stream, sent) in self.streams.iter_mut().zip(&mut self.sent) {
            acknowledge(stream, acknowledgements(sent));
            sent.clear();
        }
        self.pushes += 1;
        self.views[self.pushes % 2].clone()
    }

    fn push(&mut self, view: &Arc<View>) {
        for (stream, sent) in self.streams.iter_mut().zip(&mut self.sent) {
            stream.set_view(view.clone());
            send(stream, |frame| sent.push(frame));
            assert!(!sent.is_empty(), "nothing was sent");
        }
    }
}

fn acknowledge(stream: &mut Stream, requests: Vec<DeltaDiscoveryRequest>) {
    for request in requests {
        stream.on_delta(request).expect("an acknowledgement");
    }
}

/// One endpoint changes, and every stream is sent it. One push is one sample: the next waits for its acknowledgements.
#[divan::bench(args = [1, 500, 2000], sample_size = 1)]
fn endpoint_change(bencher: Bencher<'_, '_>, sidecars: usize) {
    let fleet = RefCell::new(Fleet::in_sync(sidecars));
    bencher
        .counter(ItemsCount::new(sidecars))
        .with_inputs(|| fleet.borrow_mut().next())
        .bench_local_values(|view| fleet.borrow_mut().push(&view));
}

/// Every stream takes in the acknowledgement of that.
#[divan::bench(args = [1, 500, 2000], sample_size = 1)]
fn acknowledgement(bencher: Bencher<'_, '_>, sidecars: usize) {
    let fleet = RefCell::new(Fleet::in_sync(sidecars));
    bencher
        .counter(ItemsCount::new(sidecars))
        .with_inputs(|| {
            let mut fleet = fleet.borrow_mut();
            let view = fleet.next();
            fleet.push(&view);
            fleet
                .sent
                .iter_mut()
                .map(|sent| acknowledgements(&std::mem::take(sent)))
                .collect()
        })
        .bench_local_values(|requests: Vec<Vec<DeltaDiscoveryRequest>>| {
            for (stream, requests) in fleet.borrow_mut().streams.iter_mut().zip(requests) {
                acknowledge(stream, requests);
            }
        });
}

/// A sidecar connects to a server that served others like it: everything is asked for and sent.
#[divan::bench]
fn connection(bencher: Bencher<'_, '_>) {
    let (server, view) = (Server::new(), view(0));
    let connect = |requests: Vec<DeltaDiscoveryRequest>| {
        let mut stream = server.stream(&view);
        let mut bytes = 0;
        for request in requests {
            stream.on_delta(request).expect("a subscription");
            send(&mut stream, |frame| bytes += frame.len());
        }
        (stream, bytes)
    };
    connect(subscriptions());
    bencher
        .counter(ItemsCount::new(1usize))
        .with_inputs(subscriptions)
        .bench_local_values(connect);
}
