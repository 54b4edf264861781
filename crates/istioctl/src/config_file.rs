//! The file of Istio's `istioctl` that gives flags their defaults: `$HOME/.istioctl/config.yaml`, or the one that
//! `ISTIOCONFIG` names (revisions.md §10.1). Of its keys only `istioNamespace` means something here.

use std::path::PathBuf;

use serde_json::Value;

use crate::failure::Failure;

/// Key of the system namespace.
const ISTIO_NAMESPACE: &str = "istioNamespace";

/// The system namespace that the file names, if there is such a file.
pub fn istio_namespace() -> Result<Option<String>, Failure> {
    let named = std::env::var_os("ISTIOCONFIG").filter(|name| !name.is_empty());
    let is_named = named.is_some();
    let usual = || Some(std::env::home_dir()?.join(".istioctl/config.yaml"));
    let Some(path) = named.map(PathBuf::from).or_else(usual) else {
        return Ok(None);
    };
    let failed = |why: String| Failure::new(format!("Could not initialize: {}: {why}", path.display()));
    match std::fs::read_to_string(&path) {
        Ok(text) => of(&text).map_err(failed),
        // Nobody has to have one.
        Err(_) if !is_named => Ok(None),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn of(text: &str) -> Result<Option<String>, String> {
    let settings = install::yaml::document(text).map_err(|error| error.to_string())?;
    match settings.get(ISTIO_NAMESPACE) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) if !name.is_empty() => Ok(Some(name.clone())),
        Some(other) => Err(format!("{ISTIO_NAMESPACE} is {other}, wants the name of a namespace")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_the_system_namespace_or_leaves_it() {
        let check = |text: &str, expected: Result<Option<&str>, &str>| {
            let expected = expected.map(|name| name.map(str::to_owned)).map_err(str::to_owned);
            assert_eq!(of(text), expected);
        };
        check("istioNamespace: mesh\nxds-port: 15012\n", Ok(Some("mesh")));
        check("prefer-experimental: true\n", Ok(None));
        check(
            "istioNamespace: 3\n",
            Err("istioNamespace is 3, wants the name of a namespace"),
        );
    }
}
