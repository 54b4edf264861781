//! The httpbin endpoints that samples and stories call: they say back what the server saw.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, patch, post, put};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// Largest request body taken, largest `/bytes/N` answered (bytes).
const MAX_BODY: usize = 10 << 20;
/// Longest `/delay/N` (seconds), as httpbin.
const MAX_DELAY: f64 = 10.0;
/// Most lines of `/stream/N` and most hops of `/redirect/N`.
const MAX_COUNT: usize = 100;

/// All endpoints.
pub fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "httpbin: /get /headers /ip /status/N /delay/N /anything /bytes/N /stream/N …\n" }))
        .route("/get", get(echo))
        .route("/post", post(echo))
        .route("/put", put(echo))
        .route("/patch", patch(echo))
        .route("/delete", delete(echo))
        .route("/anything", any(echo))
        .route("/anything/{*rest}", any(echo))
        .route("/headers", get(|h: HeaderMap| async move { pretty(json!({ "headers": headers(&h) })) }))
        .route("/ip", get(ip))
        .route("/user-agent", get(|h: HeaderMap| async move { pretty(json!({ "user-agent": text(&h, "user-agent") })) }))
        .route("/hostname", get(|| async { pretty(json!({ "hostname": crate::instance() })) }))
        .route("/status/{codes}", any(status))
        .route("/delay/{seconds}", any(delay))
        .route("/bytes/{n}", get(bytes))
        .route("/stream/{n}", get(stream))
        .route("/redirect/{n}", get(redirect))
        .route("/redirect-to", get(redirect_to))
        .route("/response-headers", get(response_headers).post(response_headers))
        .route("/cookies", get(|h: HeaderMap| async move { pretty(json!({ "cookies": text(&h, "cookie") })) }))
        .route("/uuid", get(|| async { pretty(json!({ "uuid": std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default().trim() })) }))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

fn pretty(value: Value) -> Response {
    let mut body = serde_json::to_string_pretty(&value).unwrap_or_default();
    body.push('\n');
    ([("content-type", "application/json; charset=utf-8")], body).into_response()
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers
        .get(name)
        .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
        .unwrap_or_default()
}

/// Header names as people write them (`X-Request-Id`); several values of one name become a list, as go-httpbin prints.
fn headers(headers: &HeaderMap) -> Map<String, Value> {
    let mut out = Map::new();
    let mut names: Vec<_> = headers.keys().collect();
    names.sort_by_key(|n| n.as_str());
    for name in names {
        let values: Vec<Value> = headers
            .get_all(name)
            .iter()
            .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned().into())
            .collect();
        out.insert(canonical(name), Value::Array(values));
    }
    out
}

fn canonical(name: &HeaderName) -> String {
    let word = |w: &str| {
        w.chars()
            .take(1)
            .flat_map(char::to_uppercase)
            .chain(w.chars().skip(1))
            .collect::<String>()
    };
    name.as_str().split('-').map(word).collect::<Vec<_>>().join("-")
}

async fn ip(ConnectInfo(peer): ConnectInfo<SocketAddr>, headers: HeaderMap) -> Response {
    let forwarded = text(&headers, "x-forwarded-for");
    let origin = forwarded.split(',').next().map(str::trim).filter(|s| !s.is_empty());
    pretty(json!({ "origin": origin.map_or_else(|| peer.ip().to_string(), str::to_string) }))
}

async fn echo(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    Query(args): Query<Vec<(String, String)>>,
    request_headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut query: Map<String, Value> = Map::new();
    for (key, value) in args {
        if let Value::Array(list) = query.entry(key).or_insert_with(|| json!([])) {
            list.push(value.into());
        }
    }
    let host = text(&request_headers, "host");
    let mut out = json!({
        "args": query,
        "headers": headers(&request_headers),
        "method": method.as_str(),
        "origin": peer.ip().to_string(),
        "url": format!("http://{host}{uri}"),
    });
    if method != Method::GET {
        out["data"] = match std::str::from_utf8(&body) {
            Ok(data) => data.into(),
            Err(_) => format!("data:application/octet-stream;base64,{}", STANDARD.encode(&body)).into(),
        };
        out["json"] = serde_json::from_slice(&body).unwrap_or(Value::Null);
    }
    pretty(out)
}

