//! `istioctl profile list`, `dump` and `diff`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use install::assets::Assets;
use install::{difference, input, values, yaml};
use serde_json::{Value, json};

use crate::command::install::{Wanted, read};
use crate::failure::Failure;
use crate::out::put;

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists profiles.
    List(Source),
    /// Prints a profile, merged over `default`.
    Dump(Dump),
    /// Compares two profiles line by line; exits with 1 if they differ.
    Diff {
        /// Name of a profile, or a file with one.
        a: String,
        /// The other one.
        b: String,
        /// Where they come from.
        #[command(flatten)]
        source: Source,
    },
}

/// Flags of `dump`.
#[derive(Debug, Args)]
pub struct Dump {
    /// Name of the profile (`default` if there is neither a name nor a file).
    name: Option<String>,
    /// File with an IstioOperator to print instead, merged over its profile (repeatable).
    #[arg(short, long, value_name = "FILE", value_delimiter = ',')]
    filename: Vec<String>,
    /// Only what is at this path below `spec`, for example components.pilot.
    #[arg(short = 'p', long, value_name = "PATH")]
    config_path: Option<String>,
    /// Format.
    #[arg(short, long, value_name = "FORMAT", default_value = "yaml")]
    output: Format,
    /// Where it comes from.
    #[command(flatten)]
    source: Source,
}

/// Output format.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
    /// A line for each value, as `--set` takes it.
    Flags,
}

/// Where profiles come from.
#[derive(Debug, Args)]
pub struct Source {
    /// Folder with charts and profiles instead of those of this program.
    #[arg(short = 'd', long, alias = "charts", value_name = "FOLDER")]
    manifests: Option<PathBuf>,
}

impl Source {
    fn assets(&self) -> Result<Assets, Failure> {
        Ok(match &self.manifests {
            Some(folder) => Assets::folder(folder)?,
            None => Assets::embedded(),
        })
    }
}

/// Lists, prints or compares.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List(source) => {
            let assets = source.assets()?;
            let names: Vec<String> = assets.profiles().iter().map(|name| format!("    {name}\n")).collect();
            put(&if names.is_empty() {
                "No profiles available.\n".to_owned()
            } else {
                format!("Istio configuration profiles:\n{}", names.concat())
            });
            Ok(())
        }
        Command::Dump(flags) => {
            put(&dumped(&flags)?);
            Ok(())
        }
        Command::Diff { a, b, source } => {
            let assets = source.assets()?;
            let (a, b) = (text(&assets, &a)?, text(&assets, &b)?);
            let difference = difference::lines(&a, &b);
            if difference.is_empty() {
                put("Profiles are identical\n");
                return Ok(());
            }
            put(&format!("The difference between profiles:\n{difference}"));
            Err(Failure::different())
        }
    }
}

/// The text of a profile by name, or of one in a file.
fn text(assets: &Assets, name: &str) -> Result<String, Failure> {
    let known = assets.profiles().contains(&name);
    let document = if !known && Path::new(name).extension().is_some_and(|end| end == "yaml") {
        input::profile(
            &assets.clone().with(&format!("profiles/{name}.yaml"), read(name)?),
            name,
        )?
    } else {
        input::profile(assets, name)?
    };
    Ok(yaml::to_sorted(&document) + "\n")
}

/// A profile, or a part of it, in the format that is asked for.
fn dumped(flags: &Dump) -> Result<String, Failure> {
    let assets = flags.source.assets()?;
    let document = match (&flags.name, flags.filename.is_empty()) {
        (Some(_), false) => return Err(Failure::new("cannot specify both profile name and filename flag")),
        (_, false) => {
            let wanted = Wanted {
                filename: flags.filename.clone(),
                manifests: flags.source.manifests.clone(),
                ..Wanted::default()
            };
            let spec = wanted.resolve(&assets)?.document["spec"].clone();
            json!({"apiVersion": api::install::API_VERSION, "kind": api::install::KIND, "spec": spec})
        }
        (name, true) => input::profile(&assets, name.as_deref().unwrap_or("default"))?,
    };
    let part = match &flags.config_path {
        None => &document,
        Some(path) => values::get(&document["spec"], path)
            .map_err(|error| Failure::new(error.to_string()))?
            .ok_or_else(|| Failure::new(format!("the profile has nothing at spec.{path}")))?,
    };
    Ok(match flags.output {
        Format::Yaml => yaml::to_sorted(part) + "\n",
        Format::Json => format!("{:#}\n", yaml::sorted(part)),
        Format::Flags => {
            let root = if flags.config_path.is_none() {
                &part["spec"]
            } else {
                part
            };
            let mut lines = Vec::new();
            settings(root, &mut flags.config_path.clone().unwrap_or_default(), &mut lines);
            lines.sort();
            lines.concat()
        }
    })
}

/// A line for each single value below a path, as `--set` takes it.
fn settings(value: &Value, path: &mut String, lines: &mut Vec<String>) {
    let length = path.len();
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&key.replace('.', "\\."));
                settings(value, path, lines);
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                settings(value, path, lines);
                path.truncate(length);
            }
        }
        single => lines.push(format!("{path}={single}\n")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command as Top};

    #[test]
    fn flags_are_a_line_for_each_value() {
        let mut lines = Vec::new();
        let tree = json!({"a": {"b": [1, {"c": "x"}]}, "istio.io/rev": true});
        settings(&tree, &mut String::new(), &mut lines);
        assert_eq!(lines, ["a.b[0]=1\n", "a.b[1].c=\"x\"\n", "istio\\.io/rev=true\n"]);
    }

    #[test]
    fn flags_of_a_part_are_what_set_takes() {
        let arguments = ["istioctl", "profile", "dump", "-p", "components.pilot", "-o", "flags"];
        let Ok(Cli {
            command: Top::Profile(Command::Dump(flags)),
            ..
        }) = Cli::try_parse_from(arguments)
        else {
            panic!("{arguments:?}")
        };
        let text = dumped(&flags).unwrap_or_default();
        assert!(
            text.lines().any(|line| line == "components.pilot.enabled=true"),
            "{text}"
        );
    }

    #[test]
    fn a_profile_has_a_text() {
        let assets = Assets::embedded();
        let difference = |a: &str, b: &str| {
            let text = |name| text(&assets, name).unwrap_or_default();
            difference::lines(&text(a), &text(b))
        };
        assert_eq!(difference("demo", "demo"), "");
        assert!(difference("default", "minimal").contains("-    - enabled: true\n+    - enabled: false\n"));
        assert!(text(&assets, "absent").is_err() && text(&assets, "absent.yaml").is_err());
    }
}
