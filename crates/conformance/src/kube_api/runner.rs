//! Plays stories.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http_body_util::Full;
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

use super::{
    CaseResult,
    client::{self, Admin, Answer},
    compare,
    normalize::{self, Names},
    story::{Step, Story, Until},
    target::Target,
    webhook::{Call, Hooks},
};

/// How long a step is repeated.
const UNTIL: Duration = Duration::from_secs(40);
/// How long a namespace may take to get what every namespace has.
const SETTLE: Duration = Duration::from_secs(5);
/// Headers that count.
const HEADERS: [&str; 6] = [
    "content-type",
    "warning",
    "location",
    "allow",
    "www-authenticate",
    "retry-after",
];

/// Plays stories against one server.
#[derive(Debug)]
pub struct Runner {
    target: Target,
    admin: Admin,
    hooks: Hooks,
    data: PathBuf,
    admin_user: String,
    admin_uid: String,
    dead_host: String,
    istio: OnceCell<()>,
}

/// What is known while a story plays.
struct Play<'a> {
    story: &'a Story,
    namespace: String,
    captured: BTreeMap<String, String>,
}

impl Runner {
    /// Finds out who the administrator is.
    pub async fn new(target: Target, hooks: Hooks, data: PathBuf) -> anyhow::Result<Self> {
        let dead_host = format!("127.0.0.1:{}", testkit::free_port());
        let mut runner = Self {
            admin: Admin(target.clone()),
            target,
            hooks,
            data,
            admin_user: String::new(),
            admin_uid: String::new(),
            dead_host,
            istio: OnceCell::new(),
        };
        let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
        let answer = runner
            .admin(
                "POST",
                "/apis/authentication.k8s.io/v1/selfsubjectreviews",
                Some(&review),
            )
            .await?;
        let user: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let text = |field: &str| {
            user["status"]["userInfo"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        (runner.admin_user, runner.admin_uid) = (text("username"), text("uid"));
        Ok(runner)
    }

    async fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        self.admin.send(method, path, "application/json", body).await
    }

    /// Plays one story in a namespace of its own.
    pub async fn play(&self, story: &Story) -> CaseResult {
        let failures = match self.try_play(story).await {
            Ok(failures) => failures,
            Err(error) => vec![format!("{error:#}")],
        };
        CaseResult {
            name: story.name.clone(),
            steps: story.steps.len(),
            failures,
        }
    }

    async fn try_play(&self, story: &Story) -> anyhow::Result<Vec<String>> {
        let namespace = format!("kc-{}", random_letters());
        if story.requires.iter().any(|one| one == "istio-crds") {
            self.istio.get_or_try_init(|| self.install_istio()).await?;
        }
        if !story.no_namespace {
            self.make_namespace(&namespace).await?;
        }
        self.hooks.register(&namespace, story.webhook.clone());
        let mut play = Play {
            story,
            namespace: namespace.clone(),
            captured: BTreeMap::new(),
        };
        let mut failures = Vec::new();
        for (index, step) in story.steps.iter().enumerate() {
            tokio::time::sleep(Duration::from_secs_f64(step.pause_seconds)).await;
            match self.step(&mut play, step).await {
                Ok(found) => failures.extend(found.into_iter().map(|one| {
                    format!(
                        "step {} {} {}: {one}",
                        index + 1,
                        step.request.method,
                        step.request.path
                    )
                })),
                Err(error) => failures.push(format!("step {}: {error:#}", index + 1)),
            }
        }
        self.clean_up(&play).await?;
        Ok(failures)
    }

    pub async fn make_namespace(&self, name: &str) -> anyhow::Result<()> {
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": name, "labels": { "conformance": "true" } },
        });
        self.admin("POST", "/api/v1/namespaces", Some(&namespace)).await?;
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        let roots = format!("/api/v1/namespaces/{name}/configmaps/kube-root-ca.crt");
        let deadline = Instant::now() + SETTLE;
        while Instant::now() < deadline {
            let ready = self.admin("GET", &account, None).await?.status == 200
                && self.admin("GET", &roots, None).await?.status == 200;
            if ready {
                return Ok(());
            }
            if !self.has_controllers().await? {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // A server without controllers: make what they would.
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
        self.admin(
            "POST",
            &format!("/api/v1/namespaces/{name}/serviceaccounts"),
            Some(&account),
        )
        .await?;
        let roots = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": "kube-root-ca.crt" },
            "data": { "ca.crt": "" },
        });
        self.admin("POST", &format!("/api/v1/namespaces/{name}/configmaps"), Some(&roots))
            .await?;
        Ok(())
    }

    /// Whether somebody has given the namespace `default` its account.
    async fn has_controllers(&self) -> anyhow::Result<bool> {
        Ok(self
            .admin("GET", "/api/v1/namespaces/default/serviceaccounts/default", None)
            .await?
            .status
            == 200)
    }

    pub async fn install_istio(&self) -> anyhow::Result<()> {
        let path = self.data.join("../charts-reference/charts/base/files/crd-all.gen.yaml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        self.admin.define(&text).await
    }

    async fn clean_up(&self, play: &Play<'_>) -> anyhow::Result<()> {
        let namespace = &play.namespace;
        for step in &play.story.steps {
            let body = step.request.body.as_ref().unwrap_or(&Value::Null);
            let name = body["metadata"]["name"].as_str().unwrap_or_default();
            let scoped = step.request.path.contains("/namespaces/");
            if step.request.method == "POST" && !scoped && name.contains("{{ns}}") {
                let path = format!("{}/{}", step.request.path, name).replace("{{ns}}", namespace);
                self.admin("DELETE", &path, None).await?;
            }
        }
        if !play.story.no_namespace {
            self.admin("DELETE", &format!("/api/v1/namespaces/{namespace}"), None)
                .await?;
        }
        Ok(())
    }

    fn names(&self, play: &Play<'_>) -> Names {
        let mut replace: Vec<(String, String)> = vec![
            (self.hooks.base(&play.namespace), "{{webhook}}".into()),
            (self.hooks.ca_bundle.clone(), "{{caBundle}}".into()),
            (format!("https://{}", self.dead_host), "{{deadhook}}".into()),
            (self.dead_host.clone(), "{{deadhookHost}}".into()),
            (self.admin_user.clone(), "{{adminUser}}".into()),
            (self.admin_uid.clone(), "{{adminUid}}".into()),
            (play.namespace.clone(), "{{ns}}".into()),
        ];
        for (name, value) in &play.captured {
            let uuid = value.len() == 36 && value.split('-').count() == 5;
            if value.len() >= 4 && !value.bytes().all(|byte| byte.is_ascii_digit()) && !uuid {
                replace.push((value.clone(), format!("{{{{{name}}}}}")));
            }
        }
        replace.retain(|(text, _)| !text.is_empty());
        replace.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Names {
            replace,
            managed_fields: play.story.managed_fields,
        }
    }

    /// Puts the names of this run into a text.
    fn fill(&self, play: &Play<'_>, text: &str) -> String {
        let mut out = text.to_owned();
        let hex: String = play.namespace.bytes().map(|byte| format!("{byte:02x}")).collect();
        let known = [
            ("ns", play.namespace.clone()),
            ("nsHex", hex),
            ("webhook", self.hooks.base(&play.namespace)),
            ("caBundle", self.hooks.ca_bundle.clone()),
            ("deadhook", format!("https://{}", self.dead_host)),
            ("deadhookHost", self.dead_host.clone()),
            ("adminUser", self.admin_user.clone()),
            ("adminUid", self.admin_uid.clone()),
        ];
        let captured = play.captured.iter().map(|(name, value)| (name.as_str(), value.clone()));
        for (name, value) in known.into_iter().chain(captured) {
            out = out.replace(&format!("{{{{{name}}}}}"), &value);
        }
        out
    }

    async fn step(&self, play: &mut Play<'_>, step: &Step) -> anyhow::Result<Vec<String>> {
        let deadline = Instant::now() + UNTIL;
        loop {
            self.hooks.take_calls(&play.namespace);
            let answer = self.request(play, step).await?;
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
            if let Some(until) = &step.until
                && Instant::now() < deadline
                && !self.reached(play, until, answer.status, &body)
            {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
            let calls = self.hooks.take_calls(&play.namespace);
            for (name, path) in &step.capture {
                if let Some(found) = path.as_str().and_then(|path| compare::at(&body, path)) {
                    let text = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
                    play.captured.insert(name.clone(), text);
                }
            }
            return Ok(self.judge(play, step, &answer, &body, &calls));
        }
    }

    fn reached(&self, play: &Play<'_>, until: &Until, status: u16, body: &Value) -> bool {
        let mut body = body.clone();
        normalize::value(&mut body, &self.names(play));
        until.status.is_none_or(|wanted| wanted == status)
            && until
                .contains
                .as_ref()
                .is_none_or(|wanted| compare::contains(wanted, &body).is_empty())
            && until
                .absent
                .as_ref()
                .is_none_or(|path| compare::at(&body, path).is_none_or(Value::is_null))
    }

    async fn request(&self, play: &Play<'_>, step: &Step) -> anyhow::Result<Answer> {
        let request = &step.request;
        let mut uri = self.fill(play, &request.path);
        if !request.query.is_empty() {
            uri = format!("{uri}?{}", self.fill(play, &request.query));
        }
        let body: Vec<u8> = match (&request.body, &request.body_hex) {
            (_, Some(hex)) => unhex(&self.fill(play, hex))?,
            (Some(Value::String(text)), None) => self.fill(play, text).into_bytes(),
            (Some(value), None) => self.fill(play, &value.to_string()).into_bytes(),
            (None, None) => Vec::new(),
        };
        let mut builder = http::Request::builder()
            .method(request.method.as_str())
            .uri(uri)
            .header("host", &self.target.address);
        let mut agent = "conformance/1.0".to_owned();
        for (name, value) in &request.headers {
            let values: Vec<&Value> = value
                .as_array()
                .map_or_else(|| vec![value], |list| list.iter().collect());
            for value in values {
                let text = self.fill(play, value.as_str().unwrap_or_default());
                if name.eq_ignore_ascii_case("user-agent") {
                    agent = text;
                } else {
                    builder = builder.header(name.as_str(), text);
                }
            }
        }
        builder = builder.header("user-agent", agent);
        let tls = match request.auth.as_deref() {
            None => self.target.admin.clone(),
            Some("none") => self.target.anyone.clone(),
            Some(token) => {
                builder = builder.header("authorization", format!("Bearer {}", self.fill(play, token)));
                self.target.anyone.clone()
            }
        };
        client::send(&self.target.address, tls, builder.body(Full::new(body.into()))?).await
    }

    fn judge(&self, play: &Play<'_>, step: &Step, answer: &Answer, body: &Value, calls: &[Call]) -> Vec<String> {
        let names = self.names(play);
        let mut expected = step.response.clone();
        if self.admin_uid.is_empty() {
            // An administrator by certificate has no uid.
            without_uid(&mut expected);
        }
        let expected = &expected;
        let mut found = Vec::new();
        if expected["status"].as_u64() != Some(u64::from(answer.status)) {
            found.push(format!("status {}, wanted {}", answer.status, expected["status"]));
        }
        found.extend(headers(&expected["headers"], answer, &names));
        found.extend(
            bodies(expected, answer, body, &names)
                .into_iter()
                .map(|one| format!("body{one}")),
        );
        if let Some(path) = &step.jwt {
            let token = compare::at(body, path).and_then(Value::as_str).unwrap_or_default();
            let actual = token_parts(token, &names);
            found.extend(
                compare::same(&expected["jwt"], &actual)
                    .into_iter()
                    .map(|one| format!("jwt{one}")),
            );
        }
        if let Some(wanted) = expected["admission"].as_array() {
            let reviews: Vec<Value> = calls.iter().filter_map(|call| review(call, &names)).collect();
            let differences = compare::same(&Value::Array(wanted.clone()), &Value::Array(reviews));
            found.extend(differences.into_iter().map(|one| format!("admission{one}")));
        }
        found
    }
}

fn review(call: &Call, names: &Names) -> Option<Value> {
    let user = call.review["request"]["userInfo"]["username"]
        .as_str()
        .unwrap_or_default();
    if user.starts_with("system:kube-controller-manager") || user.starts_with("system:serviceaccount:kube-system:") {
        return None;
    }
    let mut review = call.review.clone();
    normalize::value(&mut review, names);
    Some(json!({ "path": normalize::text(&call.path, names), "review": review }))
}

fn headers(expected: &Value, answer: &Answer, names: &Names) -> Vec<String> {
    let mut actual = Map::new();
    for name in HEADERS {
        let mut values: Vec<Value> = answer
            .headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| normalize::text(value, names).into())
            .collect();
        let value = match values.len() {
            0 => continue,
            1 => values.remove(0),
            _ => Value::Array(values),
        };
        actual.insert(name.to_owned(), value);
    }
    let mut wanted = Map::new();
    for (name, value) in expected.as_object().into_iter().flatten() {
        wanted.insert(name.to_ascii_lowercase(), value.clone());
    }
    compare::same(&Value::Object(wanted), &Value::Object(actual))
        .into_iter()
        .map(|one| format!("header{one}"))
        .collect()
}

