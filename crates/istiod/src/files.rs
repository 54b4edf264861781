//! Changes from a directory of YAML files: every kind that the mesh reads, Kubernetes' own included.
//!
//! What changed below the directory is read again. A file that cannot be read keeps what it said before, so that a
//! half-saved edit takes nothing away; and an object that no file has any more is gone only after a moment, because it may
//! be on its way from one file to another, or its file be written anew.

mod documents;
mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use api::mesh_config::MeshConfig;
use cluster::feed::Change;
use mesh::{Key, Object};
use notify::RecursiveMode;
use tokio::sync::mpsc;

use crate::engine::Message;
use documents::{Objects, read_file};
use watching::{News, Watching, is_read, is_written};

/// What replaces files, or moves objects between them, may take them away first; this long, and they are gone.
const GONE: Duration = Duration::from_millis(100);
/// A file that changed this short a time ago may change again without looking different: clocks of file systems tick as
/// rarely as every two seconds.
const TICK: Duration = Duration::from_secs(2);

/// Reads `directory` and follows it for ever, on a thread of its own. [`Change::Synced`] is told when every file was read.
///
/// # Errors
/// The directory cannot be read.
pub fn follow(directory: &Path, messages: mpsc::Sender<Message>) -> anyhow::Result<()> {
    // Events name files by absolute paths, whatever the folder was called by.
    let directory = std::path::absolute(directory)?;
    let what = format!("--configDir {}", directory.display());
    std::fs::read_dir(&directory).map_err(|error| anyhow::anyhow!("{what}: {error}"))?;
    let watching = Watching::new(what, &directory, RecursiveMode::Recursive, News::of);
    follow_with(watching, directory, messages)
}

fn follow_with(mut watching: Watching, directory: PathBuf, messages: mpsc::Sender<Message>) -> anyhow::Result<()> {
    let mut tree = Tree::new(directory);
    std::thread::Builder::new().name("files".to_owned()).spawn(move || {
        let mut tell = |message| messages.blocking_send(message).is_ok();
        let mut listened = tree.read_first(&mut tell);
        let mut synced = false;
        while listened {
            // What a broken file would say may be a policy: nobody is served without.
            if !synced && tree.files.values().all(|file| file.was_read) {
                synced = true;
                listened = tell(Message::Change(Change::Synced));
                continue;
            }
            let news = watching.next(tree.leaving.values().min().copied());
            listened = news.is_none_or(|news| tree.read(news.files, &mut tell)) && tree.tell_gone(&mut tell);
        }
    })?;
    Ok(())
}

