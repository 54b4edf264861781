//! Changes from a directory of YAML files: every kind that the mesh reads, Kubernetes' own included.
//!
//! All files are read again when anything below the directory changes; objects that are gone are deletions. A file that
//! cannot be read keeps what it said before, so that a half-saved edit takes nothing away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cluster::feed::Change;
use notify::{RecursiveMode, Watcher};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::engine::Message;

/// Largest file that is read, in bytes.
const LARGEST: u64 = 256 << 20;
/// An editor writes a file in several steps; this long without another one counts as done.
const SETTLE: Duration = Duration::from_millis(5);

/// Group, kind, namespace and name.
type Id = (String, String, String, String);
type Objects = BTreeMap<Id, Value>;

/// Reads `directory` and follows it for ever, on a thread of its own. The first reading ends with [`Change::Synced`].
///
/// # Errors
/// The directory cannot be read or watched.
pub fn follow(directory: &Path, messages: mpsc::Sender<Message>) -> anyhow::Result<()> {
    let (wake, woken) = std::sync::mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if let Some(done) = event.ok().and_then(|event| meaning(&event)) {
            let _ = wake.send(done);
        }
    })?;
    watcher
        .watch(directory, RecursiveMode::Recursive)
        .map_err(|error| anyhow::anyhow!("--configDir {}: {error}", directory.display()))?;
    let mut tree = Tree {
        directory: directory.to_owned(),
        files: BTreeMap::new(),
    };
    std::thread::Builder::new().name("files".to_owned()).spawn(move || {
        let _watcher = watcher;
        let tell = |changes: Vec<Change>| {
            changes
                .into_iter()
                .all(|c| messages.blocking_send(Message::Change(c)).is_ok())
        };
        if !tell(tree.read()) || !tell(vec![Change::Synced]) {
            return;
        }
        while let Ok(mut done) = woken.recv() {
            while let Ok(also) = woken.recv_timeout(if done { Duration::ZERO } else { SETTLE }) {
                done |= also;
            }
            if !tell(tree.read()) {
                return;
            }
        }
    })?;
    Ok(())
}

/// What an event says of the files that are read: nothing, that one is being written, or that one is written.
fn meaning(event: &notify::Event) -> Option<bool> {
    use notify::EventKind;
    use notify::event::{AccessKind, AccessMode, ModifyKind};
    let done = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(_))
        | EventKind::Remove(_) => true,
        EventKind::Access(_) => return None,
        _ => false,
    };
    // A folder that was moved or removed has no ending.
    let concerns = |path: &PathBuf| is_read(path) || path.extension().is_none();
    event.paths.iter().any(concerns).then_some(done)
}

struct Tree {
    directory: PathBuf,
    files: Files,
}

/// Per file: size and time of change, and what it held when it was last readable.
type Files = BTreeMap<PathBuf, (Stamp, Arc<Objects>)>;
type Stamp = (u64, Option<std::time::SystemTime>);

impl Tree {
    /// Reads what changed and says what that means.
    fn read(&mut self) -> Vec<Change> {
        let mut now = Files::new();
        for path in yaml_files(&self.directory) {
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            let stamp = (meta.len(), meta.modified().ok());
            let entry = match self.files.get(&path) {
                Some((held, objects)) if *held == stamp => (stamp, objects.clone()),
                old => match read_file(&path) {
                    Ok(objects) => (stamp, Arc::new(objects)),
                    Err(error) => {
                        tracing::warn!(file = %path.display(), %error, "file not read; what it said before stays");
                        (stamp, old.map(|(_, objects)| objects.clone()).unwrap_or_default())
                    }
                },
            };
            now.insert(path, entry);
        }
        let changes = changes(&self.files, &now);
        self.files = now;
        changes
    }
}

