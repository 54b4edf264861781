//! Changes from a directory of YAML files: every kind that the mesh reads, Kubernetes' own included.
//!
//! What changed below the directory is read again; objects that are gone are deletions. A file that cannot be read keeps
//! what it said before, so that a half-saved edit takes nothing away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use api::mesh_config::MeshConfig;
use cluster::feed::Change;
use notify::{RecursiveMode, Watcher};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::engine::Message;

/// Largest file that is read, in bytes.
const LARGEST: u64 = 256 << 20;
/// An editor writes a file in several steps; this long without another one counts as done.
const SETTLE: Duration = Duration::from_millis(5);
/// What replaces files may remove them first; this long without another change, and they are gone.
const GONE: Duration = Duration::from_millis(100);
/// Changes without end are told in pieces of this time.
const MOST: Duration = Duration::from_secs(1);
/// Text of this size takes longer to read than a thread takes to start, in bytes.
const WORTH_A_THREAD: usize = 256 << 10;

/// Group, kind, namespace and name.
type Id = (String, String, String, String);
type Objects = BTreeMap<Id, Value>;

/// Reads `directory` and follows it for ever, on a thread of its own. The first reading ends with [`Change::Synced`].
///
/// # Errors
/// The directory cannot be read or watched.
pub fn follow(directory: &Path, messages: mpsc::Sender<Message>) -> anyhow::Result<()> {
    // Events name files by absolute paths, whatever the folder was called by.
    let directory = &std::path::absolute(directory)?;
    let (wake, woken) = std::sync::mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if let Some(news) = event.ok().and_then(News::of) {
            let _ = wake.send(news);
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
        if !tell(tree.read_first()) || !tell(vec![Change::Synced]) {
            return;
        }
        while let Ok(mut news) = woken.recv() {
            gather(&woken, &mut news, News::wait, News::add);
            if !tell(tree.read(news.files)) {
                return;
            }
        }
    })?;
    Ok(())
}

/// Tells the mesh configuration of `file` whenever `read` has another one, on a thread of its own; one that cannot be read
/// stays what it was. Without a folder there is nothing to follow.
///
/// # Errors
/// The folder cannot be watched.
pub fn follow_mesh_config(
    file: &Path,
    mut last: MeshConfig,
    read: impl Fn() -> anyhow::Result<MeshConfig> + Send + 'static,
    messages: mpsc::Sender<Message>,
) -> anyhow::Result<()> {
    let file = std::path::absolute(file)?;
    let Some(folder) = file.parent().filter(|folder| folder.is_dir()) else {
        return Ok(());
    };
    let (wake, woken) = std::sync::mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // To read is no change.
        if event.is_ok_and(|event| !event.kind.is_access() || is_written(&event)) {
            let _ = wake.send(());
        }
    })?;
    watcher
        .watch(folder, RecursiveMode::NonRecursive)
        .map_err(|error| anyhow::anyhow!("--meshConfig {}: {error}", file.display()))?;
    std::thread::Builder::new()
        .name("mesh-config".to_owned())
        .spawn(move || {
            let _watcher = watcher;
            while woken.recv().is_ok() {
                gather(&woken, &mut (), |()| GONE, |(), ()| ());
                match read() {
                    Ok(config) if config != last => {
                        last = config.clone();
                        if messages.blocking_send(Message::MeshConfig(Box::new(config))).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%error, "mesh configuration not read; what it said before stays"),
                }
            }
        })?;
    Ok(())
}

/// Adds what comes while the first news waits for more; what never ends holds it up for no longer than [`MOST`].
fn gather<N>(woken: &Receiver<N>, news: &mut N, wait: impl Fn(&N) -> Duration, add: impl Fn(&mut N, N)) {
    let until = Instant::now() + MOST;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let Ok(also) = woken.recv_timeout(wait(news).min(left)) else {
            return;
        };
        add(news, also);
        if left.is_zero() {
            return;
        }
    }
}

fn is_written(event: &notify::Event) -> bool {
    use notify::event::{AccessKind, AccessMode};
    event.kind == notify::EventKind::Access(AccessKind::Close(AccessMode::Write))
}

