//! The injector's configuration: ConfigMap `istio-sidecar-injector[-rev]`, keys `config` and `values` (revisions.md §5.3).

use std::collections::BTreeMap;

use gotemplate::Templates;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use revision::decision::Policy;
use revision::selector::Selector;
use serde::Deserialize;
use serde_json::Value;

use crate::functions;

/// Largest configuration that is read, in bytes: what a ConfigMap can hold.
const LARGEST: usize = 1 << 20;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A key is larger than a ConfigMap can be.
    #[error("injector configuration key {key:?} has {size} bytes; at most {LARGEST} are read")]
    TooLarge {
        /// `config` or `values`.
        key: &'static str,
        /// Its size in bytes.
        size: usize,
    },
    /// `config` is not the YAML that is expected.
    #[error("injector configuration key \"config\": {0}")]
    Config(String),
    /// `values` is neither JSON nor YAML.
    #[error("injector configuration key \"values\": {0}")]
    Values(String),
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    policy: String,
    default_templates: Option<Vec<String>>,
    templates: Option<BTreeMap<String, String>>,
    aliases: Option<BTreeMap<String, Vec<String>>>,
    never_inject_selector: Option<Vec<LabelSelector>>,
    always_inject_selector: Option<Vec<LabelSelector>>,
    injected_annotations: Option<BTreeMap<String, String>>,
}

/// A parsed configuration with its templates compiled.
#[derive(Debug)]
pub struct Config {
    /// Who is injected at all.
    pub policy: Policy,
    /// Names of the templates for pods that ask for none.
    pub default_templates: Vec<String>,
    /// Names that stand for several templates.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Annotations that every injected pod gets.
    pub injected_annotations: BTreeMap<String, String>,
    /// The chart values that templates read.
    pub values: Value,
    /// A template that does not compile is an error only for the pods that want it.
    templates: BTreeMap<String, Result<Templates, String>>,
}

impl Config {
    /// Parses both keys of the ConfigMap.
    pub fn parse(config: &str, values: &str) -> Result<Self, ConfigError> {
        for (key, text) in [("config", config), ("values", values)] {
            if text.len() > LARGEST {
                return Err(ConfigError::TooLarge { key, size: text.len() });
            }
        }
        let document: Document =
            serde_saphyr::from_str(config).map_err(|error| ConfigError::Config(error.to_string()))?;
        // A ConfigMap holds JSON; files that users write hold YAML.
        let values: Value = match serde_json::from_str(values) {
            Ok(values) => values,
            Err(_) => serde_saphyr::from_str(values).map_err(|error| ConfigError::Values(error.to_string()))?,
        };
        let selectors = |list: Option<Vec<LabelSelector>>| list.iter().flatten().map(Selector::from).collect();
        let templates = document
            .templates
            .unwrap_or_default()
            .into_iter()
            .map(|(name, source)| {
                let compiled = Templates::parse([(name.as_str(), source.as_str())], functions::extend);
                (name, compiled.map_err(|error| error.to_string()))
            });
        Ok(Self {
            policy: Policy {
                policy: document.policy,
                never: selectors(document.never_inject_selector),
                always: selectors(document.always_inject_selector),
            },
            default_templates: document
                .default_templates
                .filter(|names| !names.is_empty())
                .unwrap_or_else(|| vec!["sidecar".to_owned()]),
            aliases: document.aliases.unwrap_or_default(),
            injected_annotations: document.injected_annotations.unwrap_or_default(),
            values,
            templates: templates.collect(),
        })
    }

    /// Names of all templates.
    pub fn template_names(&self) -> impl Iterator<Item = &str> {
        self.templates.keys().map(String::as_str)
    }

    /// The compiled template of a name; `None` if there is none, an error if it does not compile.
    pub(crate) fn template(&self, name: &str) -> Option<Result<&Templates, &str>> {
        self.templates
            .get(name)
            .map(|template| template.as_ref().map_err(String::as_str))
    }

    /// A chart value by its path.
    pub(crate) fn value(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(&self.values, |value, key| value.get(key))
    }

    /// A chart value by its path, as a flag.
    pub(crate) fn flag(&self, path: &[&str]) -> Option<bool> {
        self.value(path).and_then(Value::as_bool)
    }
}
