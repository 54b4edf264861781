#![allow(clippy::unwrap_used)]
use super::*;

const CONFIG: &str = r#"
policy: enabled
defaultTemplates: [sidecar]
aliases: {both: [sidecar, extra]}
templates:
  sidecar: |
    metadata:
      annotations:
        istio.io/rev: {{ .Revision | default "default" | quote }}
    spec:
      {{- if .NativeSidecars }}
      initContainers:
      {{- else }}
      containers:
      {{- end }}
      - name: istio-proxy
        image: "{{ .ProxyImage }}"
        args: [proxy, sidecar]
        {{ if .NativeSidecars }}restartPolicy: Always{{ end }}
        env:
        - name: WORKLOAD
          value: "{{ .DeploymentMeta.Name }}"
      volumes:
      - name: istio-token
  extra: |
    metadata:
      labels: {extra: "true"}
  validation: |
    spec:
      initContainers:
      - name: istio-validation
        args: ["-u", "1337"]
  broken: |
    {{ fail "not today" }}
  facts: |
    metadata:
      annotations:
        name: "{{ .ObjectMeta.Name }}"
        namespace: "{{ .ObjectMeta.Namespace }}"
        account: "{{ .Spec.ServiceAccountName }}"
        users: "{{ .ProxyUID }}:{{ .ProxyGID }}"
        images: "{{ .ProxyImage }} {{ .ProxyInitImage }}"
"#;
const VALUES: &str = r#"{"global": {"hub": "hub", "tag": "1.0", "proxy": {"image": "proxyv2"},
    "multiCluster": {"clusterName": "c1"}}, "sidecarInjectorWebhook": {"rewriteAppHTTPProbe": true}}"#;

fn injector(native: bool) -> Injector {
    Injector {
        config: Config::parse(CONFIG, VALUES).unwrap(),
        mesh: json!({}),
        revision: "canary".into(),
        native_sidecars: native.into(),
        compliance_policy: String::new(),
    }
}

fn inject(native: bool, pod: Value) -> Result<Outcome, InjectError> {
    let environment = BTreeMap::new();
    injector(native).inject(Request {
        pod: &pod,
        namespace: "app",
        namespace_annotations: None,
        environment: &environment,
        workload: None,
    })
}

fn injected(native: bool, pod: Value) -> Value {
    match inject(native, pod).unwrap() {
        Outcome::Injected(pod) => pod,
        Outcome::Skipped(skip) => panic!("skipped: {skip:?}"),
    }
}

fn app() -> Value {
    json!({"metadata": {"name": "app"}, "spec": {"containers": [{"name": "app", "image": "a"}], "volumes": [{"name": "data"}]}})
}

#[test]
fn the_pod_records_the_revision_and_what_was_added() {
    let pod = injected(true, app());
    assert_eq!(pod["metadata"]["annotations"]["istio.io/rev"], "canary");
    assert_eq!(
        pod["metadata"]["annotations"]["sidecar.istio.io/status"],
        r#"{"initContainers":["istio-proxy"],"containers":null,"volumes":["istio-token"],"imagePullSecrets":null,"revision":"canary"}"#
    );
    assert_eq!(pod["spec"]["initContainers"][0]["image"], "hub/proxyv2:1.0");
    assert_eq!(pod["spec"]["initContainers"][0]["restartPolicy"], "Always");
}

#[test]
fn a_second_injection_changes_nothing() {
    for native in [true, false] {
        let once = injected(native, app());
        assert_eq!(injected(native, once.clone()), once);
    }
}

#[test]
fn what_the_agent_was_told_of_the_application_outlives_a_second_injection() {
    let mut pod = app();
    pod["metadata"]["annotations"] = json!({"prometheus.io/port": "80", "prometheus.io/path": "/metrics"});
    pod["spec"]["containers"][0]["readinessProbe"] = json!({"httpGet": {"port": 80, "path": "/ready"}});
    for native in [true, false] {
        let once = injected(native, pod.clone());
        let list = if native { "initContainers" } else { "containers" };
        let environment = |pod: &Value| {
            let mut containers = pod["spec"][list].as_array().unwrap().iter();
            let proxy = containers.find(|c| c["name"] == "istio-proxy").unwrap();
            let variables = proxy["env"].as_array().unwrap().iter();
            let named = variables.map(|v| format!("{}={}", v["name"].as_str().unwrap(), v["value"].as_str().unwrap()));
            named.collect::<Vec<_>>()
        };
        let expected = [
            "WORKLOAD=app",
            "ISTIO_META_CLUSTER_ID=c1",
            r#"ISTIO_PROMETHEUS_ANNOTATIONS={"scrape":"","path":"/metrics","port":"80"}"#,
            r#"ISTIO_KUBE_APP_PROBERS={"/app-health/app/readyz":{"httpGet":{"port":80,"path":"/ready"}}}"#,
        ];
        assert_eq!(environment(&once), expected);
        let twice = injected(native, once.clone());
        assert_eq!(environment(&twice), expected);
        assert_eq!(twice, once);
    }
}

