#![allow(clippy::unwrap_used)]
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::{Request, Response};
use kube::client::Body;
use serde_json::json;
use tokio::time::Instant;

use super::attempts::ATTEMPTS;
use super::*;

#[test]
fn what_the_server_said_is_passed_on_without_what_surrounds_it() {
    let status = |message: &str| Status {
        message: message.to_owned(),
        reason: "BadRequest".to_owned(),
        code: 400,
        ..Status::default()
    };
    let told = |message: &str| root(&Error::Api(Box::new(status(message))));
    assert_eq!(told("the pod is waiting to start"), "the pod is waiting to start");
    assert_eq!(told(""), "status 400 BadRequest");
}

/// An API server that answers 409 a number of times, and then with the object.
async fn check(object: Value, conflicts: u32, expected: bool, requests: u32) {
    let seen = Arc::new(AtomicU32::new(0));
    let (counter, answer) = (seen.clone(), object.clone());
    let service = tower::service_fn(move |_: Request<Body>| {
        let conflict = counter.fetch_add(1, Ordering::Relaxed) < conflicts;
        let (code, body) = if conflict {
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "reason": "AlreadyExists", "code": 409, "message": "services \"istiod\" already exists"});
            (409, status)
        } else {
            (200, answer.clone())
        };
        let response = Response::builder()
            .status(code)
            .body(Body::from(body.to_string().into_bytes()));
        async move { Ok::<_, Infallible>(response.unwrap()) }
    });
    let server = ApiServer::new(Client::new(service, "default"));
    let applied = server.apply(&Object(object), "test", false).await;
    assert_eq!(applied.is_ok(), expected, "{applied:?}");
    assert_eq!(seen.load(Ordering::Relaxed), requests);
}

#[tokio::test(start_paused = true)]
async fn who_applies_at_the_same_time_is_waited_for() {
    let service = |version: Option<&str>| {
        let mut object =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "istiod", "namespace": "a"}});
        if let Some(version) = version {
            object["metadata"]["resourceVersion"] = version.into();
        }
        object
    };
    check(service(None), 0, true, 1).await;
    check(service(None), 2, true, 3).await;
    check(service(None), 100, false, ATTEMPTS).await;
    // Who names a version means that one and no other.
    check(service(Some("7")), 1, false, 1).await;
}

/// An API server that keeps its answer to itself for a while.
fn slow(answers_after: Option<Duration>) -> ApiServer {
    let service = tower::service_fn(move |_: Request<Body>| async move {
        match answers_after {
            Some(after) => tokio::time::sleep(after).await,
            None => std::future::pending().await,
        }
        let busy = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "code": 503, "message": "too busy"});
        let response = Response::builder().status(503);
        Ok::<_, Infallible>(response.body(Body::from(busy.to_string().into_bytes())).unwrap())
    });
    ApiServer::new(Client::new(service, "default"))
}

