//! Commands run as a whole, on the cluster or the files of their case.

use std::path::Path;

use clap::Parser as _;
use istioctl::cli::{Cli, Command, Experimental};
use istioctl::command::{analyze, authz, kube_inject, proxy_config, proxy_status, waypoint, workload};
use revision::selector::Labels;
use serde_json::{Value, json};

use super::cluster::Given;
use super::{Case, block_on, same};
use crate::data::read;

/// Runs a command and compares what it prints, or the error it ends with.
pub(super) fn check(case: &Case, folder: &Path) -> Result<(), String> {
    let mut cli = match parse(case, folder) {
        Ok(cli) => cli,
        Err(error) => {
            let failed =
                error.use_stderr() && error.kind() != clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
            return compare(case, folder, &error.to_string(), failed);
        }
    };
    cli.global.namespace = cli.global.namespace.or_else(|| namespace(case));
    let given = given(case, folder)?;
    let result = block_on(async {
        given.serve(&mut cli.global);
        let global = &cli.global;
        match cli.command {
            Command::ProxyConfig(command) => proxy_config::text(global, command).await,
            Command::ProxyStatus(flags) => {
                let report = proxy_status::report(global, &flags).await?;
                report.failure.map_or(Ok(report.text), Err)
            }
            Command::Waypoint(command) => waypoint::text(global, command).await,
            Command::KubeInject(flags) => kube_inject::text(global, &flags).await,
            Command::Experimental(Experimental::Workload(workload::Command::Group(workload::Group::Create(flags)))) => {
                flags.yaml(global)
            }
            Command::Experimental(Experimental::Workload(workload::Command::Entry(workload::Entry::Configure(
                flags,
            )))) => workload::configure(global, &flags).await.map(|_| String::new()),
            Command::Experimental(Experimental::Authz(authz::Command::Check(flags))) => {
                authz::report(global, &flags).await
            }
            _ => Ok("unsupported".to_owned()),
        }
    })?;
    match result {
        Ok(text) if text == "unsupported" => Err(format!("unsupported: {}", case.args.join(" "))),
        Ok(text) => compare(case, folder, &text, false),
        Err(failure) => compare(case, folder, &format!("Error: {}\n", failure.message()), true),
    }
}

/// Namespace of the command; with all namespaces it names none.
fn namespace(case: &Case) -> Option<String> {
    let all = case
        .args
        .iter()
        .any(|argument| argument == "-A" || argument == "--all-namespaces");
    let given = case.text("namespace");
    (!all && !given.is_empty()).then(|| given.to_owned())
}

/// Flags whose value is a file of the set.
const FILES: [&str; 7] = [
    "-f",
    "--file",
    "--filename",
    "--meshConfigFile",
    "--injectConfigFile",
    "--valuesFile",
    "--operatorFileName",
];

fn parse(case: &Case, folder: &Path) -> Result<Cli, clap::Error> {
    let arguments = case.args.iter().enumerate().map(|(index, argument)| {
        let before = case.args.get(index.wrapping_sub(1)).map(String::as_str);
        // A file that is to be missing keeps its name, which the message repeats.
        if before.is_some_and(|flag| FILES.contains(&flag)) && folder.join(argument).exists() {
            return folder.join(argument).to_string_lossy().into_owned();
        }
        argument.clone()
    });
    // The table of today's Istio has a name of its own here; without it there is the upgrade page's.
    let types = if case.text("expectedOutput").contains("SUBSCRIBED TYPES") {
        &["-o", "types"][..]
    } else {
        &[]
    };
    let arguments = arguments.chain(types.iter().map(|word| (*word).to_owned()));
    Cli::try_parse_from(std::iter::once("istioctl".to_owned()).chain(arguments))
}

fn given(case: &Case, folder: &Path) -> Result<Given, String> {
    let mut given = Given::default();
    for pod in case.list("istiodPods") {
        let text = |key: &str| pod[key].as_str().unwrap_or_default();
        given.pod(text("namespace"), text("name"), &pod["labels"]);
        // Such an istiod knows no proxy.
        given
            .answers
            .insert((text("name").to_owned(), "/debug/syncz".to_owned()), "[]".to_owned());
    }
    let admin = case.more.get("podAdminResponses").and_then(Value::as_object);
    for (pod, answer) in admin.into_iter().flatten() {
        given.pod(case.text("namespace"), pod, &json!({}));
        let answer = answer.as_str().unwrap_or_default();
        let body = match answer.strip_prefix("file:") {
            Some(file) => read(&folder.join(file))?,
            None => answer.to_owned(),
        };
        given.answers.insert((pod.clone(), String::new()), body);
    }
    for gateway in case.list("gateways") {
        let status = if gateway["programmed"] == true { "True" } else { "False" };
        given.objects.push(install::object::Object(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": gateway["name"], "namespace": gateway["namespace"], "labels": gateway["labels"]},
            "spec": {"gatewayClassName": gateway["gatewayClassName"]},
            "status": {"conditions": [{"type": "Programmed", "status": status}]},
        })));
    }
    Ok(given)
}

