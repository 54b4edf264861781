//! Holds a running API server against recorded stories: `kube_api KUBECONFIG DATA [NAME-PREFIX…]`.

#[allow(
    dead_code,
    unused_imports,
    reason = "shared with the conformance program, which uses all of it"
)]
#[path = "../../conformance/src/kube_api/mod.rs"]
mod kube_api;

use std::{collections::BTreeMap, env, fs, path::PathBuf};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let usage = "usage: kube_api KUBECONFIG DATA [NAME-PREFIX…]";
    let kubeconfig = arguments.next().ok_or_else(|| anyhow::anyhow!(usage))?;
    let data = PathBuf::from(arguments.next().ok_or_else(|| anyhow::anyhow!(usage))?);
    let filters: Vec<String> = arguments.collect();
    let target = kube_api::Target::from_kubeconfig(&fs::read_to_string(kubeconfig)?)?;
    let results = kube_api::run_kube_api(&target, &data, |name| {
        filters.is_empty() || filters.iter().any(|filter| name.starts_with(filter.as_str()))
    })
    .await?;
    let mut areas: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for result in &results {
        let area = result.name.split('/').next().unwrap_or_default().to_owned();
        let counts = areas.entry(area).or_default();
        counts.1 += 1;
        if result.passed() {
            counts.0 += 1;
            continue;
        }
        println!("FAIL {} ({} steps)", result.name, result.steps);
        for failure in &result.failures {
            println!("    {failure}");
        }
    }
    for (area, (passed, all)) in &areas {
        println!("{area:18} {passed:4} of {all}");
    }
    let passed = results.iter().filter(|result| result.passed()).count();
    println!("{:18} {passed:4} of {}", "all", results.len());
    Ok(())
}
