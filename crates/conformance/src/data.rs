//! Reading golden data: files that are named when they cannot be read.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A file's text.
///
/// # Errors
/// It cannot be read.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// What a YAML file says.
///
/// # Errors
/// It cannot be read, or says something else.
pub(crate) fn yaml<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    serde_saphyr::from_str(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))
}

/// The cases that a file lists under `cases`.
///
/// # Errors
/// Those of [`yaml`].
pub(crate) fn cases<C: DeserializeOwned>(path: &Path) -> Result<Vec<C>, String> {
    #[derive(Deserialize)]
    struct Listed<C> {
        cases: Vec<C>,
    }
    Ok(yaml::<Listed<C>>(path)?.cases)
}
