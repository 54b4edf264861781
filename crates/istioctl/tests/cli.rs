//! The program as a person meets it when something is wrong: one clear line, and an exit code.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A Kubernetes configuration whose server does not answer, written once.
fn kubeconfig() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let file = std::env::temp_dir().join(format!("istioctl-cli-{}.kubeconfig", std::process::id()));
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
                    clusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}]\n\
                    contexts: [{name: a, context: {cluster: a, user: a}}]\nusers: [{name: a, user: {token: x}}]\n";
        std::fs::write(&file, text).unwrap();
        file
    })
}

fn check(arguments: &[&str], code: i32, says: &str) {
    check_with(&[], arguments, code, says);
}

fn check_with(variables: &[(&str, &str)], arguments: &[&str], code: i32, says: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_istioctl"))
        .args(arguments)
        .env("KUBECONFIG", kubeconfig())
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        (output.status.code(), text.contains(says)),
        (Some(code), true),
        "{arguments:?}: {text}"
    );
}

#[test]
fn a_dead_api_server_is_told_in_one_line() {
    let line = "Error: cannot reach the API server at https://127.0.0.1:1: Connection refused (os error 111)\n";
    for command in [
        &["ps"][..],
        &["tag", "list"],
        &["x", "precheck"],
        &["uninstall", "--revision", "a", "-y"],
        &["analyze"],
    ] {
        check(command, 1, line);
    }
    check(&["install", "-y"], 1, line);
}

/// An API server that says its version, and nothing else to anybody.
fn silent_api_server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            std::thread::spawn(move || says_its_version(connection.unwrap()));
        }
    });
    address
}

fn says_its_version(mut connection: TcpStream) {
    let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
    while let Some(Ok(request)) = lines.next() {
        let mut head = lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty());
        head.by_ref().for_each(drop);
        if request.starts_with("GET /version ") {
            let version = r#"{"major":"1","minor":"35","gitVersion":"v1.35.0","gitCommit":"","gitTreeState":"clean","buildDate":"","goVersion":"","compiler":"","platform":""}"#;
            let length = version.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{version}"
            );
            connection.write_all(answer.as_bytes()).unwrap();
        }
    }
}

#[test]
fn an_api_server_that_is_silent_holds_no_command_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    let text = std::fs::read_to_string(kubeconfig()).unwrap();
    let address = format!("http://{}", silent_api_server());
    std::fs::write(&file, text.replace("https://127.0.0.1:1", &address)).unwrap();
    for command in [
        &["tag", "list"][..],
        &["install", "-y"],
        &["uninstall", "--revision", "a", "-y"],
        &["gateway", "revert", "--revision", "a"],
        &["ps"],
        &["x", "injector", "list"],
        &["x", "precheck"],
        &["analyze"],
        &["pc", "listener", "web"],
    ] {
        let begin = Instant::now();
        check_with(
            &[("KUBECONFIG", file.to_str().unwrap())],
            &[command, &["--kubeclient-timeout", "200ms"]].concat(),
            1,
            "the API server did not answer within 200ms (--kubeclient-timeout waits longer)",
        );
        assert!(begin.elapsed() < Duration::from_secs(60), "{command:?}");
    }
}

#[test]
fn mistakes_on_the_command_line_are_usage_errors() {
    check(&["bogus"], 64, "unrecognized subcommand 'bogus'");
    check(&["ps", "--bogus"], 64, "unexpected argument '--bogus'");
    check(
        &["tag", "set", "prod"],
        1,
        "Error: required flag(s) \"revision\" not set",
    );
    let operator = "Error: istioctl operator does not exist here. Instead: istioctl install: there is no operator in the cluster\n";
    check(&["operator", "init"], 64, operator);
    check(
        &["x", "metrics", "web"],
        64,
        "Error: istioctl x metrics does not exist here. Instead: a Prometheus of your own",
    );
    let through = "istiods are asked through the API server, not by an address";
    check(&["ps", "--xds-address", "a:15012"], 64, through);
    let no_port = "\"abc\" is no port; write a number from 1 to 65535";
    check(&["pc", "listener", "web", "--port", "abc"], 64, no_port);
    check(&["ps", "--proxy-admin-port", "0"], 64, "\"0\" is no port");
    check(
        &["pc", "cluster", "web", "--direction", "out"],
        64,
        "[possible values: inbound, inbound-vip, outbound]",
    );
    check(
        &["pc", "endpoint", "web", "--status", "well"],
        64,
        "[possible values: healthy, unhealthy, draining, timeout, degraded, unknown]",
    );
    check(&["prxy-status"], 64, "'proxy-status'");
    check(&["ps", "--revison", "a"], 64, "'--revision'");
}

#[test]
fn a_file_of_settings_that_was_named_must_be_readable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let name = file.to_str().unwrap();
    let named = [("ISTIOCONFIG", name)];
    let missing = format!("Error: Could not initialize: {name}: No such file or directory");
    check_with(&named, &["ps"], 1, &missing);
    check_with(&named, &["ps", "-i", "mesh"], 1, "cannot reach the API server");
    std::fs::write(&file, "istioNamespace: mesh\n").unwrap();
    check_with(&named, &["ps"], 1, "cannot reach the API server");
}