#[test]
fn a_template_reads_what_the_pod_does_not_say() {
    let facts = |pod: Value| {
        let mut pod = pod;
        pod["metadata"]["annotations"]["inject.istio.io/templates"] = json!("facts");
        let annotations = injected(true, pod)["metadata"]["annotations"].take();
        ["name", "namespace", "account", "users", "images"].map(|fact| annotations[fact].clone())
    };
    let pod = json!({"metadata": {"generateName": "app-"}, "spec": {"containers": [{"name": "app", "image": "a"}]}});
    assert_eq!(
        facts(pod.clone()),
        ["", "app", "", "1337:1337", "hub/proxyv2:1.0 hub/proxyv2:1.0"]
    );
    // The proxy's configuration names the proxy's image only, the annotation both.
    let mut configured = pod.clone();
    configured["metadata"]["annotations"] = json!({"proxy.istio.io/config": "image: {imageType: debug}"});
    assert_eq!(facts(configured)[4], "hub/proxyv2:1.0-debug hub/proxyv2:1.0");
    let mut annotated = pod;
    annotated["metadata"]["annotations"] = json!({"sidecar.istio.io/proxyImageType": "distroless"});
    assert_eq!(
        facts(annotated)[4],
        "hub/proxyv2:1.0-distroless hub/proxyv2:1.0-distroless"
    );
}

#[test]
fn only_yes_and_no_decide_where_the_proxy_runs() {
    for (annotation, native) in [("false", false), ("true", true), ("1", true), ("no", true)] {
        let mut pod = app();
        pod["metadata"]["annotations"] = json!({"sidecar.istio.io/nativeSidecar": annotation});
        // The template above asks what the nodes can do; the order follows where it put the proxy.
        let pod = injected(true, pod);
        assert!(pod["spec"]["initContainers"].is_array(), "{annotation}");
        assert_eq!(is_native(&pod["metadata"]["annotations"]).unwrap_or(true), native);
    }
}

#[test]
fn a_network_without_a_name_is_none() {
    let mut pod = app();
    pod["metadata"]["labels"] = json!({"topology.istio.io/network": ""});
    let pod = injected(true, pod);
    assert_eq!(pod["metadata"]["labels"]["topology.istio.io/network"], "");
    assert!(!pod["spec"].to_string().contains("ISTIO_META_NETWORK"));
}

#[test]
fn the_user_has_the_last_word_on_the_proxy() {
    let mut pod = app();
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "istio-proxy", "image": "auto", "args": ["mine"]}));
    for native in [true, false] {
        let pod = injected(native, pod.clone());
        let list = if native { "initContainers" } else { "containers" };
        let proxy = pod["spec"][list]
            .as_array()
            .unwrap()
            .iter()
            .find(|c| c["name"] == "istio-proxy")
            .unwrap();
        assert_eq!(proxy["args"], json!(["mine"]));
        assert_eq!(proxy["image"], "hub/proxyv2:1.0");
        assert!(
            pod["metadata"]["annotations"]["proxy.istio.io/overrides"]
                .as_str()
                .unwrap()
                .contains("mine")
        );
        assert_eq!(injected(native, pod.clone()), pod, "and keeps it");
    }
}

#[test]
fn templates_are_chosen_by_annotation_and_alias() {
    let mut pod = app();
    pod["metadata"]["annotations"] = json!({"inject.istio.io/templates": "both"});
    assert_eq!(injected(true, pod.clone())["metadata"]["labels"]["extra"], "true");
    for (asked, missing) in [("none", "none"), ("sidecar,", ""), ("", "")] {
        pod["metadata"]["annotations"] = json!({"inject.istio.io/templates": asked});
        let error = inject(true, pod.clone()).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("requested template {missing:?} not found; have broken, extra, facts, sidecar, validation")
        );
    }
    pod["metadata"]["annotations"] = json!({"inject.istio.io/templates": "broken"});
    assert!(inject(true, pod).unwrap_err().to_string().contains("not today"));
}

