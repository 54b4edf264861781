//! Requests by which somebody would get what the rules do not allow. Each went through, or would, without the check that
//! it names.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use drydock_api::{Config, Handle, Server};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, core::Status};
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use serde_json::{Value, json};

/// A server with a namespace `ns` in which there are the ConfigMaps `mine` and `secret`.
struct Target {
    server: Handle,
    directory: PathBuf,
}

/// What came of a request: its code, and the body or the message of the error.
type Answer = (u16, String);

impl Target {
    async fn start(name: &str) -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let directory = std::env::temp_dir().join(format!("drydock-attacks-{}-{name}", std::process::id()));
        std::fs::remove_dir_all(&directory).ok();
        let server = Server::start(Config::new(&directory)).await.unwrap();
        let target = Target { server, directory };
        target
            .make("/api/v1/namespaces", json!({"metadata": {"name": "ns"}}))
            .await;
        for (name, value) in [("mine", "known"), ("secret", "hidden")] {
            let object = json!({"metadata": {"name": name}, "data": {"value": value}});
            target.make("/api/v1/namespaces/ns/configmaps", object).await;
        }
        target
    }

    fn config(&self) -> kube::Config {
        let file = Kubeconfig::from_yaml(&self.server.kubeconfig().unwrap()).unwrap();
        let options = KubeConfigOptions::default();
        futures::executor::block_on(kube::Config::from_custom_kubeconfig(file, &options)).unwrap()
    }

    /// The administrator, or somebody whom the administrator plays.
    fn client(&self, user: &str, groups: &[&str]) -> Client {
        let mut config = self.config();
        if !user.is_empty() {
            config.auth_info.impersonate = Some(user.into());
            config.auth_info.impersonate_groups = Some(groups.iter().map(|&group| group.into()).collect());
        }
        Client::try_from(config).unwrap()
    }

    async fn make(&self, path: &str, object: Value) -> Value {
        let (code, text) = call(&self.client("", &[]), "POST", path, object).await;
        assert_eq!(code, 201, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn put(&self, path: &str, object: Value) {
        let (code, text) = call(&self.client("", &[]), "PATCH", path, object).await;
        assert_eq!(code, 200, "{path}: {text}");
    }

    /// Lets `jane` do what one rule says, in `ns`.
    async fn allow(&self, rule: Value) -> Client {
        let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/ns";
        let role = json!({"metadata": {"name": "jane"}, "rules": [rule]});
        self.make(&format!("{rbac}/roles"), role).await;
        let group = "rbac.authorization.k8s.io";
        let binding = json!({"metadata": {"name": "jane"}, "roleRef": {"apiGroup": group, "kind": "Role", "name": "jane"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "jane"}]});
        self.make(&format!("{rbac}/rolebindings"), binding).await;
        self.client("jane", &[])
    }

    async fn end(self) {
        self.server.shutdown().await;
        std::fs::remove_dir_all(self.directory).ok();
    }
}

async fn call(client: &Client, method: &str, path: &str, body: Value) -> Answer {
    call_as(client, method, path, "application/merge-patch+json", body).await
}

async fn call_as(client: &Client, method: &str, path: &str, patch_type: &str, body: Value) -> Answer {
    let kind = if method == "PATCH" {
        patch_type
    } else {
        "application/json"
    };
    let body = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind);
    match client.request_text(request.body(body).unwrap()).await {
        Ok(text) if method == "POST" => (201, text),
        Ok(text) => (200, text),
        Err(kube::Error::Api(status)) => {
            let Status { code, message, .. } = *status;
            (code, message)
        }
        Err(error) => (0, error.to_string()),
    }
}

