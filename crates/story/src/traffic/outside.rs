//! Requests from outside the mesh, through the ingress gateway.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::{Counter, PATIENCE, RATE};

/// Largest response that is read, in bytes.
const LARGEST: usize = 64 * 1024;

/// Address of the gateway: its load balancer's, else a node's with the node port.
pub async fn gateway(client: &Client) -> Result<String> {
    let services: Api<Service> = Api::namespaced(client.clone(), "istio-system");
    let service = services
        .get("istio-ingressgateway")
        .await
        .context("no Service istio-ingressgateway in istio-system")?;
    let ingress = service
        .status
        .and_then(|status| status.load_balancer)
        .and_then(|balancer| balancer.ingress);
    let entry = ingress.into_iter().flatten().next();
    if let Some(address) = entry.and_then(|entry| entry.ip.or(entry.hostname)) {
        return Ok(format!("{address}:80"));
    }
    let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
    let Some(port) = ports
        .iter()
        .find(|port| port.port == 80)
        .and_then(|port| port.node_port)
    else {
        bail!("Service istio-ingressgateway has neither a load balancer's address nor a node port for port 80");
    };
    let nodes: Api<Node> = Api::all(client.clone());
    let nodes = nodes.list(&Default::default()).await.context("cannot list nodes")?;
    let addresses = nodes
        .items
        .into_iter()
        .filter_map(|node| node.status?.addresses)
        .flatten();
    let internal = addresses.into_iter().find(|address| address.type_ == "InternalIP");
    Ok(format!(
        "{}:{port}",
        internal.context("no node has an internal address")?.address
    ))
}

fn client() -> Http<HttpConnector, Empty<Bytes>> {
    // A connection for every request: the hardest case for a gateway that is being replaced.
    Http::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build_http()
}

/// One request; the response must be httpbin's own echo of it.
async fn request(client: &Http<HttpConnector, Empty<Bytes>>, gateway: &str, number: u64) -> Result<(), String> {
    let uri = format!("http://{gateway}/get?number={number}");
    let request = http::Request::get(&uri)
        .header("host", "httpbin.example.com")
        .body(Empty::new());
    let request = request.map_err(|error| error.to_string())?;
    let exchange = async {
        let response = client
            .request(request)
            .await
            .map_err(|error| format!("request {number}: {error:?}"))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        let body = body
            .map_err(|error| format!("request {number}: the response broke off: {error}"))?
            .to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        if status != http::StatusCode::OK {
            return Err(format!("request {number}: {status} {}", text.trim()));
        }
        if !text.contains(&number.to_string()) {
            return Err(format!("request {number}: the response is not httpbin's"));
        }
        Ok(())
    };
    timeout(PATIENCE, exchange)
        .await
        .unwrap_or_else(|_| Err(format!("request {number}: no response in time")))
}

/// Waits until the gateway answers.
pub async fn first_answer(gateway: &str) -> Result<()> {
    let (client, deadline) = (client(), Instant::now() + Duration::from_secs(60));
    loop {
        match request(&client, gateway, 1_000_000).await {
            Ok(()) => return Ok(()),
            Err(reason) if Instant::now() > deadline => bail!("the gateway at {gateway} does not answer: {reason}"),
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Sends at a steady rate until it is stopped.
pub async fn send(gateway: String, counter: Counter, mut stopped: watch::Receiver<bool>) {
    let client = client();
    let mut ticks = interval(Duration::from_millis(1000 / RATE));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = JoinSet::new();
    for number in 1_000_001.. {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.changed() => break,
        }
        let (client, gateway, counter) = (client.clone(), gateway.clone(), counter.clone());
        under_way.spawn(async move { counter.outside(request(&client, &gateway, number).await) });
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
}