/// Tells the mesh configuration of `file` whenever `read` has another one, on a thread of its own; one that cannot be read
/// stays what it was. Without a folder there is nothing to follow.
///
/// # Errors
/// There can be no such thread.
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
    // To read is no change.
    let of = |event: notify::Event| (!event.kind.is_access() || is_written(&event)).then(|| News::all(GONE));
    let what = format!("--meshConfig {}", file.display());
    let mut watching = Watching::new(what, folder, RecursiveMode::NonRecursive, of);
    std::thread::Builder::new()
        .name("mesh-config".to_owned())
        .spawn(move || {
            loop {
                watching.next(None);
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

/// What a file looks like from outside: another content comes with another one.
#[derive(Clone, Copy, PartialEq)]
struct Stamp {
    size: u64,
    file: (u64, u64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None` if the file changed so shortly before `now` that it may yet change without looking different.
    fn of(meta: &std::fs::Metadata, now: SystemTime) -> Option<Self> {
        let changed = (meta.ctime(), meta.ctime_nsec());
        let since = Duration::new(u64::try_from(changed.0).ok()?, u32::try_from(changed.1).ok()?);
        let is_old = now.duration_since(SystemTime::UNIX_EPOCH + since).ok()? > TICK;
        is_old.then(|| Self {
            size: meta.len(),
            file: (meta.dev(), meta.ino()),
            changed,
        })
    }
}

/// What a look at a file shows.
enum Seen {
    Absent,
    Same,
    Unreadable(Option<Stamp>, anyhow::Error),
    Other(Option<Stamp>, Objects),
}

fn look(path: &Path, known: Option<Stamp>) -> Seen {
    let now = SystemTime::now();
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if is_absence(&error) => return Seen::Absent,
        Err(error) => return Seen::Unreadable(None, error.into()),
    };
    if meta.is_dir() {
        // Only one that cannot be read stands for what is in it.
        return match std::fs::read_dir(path) {
            Ok(_) => Seen::Absent,
            Err(error) if is_absence(&error) => Seen::Absent,
            Err(error) => Seen::Unreadable(None, error.into()),
        };
    }
    let stamp = Stamp::of(&meta, now);
    if stamp.is_some() && stamp == known {
        return Seen::Same;
    }
    match read_file(path) {
        Ok(objects) => Seen::Other(stamp, objects),
        Err(error) => Seen::Unreadable(stamp, error),
    }
}

/// Whether nothing is there, and not merely nothing to be seen.
fn is_absence(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// A file, as it was when it was last readable.
#[derive(Default)]
struct File {
    /// `None` where only its content tells whether it is another one.
    stamp: Option<Stamp>,
    /// Whether it ever was readable.
    was_read: bool,
    holds: BTreeSet<Key>,
}

/// What an object is in the files that have it, in their order. The last has the say.
type Found = Vec<(Arc<Path>, Box<str>)>;

/// What files say now.
struct Tree {
    directory: PathBuf,
    files: BTreeMap<Arc<Path>, File>,
    objects: BTreeMap<Key, Found>,
    /// Objects that no file has any more, and when that is told.
    leaving: BTreeMap<Key, Instant>,
}

/// What objects were of which a file says something else now; nothing, if they were not.
type Before = BTreeMap<Key, Option<Box<str>>>;
/// Who is told; `false` if nobody listens any more.
type Tell<'a> = &'a mut dyn FnMut(Message) -> bool;

impl Tree {
    fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            files: BTreeMap::new(),
            objects: BTreeMap::new(),
            leaving: BTreeMap::new(),
        }
    }

    /// Tells everything, file by file: while one is told, the next is being read.
    fn read_first(&mut self, tell: Tell) -> bool {
        let paths = yaml_files(&self.directory);
        std::thread::scope(|scope| {
            let (hand, seen) = std::sync::mpsc::sync_channel(0);
            scope.spawn(move || {
                paths.into_iter().all(|path| {
                    let seen = look(&path, None);
                    hand.send((path, seen)).is_ok()
                })
            });
            seen.into_iter().all(|(path, seen)| {
                let mut before = Before::new();
                self.take(&path, seen, &mut before);
                self.tell(before, tell)
            })
        })
    }

    /// Reads what changed of these files, or of all, and tells what that means.
    fn read(&mut self, files: Option<BTreeSet<PathBuf>>, tell: Tell) -> bool {
        let files = files.unwrap_or_else(|| {
            let known = self.files.keys().map(|path| path.to_path_buf());
            known.chain(yaml_files(&self.directory)).collect()
        });
        let mut before = Before::new();
        let files: Vec<PathBuf> = files.into_iter().flat_map(|path| self.within(path)).collect();
        for path in files {
            let known = self.files.get(&*path).and_then(|file| file.stamp);
            self.take(&path, look(&path, known), &mut before);
        }
        self.tell(before, tell)
    }

    /// The file, or those that are known in the folder that this was.
    fn within(&self, path: PathBuf) -> Vec<PathBuf> {
        if is_read(&path) {
            return vec![path];
        }
        let known = self.files.range::<Path, _>((Bound::Included(&*path), Bound::Unbounded));
        let within = known.map(|(file, _)| file).take_while(|file| file.starts_with(&path));
        within.map(|file| file.to_path_buf()).collect()
    }

    /// Keeps what a file says now.
    fn take(&mut self, path: &Path, seen: Seen, before: &mut Before) {
        let name: Arc<Path> = path.into();
        let mut file = match seen {
            Seen::Same => return,
            _ => self.files.remove(path).unwrap_or_default(),
        };
        let objects = match seen {
            Seen::Same | Seen::Absent => Objects::new(),
            Seen::Unreadable(stamp, error) => {
                let path = path.display();
                if file.was_read {
                    tracing::warn!(file = %path, %error, "file not read; what it said before stays");
                } else {
                    tracing::warn!(file = %path, %error, "file not read; nobody is served before it can be, or is gone");
                }
                file.stamp = stamp;
                self.files.insert(name, file);
                return;
            }
            Seen::Other(stamp, objects) => {
                let holds = objects.keys().cloned().collect();
                self.files.insert(
                    name.clone(),
                    File {
                        stamp,
                        was_read: true,
                        holds,
                    },
                );
                objects
            }
        };
        for key in file.holds.iter().filter(|key| !objects.contains_key(*key)) {
            self.put(key, &name, None, before);
        }
        for (key, text) in objects {
            self.put(&key, &name, Some(text), before);
        }
    }

    /// An object is this in a file, or is not there.
    fn put(&mut self, key: &Key, path: &Arc<Path>, text: Option<Box<str>>, before: &mut Before) {
        let found = self.objects.entry(key.clone()).or_default();
        if !before.contains_key(key) {
            before.insert(key.clone(), found.last().map(|(_, text)| text.clone()));
        }
        match (found.binary_search_by(|(other, _)| other.cmp(path)), text) {
            (Ok(at), Some(text)) => found[at].1 = text,
            (Ok(at), None) => drop(found.remove(at)),
            (Err(at), Some(text)) => found.insert(at, (path.clone(), text)),
            (Err(_), None) => {}
        }
        if found.is_empty() {
            self.objects.remove(key);
        }
    }

    /// Tells what differs from before. What is gone is told later.
    fn tell(&mut self, before: Before, tell: Tell) -> bool {
        before.into_iter().all(|(key, was)| {
            let is = self.objects.get(&key).and_then(|found| found.last());
            match is.map(|(_, text)| text) {
                None if was.is_some() => {
                    self.leaving.insert(key, Instant::now() + GONE);
                    true
                }
                Some(text) if was.as_ref() != Some(text) => {
                    self.leaving.remove(&key);
                    message(text).is_none_or(&mut *tell)
                }
                _ => true,
            }
        })
    }

    /// Tells what has been gone for long enough.
    fn tell_gone(&mut self, tell: Tell) -> bool {
        let now = Instant::now();
        let gone = self.leaving.extract_if(.., |_, since| *since <= now);
        gone.map(|(key, _)| key).all(|key| {
            tell(Message::Change(Change::Delete {
                group: key.kind.group().to_owned(),
                kind: key.kind.to_string(),
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
            }))
        })
    }
}

/// What tells an object. It is read here, so that its tree of values does not go to another thread, which would have to
/// free it while this one makes the next. What cannot be read the engine has to see.
fn message(text: &str) -> Option<Message> {
    match Object::from_json(serde_json::from_str(text).ok()?) {
        Ok(object) => object.map(Message::Object),
        Err(_) => Some(Message::Change(Change::Apply(serde_json::from_str(text).ok()?))),
    }
}

/// Files with objects below a folder, and folders that cannot be read.
fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(directory).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    match entries {
        Ok(entries) => {
            for path in entries.into_iter().map(|entry| entry.path()) {
                if path.is_dir() {
                    files.extend(yaml_files(&path));
                } else if is_read(&path) {
                    files.push(path);
                }
            }
        }
        Err(error) if is_absence(&error) => {}
        Err(_) => files.push(directory.to_owned()),
    }
    files.sort();
    files
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
