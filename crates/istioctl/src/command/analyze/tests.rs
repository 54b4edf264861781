#![allow(clippy::unwrap_used)]

use clap::Parser as _;

use super::report;
use crate::cli::{Cli, Command};

const GATEWAY: &str = "
# A comment is no document.
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public}
spec:
  selector: {istio: gateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: other}
spec:
  hosts: [web.example.com]
  gateways: [gone]
  http: [{route: [{destination: {host: web}}]}]
";

/// Runs the command on a file of that text, given in place of `FILE`. What it prints, notes and ends with.
fn run(line: &str, text: &str) -> (String, Vec<String>, String) {
    let folder = tempfile::tempdir().unwrap();
    let nested = folder.path().join("config/nested");
    std::fs::create_dir_all(&nested).unwrap();
    let file = nested.join("web.yaml");
    std::fs::write(&file, text).unwrap();
    std::fs::write(nested.join("notes.txt"), "no YAML: [").unwrap();
    let root = folder.path().to_string_lossy().into_owned();
    let arguments = line.split(' ').map(|word| {
        word.replace("FILE", &file.to_string_lossy())
            .replace("FOLDER", &format!("{root}/config"))
    });
    let cli = match Cli::try_parse_from(
        ["istioctl".to_owned(), "analyze".to_owned()]
            .into_iter()
            .chain(arguments),
    ) {
        Ok(cli) => cli,
        Err(error) => return (String::new(), Vec::new(), error.to_string()),
    };
    let Command::Analyze(flags) = cli.command else { panic!() };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let short = |text: String| text.replace(&root, "ROOT");
    match runtime.block_on(report(&cli.global, &flags)) {
        Ok(report) => (
            short(report.text),
            report.notes.into_iter().map(short).collect(),
            short(
                report
                    .failure
                    .map(|failure| failure.message().to_owned())
                    .unwrap_or_default(),
            ),
        ),
        Err(failure) => (String::new(), Vec::new(), short(failure.message().to_owned())),
    }
}

#[test]
fn files_alone_say_nothing_of_what_they_do_not_hold() {
    let (text, notes, error) = run("--use-kube=false -v FILE", GATEWAY);
    assert_eq!((text.as_str(), error.as_str()), ("\n", ""));
    assert!(notes[0].starts_with("Analyzed resources in namespace: default"));
    let skipped = notes.iter().find(|note| note.starts_with("Skipped")).unwrap();
    assert!(skipped.contains("gateway.SecretAnalyzer") && !skipped.contains("ConflictingGateway"));
    assert_eq!(
        notes[notes.len() - 2..],
        [
            "❗ Objects of other namespaces were not analyzed (other: 1): -A analyzes all, -n NAMESPACE those of one.",
            "✔ No validation issues found when analyzing ROOT/config/nested/web.yaml."
        ]
    );
}

#[test]
fn a_file_of_another_namespace_is_not_said_to_be_fine() {
    let other = GATEWAY.replace("{name: public}", "{name: public, namespace: edge}");
    let (_, notes, _) = run("--use-kube=false FILE", &other);
    assert_eq!(
        notes,
        [
            "❗ Objects of other namespaces were not analyzed (edge: 1, other: 1): -A analyzes all, -n NAMESPACE those of one.",
            "No object of ROOT/config/nested/web.yaml is in namespace: default."
        ]
    );
    let (_, notes, _) = run("--use-kube=false -A FILE", &other);
    assert!(
        !notes.iter().any(|note| note.contains("were not analyzed")),
        "{notes:?}"
    );
}

#[test]
fn what_holds_nothing_is_not_said_to_be_fine() {
    let (_, notes, error) = run("--use-kube=false", GATEWAY);
    assert_eq!(notes, [""; 0]);
    assert_eq!(
        error,
        "there is nothing to analyze: no file was given, and --use-kube=false leaves the cluster out"
    );
    for text in ["", "# A comment is no document.\n---\n"] {
        let (_, notes, _) = run("--use-kube=false FILE", text);
        let nothing = "❗ There is no object in ROOT/config/nested/web.yaml: nothing of it was analyzed.";
        assert_eq!(notes, [nothing], "{text:?}");
    }
}

