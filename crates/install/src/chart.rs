//! One Helm chart: values, templates, rendering.

use gotemplate::{RenderError, Template, TemplateError, Templates, Value as Datum, from_json};
use serde_json::{Value, json};

use crate::assets::Assets;
use crate::object::Object;
use crate::values::merge;
use crate::yaml::{self, YamlError};

/// Why a chart did not render.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// There is no such chart.
    #[error("no chart {0}: the manifests hold no charts/{0}/Chart.yaml")]
    Absent(String),
    /// A file of the chart is no YAML.
    #[error("chart {chart}, {file}: {source}")]
    Yaml {
        /// Folder of the chart.
        chart: String,
        /// File inside it.
        file: String,
        /// What is wrong.
        source: YamlError,
    },
    /// A template failed.
    #[error("chart {chart}: {source}")]
    Render {
        /// Folder of the chart.
        chart: String,
        /// What is wrong.
        source: RenderError,
    },
}

/// What a chart is rendered for.
#[derive(Clone, Debug)]
pub struct Release<'a> {
    /// Name of the release; `istioctl` always uses `istio`.
    pub name: &'a str,
    /// Namespace of the release.
    pub namespace: &'a str,
    /// Whether the release replaces an earlier one.
    pub is_upgrade: bool,
}

/// A chart read from assets.
#[derive(Debug)]
pub struct Chart<'a> {
    folder: &'a str,
    meta: Value,
    values: Value,
    assets: &'a Assets,
}

impl<'a> Chart<'a> {
    /// Reads `charts/<folder>`.
    pub fn load(assets: &'a Assets, folder: &'a str) -> Result<Self, ChartError> {
        let read = |file: &str| -> Result<Value, ChartError> {
            let Some(text) = assets.get(&format!("charts/{folder}/{file}")) else {
                return Ok(json!({}));
            };
            yaml::document(text).map_err(|source| ChartError::Yaml {
                chart: folder.into(),
                file: file.into(),
                source,
            })
        };
        let meta = read("Chart.yaml")?;
        if meta.get("name").is_none() {
            return Err(ChartError::Absent(folder.to_owned()));
        }
        Ok(Self {
            folder,
            meta,
            values: read("values.yaml")?,
            assets,
        })
    }

    /// Another version in labels than the one the chart carries.
    #[must_use]
    pub fn with_version(mut self, version: &str) -> Self {
        self.meta["version"] = version.into();
        self.meta["appVersion"] = version.into();
        self
    }

    /// Other defaults than those of `values.yaml`.
    #[must_use]
    pub fn with_defaults(mut self, values: Value) -> Self {
        self.values = values;
        self
    }

    /// The chart's own defaults.
    pub fn defaults(&self) -> &Value {
        &self.values
    }

    /// Renders all templates with `values` over the defaults; objects come in order of file and position.
    pub fn render(&self, release: &Release<'_>, values: &Value) -> Result<Vec<Object>, ChartError> {
        let root = format!("charts/{}", self.folder);
        let sources: Vec<(&str, String)> = self
            .assets
            .below(&root)
            .filter(|(path, _)| path.starts_with("templates/"))
            .map(|(path, text)| (path, callable(text)))
            .collect();
        let files = Datum::Map(std::sync::Arc::new(
            self.assets
                .below(&root)
                .filter(|(path, _)| !path.starts_with("templates/"))
                .map(|(path, text)| (path.into(), Datum::String(text.into())))
                .collect(),
        ));
        let failed = |source| ChartError::Render {
            chart: self.folder.to_owned(),
            source,
        };
        let templates = Templates::parse(sources.iter().map(|(path, text)| (*path, text.as_str())), |set| {
            with_files(set, files)
        })
        .map_err(failed)?;

        let mut merged = self.values.clone();
        merge(&mut merged, values);
        let data = from_json(&json!({
            "Values": merged,
            "Chart": {
                "Name": self.meta["name"],
                "Version": self.meta["version"],
                "AppVersion": self.meta["appVersion"],
            },
            "Release": {
                "Name": release.name,
                "Namespace": release.namespace,
                "Service": "Helm",
                "IsUpgrade": release.is_upgrade,
                "IsInstall": !release.is_upgrade,
                "Revision": 1,
            },
        }));
        let mut objects = Vec::new();
        for (path, _) in sources.iter().filter(|(path, _)| path.ends_with(".yaml")) {
            let text = templates.render(path, &data).map_err(failed)?;
            let documents = yaml::documents(&text).map_err(|source| ChartError::Yaml {
                chart: self.folder.into(),
                file: (*path).into(),
                source,
            })?;
            objects.extend(documents.into_iter().filter(|d| d.get("kind").is_some()).map(Object));
        }
        Ok(objects)
    }
}

/// Helm's `.Files.Get` is a method, which template data here cannot have: the same as a function.
fn callable(source: &str) -> String {
    source
        .replace("$.Files.Get", "filesGet")
        .replace(".Files.Get", "filesGet")
}

fn with_files(set: Template, files: Datum) -> Template {
    set.func("filesGet", move |arguments| {
        let path = arguments.first().and_then(Datum::as_str);
        let path = path.ok_or_else(|| TemplateError::Exec("Files.Get: wants a path".into()))?;
        // As in Helm, a file that is not there is empty.
        Ok(files.field(path).cloned().unwrap_or_else(|| Datum::String("".into())))
    })
}
