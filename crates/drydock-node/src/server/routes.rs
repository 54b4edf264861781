//! Paths of the kubelet API.

use super::access::{Access, User};
use super::remote::Session;
use super::{attach, exec, logs, port_forward, spdy, websocket};
use crate::agent::Node;
use crate::pod::{Site, View, key};
use axum::Json;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

/// What a request is answered with.
#[derive(Clone)]
pub(super) struct State {
    pub(super) node: Arc<Node>,
    pub(super) access: Arc<Access>,
    /// Whom the connection's certificate names.
    pub(super) user: Option<Arc<User>>,
}

/// Query parameters; a name may repeat (`command`).
pub(super) struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    fn parse(text: &str) -> Self {
        let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in text.split('&').filter(|p| !p.is_empty()).take(1000) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            out.entry(decode(name)).or_default().push(decode(value));
        }
        Self(out)
    }

    pub(super) fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.all(name).first().map(String::as_str)
    }

    /// Kubelet's own names and the API server's mean the same.
    pub(super) fn flag(&self, names: &[&str]) -> bool {
        names
            .iter()
            .filter_map(|n| self.first(n))
            .any(|v| matches!(v, "1" | "true"))
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut i) = (Vec::with_capacity(bytes.len()), 0);
    while i < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|b| (*b as char).to_digit(16));
        match (bytes[i], hex(i + 1), hex(i + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                i += 3;
                continue;
            }
            (b'+', ..) => out.push(b' '),
            (other, ..) => out.push(other),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// One request: whose it is, whether that user may, then the answer.
pub(super) async fn handle(axum::extract::State(state): axum::extract::State<State>, request: Request) -> Response {
    let identified = state.access.identify(state.user.as_deref(), request.headers()).await;
    let Some(user) = identified else {
        return problem(StatusCode::UNAUTHORIZED, "Unauthorized".into());
    };
    let path = request.uri().path().to_string();
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let subresource = match parts.first().copied() {
        Some("containerLogs") => "log",
        Some("stats") => "stats",
        Some("metrics") => "metrics",
        Some("healthz" | "livez" | "readyz") => "healthz",
        _ => "proxy",
    };
    let verb = verb(request.method(), &parts);
    if !state.access.allows(&user, verb, subresource).await {
        let hint = if user.is_anonymous() {
            ": the API server shows this node no certificate; give it --kubelet-client-certificate and \
             --kubelet-client-key, or start the node with --allow-anonymous"
        } else {
            ""
        };
        let who = &user.name;
        let text = format!("Forbidden (user={who}, verb={verb}, resource=nodes, subresource={subresource}){hint}");
        return problem(StatusCode::FORBIDDEN, text);
    }
    let query = Query::parse(request.uri().query().unwrap_or_default());
    match parts.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => "ok".into_response(),
        ["pods" | "runningpods"] => {
            Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods(&state.node)}))
                .into_response()
        }
        ["stats", "summary"] => Json(summary(&state.node)).into_response(),
        ["containerLogs", ns, pod, container] => {
            logs::answer(&state.node, find(&state.node, ns, pod), container, &query).await
        }
        ["exec", ns, pod, rest @ ..] => streams(&state, request, ns, pod, rest, &query, true).await,
        ["attach", ns, pod, rest @ ..] => streams(&state, request, ns, pod, rest, &query, false).await,
        ["portForward", ns, pod, ..] => match running(&state.node, ns, pod) {
            Ok((site, _)) => port_forward::answer(request, site, &query).await,
            Err(response) => response,
        },
        _ => problem(StatusCode::NOT_FOUND, "404 page not found".into()),
    }
}

/// What a request does to the node. Streams into a container are never just looked at, though a WebSocket begins with
/// GET: whoever may only `get nodes/proxy` runs no commands.
fn verb(method: &Method, parts: &[&str]) -> &'static str {
    match (parts.first().copied(), method) {
        (Some("exec" | "attach" | "portForward"), _) => "create",
        (_, &Method::GET | &Method::HEAD) => "get",
        _ => "create",
    }
}

