//! A control plane: the real server over views of the world.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use ads::counters::Counters;
use ads::source::Answer;
use ads::{DiscoveryServer, Limits, Opened, Peer, ProxyInfo, Question, Refusal, Registry, Source, View};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use xds::envoy::config::core::v3::Node;

use crate::net::Net;
use crate::world::World;

/// One view per class, as a control plane has them.
struct Views(Mutex<BTreeMap<u32, watch::Sender<Option<Arc<View>>>>>);

impl Source for Views {
    fn open(&self, node: &Node, _: &Peer) -> Result<Opened, Refusal> {
        let class = node.id.split('~').nth(1).and_then(|class| class.parse().ok());
        let views = self.0.lock().unwrap();
        let view = class.and_then(|class: u32| views.get(&class));
        let view = view
            .ok_or_else(|| Refusal::InvalidArgument("no such class".to_owned()))?
            .subscribe();
        let info = ProxyInfo {
            proxy_id: node.id.clone(),
            is_proxy: true,
            ..ProxyInfo::default()
        };
        Ok(Opened { view, info })
    }

    fn answer(&self, _: &Question<'_>) -> Option<Result<Answer, Refusal>> {
        None
    }
}

pub struct Replica {
    number: usize,
    net: Net,
    views: Arc<Views>,
    pub registry: Arc<Registry>,
    pub counters: Arc<Counters>,
    task: AbortHandle,
}

impl Replica {
    /// Starts with the world as it is; knows nothing of what an earlier one sent.
    pub fn start(number: usize, net: &Net, world: &World, limits: Limits) -> Self {
        let views = [0, 1].map(|class| (class, watch::Sender::new(Some(world.view(class)))));
        let views = Arc::new(Views(Mutex::new(views.into())));
        let (registry, counters) = (Arc::new(Registry::default()), Arc::new(Counters::default()));
        let service = DiscoveryServer::new(views.clone(), limits, registry.clone(), counters.clone());
        let admit = |mut request: http::Request<tonic::body::Body>| {
            request.extensions_mut().insert(Peer::default());
            request
        };
        // The time of day takes more bytes or fewer, and is another one in the next run.
        let dated = |mut response: http::Response<tonic::body::Body>| {
            let moment = http::HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT");
            response.headers_mut().insert(http::header::DATE, moment);
            response
        };
        let server = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .layer(tower::util::MapRequestLayer::new(admit))
            .layer(tower::util::MapResponseLayer::new(dated))
            .add_service(service)
            .serve_with_incoming(UnboundedReceiverStream::new(net.listen(number)));
        let task = tokio::spawn(async { server.await.unwrap() }).abort_handle();
        Self {
            number,
            net: net.clone(),
            views,
            registry,
            counters,
            task,
        }
    }

    /// It learns how the world is; classes that are owed the same are not woken.
    pub fn learn(&self, world: &World) {
        for (class, sender) in &*self.views.0.lock().unwrap() {
            let newest = world.view(*class);
            sender.send_if_modified(|held| {
                let same = |url: &&str| held.as_ref().map(|view| view.get(url).hash()) == Some(newest.get(url).hash());
                let differs = !crate::world::TYPES.iter().all(same);
                if differs {
                    *held = Some(newest);
                }
                differs
            });
        }
    }

    pub fn number(&self) -> usize {
        self.number
    }

    /// Ends as a killed process does.
    pub fn kill(&self) {
        self.task.abort();
        self.net.close(self.number);
    }
}
