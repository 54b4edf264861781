//! The recorded kubectl commands: one sequence in one namespace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::LazyLock,
    time::Duration,
};

use anyhow::Context;
use regex::Regex;

use super::{
    CaseResult,
    normalize::{self, Names},
    runner::{Runner, random_letters},
    target::Target,
    webhook::Hooks,
};

/// Longest command.
const TIMEOUT: Duration = Duration::from_secs(90);
/// Differing lines that are shown.
const SHOWN: usize = 6;

/// One recorded command.
#[derive(Debug)]
struct Transcript {
    name: String,
    command: String,
    exit: i32,
    stdout: String,
    stderr: String,
}

/// What a command did.
struct Done {
    exit: i32,
    stdout: String,
    stderr: String,
}

/// Runs all recorded commands below `data` (the folder `kube-api`) with the given kubectl, in the order of their numbers.
///
/// # Errors
/// When the recording cannot be read, or kubectl not be started.
pub async fn run_kubectl(
    target: &Target,
    kubeconfig: &Path,
    kubectl: &Path,
    data: &Path,
) -> anyhow::Result<Vec<CaseResult>> {
    let folder = data.join("kubectl");
    let fixtures = folder
        .join("fixtures")
        .canonicalize()
        .context("the fixtures are not there")?;
    let runner = Runner::new(target.clone(), Hooks::start().await?, data.to_owned()).await?;
    runner.install_istio().await?;
    let namespace = format!("kc-{}", random_letters());
    runner.make_namespace(&namespace).await?;
    // The name of the program is the name of the field manager.
    let program = as_kubectl(kubectl)?;
    let mut results = Vec::new();
    for transcript in read(&folder)? {
        let fixtures = fixtures.display().to_string();
        let command = transcript
            .command
            .replace("{{ns}}", &namespace)
            .replace("{{fixtures}}", &fixtures);
        let done = run(&program.path, kubeconfig, &command).await?;
        let names = Names {
            replace: vec![(fixtures, "{{fixtures}}".into()), (namespace.clone(), "{{ns}}".into())],
            managed_fields: true,
        };
        let mut failures = Vec::new();
        if done.exit != transcript.exit {
            failures.push(format!("exit code {}, wanted {}", done.exit, transcript.exit));
        }
        let headless = command.contains("--no-headers");
        failures.extend(differences(
            "stdout",
            &transcript.stdout,
            &done.stdout,
            &names,
            headless,
        ));
        failures.extend(differences(
            "stderr",
            &transcript.stderr,
            &done.stderr,
            &names,
            headless,
        ));
        results.push(CaseResult {
            name: format!("kubectl/{}", transcript.name),
            steps: 1,
            failures,
        });
    }
    Ok(results)
}

/// A link called `kubectl`, removed with its folder.
struct Program {
    path: PathBuf,
    folder: PathBuf,
}

impl Drop for Program {
    fn drop(&mut self) {
        // Only a temporary link: whoever cleans up the temporary folder finds it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn as_kubectl(program: &Path) -> anyhow::Result<Program> {
    let folder = std::env::temp_dir().join(format!("conformance-{}-{}", std::process::id(), random_letters()));
    fs::create_dir_all(&folder)?;
    let path = folder.join("kubectl");
    std::os::unix::fs::symlink(program.canonicalize().context("kubectl is not there")?, &path)?;
    Ok(Program { path, folder })
}

fn read(folder: &Path) -> anyhow::Result<Vec<Transcript>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files
        .iter()
        .map(|path| parse(path).with_context(|| format!("{} is no transcript", path.display())))
        .collect()
}

fn parse(path: &Path) -> anyhow::Result<Transcript> {
    let text = fs::read_to_string(path)?;
    let (command, rest) = text.split_once('\n').context("no command")?;
    let (exit, output) = rest.split_once('\n').unwrap_or((rest, ""));
    let (before, stderr) = output.split_once("--- stderr\n").unwrap_or((output, ""));
    let stdout = before.split_once("--- stdout\n").map_or("", |(_, stdout)| stdout);
    Ok(Transcript {
        name: path
            .file_stem()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        command: command.strip_prefix("$ ").context("no command")?.to_owned(),
        exit: exit.strip_prefix("exit: ").context("no exit code")?.trim().parse()?,
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
    })
}

