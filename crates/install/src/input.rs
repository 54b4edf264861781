//! What the user asked for: profile, files and flags merged into one specification (revisions.md §1.3).

use serde_json::{Value, json};

use crate::assets::Assets;
use crate::origin::Origin;
use crate::schema::{Path, Schema};
use crate::validate::{self, Located, Mistake};
use crate::values::{SetError, merge, scalar, set};
use crate::yaml::{self, YamlError};

/// Why there is no specification.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file is no YAML.
    #[error("{file}: {source}")]
    Yaml {
        /// Name of the file.
        file: String,
        /// What is wrong.
        source: YamlError,
    },
    /// More than one IstioOperator in a file.
    #[error("{0}: contains multiple IstioOperator CRs, only one per file is supported")]
    Several(String),
    /// Another kind of object.
    #[error("{file}: kind is {kind:?}, wants IstioOperator")]
    Kind {
        /// Name of the file.
        file: String,
        /// Its kind.
        kind: String,
    },
    /// There is no such profile.
    #[error("profile {name:?} not found{why}: choose one of {known}")]
    Profile {
        /// What was asked for.
        name: String,
        /// Why, if it is one of Istio's.
        why: &'static str,
        /// Names that exist.
        known: String,
    },
    /// A `--set` is wrong.
    #[error("--set {setting}: {source}")]
    Set {
        /// The flag's value.
        setting: String,
        /// What is wrong.
        source: SetError,
    },
    /// A `--set` says nothing.
    #[error("--set {0} has no value: write --set {0}=VALUE (--set {0}= for an empty one)")]
    NoValue(String),
    /// The documents do not make a valid installation.
    #[error("{}", lines(.0))]
    Invalid(Vec<Located>),
}

fn lines(mistakes: &[Located]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Files and flags of one command.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// Documents by file name, weakest first.
    pub files: Vec<(String, String)>,
    /// `--set path=value`, weakest first. Paths are relative to `spec`.
    pub settings: Vec<String>,
    /// `--revision`.
    pub revision: Option<String>,
    /// Registry and tag of this release's images.
    pub images: Option<(String, String)>,
    /// Report mistakes of the documents through [`Operator::warnings`] instead of refusing them.
    pub force: bool,
}

/// A merged IstioOperator.
#[derive(Clone, Debug)]
pub struct Operator {
    /// `metadata` and `spec`; `spec.values` is complete.
    pub document: Value,
    /// Profile it was built on.
    pub profile: String,
    /// Mistakes that `force` let pass.
    pub warnings: Vec<String>,
}

