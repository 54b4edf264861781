//! Stories as they are written.

use std::{fs, path::Path, sync::LazyLock};

use anyhow::Context;
use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

#[allow(clippy::expect_used, reason = "the pattern is a constant and tested by its use")]
static EXPONENT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)(: |- )([0-9]+e[0-9]+)$").expect("a constant pattern"));

/// One file.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    pub name: String,
    #[serde(default)]
    pub requires: Vec<String>,
    #[serde(default)]
    pub managed_fields: bool,
    #[serde(default)]
    pub no_namespace: bool,
    #[serde(default)]
    pub webhook: Map<String, Value>,
    pub steps: Vec<Step>,
}

/// One request and its answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub request: Request,
    #[serde(default)]
    pub capture: Map<String, Value>,
    pub until: Option<Until>,
    #[serde(default)]
    pub pause_seconds: f64,
    pub jwt: Option<String>,
    pub response: Value,
}

/// What is sent.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    pub method: String,
    pub path: String,
    #[serde(default)]
    pub query: String,
    #[serde(default)]
    pub headers: Map<String, Value>,
    pub auth: Option<String>,
    pub body: Option<Value>,
    pub body_hex: Option<String>,
}

/// When a step is over.
#[derive(Debug, Clone, Deserialize)]
pub struct Until {
    pub status: Option<u16>,
    pub contains: Option<Value>,
    pub absent: Option<String>,
}

/// Reads all stories.
pub fn load(folder: &Path) -> anyhow::Result<Vec<Story>> {
    let mut stories = Vec::new();
    let mut areas: Vec<_> = fs::read_dir(folder)
        .with_context(|| format!("{} cannot be read", folder.display()))?
        .collect::<Result<_, _>>()?;
    areas.sort_by_key(fs::DirEntry::file_name);
    for area in areas {
        let mut files: Vec<_> = fs::read_dir(area.path())?.collect::<Result<_, _>>()?;
        files.sort_by_key(fs::DirEntry::file_name);
        for file in files {
            let text = fs::read_to_string(file.path())?;
            // The cases are YAML 1.2: `y` is a text; but a number with an exponent and no point is one for few parsers.
            let options = serde_saphyr::options! { strict_booleans: true };
            let text = EXPONENT.replace_all(&text, "${1}'${2}'");
            let story: Story = serde_saphyr::from_str_with_options(&text, options)
                .with_context(|| format!("{} is no story", file.path().display()))?;
            stories.push(story);
        }
    }
    Ok(stories)
}