/// What to tell. Only files that differ are compared; of two files with one object the last has it.
fn changes(before: &Files, now: &Files) -> Vec<Change> {
    let mut touched: BTreeSet<&Id> = BTreeSet::new();
    for (files, others) in [(before, now), (now, before)] {
        for (path, (_, objects)) in files {
            match others.get(path) {
                Some((_, other)) if Arc::ptr_eq(objects, other) => {}
                _ => touched.extend(objects.keys()),
            }
        }
    }
    let (mut gone, mut new) = (Vec::new(), Vec::new());
    for id in touched {
        match (find(before, id), find(now, id)) {
            (Some(_), None) => {
                let (group, kind, namespace, name) = id.clone();
                gone.push(Change::Delete {
                    group,
                    kind,
                    namespace,
                    name,
                });
            }
            (old, Some(value)) if old != Some(value) => new.push(Change::Apply(value.clone())),
            _ => {}
        }
    }
    gone.extend(new);
    gone
}

fn find<'a>(files: &'a Files, id: &Id) -> Option<&'a Value> {
    files.values().rev().find_map(|(_, objects)| objects.get(id))
}

fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = std::fs::read_dir(directory) else {
        return files;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            files.extend(yaml_files(&path));
        } else if is_read(&path) {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn is_read(path: &Path) -> bool {
    path.extension()
        .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
}

fn read_file(path: &Path) -> anyhow::Result<Objects> {
    let size = std::fs::metadata(path)?.len();
    anyhow::ensure!(size <= LARGEST, "{size} bytes; at most {LARGEST} are read");
    read_text(&std::fs::read_to_string(path)?)
}

/// Documents that are objects; a `List` counts as its items, documents of other shapes are left out.
fn read_text(text: &str) -> anyhow::Result<Objects> {
    let mut objects = Objects::new();
    for document in documents(text) {
        let value: Value = serde_saphyr::from_str(document)?;
        let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
        let items = match value {
            Value::Object(mut list) if is_list => match list.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            },
            other => vec![other],
        };
        objects.extend(items.into_iter().filter_map(|item| Some((id(&item)?, item))));
    }
    Ok(objects)
}

/// The texts between lines `---`; those without content are left out.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    let split = std::iter::from_fn(move || {
        let text = rest?;
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            if line.trim_end() == "---" || line.starts_with("--- ") {
                rest = Some(&text[at + line.len()..]);
                return Some(&text[..at]);
            }
            at += line.len();
        }
        rest = None;
        Some(text)
    });
    split.filter(|text| {
        text.lines()
            .any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    })
}

fn id(object: &Value) -> Option<Id> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let group = text("/apiVersion")?.split_once('/').map_or("", |(group, _)| group);
    let namespace = text("/metadata/namespace").unwrap_or_default();
    Some((
        group.to_owned(),
        text("/kind")?.to_owned(),
        namespace.to_owned(),
        text("/metadata/name")?.to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TWO: &str = "# first\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: x}\n---\n\
        apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: b, namespace: x}}\n---\n---\n";

    fn names(objects: &Objects) -> Vec<&str> {
        objects.keys().map(|(.., name)| name.as_str()).collect()
    }

    #[test]
    fn documents_and_lists_are_objects() {
        assert_eq!(names(&read_text(TWO).unwrap()), ["a", "b"]);
    }

    #[test]
    fn what_is_gone_is_deleted_and_what_differs_is_applied() {
        let file = |text: &str| {
            let objects = Arc::new(read_text(text).unwrap());
            Files::from([(PathBuf::from("x.yaml"), ((0, None), objects))])
        };
        let before = file(TWO);
        let now = file(&TWO.replace("name: b, namespace", "name: c, namespace"));
        let said = changes(&before, &now);
        assert!(
            matches!(&said[..], [Change::Delete { name, .. }, Change::Apply(_)] if name == "b"),
            "{said:?}"
        );
    }

    #[test]
    fn a_broken_file_keeps_what_it_said() {
        let directory = std::env::temp_dir().join(format!("istiod-files-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("x.yaml");
        std::fs::write(&file, TWO).unwrap();
        let mut tree = Tree {
            directory: directory.clone(),
            files: BTreeMap::new(),
        };
        assert_eq!(tree.read().len(), 2);
        std::fs::write(&file, "kind: [").unwrap();
        assert_eq!(tree.read(), []);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(tree.read().len(), 2, "now both are gone");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
