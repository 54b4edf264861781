//! The controllers against an API server, as users meet them.
#![allow(clippy::unwrap_used)]

mod cluster;

use cluster::Cluster;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, ResourceQuota, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    })
}

fn is_rolled_out(deployments: &[Deployment]) -> bool {
    deployments.iter().all(|deployment| {
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        deployment.status.as_ref().is_some_and(|status| {
            status.observed_generation == deployment.metadata.generation
                && status.updated_replicas == wanted
                && status.available_replicas == wanted
                && status.replicas == wanted
        })
    })
}

async fn set_image(cluster: &Cluster, name: &str, image: &str) {
    let change = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    let api = cluster.api::<Deployment>("default");
    api.patch(name, &PatchParams::default(), &Patch::Strategic(change))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_rolls_out_and_back() {
    let cluster = Cluster::start().await;
    cluster
        .create::<Deployment>("default", deployment("web", 2, "v1"))
        .await;
    cluster.until("default", "the first rollout", is_rolled_out).await;
    for image in ["v2", "v1"] {
        set_image(&cluster, "web", image).await;
        cluster.until("default", image, is_rolled_out).await;
    }
    let sets = cluster
        .until::<ReplicaSet>("default", "two sets", |sets| sets.len() == 2)
        .await;
    let mut told: Vec<_> = sets
        .iter()
        .map(|set| {
            let spec = set.spec.as_ref().unwrap();
            let image = spec.template.as_ref().unwrap().spec.as_ref().unwrap().containers[0]
                .image
                .clone()
                .unwrap();
            let revision = &set.annotations()["deployment.kubernetes.io/revision"];
            format!("revision {revision}: {image}, {} replicas", spec.replicas.unwrap())
        })
        .collect();
    told.sort();
    assert_eq!(told, ["revision 2: v2, 0 replicas", "revision 3: v1, 2 replicas"]);
    let events = cluster
        .until::<Event>("default", "events", |events| events.len() > 10)
        .await;
    let of = |reason: &str| {
        events
            .iter()
            .filter(|event| event.reason.as_deref() == Some(reason))
            .count()
    };
    assert!(of("ScalingReplicaSet") >= 7 && of("SuccessfulCreate") >= 6 && of("Scheduled") >= 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_fails_keeps_the_old_pods() {
    let cluster = Cluster::start().await;
    cluster
        .create::<Deployment>("default", deployment("web", 2, "v1"))
        .await;
    cluster.until("default", "the first rollout", is_rolled_out).await;
    // Pods that never become ready: their host name says so to the pretending node.
    let change = json!({"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/os": "plan9"}}}}});
    let api = cluster.api::<Deployment>("default");
    api.patch("web", &PatchParams::default(), &Patch::Strategic(change))
        .await
        .unwrap();
    let pods = cluster
        .until::<Pod>("default", "a pod that nobody takes", |pods| {
            pods.iter().any(|pod| {
                let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
                conditions
                    .into_iter()
                    .any(|c| c.reason.as_deref() == Some("Unschedulable"))
            })
        })
        .await;
    assert_eq!(pods.len(), 3, "two old pods and one surge");
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_follow_the_pods_of_a_service() {
    let cluster = Cluster::start().await;
    let service = json!({
        "metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]},
    });
    cluster.create::<Service>("default", service).await;
    cluster
        .create::<Deployment>("default", deployment("web", 1, "v1"))
        .await;
    let ready = |slices: &[EndpointSlice]| {
        let ours = slices.iter().filter(|slice| slice.name_any().starts_with("web-"));
        ours.flat_map(|slice| &slice.endpoints)
            .filter(|e| e.conditions.as_ref().unwrap().ready == Some(true))
            .count()
    };
    cluster
        .until("default", "a ready endpoint", |slices| ready(slices) == 1)
        .await;
    let scale = json!({"spec": {"replicas": 0}});
    let api = cluster.api::<Deployment>("default");
    api.patch_scale("web", &PatchParams::default(), &Patch::Merge(scale))
        .await
        .unwrap();
    cluster
        .until("default", "no endpoint", |slices| ready(slices) == 0)
        .await;
    cluster
        .api::<Service>("default")
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    cluster
        .until::<EndpointSlice>("default", "no slice", |slices| {
            slices.iter().all(|s| s.name_any() == "kubernetes")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_namespace_gets_what_pods_need_and_a_deleted_one_is_emptied() {
    let cluster = Cluster::start().await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    cluster
        .until::<ServiceAccount>("shop", "the account", |all| all.len() == 1)
        .await;
    cluster
        .until::<ConfigMap>("shop", "the root certificate", |all| all.len() == 1)
        .await;
    cluster.create::<Deployment>("shop", deployment("web", 2, "v1")).await;
    cluster.until("shop", "the rollout", is_rolled_out).await;
    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    cluster.until::<Pod>("shop", "no pods", |pods| pods.is_empty()).await;
    let gone = async {
        while namespaces.get_opt("shop").await.unwrap().is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), gone)
        .await
        .expect("the namespace goes");
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_take_along_what_they_own_or_leave_it() {
    let cluster = Cluster::start().await;
    for name in ["background", "foreground", "orphan"] {
        cluster.create::<Deployment>("default", deployment(name, 1, "v1")).await;
    }
    cluster.until("default", "the rollouts", is_rolled_out).await;
    let api = cluster.api::<Deployment>("default");
    for (name, policy) in [
        ("background", PropagationPolicy::Background),
        ("foreground", PropagationPolicy::Foreground),
        ("orphan", PropagationPolicy::Orphan),
    ] {
        let params = DeleteParams {
            propagation_policy: Some(policy),
            ..Default::default()
        };
        api.delete(name, &params).await.unwrap();
    }
    cluster
        .until::<Deployment>("default", "no deployment", |all| all.is_empty())
        .await;
    let sets = cluster
        .until::<ReplicaSet>("default", "the orphan", |sets| sets.len() == 1)
        .await;
    assert!(sets[0].name_any().starts_with("orphan-"));
    assert!(sets[0].owner_references().is_empty());
    cluster
        .until::<Pod>("default", "the orphan's pod", |pods| pods.len() == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_to_its_end() {
    let cluster = Cluster::start().await;
    let job = json!({
        "metadata": {"name": "work"},
        "spec": {"completions": 2, "template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}],
        }}},
    });
    // One pod at a time: the second may come, because the first no longer counts when it has ended.
    let quota = json!({"metadata": {"name": "one"}, "spec": {"hard": {"pods": "1", "count/pods": "2"}}});
    cluster.create::<ResourceQuota>("default", quota).await;
    let used = |pods: &'static str, objects: &'static str| {
        move |quotas: &[ResourceQuota]| {
            let used = quotas[0]
                .status
                .as_ref()
                .and_then(|status| status.used.clone())
                .unwrap_or_default();
            let told = |name: &str| used.get(name).map(|amount| amount.0.clone());
            told("pods").as_deref() == Some(pods) && told("count/pods").as_deref() == Some(objects)
        }
    };
    cluster.until("default", "a quota in force", used("0", "0")).await;
    cluster.create::<Job>("default", job).await;
    for done in 1..=2 {
        let running = |pod: &&Pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
        let pods = cluster
            .until::<Pod>("default", "a running pod", |pods| pods.iter().any(|p| running(&p)))
            .await;
        let name = pods.iter().find(running).unwrap().name_any();
        let ended = json!({"status": {"phase": "Succeeded"}});
        cluster
            .api::<Pod>("default")
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(ended))
            .await
            .unwrap();
        let counted = |jobs: &[Job]| jobs[0].status.as_ref().and_then(|status| status.succeeded) == Some(done);
        cluster.until("default", "the count", counted).await;
    }
    cluster
        .until::<Job>("default", "completion", |jobs| {
            let conditions = jobs[0]
                .status
                .as_ref()
                .and_then(|status| status.conditions.clone())
                .unwrap_or_default();
            conditions
                .iter()
                .any(|condition| condition.type_ == "Complete" && condition.status == "True")
        })
        .await;
    cluster.until("default", "the count of a quota", used("0", "2")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_when_nothing_changes() {
    let cluster = Cluster::start().await;
    cluster
        .create::<Deployment>("default", deployment("web", 2, "v1"))
        .await;
    cluster.until("default", "the rollout", is_rolled_out).await;
    let version = || async {
        let list = cluster
            .api::<Deployment>("default")
            .list(&Default::default())
            .await
            .unwrap();
        list.metadata.resource_version.unwrap()
    };
    // Events may still be on their way; then the server's version must stand still.
    let mut last = version().await;
    let mut still = 0;
    for _ in 0..200 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let now = version().await;
        still = if now == last { still + 1 } else { 0 };
        last = now;
        if still == 50 {
            return;
        }
    }
    panic!("somebody writes all the time");
}