#[test]
fn host_network_is_left_alone() {
    let mut pod = app();
    pod["spec"]["hostNetwork"] = json!(true);
    assert_eq!(inject(true, pod).unwrap(), Outcome::Skipped(Skip::HostNetwork));
}

#[test]
fn openshift_ranges_give_first_and_last_numbers() {
    let annotations = Labels::from([(
        "openshift.io/sa.scc.uid-range".to_owned(),
        "1000620000/10000".to_owned(),
    )]);
    let expected = OpenShift {
        first_user: Some(1_000_620_000),
        last_user: Some(1_000_629_999),
        last_group: Some(1_000_629_999),
    };
    assert_eq!(OpenShift::of(Some(&annotations)), expected);
    assert_eq!(OpenShift::of(None), OpenShift::default());
}

#[test]
fn a_field_that_means_nothing_is_told_to_who_creates_the_pod() {
    let told_of = |labels: Value, annotations: Value| {
        let mut pod = app();
        pod["metadata"]["labels"] = labels;
        pod["metadata"]["annotations"] = annotations;
        let review =
            json!({"apiVersion": "admission.k8s.io/v1", "request": {"uid": "1", "object": pod, "namespace": "app"}});
        let body = serde_json::to_vec(&review).unwrap();
        let (answer, _) = crate::review::answer(&injector(true), &body, &BTreeMap::new(), |_| None);
        (
            answer["response"]["allowed"].clone(),
            answer["response"]["warnings"].clone(),
            answer["response"]["status"]["message"].clone(),
        )
    };
    let told = |config: &str| told_of(json!({}), json!({"proxy.istio.io/config": config}));
    assert_eq!(told("concurrency: 2"), (json!(true), Value::Null, Value::Null));
    let undecided = |place: &str, value: &str| {
        let warning = format!(
            "{place} sidecar.istio.io/inject: {value:?} decides nothing, only \"true\" and \"false\" do; the policy of \
             the injector does"
        );
        (json!(true), json!([warning]), Value::Null)
    };
    let asks = |value: &str| json!({"sidecar.istio.io/inject": value});
    assert_eq!(told_of(asks("no"), asks("false")), undecided("label", "no"));
    assert_eq!(told_of(json!({}), asks("True")), undecided("annotation", "True"));
    assert_eq!(
        told_of(asks("true"), asks("no")),
        (json!(true), Value::Null, Value::Null)
    );
    let warning = "annotation proxy.istio.io/config: unknown field concurency is ignored (did you mean concurrency?)";
    assert_eq!(told("concurency: 2"), (json!(true), json!([warning]), Value::Null));
    let refusal = "invalid value 'concurrency: lots' for annotation 'proxy.istio.io/config': concurrency: wants a whole \
                   number, has \"lots\"";
    assert_eq!(told("concurrency: lots"), (json!(false), Value::Null, json!(refusal)));

    let deployment = "kind: Deployment\nmetadata: {name: web}\nspec: {template: {metadata: {annotations: \
                      {proxy.istio.io/config: 'concurency: 2'}}, spec: {}}}\n";
    assert_eq!(
        crate::document::warnings(&format!("kind: Namespace\n---\n{deployment}")),
        [format!("Deployment web: {warning}")]
    );
}