/// What is known of files that are read.
struct News {
    /// Those that may differ; `None` if it cannot be told which.
    files: Option<BTreeSet<PathBuf>>,
    /// Whether they are written, and not just being written.
    done: bool,
    /// Whether some were removed, perhaps to be written anew.
    gone: bool,
}

impl News {
    /// What an event says, if it concerns any.
    fn of(event: notify::Event) -> Option<Self> {
        use notify::EventKind;
        use notify::event::{ModifyKind, RenameMode};
        let done = match event.kind {
            _ if is_written(&event) => true,
            EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => true,
            EventKind::Access(_) => return None,
            _ => event.need_rescan(),
        };
        let gone = matches!(
            event.kind,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From))
        );
        // A folder that was moved or removed has no ending; those of mounted ConfigMaps begin with two dots.
        let is_folder = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            path.extension().is_none() || name.starts_with("..")
        };
        if event.need_rescan() || event.paths.iter().any(is_folder) {
            return Some(Self {
                files: None,
                done,
                gone,
            });
        }
        let files: BTreeSet<PathBuf> = event.paths.into_iter().filter(|path| is_read(path)).collect();
        (!files.is_empty()).then_some(Self {
            files: Some(files),
            done,
            gone,
        })
    }

    /// How long to wait for more.
    fn wait(&self) -> Duration {
        match (self.gone, self.done) {
            (true, _) => GONE,
            (false, true) => Duration::ZERO,
            (false, false) => SETTLE,
        }
    }

    fn add(&mut self, also: Self) {
        self.done |= also.done;
        self.gone |= also.gone;
        self.files = match (self.files.take(), also.files) {
            (Some(mut files), Some(more)) => {
                files.extend(more);
                Some(files)
            }
            _ => None,
        };
    }
}

struct Tree {
    directory: PathBuf,
    files: Files,
}

/// Per file: size and time of change, and what it held when it was last readable.
type Files = BTreeMap<PathBuf, (Stamp, Arc<Objects>)>;
type Stamp = (u64, Option<std::time::SystemTime>);

impl Tree {
    /// Reads everything; of two files with one object the last has it, because it is told last.
    fn read_first(&mut self) -> Vec<Change> {
        for path in yaml_files(&self.directory) {
            self.refresh(&path);
        }
        let objects = self.files.values().flat_map(|(_, objects)| objects.values());
        objects.cloned().map(Change::Apply).collect()
    }

    /// Reads what changed of these files, or of all, and says what that means.
    fn read(&mut self, files: Option<BTreeSet<PathBuf>>) -> Vec<Change> {
        let files = files.unwrap_or_else(|| {
            let known = self.files.keys().cloned();
            known.chain(yaml_files(&self.directory)).collect()
        });
        let before: Before = files
            .into_iter()
            .filter_map(|path| {
                let held = self.refresh(&path)?;
                Some((path, held))
            })
            .collect();
        changes(&before, &self.files)
    }

    /// Reads a file again if it is another one. If it says something else now: what it held, if it was there.
    fn refresh(&mut self, path: &Path) -> Option<Option<Arc<Objects>>> {
        let Ok(meta) = std::fs::metadata(path) else {
            return self.files.remove(path).map(|(_, held)| Some(held));
        };
        let stamp = (meta.len(), meta.modified().ok());
        let held = self.files.get(path);
        if held.is_some_and(|(held, _)| *held == stamp) {
            return None;
        }
        let held = held.map(|(_, objects)| objects.clone());
        let (objects, said) = match read_file(path) {
            Ok(objects) => (Arc::new(objects), Some(held)),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "file not read; what it said before stays");
                (held.unwrap_or_default(), None)
            }
        };
        self.files.insert(path.to_owned(), (stamp, objects));
        said
    }
}

/// What files that say something else now held before.
type Before = BTreeMap<PathBuf, Option<Arc<Objects>>>;

