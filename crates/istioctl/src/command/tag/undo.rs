//! `istioctl tag undo`: the way back to the revision that a tag pointed at before.

use std::time::Duration;

use clap::Args;
use install::inventory;
use install::tag::{Request, TagError};
use revision::name::{Revision, Tag};

use super::{How, change, is_forced};
use crate::cli::Global;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::out::Format;

/// Flags of `undo`.
#[derive(Debug, Args)]
pub struct UndoFlags {
    /// The tag.
    tag: String,
    /// Point the tag back even at a revision that has no ready istiod, or does not answer: until it does, new pods of
    /// the tag's namespaces are refused. One that Helm made is taken over, for a revision that answers.
    #[arg(long)]
    force: bool,
    /// Ask whether the tag could be moved back, and say what would follow it; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Output format; json and yaml are for programs.
    #[arg(short, long, default_value = "table")]
    output: Format,
}

pub(super) async fn run(global: &Global, flags: UndoFlags) -> Result<(), Failure> {
    let cluster = Cluster::connect(global).await?;
    let before = inventory::read(&cluster.server, &global.istio_namespace).await?;
    let Some(revision) = before.previous(&flags.tag) else {
        return Err(TagError::NotMoved(flags.tag).into());
    };
    let request = Request {
        tag: Tag::parse(&flags.tag)?,
        revision: Revision::parse(revision)?,
        namespace: global.istio_namespace.clone(),
        overwrite: true,
        force: is_forced(flags.force, &flags.tag, &before),
        take_over: flags.force,
        automatic: false,
        webhook_name: None,
        labels: Default::default(),
    };
    let how = How {
        dry_run: flags.dry_run,
        // The way back is not held up: the tag has these webhooks already.
        skip_confirmation: true,
        output: flags.output,
        is_undo: true,
    };
    change(&cluster, &request, &before, how).await
}

/// An undo of which nobody knows whether it was done: a second one would take it back.
pub(super) fn unknown(verb: &str, object: &str, after: Duration, tag: &str, revision: &str) -> String {
    format!(
        "cannot {verb} {object}: the API server did not answer within {after:?}; whether it was done is not known, and a \
         second undo would take it back. Instead: istioctl tag set {tag} --revision {revision} --overwrite"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::convert::Infallible;
    use std::sync::Arc;

    use clap::Parser as _;
    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::{Value, json};
    use status::forward::PortForward;

    use super::*;
    use crate::cli::Cli;

    fn webhook(name: &str, revision: &str, metadata: Value) -> Value {
        let mut object = json!({"metadata": metadata, "webhooks": [{"name": "rev.namespace.sidecar-injector.istio.io",
            "clientConfig": {"service": {"namespace": "istio-system", "name": format!("istiod-{revision}")}}}]});
        object["metadata"]["name"] = name.into();
        object["metadata"]["resourceVersion"] = "1".into();
        object["metadata"]["labels"]["istio.io/rev"] = revision.into();
        object
    }

    /// A cluster whose tag `prod` went from `old` to `new`; of what is written nothing is heard.
    fn cluster() -> Cluster {
        let items = json!([
            webhook("istio-sidecar-injector-old", "old", json!({})),
            webhook("istio-sidecar-injector-new", "new", json!({})),
            webhook(
                "istio-revision-tag-prod",
                "new",
                json!({"labels": {"istio.io/tag": "prod"}, "annotations": {"trysail.dev/previous-revision": "old"}}),
            ),
        ]);
        let service = tower::service_fn(move |request: Request<Body>| {
            let is_write = request.method() != http::Method::GET && !request.uri().to_string().contains("dryRun=All");
            let items = match request.uri().path().ends_with("/mutatingwebhookconfigurations") {
                true => items.clone(),
                false => json!([]),
            };
            let body = json!({"kind": "List", "apiVersion": "v1", "metadata": {"name": "x"}, "items": items});
            async move {
                if is_write {
                    return std::future::pending().await;
                }
                Ok::<_, Infallible>(Response::new(Body::from(body.to_string().into_bytes())))
            }
        });
        let client = Client::new(service, "default");
        let reach = PortForward::new(client.clone(), Duration::from_secs(15));
        Cluster::with(client, Arc::new(reach), "default")
    }

    async fn check(line: &str) -> String {
        let mut cli = Cli::try_parse_from(line.split(' ')).unwrap();
        cli.global.cluster = Some(cluster());
        crate::command::run(cli).await.unwrap_err().message().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_itself_back_is_not_run_again_on_suspicion() {
        insta::assert_snapshot!(check("istioctl tag undo prod --force").await, @"cannot create Service/istio-system/istiod-revision-tag-prod: the API server did not answer within 40s; whether it was done is not known, and a second undo would take it back. Instead: istioctl tag set prod --revision old --overwrite");
        insta::assert_snapshot!(check("istioctl tag set prod --revision old --overwrite --force -y").await, @"cannot create Service/istio-system/istiod-revision-tag-prod: the API server did not answer within 40s; whether it was done is not known: run the same command again, it converges");
    }
}
