//! Golden set `xds`: objects and proxies in, everything that the control plane sends each proxy out.
//!
//! Trysail serves a stock Envoy, so what only Istio's Envoy has is left out on both sides (see `stock`).

mod compare;
mod expected;
mod scenario;
mod stock;

pub use compare::differences;

use std::path::Path;

use crate::report::{Case, Outcome};

/// Runs every scenario of `<data>/xds`.
///
/// # Errors
/// If the set itself cannot be read.
pub fn run(data: &Path) -> Result<Vec<Case>, String> {
    let folder = data.join("xds");
    let scenarios = scenario::index(&folder)?;
    Ok(scenarios
        .iter()
        .map(|scenario| {
            let outcome = match scenario.check(&folder) {
                Ok(differences) if differences.is_empty() => Outcome::Passed,
                Ok(differences) => match scenario.unsupported(&folder) {
                    Some(reason) => Outcome::Unsupported(reason),
                    None => Outcome::Failed(differences.join("\n")),
                },
                Err(error) => Outcome::Failed(error),
            };
            Case {
                name: scenario.name.clone(),
                outcome,
            }
        })
        .collect())
}