impl Operator {
    /// Text at a JSON pointer below `spec`.
    pub fn text(&self, pointer: &str) -> &str {
        self.document["spec"]
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The revision: empty for the unnamed one.
    pub fn revision(&self) -> &str {
        self.text("/values/revision")
    }

    /// The revision as labels spell it.
    pub fn revision_label(&self) -> &str {
        match self.revision() {
            "" => api::names::DEFAULT_REVISION,
            name => name,
        }
    }

    /// Namespace of the control plane.
    pub fn namespace(&self) -> &str {
        match self.text("/values/global/istioNamespace") {
            "" => api::names::ROOT_NAMESPACE,
            name => name,
        }
    }

    /// `metadata.name`, if the user gave one.
    pub fn name(&self) -> Option<&str> {
        self.document
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
    }

    /// `spec.values`.
    pub fn values(&self) -> &Value {
        &self.document["spec"]["values"]
    }

    /// Tag of the images.
    pub fn tag(&self) -> &str {
        self.text("/values/global/tag")
    }
}

/// Merges: profile `default`, the chosen profile, this release's images, files, flags, and what follows from them.
pub fn resolve(input: &Input, assets: &Assets) -> Result<Operator, InputError> {
    let mut user = json!({});
    for (file, text) in &input.files {
        merge(&mut user, &read(file, text)?);
    }
    let settings = settings(input);
    for setting in &settings {
        let Some((path, value)) = setting.split_once('=') else {
            return Err(InputError::NoValue(setting.clone()));
        };
        let write = set(&mut user, &format!("spec.{path}"), scalar(path, value));
        write.map_err(|source| InputError::Set {
            setting: setting.clone(),
            source,
        })?;
    }
    let origin = Origin::read(&input.files, &settings);
    let mut warnings = Vec::new();
    let mut pass = |mistakes| pass(mistakes, &origin, input.force, &mut warnings);
    let control_plane = Schema::of_control_plane(assets);
    let mut mistakes = validate::document(&user);
    // The values are checked once all are merged; who has mistakes here wants to know of those as well.
    if let (false, Some(values)) = (
        mistakes.is_empty(),
        user.pointer("/spec/values").filter(|v| v.is_object()),
    ) {
        mistakes.extend(control_plane.mistakes(values, &Path::of(&["spec", "values"])));
    }
    pass(mistakes)?;

    let profile = user
        .pointer("/spec/profile")
        .and_then(Value::as_str)
        .unwrap_or("default")
        .to_owned();
    let mut document = profile_document(assets, "default")?;
    if profile != "default" {
        merge(&mut document, &profile_document(assets, &profile)?);
    }
    if let Some((hub, tag)) = &input.images {
        merge(&mut document, &json!({"spec": {"hub": hub, "tag": tag}}));
    }
    merge(&mut document, &user);
    document["spec"]["profile"] = profile.as_str().into();
    translate(&mut document, &user);
    pass(validate::specification(&document["spec"]))?;
    let values = &document["spec"]["values"];
    pass(control_plane.mistakes(values, &Path::of(&["spec", "values"])))?;
    warnings.extend(validate::without_effect(&document["spec"]));
    warnings.extend(mesh_config(&user, &origin));
    if let Some(more) = document["spec"].get("unvalidatedValues").cloned() {
        merge(&mut document["spec"]["values"], &more);
    }
    Ok(Operator {
        document,
        profile,
        warnings,
    })
}

/// What nobody will read in the mesh configuration. A later istiod may, so it is no reason to refuse it.
fn mesh_config(user: &Value, origin: &Origin<'_>) -> Vec<String> {
    let schema = Schema::from(&api::install::MESH_CONFIG);
    let written = [&["spec", "meshConfig"][..], &["spec", "values", "meshConfig"]];
    let mistakes = written.into_iter().flat_map(|path| {
        let given = path.iter().try_fold(user, |at, field| at.get(field));
        given.map_or_else(Vec::new, |given| schema.mistakes(given, &Path::of(path)))
    });
    let located = mistakes.map(|mistake| Located {
        place: origin.of(&mistake.path()),
        mistake,
    });
    let told = located.map(|located| match located.mistake {
        Mistake::Unknown { .. } => format!("{located}: istiod ignores it"),
        _ => located.to_string(),
    });
    told.collect()
}

/// One profile over `default`, without anything of the user.
pub fn profile(assets: &Assets, name: &str) -> Result<Value, InputError> {
    let mut document = profile_document(assets, "default")?;
    if name != "default" {
        merge(&mut document, &profile_document(assets, name)?);
    }
    Ok(document)
}

/// `--set` with `--revision` as the last of them. `default` is the unnamed revision, however it is spelled.
fn settings(input: &Input) -> Vec<String> {
    let mut settings = input.settings.clone();
    if let Some(revision) = &input.revision {
        settings.push(format!("revision={revision}"));
    }
    for setting in &mut settings {
        if setting == "revision=default" || setting == "values.revision=default" {
            setting.truncate(setting.len() - "default".len());
        }
    }
    settings
}

fn pass(
    mistakes: Vec<Mistake>,
    origin: &Origin<'_>,
    force: bool,
    warnings: &mut Vec<String>,
) -> Result<(), InputError> {
    let located = mistakes.into_iter().map(|mistake| Located {
        place: origin.of(&mistake.path()),
        mistake,
    });
    let located: Vec<Located> = located.collect();
    // Where maps and lists belong nothing else can be worked with.
    let is_fatal = |located: &Located| !force || located.mistake.is_structural();
    if located.iter().any(is_fatal) {
        return Err(InputError::Invalid(located));
    }
    warnings.extend(located.iter().map(ToString::to_string));
    Ok(())
}

fn read(file: &str, text: &str) -> Result<Value, InputError> {
    let yaml = |source| InputError::Yaml {
        file: file.to_owned(),
        source,
    };
    let mut documents = yaml::documents(text).map_err(yaml)?;
    if documents.len() > 1 {
        return Err(InputError::Several(file.to_owned()));
    }
    let document = documents.pop().unwrap_or_else(|| json!({}));
    let kind = document
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or(api::install::KIND);
    if kind != api::install::KIND {
        return Err(InputError::Kind {
            file: file.to_owned(),
            kind: kind.to_owned(),
        });
    }
    Ok(document)
}

fn profile_document(assets: &Assets, name: &str) -> Result<Value, InputError> {
    let text = assets
        .get(&format!("profiles/{name}.yaml"))
        .ok_or_else(|| InputError::Profile {
            name: name.to_owned(),
            why: absent(name),
            known: assets.profiles().join(", "),
        })?;
    yaml::document(text).map_err(|source| InputError::Yaml {
        file: format!("profile {name}"),
        source,
    })
}

/// Why a profile of Istio's is not here.
fn absent(name: &str) -> &'static str {
    match name {
        "ambient" => " (there is no ztunnel and no CNI plugin)",
        "openshift" | "openshift-ambient" => " (there is no CNI plugin, which OpenShift needs)",
        "stable" => " (there is no policy that refuses fields of alpha quality)",
        _ => "",
    }
}