#[test]
fn findings_of_other_namespaces_are_shown_with_all() {
    let (text, _, error) = run("--use-kube=false -A FILE", GATEWAY);
    insta::assert_snapshot!(format!("{text}{error}"), @r#"
    Error [IST0101] (VirtualService web.other ROOT/config/nested/web.yaml:11) Referenced gateway not found: "gone"
    Warning [IST0132] (VirtualService web.other ROOT/config/nested/web.yaml:11) one or more host [web.example.com] defined in VirtualService other/web not found in Gateway other/gone.
    Analyzers found issues when analyzing all namespaces.
    See docs/messages/IST0101.md, docs/messages/IST0132.md or 'istioctl analyze --explain IST0101' for more information about causes and resolutions.
    "#);
}

#[test]
fn programs_get_where_it_is_explained() {
    let (text, _, error) = run("--use-kube=false -A -o json --output-threshold Error FOLDER", GATEWAY);
    insta::assert_snapshot!(text.replace('\t', "  "), @r#"
    [
      {
        "code": "IST0101",
        "documentationUrl": "https://istio.io/latest/docs/reference/config/analysis/ist0101/",
        "level": "Error",
        "message": "Referenced gateway not found: \"gone\"",
        "origin": "VirtualService web.other",
        "reference": "ROOT/config/nested/web.yaml:11"
      }
    ]
    "#);
    assert_eq!(error, "", "programs go by what they read");
}

#[test]
fn one_check_one_suppression_one_threshold() {
    let all = "--use-kube=false -A FILE";
    for (more, text, error) in [
        (" --analyzer gateway.ConflictingGatewayAnalyzer", "\n", ""),
        (" --analyzer no.Analyzer", "", "there is no check \"no.Analyzer\""),
        (
            " --failure-threshold error --output-threshold error",
            "Error [IST0101]",
            "Analyzers found issues",
        ),
        (" -S IST0101", "", "IST0101 is not a valid suppression value"),
        (" -R", "The recursive flag has been removed", ""),
    ] {
        let (printed, _, failed) = run(&format!("{all}{more}"), GATEWAY);
        assert!(printed.starts_with(text), "{more}: {printed}");
        assert!(
            failed.contains(error) && failed.is_empty() == error.is_empty(),
            "{more}: {failed}"
        );
    }
}

#[test]
fn what_cannot_be_read_fails_unless_it_is_to_be_ignored() {
    let broken = format!("a: b: c\n---\nname: no object\n{GATEWAY}");
    let (_, notes, error) = run("--use-kube=false FOLDER", &broken);
    assert_eq!(error, "Some files couldn't be parsed.");
    assert_eq!(
        notes[0],
        "Skipping file ROOT/config/nested/notes.txt, recognized file extensions are: [.json .yaml .yml]"
    );
    assert!(notes[1].starts_with("Error(s) adding files: ROOT/config/nested/web.yaml:1: no valid YAML"));
    assert!(
        notes[1].ends_with("ROOT/config/nested/web.yaml:3: no object of Kubernetes: it has no apiVersion and kind")
    );
    assert!(notes[2].starts_with("❗ Objects of other namespaces were not analyzed"));
    assert_eq!(
        notes[3],
        "No validation issues found when analyzing namespace: default (but 1 file could not be parsed)."
    );
    let (_, _, error) = run("--use-kube=false --ignore-unknown FOLDER", &broken);
    assert_eq!(error, "");
    let (_, _, error) = run("--use-kube=false /nowhere.yaml", GATEWAY);
    assert!(error.starts_with("cannot read /nowhere.yaml: "), "{error}");
}

#[test]
fn every_code_is_explained() {
    let (text, ..) = run("--explain ist0123", "");
    assert!(text.starts_with("# IST0123: NamespaceMultipleInjectionLabels\n"));
    let (.., error) = run("--explain IST9999", "");
    assert_eq!(error, "there is no message \"IST9999\", for example IST0101");
}