fn bodies(expected: &Value, answer: &Answer, body: &Value, names: &Names) -> Vec<String> {
    if let Some(events) = expected.get("events") {
        let text = String::from_utf8_lossy(&answer.body);
        let actual: Vec<Value> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                let mut event = serde_json::from_str(line).unwrap_or_else(|_| Value::from(line));
                normalize::value(&mut event, names);
                event
            })
            .collect();
        return compare::same(events, &Value::Array(actual));
    }
    let is_json = answer
        .headers
        .iter()
        .any(|(name, value)| name == "content-type" && value.contains("json"));
    let actual = if is_json {
        let mut body = body.clone();
        normalize::value(&mut body, names);
        body
    } else if answer
        .headers
        .iter()
        .any(|(name, value)| name == "content-type" && value.contains("protobuf"))
    {
        let hex: String = answer.body.iter().map(|byte| format!("{byte:02x}")).collect();
        json!({ "protobuf": hex })
    } else {
        normalize::text(&String::from_utf8_lossy(&answer.body), names).into()
    };
    match (expected.get("body"), expected.get("contains")) {
        (Some(wanted), _) => compare::same(wanted, &actual),
        (None, Some(wanted)) => compare::contains(wanted, &actual),
        (None, None) if answer.body.is_empty() => Vec::new(),
        (None, None) => vec![format!(" is not empty: {actual}")],
    }
}