/// The short spellings become values; what the user wrote under `values` is stronger than all of them.
fn translate(document: &mut Value, user: &Value) {
    let spec = document["spec"].clone();
    let mut from_spec = json!({});
    let mut carry = |from: &str, to: &[&str]| {
        let Some(value) = spec.get(from).filter(|value| !value.is_null()) else {
            return;
        };
        let value = if matches!(from, "meshConfig") {
            value.clone()
        } else {
            text(value)
        };
        let nested = to.iter().rev().fold(value, |inner, key| json!({ *key: inner }));
        merge(&mut from_spec, &nested);
    };
    carry("hub", &["global", "hub"]);
    carry("tag", &["global", "tag"]);
    carry("revision", &["revision"]);
    carry("meshConfig", &["meshConfig"]);
    carry("compatibilityVersion", &["compatibilityVersion"]);
    if spec.pointer("/components/cni/enabled").and_then(Value::as_bool) == Some(true) {
        merge(&mut from_spec, &json!({"pilot": {"cni": {"enabled": true}}}));
    }
    if !document["spec"]["values"].is_object() {
        document["spec"]["values"] = json!({});
    }
    merge(&mut document["spec"]["values"], &from_spec);
    if let Some(values) = user.pointer("/spec/values") {
        merge(&mut document["spec"]["values"], values);
    }
    let namespace = document.pointer("/spec/values/global/istioNamespace").cloned();
    if let (Some(namespace), true) = (namespace, document.get("metadata").is_none_or(Value::is_object)) {
        document["metadata"]["namespace"] = namespace;
    }
}