#[tokio::test]
async fn a_name_in_a_selector_shows_that_name_only() {
    let target = Target::start("selector").await;
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch", "deletecollection"], "resourceNames": ["mine"]});
    let jane = target.allow(rule).await;
    let path = "/api/v1/namespaces/ns/configmaps";
    let (code, text) = call(
        &jane,
        "GET",
        &format!("{path}?fieldSelector=metadata.name%3Dmine"),
        Value::Null,
    )
    .await;
    assert!(
        code == 200 && text.contains("known") && !text.contains("hidden"),
        "{text}"
    );
    for query in [
        "",
        "fieldSelector=&fieldSelector=metadata.name%3Dmine",
        // Permissions saw a term where selection saw part of a value.
        "fieldSelector=metadata.namespace!%3Dx%5C,metadata.name%3Dmine",
        "fieldSelector=metadata.name!%3Dx%5C,metadata.name%3D%3Dmine",
        "fieldSelector=metadata.name!%3Dmine",
        "fieldSelector=metadata.name%3Dsecret",
        "labelSelector=&fieldSelector=metadata.name",
    ] {
        for watch in ["", "&watch=1&timeoutSeconds=1"] {
            let (code, text) = call(&jane, "GET", &format!("{path}?{query}{watch}"), Value::Null).await;
            assert!(code != 200 || !text.contains("hidden"), "{query}{watch}: {code} {text}");
            assert_eq!(code, 403, "{query}{watch}: {text}");
        }
    }
    // Permissions and selection looked at different ones of two.
    let doubled = format!("{path}?fieldSelector=metadata.name%3Dmine&fieldSelector=");
    let (_, text) = call(&jane, "GET", &doubled, Value::Null).await;
    assert!(!text.contains("hidden"), "{text}");
    // A selector is no name where objects are written or removed.
    let query = "fieldSelector=metadata.name%3Dmine";
    let (code, _) = call(&jane, "DELETE", &format!("{path}?{query}"), Value::Null).await;
    assert_eq!(code, 403);
    target.end().await;
}

#[tokio::test]
async fn nobody_creates_with_other_permissions() {
    let target = Target::start("create").await;
    let jane = target
        .allow(json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["update", "patch", "get"]}))
        .await;
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "new"}});
    let path = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/new";
    assert_eq!(call(&jane, "PUT", path, lease.clone()).await.0, 403);
    let apply = "application/apply-patch+yaml";
    let applied = format!("{path}?fieldManager=jane");
    assert_eq!(call_as(&jane, "PATCH", &applied, apply, lease.clone()).await.0, 403);
    target
        .make("/apis/coordination.k8s.io/v1/namespaces/ns/leases", lease.clone())
        .await;
    // What exists may be changed.
    assert_eq!(call_as(&jane, "PATCH", &applied, apply, lease).await.0, 200);
    target.end().await;
}

#[tokio::test]
async fn a_name_allowed_is_no_leave_to_create() {
    let target = Target::start("named").await;
    let jane = target
        .allow(json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"], "resourceNames": ["mine"]}))
        .await;
    let path = "/api/v1/namespaces/ns/configmaps?fieldSelector=metadata.name%3Dmine";
    let (code, text) = call(&jane, "POST", path, json!({"metadata": {"name": "other"}})).await;
    assert_eq!(code, 403, "{text}");
    target.end().await;
}

#[tokio::test]
async fn reading_is_not_running_commands() {
    let target = Target::start("exec").await;
    let jane = target
        .allow(json!({"apiGroups": [""], "resources": ["pods", "pods/exec", "pods/attach", "pods/portforward"], "verbs": ["get"]}))
        .await;
    for verb in ["exec", "attach", "portforward"] {
        let path = format!("/api/v1/namespaces/ns/pods/p/{verb}?command=id");
        let (code, text) = call(&jane, "GET", &path, Value::Null).await;
        assert!(
            code == 403 && text.contains(&format!("cannot create resource \"pods/{verb}\"")),
            "{code} {text}"
        );
    }
    target.end().await;
}

fn signing_request(organization: &str, cn: &str, host: Option<&str>) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, organization);
    params.distinguished_name.push(DnType::CommonName, cn);
    params.subject_alt_names = host
        .iter()
        .map(|h| SanType::DnsName((*h).try_into().unwrap()))
        .collect();
    let key = KeyPair::generate().unwrap();
    STANDARD.encode(params.serialize_request(&key).unwrap().pem().unwrap())
}

