//! The server as a client sees it: what must hold whatever the recorded stories cover.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use drydock_api::{Config, Handle, Server};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("drydock-api-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

async fn client(server: &Handle) -> Client {
    let config = Kubeconfig::from_yaml(&server.kubeconfig().unwrap()).unwrap();
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({ "metadata": { "name": name }, "data": { "k": value } })).unwrap()
}

#[tokio::test]
async fn objects_survive_a_restart() {
    let path = directory("restart");
    let server = Server::start(Config::new(&path)).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client(&server).await, "default");
    let made = maps
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    drop(maps);
    server.shutdown().await;
    // The store is free once the last connection has let go of it.
    let server = loop {
        match Server::start(Config::new(&path)).await {
            Ok(server) => break server,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let maps: Api<ConfigMap> = Api::namespaced(client(&server).await, "default");
    assert_eq!(maps.get("a").await.unwrap().metadata.uid, made.metadata.uid);
    server.shutdown().await;
}

#[tokio::test]
async fn concurrent_patches_all_count() {
    let server = Server::start(Config::new(directory("patches"))).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client(&server).await, "default");
    maps.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let patches = (0..40).map(|number| {
        let maps = maps.clone();
        async move {
            let patch = json!({ "data": { format!("n{number}"): "x" } });
            maps.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await
        }
    });
    futures::stream::iter(patches)
        .buffer_unordered(20)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    assert_eq!(maps.get("a").await.unwrap().data.unwrap().len(), 41);
    server.shutdown().await;
}

#[tokio::test]
async fn concurrent_applies_of_a_new_object_all_succeed() {
    let server = Server::start(Config::new(directory("applies"))).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client(&server).await, "default");
    for round in 0..5 {
        let name = format!("m{round}");
        let params = PatchParams::apply("somebody");
        let applies = (0..10).map(|_| {
            let (maps, name, params) = (maps.clone(), name.clone(), params.clone());
            let map =
                json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "k": "v" } });
            async move { maps.patch(&name, &params, &Patch::Apply(map)).await }
        });
        let all = futures::stream::iter(applies).buffer_unordered(10);
        all.try_collect::<Vec<_>>().await.unwrap();
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_watch_sees_every_change_once() {
    let server = Server::start(Config::new(directory("watch"))).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client(&server).await, "default");
    let start = maps
        .list(&ListParams::default())
        .await
        .unwrap()
        .metadata
        .resource_version
        .unwrap();
    for number in 0..20 {
        let name = format!("m{number}");
        maps.create(&PostParams::default(), &config_map(&name, "1"))
            .await
            .unwrap();
        maps.delete(&name, &DeleteParams::default()).await.unwrap();
    }
    let events: Vec<String> = maps
        .watch(&WatchParams::default(), &start)
        .await
        .unwrap()
        .take(40)
        .map(|event| match event.unwrap() {
            WatchEvent::Added(map) => format!("+{}", map.metadata.name.unwrap()),
            WatchEvent::Deleted(map) => format!("-{}", map.metadata.name.unwrap()),
            other => format!("{other:?}"),
        })
        .collect()
        .await;
    let expected: Vec<String> = (0..20)
        .flat_map(|number| [format!("+m{number}"), format!("-m{number}")])
        .collect();
    assert_eq!(events, expected);
    server.shutdown().await;
}

#[tokio::test]
async fn too_much_is_refused() {
    let server = Server::start(Config::new(directory("bounds"))).await.unwrap();
    let client = client(&server).await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let error = maps
        .create(&PostParams::default(), &config_map("big", &"x".repeat(10 << 20)))
        .await
        .unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.code == 413));
    let nested = format!("{}1{}", "{\"a\":".repeat(5000), "}".repeat(5000));
    let request = http::Request::post("/api/v1/namespaces").header("content-type", "application/json");
    let error = client
        .request_text(request.body(nested.into_bytes()).unwrap())
        .await
        .unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.code == 400));
    let error = Api::<Namespace>::all(client).get(&"n".repeat(5000)).await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.code == 400));
    server.shutdown().await;
}