/// Arguments are separated by spaces, double quotes group, one that begins with `{` or `[` is taken as it is.
fn arguments(command: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = command.trim();
    while !rest.is_empty() {
        if rest.starts_with(['{', '[']) {
            found.push(rest.to_owned());
            break;
        }
        let (argument, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        found.push(argument.to_owned());
        rest = after.trim_start();
    }
    found
}

async fn run(program: &Path, kubeconfig: &Path, command: &str) -> anyhow::Result<Done> {
    let child = tokio::process::Command::new(program)
        .args(arguments(command).iter().skip(1))
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let Ok(output) = tokio::time::timeout(TIMEOUT, child).await else {
        return Ok(Done {
            exit: -1,
            stdout: String::new(),
            stderr: "it did not end".into(),
        });
    };
    let output = output.context("kubectl cannot be started")?;
    Ok(Done {
        exit: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

macro_rules! pattern {
    ($name:ident, $text:expr) => {
        #[allow(
            clippy::expect_used,
            reason = "the pattern is a constant and tested by its use"
        )]
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($text).expect("a constant pattern"));
    };
}

pattern!(AGE, r"(?m)(^|\s)(?:[0-9]+(?:y|d|h|m|s))+(\s|$)");
pattern!(
    DATE,
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} [+-][0-9]{4}"
);
pattern!(CONTAINER, r"[a-z]+://[a-z0-9]+$");
pattern!(POD_SUFFIX, r"<hash>-[bcdfghjklmnpqrstvwxz2456789]{5}\b");
pattern!(HASH_LABEL, r"(-hash=)[a-z0-9]+");
pattern!(SPACES, r" {2,}");
pattern!(DASHES, r"-{4,}");
pattern!(VERSION, r#"resourceVersion: "[0-9]+""#);
pattern!(GENERATED, r"(?m)^(web-)[bcdfghjklmnpqrstvwxz2456789]{5}(\s)");

/// Output without what differs from run to run.
fn masked(output: &str, names: &Names, headless: bool) -> Vec<String> {
    // Ages stand in tables and in the events of a description; elsewhere `10m` is an amount.
    let mut ages = headless;
    output
        .lines()
        .filter(|line| !line.starts_with("Waiting for ") && !line.contains("exceeds the supported minor version skew"))
        .map(|line| {
            ages |= line.contains("AGE") || line.contains("LAST SEEN") || line.starts_with("Events:");
            let mut line = normalize::text(line, names);
            line = POD_SUFFIX.replace_all(&line, "<hash>-<5>").into_owned();
            line = HASH_LABEL.replace_all(&line, "${1}<hash>").into_owned();
            line = DATE.replace_all(&line, "<time>").into_owned();
            line = VERSION.replace_all(&line, "resourceVersion: \"<rv>\"").into_owned();
            line = GENERATED.replace_all(&line, "${1}<5>${2}").into_owned();
            if line.trim_start().starts_with("Container ID:") {
                line = CONTAINER.replace_all(&line, "<container>").into_owned();
            }
            if ages {
                line = AGE.replace_all(&line, "${1}<age>${2}").into_owned();
            }
            line = SPACES.replace_all(&line, "  ").into_owned();
            DASHES.replace_all(&line, "----").trim_end().to_owned()
        })
        .collect()
}

/// Recorded text, to be compared with masked output.
fn expected(output: &str) -> Vec<String> {
    let lines = output.lines().filter(|line| !line.starts_with("Waiting for "));
    lines
        .map(|line| {
            DASHES
                .replace_all(&SPACES.replace_all(line, "  "), "----")
                .trim_end()
                .to_owned()
        })
        .collect()
}

fn differences(stream: &str, wanted: &str, actual: &str, names: &Names, headless: bool) -> Vec<String> {
    let (mut wanted, mut actual) = (expected(wanted), masked(actual, names, headless));
    for lines in [&mut wanted, &mut actual] {
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
    }
    if wanted == actual {
        return Vec::new();
    }
    let missing = wanted
        .iter()
        .filter(|line| !actual.contains(line))
        .map(|line| format!("{stream} lacks: {line}"));
    let extra = actual
        .iter()
        .filter(|line| !wanted.contains(line))
        .map(|line| format!("{stream} has: {line}"));
    let mut found: Vec<String> = missing.take(SHOWN).chain(extra.take(SHOWN)).collect();
    if found.is_empty() {
        found.push(format!("{stream} has the same lines in another order or number"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_as_recorded() {
        assert_eq!(
            arguments(r#"kubectl annotate d web "note=two words" -o yaml"#),
            ["kubectl", "annotate", "d", "web", "note=two words", "-o", "yaml"]
        );
        assert_eq!(
            arguments("kubectl patch d web -p {\"a\": 1}"),
            ["kubectl", "patch", "d", "web", "-p", "{\"a\": 1}"]
        );
    }
}