#[test]
fn what_is_missing_is_told_in_the_words_that_scripts_know() {
    let dump = "failed to get config dump from file /nowhere.json: open /nowhere.json: no such file or directory";
    check(&["x", "authz", "check", "-f", "/nowhere.json"], 1, dump);
    check(&["kube-inject"], 1, "filename not specified (see --filename or -f)");
    check(&["pc", "log"], 1, "Error: log requires pod name or --selector");
    let configure = ["x", "workload", "entry", "configure"];
    let group = "expecting a WorkloadGroup artifact file or the name and namespace of an existing WorkloadGroup";
    for flags in [&["--name", "web", "-o", "vm"][..], &["-n", "app", "-o", "vm"]] {
        check(&[&configure, flags].concat(), 1, group);
    }
    for flags in [&["-f", "group.yaml"][..], &["--name", "web", "-n", "app"]] {
        check(&[&configure, flags].concat(), 1, "expecting an output directory");
    }
}

#[test]
fn of_a_flag_that_is_given_twice_the_last_counts() {
    let last = "open /last.yaml: no such file or directory";
    check(&["kube-inject", "-f", "/first.yaml", "-f", "/last.yaml"], 1, last);
}

#[test]
fn an_operator_is_read_before_other_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: web, image: web}]}\n";
    let template = "spec: {containers: [{name: istio-proxy, image: 'proxyv2:{{ .Values.global.tag }}'}]}";
    let operator = "spec: {meshConfig: {accessLogFile: /dev/stdout}, values: {global: {tag: of-the-operator}}}";
    let output = Command::new(env!("CARGO_BIN_EXE_istioctl"))
        .arg("kube-inject")
        .arg("-f")
        .arg(file("pod.yaml", pod))
        .arg("--injectConfigFile")
        .arg(file("template.yaml", template))
        .arg("--valuesFile")
        .arg(file("values.yaml", "global: {tag: of-the-values}"))
        .arg("--operatorFileName")
        .arg(file("operator.yaml", operator))
        // Nothing is left to ask it for.
        .env("KUBECONFIG", kubeconfig())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("image: proxyv2:of-the-operator"), "{output:?}");
}

#[test]
fn an_archive_that_is_there_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.tar.gz");
    std::fs::write(&file, "of last week").unwrap();
    let name = file.to_str().unwrap();
    let kept = "report.tar.gz is there already: name another file with -o, or pass --overwrite";
    check(&["bug-report", "-o", name], 1, kept);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "of last week");
    // The server is asked only when the file may be written.
    check(
        &["bug-report", "-o", name, "--overwrite"],
        1,
        "cannot reach the API server",
    );
    check(
        &["bug-report", "-o", name, "--dry-run"],
        1,
        "cannot reach the API server",
    );
}

#[test]
fn mistakes_in_the_installation_are_told_before_anything_happens() {
    check(
        &["install", "--revision", "1.22.1", "-y"],
        1,
        "invalid revision specified: 1.22.1",
    );
    check(
        &["install", "--set", "revision=1.22.1", "-y"],
        1,
        "invalid revision specified: 1.22.1",
    );
    check(
        &["install", "--set", "profile=nope", "-y"],
        1,
        "profile \"nope\" not found: choose one of default, demo",
    );
    check(
        &["install", "-f", "/nowhere.yaml", "-y"],
        1,
        "open /nowhere.yaml: no such file or directory",
    );
    check(
        &["install", "--set", "values.pilot.autoscaleMin=two", "-y"],
        1,
        "Error: --set values.pilot.autoscaleMin=two: could not unmarshal: spec.values.pilot.autoscaleMin: wants a whole number",
    );
    check(&["uninstall"], 1, "at least one of the --revision");
    let typo =
        "--set revison=canary: could not unmarshal: spec: unknown field \"revison\" (did you mean \"revision\"?)";
    check(&["uninstall", "--set", "revison=canary"], 1, typo);
    let no_value =
        "Error: --set revision has no value: write --set revision=VALUE (--set revision= for an empty one)\n";
    for command in [
        &["uninstall", "--set", "revision"][..],
        &["uninstall", "--purge", "--set", "revision", "-y"],
        &["install", "--set", "revision", "-y"],
        &["upgrade", "--set", "revision", "-y"],
        &["manifest", "generate", "--set", "revision"],
    ] {
        check(command, 1, no_value);
    }
    let file = std::env::temp_dir().join(format!("istioctl-cli-{}.yaml", std::process::id()));
    for (text, says) in [
        (
            "spec: {profil: demo}".to_owned(),
            "spec: unknown field \"profil\" (did you mean \"profile\"?)",
        ),
        (
            "spec: {components: {pilot: {enabled: 3}}}".to_owned(),
            "spec.components.pilot.enabled: wants true or false, has 3",
        ),
        ("kind: Service".to_owned(), "kind is \"Service\", wants IstioOperator"),
        (
            "# mine\n---\nspec:\n  values:\n    pilot:\n      autoscaleMinn: 2\n".to_owned(),
            ".yaml:6: could not unmarshal: spec.values.pilot: unknown field \"autoscaleMinn\" (did you mean \"autoscaleMin\"?)",
        ),
        (
            "spec: {values: {global: {imagePullPolicy: Sometimes}}}".to_owned(),
            ".yaml:1: could not unmarshal: spec.values.global.imagePullPolicy: wants one of Always, IfNotPresent, Never",
        ),
        ("a: b: c".to_owned(), "no valid YAML"),
        ("#".repeat(10 << 20), "bytes long"),
    ] {
        std::fs::write(&file, text).unwrap();
        check(&["install", "-f", file.to_str().unwrap(), "-y"], 1, says);
    }
    std::fs::remove_file(&file).ok();
}
