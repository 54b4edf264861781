//! The small commands of the program itself: what they print, where, and how they end.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

/// Runs a command line; standard output, standard error, success.
fn run(line: &str) -> (String, String, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilot-agent"));
    let output = command.args(line.split_whitespace()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.success())
}

/// Answers the first requests with these status lines, one connection each, and then with the last for ever.
fn server(answers: &'static [&'static str]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (at, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let answer = answers[at.min(answers.len() - 1)];
            let _ = write!(
                stream,
                "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
    });
    port
}

#[test]
fn wait_ends_when_the_proxy_is_ready_or_says_why_it_is_not() {
    let wait = |port: u16, seconds: u32| {
        run(&format!(
            "wait --url http://127.0.0.1:{port}/healthz/ready --timeoutSeconds {seconds} --periodMillis 1"
        ))
    };
    let ready = server(&["503 Service Unavailable", "503 Service Unavailable", "200 OK"]);
    assert_eq!(wait(ready, 20), (String::new(), String::new(), true));
    let never = server(&["503 Service Unavailable"]);
    let (out, error, success) = wait(never, 1);
    assert!(!success && out.is_empty());
    assert_eq!(
        error,
        "Error: timeout waiting for Envoy proxy to become ready. Last error: HTTP status code 503\n"
    );
    let (_, error, success) = run("wait --url /healthz");
    assert!(!success && error.contains("has no host"), "{error}");
}

#[test]
fn request_asks_only_ports_of_the_proxy() {
    let (out, error, success) = run("request GET stats --debug-port 22");
    assert!(!success && out.is_empty());
    assert_eq!(
        error,
        "Error: debug port 22 is not in allowed list [15000, 15004, 15020, 15021]\n"
    );
    let (_, error, success) = run("request GET");
    assert!(!success && error.contains("<PATH>"), "{error}");
}

#[test]
fn version_is_a_number_or_a_line() {
    let (short, _, success) = run("version --short");
    assert!(success && short.split('.').count() >= 3, "{short}");
    assert_eq!(run("version").0, format!("version: {short}"));
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pilot-agent"));
    let output = command.arg("version").stdout(writer).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn help_names_every_command() {
    let (out, error, success) = run("--help");
    assert!(success && error.is_empty());
    for command in [
        "proxy",
        "istio-iptables",
        "istio-clean-iptables",
        "request",
        "wait",
        "version",
    ] {
        assert!(
            out.lines().any(|line| line.trim_start().starts_with(command)),
            "{command}:\n{out}"
        );
        let (page, _, success) = run(&format!("{command} --help"));
        assert!(success && page.contains("Usage: pilot-agent"), "{page}");
    }
    let (out, error, success) = run("no-such-command");
    assert!(
        !success && out.is_empty() && error.contains("no-such-command"),
        "{error}"
    );
}

#[test]
fn rules_are_shown_without_being_applied() {
    let (out, _, success) =
        run("istio-iptables -p 15001 -z 15006 -u 1337 -g 1337 -m REDIRECT -i * -b * -d 15020 --dry-run");
    assert!(success && out.contains("15001") && out.contains("15006"), "{out}");
}
