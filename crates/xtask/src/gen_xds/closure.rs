//! Which files are generated: those below the roots, and what they import.

use prost_types::{FileDescriptorProto, FileDescriptorSet};
use std::collections::{BTreeMap, BTreeSet};

type Files = BTreeMap<String, FileDescriptorProto>;

/// Left out: nothing below the roots needs it, and its package would be a module called `ai` of one enum.
const EXCLUDED: [&str; 1] = ["envoy/type/ai/v3/api_protocol.proto"];

/// Folders (or files) whose content is wanted, one a line.
pub fn roots() -> Vec<&'static str> {
    include_str!("roots.txt")
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .collect()
}

/// The files below `roots` with everything they import, each after its imports.
pub fn of_roots(files: &Files, roots: &[&str]) -> FileDescriptorSet {
    let wanted = files.keys().filter(|name| roots.iter().any(|r| name.starts_with(r)));
    let mut keep = BTreeSet::new();
    let mut open: Vec<&str> = wanted.map(String::as_str).filter(|n| !EXCLUDED.contains(n)).collect();
    while let Some(name) = open.pop() {
        if let Some(file) = files.get(name).filter(|_| keep.insert(name)) {
            open.extend(file.dependency.iter().map(String::as_str));
        }
    }
    let (mut done, mut out) = (BTreeSet::new(), Vec::new());
    for name in keep {
        visit(name, files, &mut done, &mut out);
    }
    FileDescriptorSet { file: out }
}

fn visit<'a>(name: &'a str, files: &'a Files, done: &mut BTreeSet<&'a str>, out: &mut Vec<FileDescriptorProto>) {
    if !done.insert(name) {
        return;
    }
    if let Some(file) = files.get(name) {
        for dependency in &file.dependency {
            visit(dependency, files, done, out);
        }
        out.push(file.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_come_first_and_strangers_not_at_all() {
        let file = |name: &str, needs: &[&str]| {
            (
                name.to_string(),
                FileDescriptorProto {
                    name: Some(name.into()),
                    dependency: needs.iter().map(|n| (*n).to_string()).collect(),
                    ..Default::default()
                },
            )
        };
        let files = Files::from([
            file("a/one.proto", &["z/base.proto"]),
            file("z/base.proto", &["google/absent.proto"]),
            file("b/other.proto", &[]),
        ]);
        let set = of_roots(&files, &["a/"]);
        assert_eq!(
            set.file.iter().map(FileDescriptorProto::name).collect::<Vec<_>>(),
            ["z/base.proto", "a/one.proto"]
        );
    }
}