/// Asks for a certificate, has it approved, and waits for the signer: the reason it gives, or the certificate.
async fn sign(target: &Target, name: &str, signer: &str, request: String, usages: &[&str]) -> Answer {
    let admin = target.client("", &[]);
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let object =
        json!({"metadata": {"name": name}, "spec": {"request": request, "signerName": signer, "usages": usages}});
    let made = call(&admin, "POST", path, object).await;
    if made.0 != 201 {
        return made;
    }
    let approved = json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "Test"}]}});
    target.put(&format!("{path}/{name}/approval"), approved).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < deadline, "{name} is neither signed nor refused");
        let (_, text) = call(&admin, "GET", &format!("{path}/{name}"), Value::Null).await;
        let object: Value = serde_json::from_str(&text).unwrap();
        if let Some(certificate) = object["status"]["certificate"].as_str() {
            return (200, certificate.to_owned());
        }
        let failed = object["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|c| c["type"] == "Failed");
        if let Some(failed) = failed {
            return (422, failed["message"].as_str().unwrap_or_default().to_owned());
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn no_certificate_makes_a_master() {
    let target = Target::start("csr").await;
    let client = ["client auth", "digital signature"];
    for (n, signer) in [
        "kube-apiserver-client",
        "kube-apiserver-client-kubelet",
        "kubelet-serving",
    ]
    .iter()
    .enumerate()
    {
        for (m, usages) in [&client[..], &["server auth"][..], &["client auth", "server auth"][..]]
            .iter()
            .enumerate()
        {
            let request = signing_request("system:masters", "system:node:n", None);
            let (code, text) = sign(
                &target,
                &format!("m-{n}-{m}"),
                &format!("kubernetes.io/{signer}"),
                request,
                usages,
            )
            .await;
            assert!(code == 403 || code == 422, "{signer} {usages:?}: {code} {text}");
        }
    }
    // A serving certificate is none of a client, and a node's names a node.
    let serving = "kubernetes.io/kubelet-serving";
    let request = || signing_request("system:nodes", "system:node:n", Some("n"));
    assert_eq!(sign(&target, "s-1", serving, request(), &client).await.0, 422);
    assert_eq!(sign(&target, "s-2", serving, request(), &["server auth"]).await.0, 200);
    let request = signing_request("system:nodes", "jane", Some("n"));
    assert_eq!(sign(&target, "s-3", serving, request, &["server auth"]).await.0, 422);
    target.end().await;
}

#[tokio::test]
async fn the_server_dials_nothing_of_its_own() {
    let target = Target::start("proxy").await;
    let admin = target.client("", &[]);
    let node = json!({"metadata": {"name": "n"}});
    target.make("/api/v1/nodes", node).await;
    target
        .make(
            "/api/v1/namespaces/ns/serviceaccounts",
            json!({"metadata": {"name": "default"}}),
        )
        .await;
    let addresses = [
        "127.0.0.1",
        "127.8.8.8",
        "169.254.169.254",
        "0.0.0.0",
        "::1",
        "fe80::1",
        "::ffff:127.0.0.1",
        "224.0.0.1",
    ];
    for (n, address) in addresses.iter().enumerate() {
        let pod = format!("p-{n}");
        let spec =
            json!({"metadata": {"name": pod}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
        target.make("/api/v1/namespaces/ns/pods", spec).await;
        let path = format!("/api/v1/namespaces/ns/pods/{pod}");
        let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}});
        // Refused when written, or else when used.
        if call(&admin, "PATCH", &format!("{path}/status"), status).await.0 != 200 {
            continue;
        }
        let (code, text) = call(&admin, "GET", &format!("{path}:10250/proxy/pods"), Value::Null).await;
        assert!(
            code == 400 && text.contains("address not allowed"),
            "{address}: {code} {text}"
        );
    }
    // Nor by a service that is another name of this machine.
    let service = json!({"metadata": {"name": "out"}, "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": 80}]}});
    target.make("/api/v1/namespaces/ns/services", service).await;
    let (code, text) = call(
        &admin,
        "GET",
        "/api/v1/namespaces/ns/services/out:80/proxy/",
        Value::Null,
    )
    .await;
    assert!(code == 400 || code == 503, "{code} {text}");
    target.end().await;
}

#[tokio::test]
async fn a_token_for_others_is_none_for_the_server() {
    let target = Target::start("audience").await;
    target
        .make(
            "/api/v1/namespaces/ns/serviceaccounts",
            json!({"metadata": {"name": "robot"}}),
        )
        .await;
    let token = async |audiences: Value| {
        let request = json!({"spec": {"audiences": audiences, "expirationSeconds": 600}});
        let answer = target
            .make("/api/v1/namespaces/ns/serviceaccounts/robot/token", request)
            .await;
        answer["status"]["token"].as_str().unwrap().to_owned()
    };
    let ask = async |token: String| {
        let mut config = target.config();
        config.auth_info = kube::config::AuthInfo {
            token: Some(token.into()),
            ..Default::default()
        };
        let client = Client::try_from(config).unwrap();
        call(
            &client,
            "POST",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            json!({}),
        )
        .await
        .0
    };
    assert_eq!(ask(token(json!([])).await).await, 201);
    let foreign = token(json!(["istio-ca"])).await;
    assert_eq!(ask(foreign.clone()).await, 401);
    let (head, tail) = foreign.rsplit_once('.').unwrap();
    assert_eq!(
        ask(format!("{head}.{}", tail.chars().rev().collect::<String>())).await,
        401
    );
    let review = |token: String, audience: &str| json!({"spec": {"token": token, "audiences": [audience]}});
    for (audience, good) in [("istio-ca", true), ("other", false)] {
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let answer = target.make(path, review(foreign.clone(), audience)).await;
        assert_eq!(answer["status"]["authenticated"] == true, good, "{audience}: {answer}");
    }
    target.end().await;
}

