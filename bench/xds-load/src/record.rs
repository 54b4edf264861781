//! Keeps what a control plane answers to one sidecar, type by type.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::wire::{self, CLUSTER, ENDPOINT, LISTENER, METHOD, ROUTE, RawResponse, Request, Resource};
use crate::{Shape, sidecar};

/// Connects as sidecar 0 and writes a file for each type.
pub async fn record(address: &str, folder: &Path, shape: Shape) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let channel = tonic::transport::Endpoint::from_shared(address.to_owned())?
        .connect()
        .await;
    let channel = channel.with_context(|| format!("no control plane at {address}"))?;
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(256 << 20);
    client.ready().await?;
    let (requests, outgoing) = mpsc::channel::<Request>(64);
    for (index, type_url) in [CLUSTER, LISTENER].into_iter().enumerate() {
        let node = (index == 0).then(|| sidecar::node(shape, 0));
        requests
            .send(Request {
                node,
                type_url: type_url.to_owned(),
                ..Request::default()
            })
            .await?;
    }
    let codec = tonic_prost::ProstCodec::<Request, RawResponse>::default();
    let path = http::uri::PathAndQuery::from_static(METHOD);
    let mut responses = client
        .streaming(tonic::Request::new(ReceiverStream::new(outgoing)), path, codec)
        .await?
        .into_inner();
    let mut kept: BTreeMap<String, RawResponse> = BTreeMap::new();
    // Silence for a second ends the recording: everything asked for has come.
    while let Ok(response) = tokio::time::timeout(Duration::from_secs(1), responses.message()).await {
        let Some(response) = response? else { break };
        let acknowledgement = Request {
            type_url: response.type_url.clone(),
            nonce: response.nonce.clone(),
            ..Request::default()
        };
        requests.send(acknowledgement).await?;
        let decoded: Vec<Resource> = response
            .resources
            .iter()
            .filter_map(|r| Resource::decode(r.clone()).ok())
            .collect();
        let (type_url, names): (&str, Vec<String>) = match response.type_url.as_str() {
            CLUSTER => (ENDPOINT, decoded.iter().filter_map(wire::endpoint_set).collect()),
            LISTENER => (ROUTE, decoded.iter().flat_map(wire::route_names).collect()),
            _ => ("", Vec::new()),
        };
        if !names.is_empty() {
            requests
                .send(Request {
                    type_url: type_url.to_owned(),
                    subscribe: names,
                    ..Request::default()
                })
                .await?;
        }
        let entry = kept.entry(response.type_url.clone()).or_default();
        entry.type_url = response.type_url;
        entry.resources.extend(response.resources);
    }
    for (type_url, response) in &kept {
        let file = folder.join(format!("{}.bin", type_url.rsplit('.').next().unwrap_or_default()));
        std::fs::write(&file, response.encode_to_vec()).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
