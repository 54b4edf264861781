//! The types of `crates/xds`: from the descriptors that an Envoy binary embeds (so that they fit that Envoy exactly),
//! and from the few protos of Istio's own protocols.

mod closure;
mod scan;

use anyhow::{Context, Result, bail};
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use std::collections::BTreeMap;
use std::path::Path;

/// Istio's protos, below `protos/` of the crate.
const ISTIO: [&str; 2] = ["istio/ca.proto", "istio/nds.proto"];

/// Generates `src/api.fds.bin` and `src/generated/` of the crate in `out`; with `check`, only says whether they would
/// change.
///
/// # Errors
/// If the binary carries no descriptors, a proto does not compile, or (with `check`) something differs.
pub fn run(envoy: &Path, out: &Path, check: bool) -> Result<()> {
    let binary = std::fs::read(envoy).with_context(|| format!("read {}", envoy.display()))?;
    let mut found = scan::descriptors(&binary);
    if found.is_empty() {
        bail!("{} carries no descriptors: is it an Envoy?", envoy.display());
    }
    let linked = found.len();
    for file in kept(&out.join("src/api.fds.bin"))? {
        found.entry(file.name().to_string()).or_insert(file);
    }
    let envoy_set = closure::of_roots(&found, &closure::roots());
    let istio_set = istio(&out.join("protos"))?;
    println!(
        "    {} files in the binary, {} kept, {} of Istio",
        linked,
        envoy_set.file.len(),
        istio_set.file.len()
    );
    let known: std::collections::BTreeSet<&str> = envoy_set.file.iter().map(|f| f.name()).collect();
    let mut all = envoy_set.clone();
    all.file
        .extend(istio_set.file.iter().filter(|f| !known.contains(f.name())).cloned());

    let target = std::env::temp_dir().join(format!("gen-xds-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&target);
    std::fs::create_dir_all(&target).with_context(|| format!("create {}", target.display()))?;
    let done = generate(&all, &target).and_then(|()| {
        let mut new = files(&target.join("generated"))?;
        new.insert("../api.fds.bin".into(), all.encode_to_vec());
        finish(&out.join("src/generated"), new, check)
    });
    let _ = std::fs::remove_dir_all(&target);
    done
}

/// Files of Envoy's API that its binary does not link (client status discovery, a few extensions): they were taken from
/// the API of the same version once, and stay as they are.
fn kept(set: &Path) -> Result<Vec<FileDescriptorProto>> {
    if !set.exists() {
        return Ok(vec![]);
    }
    let data = std::fs::read(set).with_context(|| format!("read {}", set.display()))?;
    let set = FileDescriptorSet::decode(data.as_slice()).with_context(|| format!("decode {}", set.display()))?;
    Ok(set.file.into_iter().filter(|f| !ISTIO.contains(&f.name())).collect())
}

fn istio(protos: &Path) -> Result<FileDescriptorSet> {
    protox::compile(ISTIO, [protos]).context("compile Istio's protos")
}

fn generate(all: &FileDescriptorSet, target: &Path) -> Result<()> {
    let dir = target.join("generated");
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let mut config = prost_build::Config::new();
    config
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        // Ordered maps: one message, one encoding.
        .btree_map(["."])
        .bytes([".google.protobuf.Any"])
        .include_file("mod.rs")
        .out_dir(&dir)
        .compile_well_known_types();
    let builder = tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .compile_well_known_types(true)
        .out_dir(&dir);
    builder.compile_fds_with_config(all.clone(), config).context("generate")
}

fn files(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut out = BTreeMap::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry.with_context(|| format!("list {}", dir.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        out.insert(
            name,
            std::fs::read(&path).with_context(|| format!("read {}", path.display()))?,
        );
    }
    Ok(out)
}

fn finish(dir: &Path, new: BTreeMap<String, Vec<u8>>, check: bool) -> Result<()> {
    let mut old = files(dir)?;
    if let Ok(set) = std::fs::read(dir.join("../api.fds.bin")) {
        old.insert("../api.fds.bin".into(), set);
    }
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differ: Vec<&String> = names.into_iter().filter(|n| old.get(*n) != new.get(*n)).collect();
    if differ.is_empty() {
        println!("    {} files, nothing changed", new.len());
        return Ok(());
    }
    if check {
        bail!("{} files differ: {:?}", differ.len(), &differ[..differ.len().min(10)]);
    }
    for name in old.keys().filter(|n| !new.contains_key(*n)) {
        std::fs::remove_file(dir.join(name)).with_context(|| format!("remove {name}"))?;
    }
    for (name, data) in &new {
        std::fs::write(dir.join(name), data).with_context(|| format!("write {name}"))?;
    }
    println!("    {} files, {} changed", new.len(), differ.len());
    Ok(())
}