pub(super) fn problem(code: StatusCode, text: String) -> Response {
    (code, format!("{text}\n")).into_response()
}

/// The pod's object and what its worker shows of it.
pub(super) fn find(node: &Node, namespace: &str, name: &str) -> Option<(Arc<Pod>, View)> {
    node.workers().into_iter().find_map(|handle| {
        let view = handle.view.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let pod = handle
            .pod
            .borrow()
            .clone()
            .or_else(|| view.site.as_ref().map(|s| s.pod.clone()))?;
        (key(&pod).0 == namespace && key(&pod).1 == name).then_some((pod, view))
    })
}

#[allow(clippy::result_large_err)]
fn running(node: &Node, namespace: &str, name: &str) -> Result<(Site, View), Response> {
    let Some((_, view)) = find(node, namespace, name) else {
        return Err(problem(StatusCode::NOT_FOUND, format!("pod \"{name}\" not found")));
    };
    match view.site.clone() {
        Some(site) => Ok((site, view)),
        None => Err(problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("pod \"{name}\" does not run"),
        )),
    }
}

/// `/exec/{ns}/{pod}[/{uid}]/{container}` and the same for attach.
async fn streams(
    state: &State,
    request: Request,
    namespace: &str,
    name: &str,
    rest: &[&str],
    query: &Query,
    is_exec: bool,
) -> Response {
    let Some(container) = rest.last() else {
        return problem(StatusCode::NOT_FOUND, "the path names no container".into());
    };
    let (site, view) = match running(&state.node, namespace, name) {
        Ok(found) => found,
        Err(response) => return response,
    };
    let Some((_, attempt, true)) = view.runs.iter().find(|(n, ..)| n == container) else {
        return problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("container not found (\"{container}\") or not running in pod {name}"),
        );
    };
    let place = site.place(container, *attempt);
    let command = query.all("command").to_vec();
    if is_exec && command.is_empty() {
        return problem(StatusCode::BAD_REQUEST, "you must specify at least 1 command".into());
    }
    let session = Session {
        stdin: query.flag(&["input", "stdin"]),
        stdout: query.flag(&["output", "stdout"]),
        stderr: query.flag(&["error", "stderr"]),
        tty: query.flag(&["tty"]),
    };
    let runtime = state.node.runtime.clone();
    let work = move |remote| async move {
        if is_exec {
            exec::run(&runtime, &place, &command, session, remote).await
        } else {
            attach::run(&place, session, remote).await
        }
    };
    if spdy::requested(request.headers()) {
        spdy::remote_command(request, session, work).await
    } else {
        websocket::remote_command(request, session, work).await
    }
}

fn pods(node: &Node) -> Vec<Pod> {
    node.workers()
        .iter()
        .filter_map(|h| h.pod.borrow().as_deref().cloned())
        .collect()
}

fn summary(node: &Node) -> serde_json::Value {
    let entry = |p: Pod| {
        let (namespace, name, uid) = key(&p);
        json!({"podRef": {"name": name, "namespace": namespace, "uid": uid}, "containers": []})
    };
    json!({"node": {"nodeName": node.config.name}, "pods": pods(node).into_iter().map(entry).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_is_not_running_commands() {
        let check = |method: Method, path: &str, expected: &str| {
            let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
            assert_eq!(verb(&method, &parts), expected, "{method} {path}");
        };
        check(Method::GET, "/pods", "get");
        check(Method::GET, "/containerLogs/ns/pod/c", "get");
        check(Method::POST, "/pods", "create");
        for path in ["/exec/ns/pod/c", "/attach/ns/pod/c", "/portForward/ns/pod"] {
            check(Method::GET, path, "create");
            check(Method::POST, path, "create");
        }
    }

    #[test]
    fn queries_decode_and_repeat() {
        let query = Query::parse("command=sh&command=-c&command=echo+a%26b&input=1&tty=false&x");
        assert_eq!(query.all("command"), ["sh", "-c", "echo a&b"]);
        assert!(query.flag(&["stdin", "input"]) && !query.flag(&["tty"]) && query.first("x") == Some(""));
        assert_eq!(decode("100%"), "100%");
    }
}
