//! Two revisions of the program over the same objects, with proxies of an older and of the newest release: each leaves
//! out what is another's, and what is for all is the same bytes from both.
#![allow(clippy::unwrap_used, missing_docs)]

mod program;

use std::collections::{BTreeMap, BTreeSet};

use xds::envoy::config::core::v3::Node;
use xds::google::protobuf::{Struct, Value, value::Kind};

use program::{CLUSTER, Folder, LISTENER, Program};

const OBJECTS: &str = r"
apiVersion: v1
kind: Service
metadata: { name: shop, namespace: default }
spec: { clusterIP: 10.0.0.1, selector: { app: shop }, ports: [{ name: http, port: 80 }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: readers, namespace: default }
spec: { rules: [{ to: [{ operation: { methods: [GET], paths: [/public] } }] }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: of-stable, namespace: default, labels: { istio.io/rev: stable } }
spec: { host: shop, subsets: [{ name: stable, labels: { version: v1 } }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: of-canary, namespace: default, labels: { istio.io/rev: canary } }
spec: { host: shop, subsets: [{ name: canary, labels: { version: v2 } }] }
";

/// Name → version (the hash of the content) of everything of a type that a sidecar of that release is sent.
async fn sent(istiod: &Program, release: &str, type_url: &str) -> BTreeMap<String, String> {
    let release = Value {
        kind: Some(Kind::StringValue(release.to_owned())),
    };
    let node = Node {
        id: "sidecar~10.0.0.9~p.default~default.svc.cluster.local".to_owned(),
        metadata: Some(Struct {
            fields: [("ISTIO_VERSION".to_owned(), release)].into(),
        }),
        ..Node::default()
    };
    let response = istiod.connect(node, type_url).await.next().await;
    let resources = response.resources.into_iter();
    resources.map(|one| (one.name, one.version)).collect()
}

#[tokio::test]
async fn two_revisions_read_the_same_objects_and_leave_out_what_is_not_theirs() {
    let folder = Folder::new("revisions");
    std::fs::write(folder.0.join("objects.yaml"), OBJECTS).unwrap();
    let [stable, canary] = ["stable", "canary"].map(|revision| Program::start(revision, &folder.0, &[]));
    for release in ["1.24.6", "1.32.0"] {
        let (of_stable, of_canary) = (
            sent(&stable, release, CLUSTER).await,
            sent(&canary, release, CLUSTER).await,
        );
        let subsets = |sent: &BTreeMap<String, String>| {
            let subset = |name: &String| Some(name.strip_prefix("outbound|80|")?.split('|').next()?.to_owned());
            sent.keys().filter_map(subset).collect::<BTreeSet<String>>()
        };
        assert_eq!(
            subsets(&of_stable),
            ["", "stable"].map(str::to_owned).into(),
            "{release}"
        );
        assert_eq!(
            subsets(&of_canary),
            ["", "canary"].map(str::to_owned).into(),
            "{release}"
        );
        // Policies and everything else that listeners say are for both, and the same for both.
        assert_eq!(
            sent(&stable, release, LISTENER).await,
            sent(&canary, release, LISTENER).await,
            "{release}"
        );
    }
}