/// What to tell of files that differ; of two files with one object the last has it.
fn changes(before: &Before, now: &Files) -> Vec<Change> {
    let new = before
        .keys()
        .filter_map(|path| now.get(path))
        .map(|(_, objects)| objects);
    let touched: BTreeSet<&Id> = before
        .values()
        .flatten()
        .chain(new)
        .flat_map(|objects| objects.keys())
        .collect();
    let others = || now.iter().filter(|(path, _)| !before.contains_key(*path));
    let (mut gone, mut changed) = (Vec::new(), Vec::new());
    for id in touched {
        let other = others()
            .rev()
            .find_map(|(path, (_, objects))| Some((path, objects.get(id)?)));
        let was = before
            .iter()
            .rev()
            .find_map(|(path, objects)| Some((path, objects.as_ref()?.get(id)?)));
        let is = before
            .keys()
            .rev()
            .find_map(|path| Some((path, now.get(path)?.1.get(id)?)));
        match (last(was, other), last(is, other)) {
            (Some(_), None) => {
                let (group, kind, namespace, name) = id.clone();
                gone.push(Change::Delete {
                    group,
                    kind,
                    namespace,
                    name,
                });
            }
            (old, Some(value)) if old != Some(value) => changed.push(Change::Apply(value.clone())),
            _ => {}
        }
    }
    gone.extend(changed);
    gone
}

/// An object in a file.
type Found<'a> = (&'a PathBuf, &'a Value);

