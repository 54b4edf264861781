//! What happens to files, and what to do where the system does not tell.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// An editor writes a file in several steps; this long without another one counts as done.
const SETTLE: Duration = Duration::from_millis(5);
/// Changes without end are told in pieces of this time.
const MOST: Duration = Duration::from_secs(1);
/// Between two looks at everything, where the system does not tell what happens.
const LOOK: Duration = Duration::from_secs(2);

/// Files that may differ.
#[derive(Debug)]
pub(super) struct News {
    /// Which; `None` if it cannot be told.
    pub(super) files: Option<BTreeSet<PathBuf>>,
    /// How long to wait for more.
    settle: Duration,
}

impl News {
    /// Anything may differ.
    pub(super) fn all(settle: Duration) -> Self {
        Self { files: None, settle }
    }

    /// What an event says, if it concerns any file with objects.
    pub(super) fn of(event: notify::Event) -> Option<Self> {
        let done = match event.kind {
            _ if is_written(&event) => true,
            EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => true,
            EventKind::Access(_) => return None,
            _ => event.need_rescan(),
        };
        let settle = if done { Duration::ZERO } else { SETTLE };
        let goes = matches!(
            event.kind,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
        );
        // Into a folder that changes its rights somebody may have been let.
        let comes = matches!(
            event.kind,
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Metadata(_))
        );
        if event.need_rescan() || ((comes || goes) && event.paths.iter().any(|path| is_folder(path))) {
            return Some(Self::all(settle));
        }
        // What is gone may have been a folder, whatever it was called.
        let concerns = |path: &PathBuf| goes || is_read(path);
        let files: BTreeSet<PathBuf> = event.paths.into_iter().filter(concerns).collect();
        let files = Some(files).filter(|files| !files.is_empty())?;
        Some(Self {
            files: Some(files),
            settle,
        })
    }

    fn add(&mut self, also: Self) {
        self.settle = self.settle.min(also.settle);
        self.files = match (self.files.take(), also.files) {
            (Some(mut files), Some(more)) => {
                files.extend(more);
                Some(files)
            }
            _ => None,
        };
    }
}

/// Whether somebody wrote the file and closed it.
pub(super) fn is_written(event: &notify::Event) -> bool {
    event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write))
}

/// Whether a path is, or may have been, a folder. Those of mounted ConfigMaps are links that begin with two dots. One look
/// is taken at what is no file of objects, such as the copy that an editor puts in a file's place.
fn is_folder(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    !is_read(path) && (path.extension().is_none() || name.starts_with("..") || path.is_dir())
}

/// Whether the folder itself was moved or removed.
fn leaves(event: &notify::Event, folder: &Path) -> bool {
    let goes = matches!(
        event.kind,
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From | RenameMode::Any))
    );
    goes && event.paths.iter().any(|path| path == folder)
}

/// Whether files of this name are read.
pub(super) fn is_read(path: &Path) -> bool {
    path.extension()
        .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
}

enum Heard {
    News(News),
    /// The system does not tell everything from now on.
    Deaf(notify::Error),
}

/// Files that are followed.
pub(super) struct Watching {
    /// What they are to the user: an argument and its value.
    what: String,
    heard: Receiver<Heard>,
    /// The system tells what happens only while this is there.
    _watcher: Option<RecommendedWatcher>,
    /// Without a watcher nothing else keeps the channel open.
    _wake: Sender<Heard>,
    /// How often to look without being told; never, where the system tells.
    look: Option<Duration>,
    /// When to look next.
    next_look: Option<Instant>,
}

impl Watching {
    /// Follows what is in a folder. Where the system does not tell what happens there, most often because of its limits,
    /// everything is looked at now and then instead.
    pub(super) fn new(
        what: String,
        folder: &Path,
        mode: RecursiveMode,
        of: impl Fn(notify::Event) -> Option<News> + Send + 'static,
    ) -> Self {
        let (wake, heard) = channel();
        let tell = wake.clone();
        let root = folder.to_owned();
        let on_event = move |event: notify::Result<notify::Event>| {
            let heard = match event {
                // What takes its place is another folder, of which the system tells nothing.
                Ok(event) if leaves(&event, &root) => {
                    Some(Heard::Deaf(notify::Error::path_not_found().add_path(root.clone())))
                }
                Ok(event) => of(event).map(Heard::News),
                // It went while it was looked at.
                Err(error) if matches!(error.kind, ErrorKind::PathNotFound | ErrorKind::WatchNotFound) => {
                    Some(Heard::News(News::all(SETTLE)))
                }
                Err(error) => Some(Heard::Deaf(error)),
            };
            if let Some(heard) = heard {
                let _ = tell.send(heard);
            }
        };
        let watcher = notify::recommended_watcher(on_event).and_then(|mut watcher| {
            watcher.watch(folder, mode)?;
            Ok(watcher)
        });
        let mut watching = Self {
            what,
            heard,
            _watcher: None,
            _wake: wake,
            look: None,
            next_look: None,
        };
        match watcher {
            Ok(watcher) => watching._watcher = Some(watcher),
            Err(error) => watching.go_deaf(&error, LOOK),
        }
        watching
    }

    fn go_deaf(&mut self, error: &notify::Error, look: Duration) {
        if self.look.is_none() {
            tracing::warn!(
                "{}: not all changes are told by the system ({error}); the files are looked at every {} s instead. Raise \
                 fs.inotify.max_user_watches or fs.inotify.max_user_instances, and restart",
                self.what,
                look.as_secs_f64(),
            );
        }
        self.look = Some(look);
        self.next_look.get_or_insert_with(|| Instant::now() + look);
    }