/// How long each request takes, and how it ends.
async fn patience(server: &ApiServer) -> String {
    let service =
        Object(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "istiod", "namespace": "a"}}));
    let id = service.id();
    let mut told = Vec::new();
    let mut begin = Instant::now();
    let mut tell = |error: RequestError| {
        told.push(format!("{:>4.1}s {error}", begin.elapsed().as_secs_f64()));
        begin = Instant::now();
    };
    tell(server.list(&kind("", "v1", "Pod"), "").await.unwrap_err());
    tell(server.get(&id).await.unwrap_err());
    tell(server.try_create(&service).await.unwrap_err());
    tell(server.apply(&service, "test", true).await.unwrap_err());
    tell(server.apply(&service, "test", false).await.unwrap_err());
    tell(server.create(&service, "test", false).await.unwrap_err());
    tell(server.replace(&service, "test", false).await.unwrap_err());
    tell(server.delete(&id).await.unwrap_err());
    let lent = server.ask(Effect::Reads, async |client| client.apiserver_version().await);
    tell(RequestError::of("ask for", "the version", lent.await.unwrap_err()));
    told.join("\n")
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_silent_holds_no_request_up() {
    insta::assert_snapshot!(patience(&slow(None)).await, @r#"
    15.0s cannot list Pod: the API server did not answer within 15s (--kubeclient-timeout waits longer)
    15.0s cannot read Service/a/istiod: the API server did not answer within 15s (--kubeclient-timeout waits longer)
    40.0s cannot try Service/a/istiod: the API server did not answer within 40s (--kubeclient-timeout waits longer)
    40.0s cannot apply Service/a/istiod: the API server did not answer within 40s (--kubeclient-timeout waits longer)
    40.0s cannot apply Service/a/istiod: the API server did not answer within 40s; whether it was done is not known: run the same command again, it converges
    40.0s cannot create Service/a/istiod: the API server did not answer within 40s; whether it was done is not known: run the same command again, it converges
    40.0s cannot update Service/a/istiod: the API server did not answer within 40s; whether it was done is not known: run the same command again, it converges
    40.0s cannot delete Service/a/istiod: the API server did not answer within 40s; whether it was done is not known: run the same command again, it converges
    15.0s cannot ask for the version: the API server did not answer within 15s (--kubeclient-timeout waits longer)
    "#);
    let minute = slow(None).with_timeout(Duration::from_secs(60));
    let told = patience(&minute).await;
    assert!(told.lines().all(|line| line.starts_with("60.0s ")), "{told}");
}

/// What the server said is told while there is time for it; there are never many times the limit.
#[tokio::test(start_paused = true)]
async fn repeats_are_within_the_limit_of_one_request() {
    insta::assert_snapshot!(patience(&slow(Some(Duration::from_secs(10)))).await, @r#"
    10.0s cannot list Pod: too busy
    10.0s cannot read Service/a/istiod: too busy
    10.0s cannot try Service/a/istiod: too busy
    30.6s cannot apply Service/a/istiod: too busy
    30.6s cannot apply Service/a/istiod: too busy
    30.6s cannot create Service/a/istiod: too busy
    30.6s cannot update Service/a/istiod: too busy
    30.6s cannot delete Service/a/istiod: too busy
    10.0s cannot ask for the version: too busy
    "#);
    insta::assert_snapshot!(patience(&slow(Some(Duration::ZERO))).await, @r#"
    6.2s cannot list Pod: too busy
    6.2s cannot read Service/a/istiod: too busy
    0.0s cannot try Service/a/istiod: too busy
    6.2s cannot apply Service/a/istiod: too busy
    6.2s cannot apply Service/a/istiod: too busy
    6.2s cannot create Service/a/istiod: too busy
    6.2s cannot update Service/a/istiod: too busy
    6.2s cannot delete Service/a/istiod: too busy
    0.0s cannot ask for the version: too busy
    "#);
}

/// Lists so many objects two by two, of which at most six are read; tokens are expired a number of times. Then what was
/// listed, and after how many requests.
async fn listed(objects: usize, expired: u32) -> String {
    let (requests, gone) = (Arc::new(AtomicU32::new(0)), AtomicU32::new(expired));
    let seen = requests.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        seen.fetch_add(1, Ordering::Relaxed);
        let query = request.uri().query().unwrap_or_default();
        assert!(
            query.contains("limit=500") && query.contains("labelSelector=app"),
            "{query}"
        );
        let token = query.split('&').find_map(|pair| pair.strip_prefix("continue="));
        let from: usize = token.map_or(0, |token| token.parse().unwrap());
        let left = gone.load(Ordering::Relaxed);
        // The second token is the first that expires.
        let (code, body) = if from == 4 && left > 0 {
            gone.store(left - 1, Ordering::Relaxed);
            (
                410,
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired",
                "code": 410, "message": "The provided continue parameter is too old"}),
            )
        } else {
            let to = objects.min(from + 2);
            let items: Vec<Value> = (from..to)
                .map(|index| json!({"metadata": {"name": format!("p{index}")}}))
                .collect();
            let next = if to < objects { to.to_string() } else { String::new() };
            (
                200,
                json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"continue": next}, "items": items}),
            )
        };
        let response = Response::builder().status(code);
        let response = response.body(Body::from(body.to_string().into_bytes()));
        async move { Ok::<_, Infallible>(response.unwrap()) }
    });
    let server = ApiServer::new(Client::new(service, "default"));
    let found = match server.list_up_to(6, &kind("", "v1", "Pod"), "app").await {
        Ok(found) => found.iter().map(Object::name).collect::<Vec<_>>().join(" "),
        Err(error) => error.to_string(),
    };
    format!("{found} ({} requests)", requests.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_list_is_whole_or_none() {
    assert_eq!(listed(0, 0).await, " (1 requests)");
    assert_eq!(listed(5, 0).await, "p0 p1 p2 p3 p4 (3 requests)");
    assert_eq!(listed(6, 0).await, "p0 p1 p2 p3 p4 p5 (3 requests)");
    let too_many = "cannot list Pod: there are more than 6, the most that is read, and a part of them tells nothing";
    assert_eq!(listed(7, 0).await, format!("{too_many} (3 requests)"));
}

#[tokio::test]
async fn a_list_whose_token_expired_begins_again_once() {
    assert_eq!(listed(5, 1).await, "p0 p1 p2 p3 p4 (6 requests)");
    let expired = "cannot list Pod: The provided continue parameter is too old";
    assert_eq!(listed(5, 2).await, format!("{expired} (6 requests)"));
}

/// What a connection that was closed meanwhile makes of a request: what is read is asked for again, what is written is not.
#[tokio::test(start_paused = true)]
async fn what_is_read_over_a_connection_that_ends_is_read_again() {
    let asked = Arc::new(AtomicU32::new(0));
    let seen = asked.clone();
    let service = tower::service_fn(move |_: http::Request<Body>| {
        let first = seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        async move {
            if first {
                return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
            }
            let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}});
            Ok(Response::new(Body::from(object.to_string().into_bytes())))
        }
    });
    let server = ApiServer::new(Client::new(service, "default"));
    let object = Object(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "b"}}));
    assert!(server.get(&object.id()).await.unwrap().is_some());
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    server.create(&object, "test", false).await.unwrap_err();
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}