#[tokio::test]
async fn a_node_reaches_its_own_pods_objects_only() {
    let target = Target::start("node").await;
    target
        .make(
            "/api/v1/namespaces/ns/serviceaccounts",
            json!({"metadata": {"name": "default"}}),
        )
        .await;
    for node in ["a", "b"] {
        target.make("/api/v1/nodes", json!({"metadata": {"name": node}})).await;
        target
            .make("/api/v1/namespaces/ns/secrets", json!({"metadata": {"name": node}}))
            .await;
        let pod = json!({"metadata": {"name": node}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "s", "secret": {"secretName": node}}]}});
        target.make("/api/v1/namespaces/ns/pods", pod).await;
    }
    let node = target.client("system:node:a", &["system:nodes"]);
    let check = async |method: &str, path: &str, body: Value, expected: u16| {
        let (code, text) = call(&node, method, path, body).await;
        assert_eq!(code, expected, "{method} {path}: {text}");
    };
    let labels = || json!({"metadata": {"labels": {"x": "y"}}});
    let status = || json!({"status": {"phase": "Running"}});
    check("GET", "/api/v1/namespaces/ns/secrets/a", Value::Null, 200).await;
    check("GET", "/api/v1/namespaces/ns/secrets/b", Value::Null, 403).await;
    check("GET", "/api/v1/namespaces/ns/secrets", Value::Null, 403).await;
    check(
        "GET",
        "/api/v1/secrets?fieldSelector=metadata.name%3Da",
        Value::Null,
        200,
    )
    .await;
    check("PATCH", "/api/v1/nodes/a", labels(), 200).await;
    check("PATCH", "/api/v1/nodes/b", labels(), 403).await;
    check("POST", "/api/v1/nodes", json!({"metadata": {"name": "c"}}), 403).await;
    check("PATCH", "/api/v1/namespaces/ns/pods/a/status", status(), 200).await;
    check("PATCH", "/api/v1/namespaces/ns/pods/b/status", status(), 403).await;
    check("DELETE", "/api/v1/namespaces/ns/pods/b", Value::Null, 403).await;
    target.end().await;
}

#[tokio::test]
async fn playing_somebody_needs_leave_for_each_part_of_it() {
    let target = Target::start("impersonation").await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rule = json!({"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]});
    target
        .make(
            &format!("{rbac}/clusterroles"),
            json!({"metadata": {"name": "player"}, "rules": [rule]}),
        )
        .await;
    let group = "rbac.authorization.k8s.io";
    let account = json!({"kind": "ServiceAccount", "namespace": "ns", "name": "robot"});
    let binding = json!({"metadata": {"name": "player"}, "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "player"}, "subjects": [account]});
    target.make(&format!("{rbac}/clusterrolebindings"), binding).await;
    target
        .make(
            "/api/v1/namespaces/ns/serviceaccounts",
            json!({"metadata": {"name": "robot"}}),
        )
        .await;
    let made = target
        .make("/api/v1/namespaces/ns/serviceaccounts/robot/token", json!({"spec": {}}))
        .await;
    let mut config = target.config();
    config.auth_info = kube::config::AuthInfo {
        token: Some(made["status"]["token"].as_str().unwrap().to_owned().into()),
        ..Default::default()
    };
    let robot = Client::try_from(config).unwrap();
    let ask = async |headers: &[(&str, &str)]| {
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let mut request = http::Request::post(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = robot.request_text(request.body(b"{}".to_vec()).unwrap()).await;
        match answer {
            Ok(_) => 201,
            Err(kube::Error::Api(status)) => status.code,
            Err(error) => panic!("{error}"),
        }
    };
    let jane = ("impersonate-user", "jane");
    assert_eq!(ask(&[jane]).await, 201);
    assert_eq!(ask(&[jane, ("impersonate-group", "system:masters")]).await, 403);
    assert_eq!(ask(&[jane, ("impersonate-uid", "1")]).await, 403);
    assert_eq!(ask(&[jane, ("impersonate-extra-scopes", "all")]).await, 403);
    assert_eq!(
        ask(&[("impersonate-user", "system:serviceaccount:kube-system:default")]).await,
        403
    );
    assert_eq!(ask(&[("impersonate-group", "system:masters")]).await, 400);
    target.end().await;
}
