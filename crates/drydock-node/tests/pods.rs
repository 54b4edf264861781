//! Whole pods on a whole node: real containers, real networks, a small fake of the API server.
#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
mod support;

use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::{Lab, able};

#[test]
fn a_pod_comes_lives_and_goes() {
    if !able() {
        return;
    }
    let lab = Lab::start();
    lab.api.create(
        "configmaps",
        json!({"metadata": {"name": "cm", "namespace": "default"}, "data": {"key": "value-1", "ENV": "from-map"}}),
    );
    let script = "cat /config/key; echo; echo $ENV $IP $FROM_IMAGE $GREETING; id -u; hostname; cat /etc/resolv.conf; cat /token/token; ls -ld /cache; trap 'echo bye; exit 0' TERM; while true; do sleep 0.1; done";
    lab.pod("web", json!({
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsUser": 1000, "fsGroup": 2000},
        "containers": [{"name": "c", "command": ["sh", "-c", script], "envFrom": [{"configMapRef": {"name": "cm"}}],
            "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}, {"name": "GREETING", "value": "hello-$(ENV)"}],
            "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
            "volumeMounts": [{"name": "config", "mountPath": "/config"}, {"name": "token", "mountPath": "/token"}, {"name": "cache", "mountPath": "/cache"}]}],
        "volumes": [{"name": "config", "configMap": {"name": "cm"}}, {"name": "cache", "emptyDir": {}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
    }));
    let pod = lab.wait("web", "/status/containerStatuses/0/ready", json!(true));
    let ip = pod["status"]["podIP"].as_str().unwrap().to_string();
    assert_eq!(pod["status"]["phase"], "Running");
    let log = lab.wait_log("web", "c", "/cache");
    assert!(
        log.starts_with(&format!(
            "value-1\nfrom-map {ip} 1 hello-from-map\n1000\nweb\nsearch default.svc.cluster.local"
        )),
        "{log}"
    );
    assert!(log.contains("a-token") && log.contains("2000"), "{log}");
    let began = std::time::Instant::now();
    lab.api.delete_pod("web", 5);
    while lab.api.get("pods", "web").is_some() {
        assert!(began.elapsed().as_secs() < 10, "the pod does not go");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(began.elapsed().as_secs() < 4, "SIGTERM was not heard");
    lab.end();
}

#[test]
fn a_pods_user_reads_its_secrets_and_others_of_the_machine_do_not() {
    if !able() {
        return;
    }
    let lab = Lab::start();
    let named = |name: &str| json!({"name": name, "namespace": "default"});
    lab.api
        .create("secrets", json!({"metadata": named("s"), "data": {"key": "c2VjcmV0"}}));
    lab.api.create(
        "configmaps",
        json!({"metadata": named("cm"), "data": {"file": "from-map"}}),
    );
    let script = "cat /secret/key /projected/key /one-file /etc/hosts /etc/resolv.conf; echo $KEY; \
                  echo x > /data/mine/written && echo done; sleep 1000";
    lab.pod("p", json!({
        "securityContext": {"runAsUser": 1234, "runAsGroup": 1234, "runAsNonRoot": true},
        "containers": [{"name": "c", "command": ["sh", "-c", script],
            "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}}],
            "volumeMounts": [{"name": "secret", "mountPath": "/secret"}, {"name": "projected", "mountPath": "/projected"},
                {"name": "map", "mountPath": "/one-file", "subPath": "file"}, {"name": "empty", "mountPath": "/data"},
                {"name": "empty", "mountPath": "/data/mine", "subPath": "a/b"}]}],
        "volumes": [{"name": "secret", "secret": {"secretName": "s"}}, {"name": "map", "configMap": {"name": "cm"}}, {"name": "empty", "emptyDir": {}},
            {"name": "projected", "projected": {"sources": [{"secret": {"name": "s"}}, {"serviceAccountToken": {"path": "token"}}]}}],
    }));
    lab.wait("p", "/status/containerStatuses/0/started", json!(true));
    let log = lab.wait_log("p", "c", "done");
    assert!(log.starts_with("secretsecretfrom-map"), "{log}");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (node, run) = (lab.config.data_dir.join("node"), lab.run_dir());
    for dir in [&node, &node.join("pods"), &run] {
        assert_eq!(mode(dir), 0o700, "{}", dir.display());
    }
    assert_eq!(mode(&lab.folder("p").join("containers/c/0/bundle/config.json")), 0o600);
    // What is held of volumes goes with the pod, and so does what is in it.
    assert_eq!(std::fs::read_dir(run.join("held")).unwrap().count(), 1);
    lab.api.delete_pod("p", 0);
    lab.wait_folders(0);
    assert_eq!(std::fs::read_dir(run.join("held")).unwrap().count(), 0);
    lab.end();
}

#[test]
fn a_pod_that_cannot_be_surrounded_leaves_nothing() {
    if !able() {
        return;
    }
    let lab = Lab::start();
    // The node has looked for folders that belong to no pod.
    lab.pod(
        "first",
        json!({"containers": [{"name": "c", "command": ["sleep", "1000"]}]}),
    );
    lab.wait("first", "/status/containerStatuses/0/started", json!(true));
    lab.api.delete_pod("first", 0);
    lab.wait_folders(0);
    // Where a file should be, somebody has put a folder: found out when network and memory are there already.
    let in_the_way = lab.config.data_dir.join("node/pods/blocked/etc/hosts");
    std::fs::create_dir_all(&in_the_way).unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default", "uid": "blocked"},
        "spec": {"nodeName": "node", "containers": [{"name": "c", "image": "busybox", "command": ["sleep", "1000"]}]}});
    lab.api.create("pods", pod);
    let begun = std::time::Instant::now();
    while !lab
        .api
        .events()
        .iter()
        .any(|e| e.contains("FailedMount") && e.contains("etc/hosts"))
    {
        assert!(begun.elapsed().as_secs() < 10, "{:?}", lab.api.events());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    lab.api.delete_pod("p", 0);
    lab.wait_folders(0);
    assert_eq!(std::fs::read_dir(lab.run_dir().join("netns")).unwrap().count(), 0);
    let links = std::fs::read_dir("/sys/class/net").unwrap().flatten();
    let prefix = format!("{}-", lab.config.bridge());
    assert_eq!(
        links
            .filter(|l| l.file_name().to_string_lossy().starts_with(&prefix))
            .count(),
        0
    );
    lab.end();
}

#[test]
fn init_containers_sidecars_and_restarts() {
    if !able() {
        return;
    }
    let lab = Lab::start();
    lab.pod("job", json!({
        "restartPolicy": "Never",
        "initContainers": [
            {"name": "first", "command": ["sh", "-c", "echo one > /shared/x"], "volumeMounts": [{"name": "s", "mountPath": "/shared"}]},
            {"name": "side", "restartPolicy": "Always", "command": ["sh", "-c", "touch /shared/up; trap 'exit 0' TERM; while true; do sleep 0.1; done"], "volumeMounts": [{"name": "s", "mountPath": "/shared"}],
                "startupProbe": {"exec": {"command": ["cat", "/shared/up"]}, "periodSeconds": 1}}],
        "containers": [{"name": "main", "command": ["sh", "-c", "cat /shared/x /shared/up && exit 3"], "volumeMounts": [{"name": "s", "mountPath": "/shared"}]}],
        "volumes": [{"name": "s", "emptyDir": {"medium": "Memory"}}],
    }));
    lab.pod("crash", json!({"containers": [{"name": "c", "command": ["false"]}]}));
    lab.pod("absent", json!({"containers": [{"name": "c", "image": "no/such:1"}]}));
    lab.pod(
        "wrong",
        json!({"restartPolicy": "Never", "containers": [{"name": "c", "command": ["/no/such/program"]}]}),
    );
    let job = lab.wait("job", "/status/phase", json!("Failed"));
    assert_eq!(
        job.pointer("/status/containerStatuses/0/state/terminated/exitCode"),
        Some(&json!(3))
    );
    assert_eq!(
        job.pointer("/status/initContainerStatuses/1/state/terminated/exitCode"),
        Some(&json!(0))
    );
    assert_eq!(lab.log("job", "main", 0), "one\n");
    let crash = lab.wait(
        "crash",
        "/status/containerStatuses/0/state/waiting/reason",
        json!("CrashLoopBackOff"),
    );
    assert_eq!(
        crash.pointer("/status/containerStatuses/0/restartCount"),
        Some(&json!(1))
    );
    lab.wait(
        "absent",
        "/status/containerStatuses/0/state/waiting/reason",
        json!("ImagePullBackOff"),
    );
    let wrong = lab.wait("wrong", "/status/phase", json!("Failed"));
    assert_eq!(
        wrong.pointer("/status/containerStatuses/0/state/terminated/reason"),
        Some(&json!("StartError"))
    );
    assert!(
        wrong
            .pointer("/status/containerStatuses/0/state/terminated/message")
            .unwrap()
            .as_str()
            .unwrap()
            .contains("no such file"),
        "{wrong:#}"
    );
    lab.end();
}

#[test]
fn containers_survive_the_node() {
    if !able() {
        return;
    }
    let mut lab = Lab::start();
    let run = |script: &str| json!({"restartPolicy": "Never", "containers": [{"name": "c", "command": ["sh", "-c", script]}]});
    lab.pod(
        "long",
        run("echo started; while ! cat /end 2>/dev/null; do sleep 0.1; done; exit 7"),
    );
    lab.pod("short", run("while ! cat /end 2>/dev/null; do sleep 0.1; done; exit 5"));
    lab.pod("forgotten", run("sleep 1000"));
    for pod in ["long", "short", "forgotten"] {
        lab.wait(pod, "/status/containerStatuses/0/started", json!(true));
    }
    let before = lab.api.get("pods", "long").unwrap();
    lab.node_killed();
    lab.api.remove("pods", "forgotten");
    lab.touch_inside("short", "end");
    lab.wait_file("short", "containers/c/0/exit.json");
    lab.node_up();
    // Ended while nobody looked: the shim remembers.
    let short = lab.wait("short", "/status/phase", json!("Failed"));
    assert_eq!(
        short.pointer("/status/containerStatuses/0/state/terminated/exitCode"),
        Some(&json!(5))
    );
    // Still the same run.
    let long = lab.wait("long", "/status/phase", json!("Running"));
    assert_eq!(
        long.pointer("/status/containerStatuses/0/containerID"),
        before.pointer("/status/containerStatuses/0/containerID")
    );
    lab.api.delete_pod("long", 1);
    lab.wait_folders(1);
    lab.end();
}

#[test]
fn a_debugger_joins_a_running_pod() {
    if !able() {
        return;
    }
    let lab = Lab::start();
    lab.pod(
        "p",
        json!({"restartPolicy": "Never", "containers": [{"name": "c", "command": ["sh", "-c", "while ! cat /end 2>/dev/null; do sleep 0.1; done"]}]}),
    );
    lab.wait("p", "/status/containerStatuses/0/started", json!(true));
    let script = "cat /proc/1/cmdline; touch /proc/1/root/seen; exit 3";
    let debugger =
        json!({"name": "d", "image": "busybox", "targetContainerName": "c", "command": ["sh", "-c", script]});
    lab.api
        .patch("pods", "p", &json!({"spec": {"ephemeralContainers": [debugger]}}));
    let pod = lab.wait(
        "p",
        "/status/ephemeralContainerStatuses/0/state/terminated/exitCode",
        json!(3),
    );
    // It has seen the other's process, and the pod goes on as if nothing had been.
    assert!(lab.log("p", "d", 0).contains("/end"), "{}", lab.log("p", "d", 0));
    assert_eq!(pod.pointer("/status/phase"), Some(&json!("Running")));
    lab.touch_inside("p", "end");
    lab.wait("p", "/status/phase", json!("Succeeded"));
    lab.end();
}

#[test]
fn hooks_liveness_and_volumes_that_change() {
    if !able() {
        return;
    }
    let lab = Lab::start();
    lab.api.create(
        "configmaps",
        json!({"metadata": {"name": "cm", "namespace": "default"}, "data": {"a": "one"}}),
    );
    let watch =
        "until grep -q two /config/a && grep -q changed /podinfo/labels; do sleep 0.1; done; echo seen; sleep 1000";
    lab.pod("hooks", json!({
        "terminationGracePeriodSeconds": 10,
        "containers": [
            {"name": "first", "command": ["sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.1; done"],
                "lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "sleep 0.3; echo up > /shared/started"]}}, "preStop": {"exec": {"command": ["touch", "/shared/stopped"]}}},
                "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]},
            // Begins only when the hook of the one before has returned.
            {"name": "c", "command": ["sh", "-c", format!("cat /shared/started; {watch}")],
                "volumeMounts": [{"name": "shared", "mountPath": "/shared"}, {"name": "config", "mountPath": "/config"}, {"name": "podinfo", "mountPath": "/podinfo"}]}],
        "volumes": [{"name": "shared", "emptyDir": {}}, {"name": "config", "configMap": {"name": "cm"}},
            {"name": "podinfo", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}],
    }));
    lab.pod("sick", json!({"containers": [{"name": "c", "command": ["sleep", "1000"], "livenessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 2, "terminationGracePeriodSeconds": 0}}]}));
    lab.wait_log("hooks", "c", "up");
    lab.api.patch("configmaps", "cm", &json!({"data": {"a": "two"}}));
    lab.api
        .patch("pods", "hooks", &json!({"metadata": {"labels": {"x": "changed"}}}));
    lab.wait_log("hooks", "c", "seen");
    lab.wait("sick", "/status/containerStatuses/0/restartCount", json!(1));
    assert!(
        lab.api
            .events()
            .iter()
            .any(|e| e.contains("failed liveness probe, will be restarted")),
        "{:?}",
        lab.api.events()
    );
    let uid = lab.api.get("pods", "hooks").unwrap()["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_string();
    let stopped = lab
        .config
        .data_dir
        .join("node/pods")
        .join(uid)
        .join("volumes/shared/stopped");
    lab.api.delete_pod("hooks", 10);
    let begun = std::time::Instant::now();
    while !stopped.exists() {
        assert!(begun.elapsed().as_secs() < 10, "preStop did not run");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    lab.end();
}

#[test]
fn a_probe_that_takes_too_long_leaves_no_process() {
    if !able() {
        return;
    }
    let lab = Lab::start();
    let slow = json!({"exec": {"command": ["sh", "-c", "echo run >> /runs; sleep 54321 & exec sleep 54321"]}, "timeoutSeconds": 1, "periodSeconds": 1});
    lab.pod(
        "p",
        json!({"containers": [{"name": "c", "command": ["sleep", "1000"], "readinessProbe": slow}]}),
    );
    lab.wait("p", "/status/containerStatuses/0/started", json!(true));
    let runs = lab.folder("p").join("containers/c/0/bundle/rootfs/runs");
    let begun = std::time::Instant::now();
    while std::fs::read_to_string(&runs).unwrap_or_default().lines().count() < 3 {
        assert!(begun.elapsed().as_secs() < 20, "the probe does not run again");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let sleepers = processes.filter(|p| {
        let command = std::fs::read(p.path().join("cmdline")).unwrap_or_default();
        command.starts_with(b"sleep\x0054321")
    });
    // Those of the run that is under way.
    assert!(sleepers.count() <= 2, "processes of ended probes are left");
    lab.end();
}

#[test]
fn probes_of_every_kind() {
    if !able() {
        return;
    }
    let lab = Lab::start();
    // A server that answers HTTP; the gRPC probe gets no gRPC from it and must fail, the others must not.
    let serve = "mkdir -p /www; echo hi > /www/index.html; exec httpd -f -p 8080 -h /www";
    let pod = |probe: serde_json::Value| json!({"containers": [{"name": "c", "command": ["sh", "-c", serve], "ports": [{"name": "web", "containerPort": 8080}], "readinessProbe": probe}]});
    for (name, probe) in [
        ("http", json!({"httpGet": {"port": "web", "path": "/"}})),
        ("tcp", json!({"tcpSocket": {"port": 8080}})),
        ("exec", json!({"exec": {"command": ["ls", "/www"]}})),
        ("missing", json!({"httpGet": {"port": "web", "path": "/absent"}})),
        ("grpc", json!({"grpc": {"port": 8080}})),
    ] {
        let mut probe = probe;
        probe["periodSeconds"] = json!(1);
        lab.pod(name, pod(probe));
    }
    for name in ["http", "tcp", "exec"] {
        lab.wait(name, "/status/containerStatuses/0/ready", json!(true));
    }
    for (name, why) in [
        ("missing", "HTTP probe failed with statuscode: 404"),
        ("grpc", "Readiness probe failed"),
    ] {
        let begun = std::time::Instant::now();
        while !lab.api.events().iter().any(|e| e.contains(name) && e.contains(why)) {
            assert!(
                begun.elapsed().as_secs() < 15,
                "{name}: no event {why}: {:#?}",
                lab.api.events()
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert_eq!(
            lab.api
                .get("pods", name)
                .unwrap()
                .pointer("/status/containerStatuses/0/ready"),
            Some(&json!(false))
        );
    }
    lab.end();
}

#[test]
fn a_finalizer_keeps_the_object_and_nothing_else() {
    if !able() {
        return;
    }
    let lab = Lab::start();
    lab.pod(
        "kept",
        json!({"containers": [{"name": "c", "command": ["sleep", "1000"]}]}),
    );
    lab.wait("kept", "/status/containerStatuses/0/started", json!(true));
    lab.api.patch(
        "pods",
        "kept",
        &json!({"metadata": {"finalizers": ["example.com/mine"]}}),
    );
    lab.api.delete_pod("kept", 1);
    lab.wait("kept", "/metadata/deletionGracePeriodSeconds", json!(0));
    let settled = lab.api.get("pods", "kept").unwrap();
    // A change of the object makes the node look at it again; the next pod shows that it has.
    lab.api
        .patch("pods", "kept", &json!({"metadata": {"labels": {"looked": "at"}}}));
    lab.pod(
        "next",
        json!({"containers": [{"name": "c", "command": ["sleep", "1000"]}]}),
    );
    lab.wait("next", "/status/containerStatuses/0/started", json!(true));
    assert_eq!(
        lab.api.get("pods", "kept").unwrap()["status"],
        settled["status"],
        "the node goes on writing"
    );
    lab.api.delete_pod("next", 0);
    lab.wait_folders(0);
    lab.end();
}

#[test]
fn services_and_names_between_pods() {
    if !able() {
        return;
    }
    let lab = Lab::start();
    let service_ip = drydock_service_ip(&lab, 5);
    lab.api.create("services", json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}, "spec": {"clusterIP": service_ip, "ports": [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 31999}]}}));
    lab.pod("web", json!({"containers": [{"name": "c", "command": ["sh", "-c", "mkdir -p /www; echo it works > /www/index.html; exec httpd -f -p 8080 -h /www"], "readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1}}]}));
    let web = lab.wait("web", "/status/containerStatuses/0/ready", json!(true));
    let ip = web["status"]["podIP"].clone();
    lab.api.create("endpointslices", json!({"metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": [{"addresses": [ip]}]}));
    // A static busybox crashes in the C library's resolver (wget); nc with numbers does not need it.
    let ask = |address: &str| {
        format!(
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {}",
            address.replace(':', " ")
        )
    };
    let get = |address: &str| format!("until {} | grep work; do sleep 0.2; done", ask(address));
    let node_ip = lab.config.node_ip();
    let all = [
        get(&format!("{service_ip}:80")),
        get(&format!("{node_ip}:31999")),
        ask(&(drydock_service_ip(&lab, 9) + ":80")) + " || echo refused",
    ];
    lab.pod(
        "client",
        json!({"restartPolicy": "Never", "containers": [{"name": "c", "command": ["sh", "-c", all.join("; ")]}]}),
    );
    lab.wait("client", "/status/phase", json!("Succeeded"));
    let log = lab.log("client", "c", 0);
    assert_eq!(log.matches("it works").count(), 2, "{log}");
    assert!(log.contains("refused"), "{log}");
    assert_eq!(resolve(&lab, "web.default.svc.cluster.local.").join(" "), service_ip);
    // The pod reaches itself through its own service, and the host does too.
    let own = format!(
        "mkdir /www; echo itself works > /www/index.html; httpd -p 8080 -h /www; sleep 1; {}",
        get(&(drydock_service_ip(&lab, 6) + ":80"))
    );
    lab.api.create("services", json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "own", "namespace": "default"}, "spec": {"clusterIP": drydock_service_ip(&lab, 6), "ports": [{"port": 80, "targetPort": 8080}]}}));
    lab.pod(
        "own",
        json!({"restartPolicy": "Never", "containers": [{"name": "c", "command": ["sh", "-c", own]}]}),
    );
    let ip = lab.wait("own", "/status/phase", json!("Running"))["status"]["podIP"].clone();
    lab.api.create("endpointslices", json!({"metadata": {"name": "own-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "own"}}, "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": [{"addresses": [ip]}]}));
    lab.wait("own", "/status/phase", json!("Succeeded"));
    assert!(lab.log("own", "c", 0).contains("itself"));
    let mut stream = std::net::TcpStream::connect((service_ip.as_str(), 80)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("it works\n"), "{answer}");
    lab.end();
}

fn drydock_service_ip(lab: &Lab, n: u32) -> String {
    std::net::Ipv4Addr::from_bits(lab.config.service_cidr.network().to_bits() + n).to_string()
}

/// Asks the cluster's DNS at its service address. (A static busybox cannot resolve names itself.)
fn resolve(lab: &Lab, name: &str) -> Vec<String> {
    use hickory_proto::op::{Message, Query};
    let mut query = Message::query();
    query.add_query(Query::query(
        hickory_proto::rr::Name::from_ascii(name).unwrap(),
        hickory_proto::rr::RecordType::A,
    ));
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket
        .set_read_timeout(Some(std::time::Duration::from_secs(3)))
        .unwrap();
    socket
        .send_to(&query.to_vec().unwrap(), (lab.config.dns_ip(), 53))
        .unwrap();
    let mut buffer = [0; 1024];
    let n = socket.recv(&mut buffer).unwrap();
    Message::from_vec(&buffer[..n])
        .unwrap()
        .answers
        .iter()
        .map(|r| r.data.to_string())
        .collect()
}