    /// Whether it is time to look, whatever was told meanwhile.
    fn looks_now(&mut self) -> bool {
        let now = Instant::now();
        let due = self.next_look.is_some_and(|next| next <= now);
        if due {
            self.next_look = self.look.map(|look| now + look);
        }
        due
    }

    /// What happened, with all that follows closely; nothing if the time comes first.
    pub(super) fn next(&mut self, until: Option<Instant>) -> Option<News> {
        if self.looks_now() {
            return Some(News::all(SETTLE));
        }
        let first = match until.into_iter().chain(self.next_look).min() {
            None => self.heard.recv().map_err(RecvTimeoutError::from),
            Some(until) => self.heard.recv_timeout(until.saturating_duration_since(Instant::now())),
        };
        let mut news = match first {
            Ok(heard) => self.understand(heard),
            Err(_) => return self.looks_now().then(|| News::all(SETTLE)),
        };
        let end = Instant::now() + MOST;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(also) = self.heard.recv_timeout(news.settle.min(left)) else {
                return Some(news);
            };
            news.add(self.understand(also));
            if left.is_zero() {
                return Some(news);
            }
        }
    }

    fn understand(&mut self, heard: Heard) -> News {
        match heard {
            Heard::News(news) => news,
            Heard::Deaf(error) => {
                self.go_deaf(&error, LOOK);
                News::all(SETTLE)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use notify::event::{CreateKind, RemoveKind};

    use super::*;

    impl Watching {
        /// As where the system says that it will not tell what happens.
        pub(in super::super) fn deaf(look: Duration) -> Self {
            let (wake, heard) = channel();
            let mut watching = Self {
                what: "files".to_owned(),
                heard,
                _watcher: None,
                _wake: wake,
                look: None,
                next_look: None,
            };
            watching.go_deaf(&notify::Error::new(ErrorKind::MaxFilesWatch), look);
            watching
        }
    }

    #[test]
    fn what_never_ends_is_told_all_the_same() {
        let mut watching = Watching::deaf(Duration::from_secs(600));
        let (sender, heard) = channel();
        watching.heard = heard;
        let one = || News {
            files: Some(BTreeSet::from(["x.yaml".into()])),
            settle: MOST,
        };
        let without_end = std::thread::spawn(move || while sender.send(Heard::News(one())).is_ok() {});
        assert_eq!(watching.next(None).unwrap().files, one().files);
        drop(watching);
        without_end.join().unwrap();
    }

    #[test]
    fn what_is_told_does_not_put_a_look_off() {
        let mut watching = Watching::deaf(Duration::from_millis(50));
        let (sender, heard) = channel();
        watching.heard = heard;
        let one = || News {
            files: Some(BTreeSet::from(["x.yaml".into()])),
            settle: Duration::ZERO,
        };
        let without_end = std::thread::spawn(move || while sender.send(Heard::News(one())).is_ok() {});
        let deadline = Instant::now() + Duration::from_secs(30);
        while watching.next(None).unwrap().files.is_some() {
            assert!(Instant::now() < deadline, "nobody looks");
        }
        drop(watching);
        without_end.join().unwrap();
    }

    #[test]
    fn a_folder_may_be_called_anything() {
        let check = |kind: EventKind, path: &str| {
            let event = notify::Event::new(kind).add_path(path.into());
            News::of(event).map(|news| news.files.is_none())
        };
        let moved = EventKind::Modify(ModifyKind::Name(RenameMode::From));
        let created = EventKind::Create(CreateKind::Folder);
        let here = std::env::temp_dir().join(format!("istiod-watching-{}", std::process::id()));
        let dotted = here.join("team.a");
        std::fs::create_dir_all(&dotted).unwrap();
        assert_eq!(check(created, dotted.to_str().unwrap()), Some(true));
        assert_eq!(check(moved, dotted.to_str().unwrap()), Some(true));
        std::fs::remove_dir_all(&here).unwrap();
        // It went; the tree knows what was in it.
        assert_eq!(check(moved, "/c/team.a"), Some(false));
        assert_eq!(check(EventKind::Remove(RemoveKind::Folder), "/c/v1.2"), Some(false));
        assert_eq!(check(moved, "/c/..data"), Some(true));
        assert_eq!(check(moved, "/c/a.yaml"), Some(false));
        // A copy that takes a file's place is not worth a look at everything.
        assert_eq!(check(EventKind::Create(CreateKind::File), "/c/a.yaml.tmp"), None);
        assert_eq!(check(moved, "/c/a.yaml.tmp"), Some(false));
        assert_eq!(check(EventKind::Modify(ModifyKind::Any), "/c/a.txt"), None);
        let root = Path::new("/c");
        let event = |path: &str| notify::Event::new(EventKind::Remove(RemoveKind::Folder)).add_path(path.into());
        assert!(leaves(&event("/c"), root) && !leaves(&event("/c/d"), root));
    }

    #[test]
    fn a_limit_of_the_system_is_heard_once_and_then_everything_is_looked_at() {
        let mut watching = Watching::new(
            "x".to_owned(),
            &std::env::temp_dir(),
            RecursiveMode::NonRecursive,
            |_| None,
        );
        assert_eq!(watching.look, None);
        let limit = notify::Error::new(ErrorKind::MaxFilesWatch);
        watching._wake.send(Heard::Deaf(limit)).unwrap();
        assert_eq!(watching.next(None).unwrap().files, None);
        assert_eq!(watching.look, Some(LOOK));
        let nowhere = Path::new("/nowhere/to/be/found");
        let unseen = Watching::new("x".to_owned(), nowhere, RecursiveMode::NonRecursive, |_| None);
        assert_eq!(unseen.look, Some(LOOK));
    }
}