/// The object, from the later of two files.
fn last<'a>(one: Option<Found<'a>>, other: Option<Found<'a>>) -> Option<&'a Value> {
    let later = one.into_iter().chain(other).max_by_key(|(path, _)| *path)?;
    Some(later.1)
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

/// Documents that are objects; a `List` counts as its items, documents of other shapes are left out. Much text is read
/// by all processors.
fn read_text(text: &str) -> anyhow::Result<Objects> {
    let documents: Vec<&str> = gotemplate::documents(text).map(|document| document.text).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(text.len() / WORTH_A_THREAD).max(1);
    let share = documents.len().div_ceil(threads).max(1);
    let mut parts = documents.chunks(share);
    let first = parts.next().unwrap_or_default();
    let all: anyhow::Result<Vec<Vec<(Id, Value)>>> = std::thread::scope(|scope| {
        let others: Vec<_> = parts.map(|part| scope.spawn(move || read_documents(part))).collect();
        let joined = others.into_iter().map(|other| match other.join() {
            Ok(read) => read,
            Err(_) => Err(anyhow::anyhow!(
                "a document could not be read; this is a bug of the control plane"
            )),
        });
        std::iter::once(read_documents(first)).chain(joined).collect()
    });
    Ok(all?.into_iter().flatten().collect())
}

fn read_documents(documents: &[&str]) -> anyhow::Result<Vec<(Id, Value)>> {
    let mut objects = Vec::with_capacity(documents.len());
    for document in documents {
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
    fn much_text_says_the_same_as_its_parts() {
        let object = |at: usize| {
            let pad = "x".repeat(1000);
            format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{at:04}, labels: {{pad: {pad}}}}}\n")
        };
        let objects = read_text(&(0..2000).map(object).collect::<String>()).unwrap();
        let expected: Vec<String> = (0..2000).map(|at| format!("s{at:04}")).collect();
        assert_eq!(names(&objects), expected);
        assert!(read_text(&((0..2000).map(object).collect::<String>() + "---\nkind: [\n")).is_err());
    }

    #[test]
    fn what_is_gone_is_deleted_and_what_differs_is_applied() {
        let held = |text: &str| Arc::new(read_text(text).unwrap());
        let path = |name: &str| PathBuf::from(name);
        let other = TWO.replace("name: b, namespace", "name: c, namespace");
        // What another file holds, before or behind the one that changes.
        let check = |elsewhere: Option<(&str, &str)>, expected: &[&str]| {
            let before = Before::from([(path("m.yaml"), Some(held(TWO)))]);
            let mut now = Files::from([(path("m.yaml"), ((0, None), held(&other)))]);
            now.extend(elsewhere.map(|(name, text)| (path(name), ((0, None), held(text)))));
            let said = changes(&before, &now);
            let word = |change: &Change| match change {
                Change::Delete { name, .. } => format!("-{name}"),
                Change::Apply(value) => value["metadata"]["name"].as_str().unwrap().to_owned(),
                Change::Synced => "synced".to_owned(),
            };
            assert_eq!(said.iter().map(word).collect::<Vec<_>>(), expected, "{elsewhere:?}");
        };
        let labelled = |name: &str| {
            format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: x, labels: {{of: other}}}}\n")
        };
        check(None, &["-b", "c"]);
        check(Some(("a.yaml", &labelled("b"))), &["b", "c"]);
        check(Some(("z.yaml", &labelled("b"))), &["c"]);
        check(Some(("a.yaml", &labelled("c"))), &["-b", "c"]);
        check(Some(("z.yaml", &labelled("c"))), &["-b"]);
    }

    #[tokio::test]
    async fn a_folder_with_a_relative_name_is_followed() {
        let directory = std::env::temp_dir().join(format!("istiod-followed-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("x.yaml"), TWO).unwrap();
        let here = std::env::current_dir().unwrap();
        let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
        let (messages, mut told) = mpsc::channel(10);
        follow(&up.join(directory.strip_prefix("/").unwrap()), messages).unwrap();
        for _ in 0..3 {
            told.recv().await.unwrap();
        }
        std::fs::write(
            directory.join("x.yaml"),
            TWO.replace("name: b, namespace", "name: c, namespace"),
        )
        .unwrap();
        let next = tokio::time::timeout(Duration::from_secs(60), told.recv()).await;
        let Ok(Some(Message::Change(Change::Delete { name, .. }))) = next else {
            panic!("no change was told")
        };
        assert_eq!(name, "b");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_never_ends_is_told_all_the_same() {
        let (sender, woken) = std::sync::mpsc::channel();
        let without_end = std::thread::spawn(move || while sender.send(1).is_ok() {});
        let mut news = 0_u64;
        gather(&woken, &mut news, |_| GONE, |news, more| *news += more);
        drop(woken);
        without_end.join().unwrap();
        assert!(news > 1);
    }

    #[tokio::test]
    async fn a_mesh_configuration_is_followed() {
        let directory = std::env::temp_dir().join(format!("istiod-mesh-config-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("mesh");
        let (messages, mut told) = mpsc::channel(10);
        let path = file.clone();
        let read = move || {
            let value = crate::discovery::mesh_config_text(&std::fs::read_to_string(&path)?)?;
            Ok(MeshConfig::from_json(value)?)
        };
        follow_mesh_config(&file, MeshConfig::default(), read, messages).unwrap();
        for (text, expected) in [
            ("trustDomain: a.b", "a.b"),
            ("trustDomain: [", ""),
            ("trustDomain: c.d", "c.d"),
        ] {
            std::fs::write(&file, text).unwrap();
            if expected.is_empty() {
                continue;
            }
            let next = tokio::time::timeout(Duration::from_secs(60), told.recv()).await;
            let Ok(Some(Message::MeshConfig(config))) = next else {
                panic!("{text} is not told")
            };
            assert_eq!(config.trust_domain, expected);
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }

    /// `git checkout`, and some editors, remove a file and write it anew.
    #[tokio::test]
    async fn a_file_that_is_replaced_takes_nothing_away() {
        let directory = std::env::temp_dir().join(format!("istiod-replaced-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("x.yaml");
        std::fs::write(&file, TWO).unwrap();
        let (messages, mut told) = mpsc::channel(10);
        follow(&directory, messages).unwrap();
        for _ in 0..3 {
            told.recv().await.unwrap();
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, TWO.replace("name: b, namespace", "name: c, namespace")).unwrap();
        let mut names = Vec::new();
        while names.last().is_none_or(|last| last != "apply c") {
            let next = tokio::time::timeout(Duration::from_secs(60), told.recv()).await;
            names.push(match next.unwrap().unwrap() {
                Message::Change(Change::Delete { name, .. }) => format!("delete {name}"),
                Message::Change(Change::Apply(object)) => {
                    format!("apply {}", object["metadata"]["name"].as_str().unwrap())
                }
                other => format!("{other:?}"),
            });
        }
        assert_eq!(names, ["delete b", "apply c"]);
        std::fs::remove_dir_all(&directory).unwrap();
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
        assert_eq!(tree.read_first().len(), 2);
        std::fs::write(&file, "kind: [").unwrap();
        assert_eq!(tree.read(Some(BTreeSet::from([file.clone()]))), []);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(tree.read(None).len(), 2, "now both are gone");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