fn text(value: &Value) -> Value {
    match value {
        Value::String(_) => value.clone(),
        other => Value::String(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(text: &str, settings: &[&str], expected: Result<&[&str], &str>) {
        let input = Input {
            files: vec![("mesh.yaml".to_owned(), text.to_owned())],
            settings: settings.iter().map(|s| (*s).to_owned()).collect(),
            ..Input::default()
        };
        let outcome = resolve(&input, &Assets::embedded()).map(|operator| operator.warnings);
        let expected = expected.map(|warnings| warnings.iter().map(|w| (*w).to_owned()).collect());
        assert_eq!(
            outcome.map_err(|error| error.to_string()),
            expected.map_err(str::to_owned)
        );
    }

    /// Forced or not: what has the wrong shape is refused or rendered, and never the end of the program.
    #[test]
    fn nothing_that_is_forced_makes_it_panic() {
        let assets = Assets::embedded();
        let places = [
            "",
            "metadata",
            "spec",
            "spec.values",
            "spec.values.pilot",
            "spec.meshConfig",
            "spec.components",
            "spec.unvalidatedValues",
            "spec.components.pilot",
            "spec.components.pilot.k8s.overlays",
            "spec.components.ingressGateways",
            "spec.profile",
            "spec.values.gateways.istio-ingressgateway",
            "kind",
        ];
        for place in places {
            for value in ["3", "[3]", "{a: [b]}"] {
                let fields: Vec<&str> = place.split('.').filter(|field| !field.is_empty()).collect();
                let open: String = fields.iter().map(|field| format!("{{{field}: ")).collect();
                let input = Input {
                    files: vec![(
                        "mesh.yaml".to_owned(),
                        format!("{open}{value}{}", "}".repeat(fields.len())),
                    )],
                    force: true,
                    ..Input::default()
                };
                if let Ok(operator) = resolve(&input, &assets) {
                    crate::component::render(&operator, &assets, &Default::default()).ok();
                }
            }
        }
        let forced = Input {
            files: vec![("mesh.yaml".to_owned(), "spec: 3".to_owned())],
            force: true,
            ..Input::default()
        };
        let error = resolve(&forced, &assets).unwrap_err().to_string();
        assert_eq!(error, "mesh.yaml:1: could not unmarshal: spec: wants a map, has 3");
    }

    #[test]
    fn a_profile_that_is_not_here() {
        let known = "choose one of default, demo, empty, minimal, preview, remote";
        check(
            "spec: {profile: defualt}",
            &[],
            Err(&format!("profile \"defualt\" not found: {known}")),
        );
        check(
            "spec: {profile: ambient}",
            &[],
            Err(&format!(
                "profile \"ambient\" not found (there is no ztunnel and no CNI plugin): {known}"
            )),
        );
    }

    #[test]
    fn all_mistakes_are_told_at_once_with_their_place() {
        check(
            "spec:\n  components:\n    pilot:\n      k8s:\n        replicaCout: 2\n  values:\n    pilot:\n      autoscaleMin: two\n",
            &["values.global.imagePullPolicy=Sometimes"],
            Err(
                "mesh.yaml:5: could not unmarshal: spec.components.pilot.k8s: unknown field \"replicaCout\" (did you mean \"replicaCount\"?)\n\
                 mesh.yaml:8: could not unmarshal: spec.values.pilot.autoscaleMin: wants a whole number, has \"two\"\n\
                 --set values.global.imagePullPolicy=Sometimes: could not unmarshal: spec.values.global.imagePullPolicy: wants one of Always, IfNotPresent, Never, has \"Sometimes\"",
            ),
        );
        check(
            "spec: {}",
            &["hub=/x"],
            Err("--set hub=/x: bad hub: \"/x\" is no image repository like docker.io/trysail"),
        );
        // The images would be called `/istiod:…`, which no node can pull.
        let own = "leave it out for the one of this program";
        for (setting, what) in [
            ("hub=", "hub: \"\" is no image repository like docker.io/trysail"),
            (
                "values.global.hub=",
                "hub: \"\" is no image repository like docker.io/trysail",
            ),
            ("tag=", "tag: \"\" is no image tag"),
        ] {
            check(
                "spec: {}",
                &[setting],
                Err(&format!("--set {setting}: bad {what}; {own}")),
            );
        }
        check(
            "spec: {}",
            &["hub=docker.io/trysail", "revision"],
            Err("--set revision has no value: write --set revision=VALUE (--set revision= for an empty one)"),
        );
        check("spec: {}", &["revision="], Ok(&[]));
    }

    #[test]
    fn what_istiod_will_not_read_is_told_and_kept() {
        check(
            "spec:\n  meshConfig:\n    accessLogFil: /dev/stdout\n    defaultConfig: {concurrency: 2}\n",
            &["values.meshConfig.enableTracing=yes"],
            Ok(&[
                "mesh.yaml:3: could not unmarshal: spec.meshConfig: unknown field \"accessLogFil\" (did you mean \"accessLogFile\"?): istiod ignores it",
                "--set values.meshConfig.enableTracing=yes: could not unmarshal: spec.values.meshConfig.enableTracing: wants true or false, has \"yes\"",
            ]),
        );
    }
}