fn compare(case: &Case, folder: &Path, output: &str, failed: bool) -> Result<(), String> {
    if case.flag("fails").is_some_and(|fails| fails != failed) {
        return Err(format!("fails: {failed}: {output}"));
    }
    for fragment in case.list("expectedContains").filter_map(Value::as_str) {
        if !output.contains(fragment) {
            return Err(format!("expected {fragment:?} in {output:?}"));
        }
    }
    let pattern = case.text("expectedRegexp");
    if !pattern.is_empty() && !regex::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(output)) {
        return Err(format!("expected a match of {pattern:?} in {output:?}"));
    }
    let expected = case.text("expectedOutput");
    if !expected.is_empty() {
        return same(expected, output);
    }
    let golden = case.text("golden");
    if golden.is_empty() {
        return Ok(());
    }
    let golden_text = read(&folder.join(golden))?;
    if golden.ends_with(".json") {
        let parse = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
        return if parse(&golden_text)? == parse(output)? {
            Ok(())
        } else {
            Err("JSON differs".to_owned())
        };
    }
    if golden.ends_with(".injected") {
        return same_documents(&golden_text, output);
    }
    same(&golden_text, output)
}

/// Injected objects are compared by what they say, not by how they are indented.
fn same_documents(expected: &str, actual: &str) -> Result<(), String> {
    let documents = |text: &str| install::yaml::documents(text).map_err(|error| error.to_string());
    if documents(expected)? == documents(actual)? {
        Ok(())
    } else {
        same(expected, actual)
    }
}

/// The files of a virtual machine.
pub(super) fn workload_entry(case: &Case, folder: &Path) -> Result<(), String> {
    let mut cli = parse(case, folder).map_err(|error| error.to_string())?;
    let mut given = Given::default();
    let objects = &case.more["cluster"];
    for (list, kind) in [
        ("serviceAccounts", "ServiceAccount"),
        ("configMaps", "ConfigMap"),
        ("secrets", "Secret"),
        ("services", "Service"),
    ] {
        for object in objects[list].as_array().into_iter().flatten() {
            let mut object = object.clone();
            object["apiVersion"] = "v1".into();
            object["kind"] = kind.into();
            object["metadata"] = json!({"name": object["name"], "namespace": object["namespace"]});
            for value in object["data"]
                .as_object_mut()
                .into_iter()
                .flatten()
                .map(|(_, value)| value)
            {
                if let Some(file) = value.as_str().and_then(|text| text.strip_prefix("file:")) {
                    *value = read(&folder.join(file))?.into();
                }
            }
            given.objects.push(install::object::Object(object));
        }
    }
    let result = block_on(async {
        given.serve(&mut cli.global);
        match &cli.command {
            Command::Experimental(Experimental::Workload(workload::Command::Entry(workload::Entry::Configure(
                flags,
            )))) => workload::configure(&cli.global, flags).await,
            _ => Ok(Default::default()),
        }
    })?;
    let (files, _) = result.map_err(|failure| failure.message().to_owned())?;
    for (name, golden) in case.more["goldens"].as_object().into_iter().flatten() {
        let written = files
            .get(name.as_str())
            .ok_or_else(|| format!("{name} is not written"))?;
        let golden = golden.as_str().unwrap_or_default();
        same(&read(&folder.join(golden))?, written).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

/// What every injector says of a pod.
pub(super) fn check_inject(case: &Case, folder: &Path) -> Result<(), String> {
    let labels = |key: &str| -> Labels {
        let labels = case.more.get(key).and_then(Value::as_object).into_iter().flatten();
        labels
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    };
    let (pod, namespace) = (labels("podLabels"), labels("namespaceLabels"));
    let mut verdicts = Vec::new();
    for file in case.list("webhooks").filter_map(Value::as_str) {
        for document in install::yaml::documents(&read(&folder.join(file))?).map_err(|error| error.to_string())? {
            let configuration = serde_json::from_value(document).map_err(|error| format!("{file}: {error}"))?;
            if let Some(injector) = revision::decision::Injector::from_configuration(&configuration) {
                let verdict = revision::verdict::judge(&injector, &pod, &namespace);
                verdicts.push(json!({"webhook": injector.config, "revision": injector.revision,
                    "injected": verdict.injected, "reason": verdict.reason}));
            }
        }
    }
    let expected: Vec<&Value> = case.list("expected").collect();
    for (expected, actual) in expected.iter().zip(&verdicts) {
        if *expected != actual {
            return Err(format!("expected {expected}, got {actual}"));
        }
    }
    if expected.len() == verdicts.len() {
        Ok(())
    } else {
        Err(format!("{} verdicts, expected {}", verdicts.len(), expected.len()))
    }
}

/// Findings in files, and whether they reach the threshold.
pub(super) fn analyze(case: &Case, folder: &Path) -> Result<(), String> {
    let in_folder = |argument: &String| match folder.join(argument) {
        file if file.is_file() => file.to_string_lossy().into_owned(),
        _ => argument.clone(),
    };
    let arguments = std::iter::once("istioctl".to_owned()).chain(case.args.iter().map(in_folder));
    let cli = Cli::try_parse_from(arguments).map_err(|error| error.to_string())?;
    let Command::Analyze(flags) = &cli.command else {
        return Err(format!("unsupported: {}", case.args.join(" ")));
    };
    match block_on(analyze::report(&cli.global, flags))? {
        Ok(report) => compare(case, folder, &report.text, report.failure.is_some()),
        Err(failure) => compare(case, folder, &format!("Error: {}\n", failure.message()), true),
    }
}