/// `/status/503` or `/status/200,503`: of several codes the first is taken with the parity of the clock, which is even enough.
async fn status(Path(codes): Path<String>) -> Response {
    let codes: Result<Vec<StatusCode>, ()> = codes
        .split(',')
        .map(|c| c.split(':').next().unwrap_or(c).parse::<u16>().map_err(drop))
        .map(|c| c.and_then(|c| StatusCode::from_u16(c).map_err(drop)))
        .collect();
    match codes {
        Ok(list) if !list.is_empty() => {
            let now = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |d| d.subsec_micros() as usize);
            list[now % list.len()].into_response()
        }
        _ => (StatusCode::BAD_REQUEST, "status codes are numbers from 100 to 999\n").into_response(),
    }
}

async fn delay(
    Path(seconds): Path<String>,
    connect: ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    args: Query<Vec<(String, String)>>,
    request_headers: HeaderMap,
    body: Bytes,
) -> Response {
    match seconds.trim_end_matches('s').parse::<f64>() {
        Ok(s) if s.is_finite() && s >= 0.0 => {
            tokio::time::sleep(Duration::from_secs_f64(s.min(MAX_DELAY))).await;
            echo(connect, method, uri, args, request_headers, body).await
        }
        _ => (StatusCode::BAD_REQUEST, "delay is a number of seconds\n").into_response(),
    }
}

async fn bytes(Path(n): Path<usize>) -> Response {
    let body: Vec<u8> = (0..n.min(MAX_BODY)).map(|i| (i.wrapping_mul(31) >> 3) as u8).collect();
    ([("content-type", "application/octet-stream")], body).into_response()
}

async fn stream(Path(n): Path<usize>, request_headers: HeaderMap) -> Response {
    let seen = Value::Object(headers(&request_headers));
    let lines = (0..n.min(MAX_COUNT))
        .map(move |id| Ok::<_, std::io::Error>(format!("{}\n", json!({ "id": id, "headers": seen }))));
    (
        [("content-type", "application/json")],
        Body::from_stream(futures::stream::iter(lines)),
    )
        .into_response()
}

fn found(location: &str) -> Response {
    match HeaderValue::from_str(location) {
        Ok(value) => (StatusCode::FOUND, [("location", value)]).into_response(),
        Err(_) => (StatusCode::BAD_REQUEST, "the url is not a header value\n").into_response(),
    }
}

async fn redirect(Path(n): Path<usize>) -> Response {
    match n.min(MAX_COUNT) {
        0 | 1 => found("/get"),
        n => found(&format!("/redirect/{}", n - 1)),
    }
}

async fn redirect_to(Query(args): Query<Vec<(String, String)>>) -> Response {
    match args.iter().find(|(k, _)| k == "url") {
        Some((_, url)) => found(url),
        None => (StatusCode::BAD_REQUEST, "parameter url is missing\n").into_response(),
    }
}

async fn response_headers(Query(args): Query<Vec<(String, String)>>, _request: Request) -> Response {
    let mut response = pretty(json!(
        args.iter().cloned().collect::<std::collections::BTreeMap<_, _>>()
    ));
    for (key, value) in &args {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key.as_str()), HeaderValue::from_str(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    async fn call(method: &str, uri: &str, body: &str) -> (u16, HeaderMap, String) {
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "h")
            .header("x-a", "1")
            .body(Body::from(body.to_string()))
            .unwrap();
        request
            .extensions_mut()
            .insert(ConnectInfo(SocketAddr::from(([10, 0, 0, 9], 1))));
        let response = router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (
            parts.status.as_u16(),
            parts.headers,
            String::from_utf8_lossy(&body.collect().await.unwrap().to_bytes()).into_owned(),
        )
    }

    #[tokio::test]
    async fn says_back_what_it_saw() {
        let (code, _, body) = call("POST", "/post?a=1&a=2", "{\"k\":3}").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (code, &body["args"]["a"], &body["json"]["k"], &body["headers"]["X-A"]),
            (200, &json!(["1", "2"]), &json!(3), &json!(["1"]))
        );
        assert_eq!(
            serde_json::from_str::<Value>(&call("GET", "/ip", "").await.2).unwrap()["origin"],
            "10.0.0.9"
        );
    }

    #[tokio::test]
    async fn codes_redirects_headers_and_sizes() {
        assert_eq!(call("GET", "/status/418", "").await.0, 418);
        assert_eq!(call("GET", "/status/abc", "").await.0, 400);
        assert_eq!(call("GET", "/redirect/3", "").await.1["location"], "/redirect/2");
        assert_eq!(call("GET", "/response-headers?x-b=2", "").await.1["x-b"], "2");
        assert_eq!(call("GET", "/bytes/1000", "").await.1["content-length"], "1000");
        assert_eq!(call("GET", "/stream/3", "").await.2.lines().count(), 3);
    }
}