/// Every place in the value, as a path of fields and numbers.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let field = field.replace('~', "~0").replace('/', "~1");
                places(value, &format!("{here}/{field}"), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                places(value, &format!("{here}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// Whatever stands at whatever place: a pod is injected, left alone or refused with a sentence.
#[test]
fn nothing_from_outside_makes_it_panic() {
    let probe = json!({"httpGet": {"path": "/", "port": 80}, "tcpSocket": {"port": 1}, "grpc": {"port": 1}, "exec": {"command": ["a"]}});
    let container = json!({
        "name": "web", "image": "a", "env": [{"name": "a", "value": "b"}], "ports": [{"containerPort": 80}],
        "volumeMounts": [{"name": "a", "mountPath": "/a"}], "resources": {"limits": {"cpu": 1}, "requests": {"cpu": "1"}},
        "securityContext": {"runAsUser": 1}, "livenessProbe": probe, "readinessProbe": probe, "startupProbe": probe,
        "lifecycle": {"postStart": probe, "preStop": probe},
    });
    let own = json!({"name": "istio-proxy", "image": "auto", "env": [], "securityContext": {"runAsGroup": 3}});
    let pod = json!({
        "metadata": {
            "name": "web", "generateName": "web-", "labels": {"app": "web"}, "managedFields": [],
            "annotations": {"proxy.istio.io/config": "{}", "prometheus.io/scrape": "true", "prometheus.io/port": "1",
                "sidecar.istio.io/status": "{}", "inject.istio.io/templates": "both"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "web-1", "controller": true}],
        },
        "spec": {
            "containers": [container, own], "initContainers": [container], "securityContext": {"fsGroup": 1},
            "volumes": [{"name": "a", "emptyDir": {}}], "imagePullSecrets": [{"name": "a"}], "serviceAccountName": "web",
            "hostNetwork": false, "dnsConfig": {"searches": ["a"]},
        },
    });
    let mut found = Vec::new();
    places(&pod, "", &mut found);
    let put = [json!(3), json!("foo"), json!([3]), json!({"a": [{"b": 3}]})];
    let injectors = [injector(false), injector(true)];
    let kinds = ["Pod", "Deployment", "CronJob", "DeploymentConfig"];
    let cases = found
        .iter()
        .flat_map(|place| put.iter().map(move |value| (place, value)));
    for (index, (place, value)) in cases.enumerate() {
        let injector = &injectors[index % injectors.len()];
        let mut pod = pod.clone();
        *pod.pointer_mut(place).unwrap() = value.clone();
        let review =
            json!({"apiVersion": "admission.k8s.io/v1", "request": {"uid": "1", "object": pod, "namespace": "app"}});
        let body = serde_json::to_vec(&review).unwrap();
        let (answer, _) = crate::review::answer(injector, &body, &BTreeMap::new(), |_| None);
        assert!(answer["response"]["allowed"].is_boolean(), "{place}: {value}");
        let kind = kinds[(index + index / put.len()) % kinds.len()];
        let template = match kind {
            "Pod" => pod.clone(),
            "CronJob" => json!({"spec": {"jobTemplate": {"metadata": pod["metadata"], "spec": {"template": pod}}}}),
            _ => json!({"spec": {"template": pod, "strategy": value}, "status": value}),
        };
        let mut object = json!({"kind": kind, "metadata": {"name": "a"}});
        merge(&mut object, &template);
        crate::document::inject_documents(injector, &object.to_string(), |_| None).ok();
    }
}

/// What stands in the JSON of the annotations comes from outside as well.
#[test]
fn nothing_in_what_an_earlier_injection_wrote_makes_it_panic() {
    let fragment = |name: &str| json!({"name": name, "image": "auto", "args": ["-u", "1"], "securityContext": {"runAsUser": 1337}});
    let contents = [
        (
            overlay::OVERRIDES,
            json!({"containers": [fragment("istio-proxy")], "initContainers": [fragment("istio-validation"), fragment("istio-proxy")]}),
        ),
        (
            overlay::STATUS,
            json!({"containers": ["istio-proxy"], "initContainers": ["istio-validation", "istio-proxy"]}),
        ),
    ];
    let mut pod = app();
    let annotations = &mut pod["metadata"]["annotations"];
    *annotations =
        json!({"inject.istio.io/templates": "sidecar,validation", "sidecar.istio.io/interceptionMode": "TPROXY"});
    for (annotation, content) in &contents {
        annotations[*annotation] = json!(content.to_string());
    }
    for native in [false, true] {
        assert!(inject(native, pod.clone()).is_ok());
        for (annotation, content) in &contents {
            let mut found = Vec::new();
            places(content, "", &mut found);
            for (place, value) in found
                .iter()
                .flat_map(|place| [json!(3), json!("foo"), json!([3]), json!(null)].map(|value| (place, value)))
            {
                let mut content = content.clone();
                *content.pointer_mut(place).unwrap() = value;
                let mut pod = pod.clone();
                pod["metadata"]["annotations"][*annotation] = json!(content.to_string());
                inject(native, pod).ok();
            }
        }
    }
    pod["metadata"]["annotations"][overlay::OVERRIDES] =
        json!(r#"{"initContainers": [{"name": "istio-validation", "securityContext": "x"}]}"#);
    assert_eq!(
        inject(false, pod).unwrap_err().to_string(),
        "annotation proxy.istio.io/overrides: initContainers[0].securityContext: wants a map, has a text; remove it or mend it"
    );
}