fn without_uid(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| value != "{{adminUid}}");
            map.values_mut().for_each(without_uid);
        }
        Value::Array(list) => list.iter_mut().for_each(without_uid),
        _ => {}
    }
}

/// Header (without `kid`) and claims of a token, times relative to `iat`.
fn token_parts(token: &str, names: &Names) -> Value {
    let mut parts = token.split('.').map(|part| {
        let bytes = URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
        serde_json::from_slice::<Value>(&bytes).unwrap_or_default()
    });
    let mut header = parts.next().unwrap_or_default();
    let mut claims = parts.next().unwrap_or_default();
    if let Some(header) = header.as_object_mut() {
        header.shift_remove("kid");
    }
    let issued = claims["iat"].as_i64().unwrap_or(0);
    for field in ["exp", "nbf"] {
        if let Some(at) = claims[field].as_i64() {
            claims[field] = format!("iat+{}", at - issued).into();
        }
    }
    if claims["iat"].is_i64() {
        claims["iat"] = "<unix>".into();
    }
    let mut value = json!({ "header": header, "claims": claims });
    normalize::value(&mut value, names);
    value
}

fn unhex(text: &str) -> anyhow::Result<Vec<u8>> {
    let digits: Vec<u32> = text
        .chars()
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()
        .context("no hex")?;
    Ok(digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0u32, |sum, digit| sum * 16 + digit) as u8)
        .collect())
}

/// Six random lower case letters.
pub fn random_letters() -> String {
    use std::hash::{BuildHasher, Hasher};
    let mut seed = std::collections::hash_map::RandomState::new().build_hasher().finish();
    (0..6)
        .map(|_| {
            let letter = char::from(b'a' + (seed % 26) as u8);
            seed /= 26;
            letter
        })
        .collect()
}
