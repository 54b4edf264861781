//! Changes from a directory of YAML files: every kind that the mesh reads, Kubernetes' own included.
//!
//! All files are read again when anything below the directory changes; objects that are gone are deletions. A file that
//! cannot be read keeps what it said before, so that a half-saved edit takes nothing away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = wake.send(());
        }
    })?;
    watcher
        .watch(directory, RecursiveMode::Recursive)
        .map_err(|error| anyhow::anyhow!("--configDir {}: {error}", directory.display()))?;
    let mut tree = Tree {
        directory: directory.to_owned(),
        files: BTreeMap::new(),
        told: Objects::new(),
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
        while woken.recv().is_ok() {
            while woken.recv_timeout(SETTLE).is_ok() {}
            if !tell(tree.read()) {
                return;
            }
        }
    })?;
    Ok(())
}

struct Tree {
    directory: PathBuf,
    /// Per file: size and time of change, and what it held when it was last readable.
    files: BTreeMap<PathBuf, (Stamp, Objects)>,
    told: Objects,
}

type Stamp = (u64, Option<std::time::SystemTime>);

impl Tree {
    /// Reads what changed and says what that means.
    fn read(&mut self) -> Vec<Change> {
        let mut seen = BTreeMap::new();
        let mut before = std::mem::take(&mut self.files);
        for path in yaml_files(&self.directory) {
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            let stamp = (meta.len(), meta.modified().ok());
            let old = before.remove(&path);
            let entry = match old {
                Some((held, objects)) if held == stamp => (held, objects),
                old => match read_file(&path) {
                    Ok(objects) => (stamp, objects),
                    Err(error) => {
                        tracing::warn!(file = %path.display(), %error, "file not read; what it said before stays");
                        (stamp, old.map(|(_, objects)| objects).unwrap_or_default())
                    }
                },
            };
            seen.insert(path, entry);
        }
        self.files = seen;
        let now: Objects = self.files.values().flat_map(|(_, objects)| objects.clone()).collect();
        let changes = changes(&self.told, &now);
        self.told = now;
        changes
    }
}

fn changes(before: &Objects, now: &Objects) -> Vec<Change> {
    let gone = before
        .keys()
        .filter(|id| !now.contains_key(*id))
        .map(|(group, kind, namespace, name)| Change::Delete {
            group: group.clone(),
            kind: kind.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
        });
    let new = now
        .iter()
        .filter(|(id, value)| before.get(*id) != Some(value))
        .map(|(_, value)| Change::Apply(value.clone()));
    gone.chain(new).collect()
}

fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = std::fs::read_dir(directory) else {
        return files;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            files.extend(yaml_files(&path));
        } else if path
            .extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
        {
            files.push(path);
        }
    }
    files.sort();
    files
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
        let before = read_text(TWO).unwrap();
        let now = read_text(&TWO.replace("name: b, namespace", "name: c, namespace")).unwrap();
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
            told: Objects::new(),
        };
        assert_eq!(tree.read().len(), 2);
        std::fs::write(&file, "kind: [").unwrap();
        assert_eq!(tree.read(), []);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(tree.read().len(), 2, "now both are gone");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
