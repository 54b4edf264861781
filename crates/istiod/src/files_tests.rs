//! Files that are written, moved, broken and removed, and what is told of them.
#![allow(clippy::unwrap_used)]

use super::*;

pub(super) const TWO: &str = "# first\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: x}\n---\n\
    apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: b, namespace: x}}\n---\n---\n";

/// The same, with `c` for `b`.
fn other() -> String {
    TWO.replace("name: b, namespace", "name: c, namespace")
}

fn service(name: &str, label: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: x, labels: {{of: \"{label}\"}}}}\n---\n"
    )
}

fn word(message: Message) -> String {
    match message {
        Message::Change(Change::Delete { name, .. }) => format!("-{name}"),
        Message::Object(object) => {
            let meta = object.meta();
            let of = meta.labels.get("of").map(|of| format!("={of}"));
            format!("+{}{}", meta.name, of.unwrap_or_default())
        }
        Message::Change(Change::Apply(object)) => format!("?{}", object["metadata"]["name"]),
        Message::Change(Change::Synced) => "synced".to_owned(),
        other => format!("{other:?}"),
    }
}

/// A folder that goes with this value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("istiod-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.0.join(name)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A tree of a folder, read by hand.
struct Hand {
    folder: Folder,
    tree: Tree,
}

impl Hand {
    fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let tree = Tree::new(folder.0.clone());
        Self { folder, tree }
    }

    /// Writes files, or removes them, and says what a reading of exactly those tells.
    fn read(&mut self, files: &[(&str, Option<&str>)]) -> Vec<String> {
        for (name, text) in files {
            match text {
                Some(text) => self.folder.write(name, text),
                None => self.folder.remove(name),
            }
        }
        let names = files.iter().map(|(name, _)| self.folder.0.join(name)).collect();
        let mut told = Vec::new();
        let mut tell = |message| {
            told.push(word(message));
            true
        };
        assert!(self.tree.read(Some(names), &mut tell));
        told
    }

    /// What is told once time has passed.
    fn later(&mut self) -> Vec<String> {
        for since in self.tree.leaving.values_mut() {
            *since = Instant::now();
        }
        let mut told = Vec::new();
        let mut tell = |message| {
            told.push(word(message));
            true
        };
        assert!(self.tree.tell_gone(&mut tell));
        told
    }
}

#[test]
fn what_differs_is_told_at_once_and_what_is_gone_a_moment_later() {
    // What another file holds, before or behind the one that changes.
    let check = |elsewhere: Option<(&str, &str)>, now: &[&str], later: &[&str]| {
        let mut hand = Hand::new("gone");
        if let Some((name, text)) = elsewhere {
            hand.read(&[(name, Some(text))]);
        }
        hand.read(&[("m.yaml", Some(TWO))]);
        assert_eq!(hand.read(&[("m.yaml", Some(&other()))]), now, "{elsewhere:?}");
        assert_eq!(hand.later(), later, "{elsewhere:?}");
    };
    check(None, &["+c"], &["-b"]);
    check(Some(("a.yaml", &service("b", "else"))), &["+b=else", "+c"], &[]);
    check(Some(("z.yaml", &service("b", "else"))), &["+c"], &[]);
    check(Some(("a.yaml", &service("c", "else"))), &["+c"], &["-b"]);
    check(Some(("z.yaml", &service("c", "else"))), &[], &["-b"]);
}

#[test]
fn an_object_that_moves_to_another_file_was_never_gone() {
    let mut hand = Hand::new("moves");
    hand.read(&[("a.yaml", Some(&(service("x", "1") + &service("w", "1"))))]);
    // First it leaves its file, then it is in another.
    assert_eq!(hand.read(&[("a.yaml", Some(&service("w", "1")))]), [""; 0]);
    assert_eq!(hand.read(&[("b.yaml", Some(&service("x", "2")))]), ["+x=2"]);
    assert_eq!(hand.later(), [""; 0]);
    // Both are seen at once; nothing is said that was never so.
    let both = [("a.yaml", Some(&*service("x", "3"))), ("b.yaml", None)];
    assert_eq!(hand.read(&both), ["+x=3"]);
    assert_eq!(hand.later(), ["-w"]);
    let back = service("x", "3");
    assert_eq!(hand.read(&[("a.yaml", None), ("b.yaml", Some(&back))]), [""; 0]);
    assert_eq!(hand.later(), [""; 0]);
}

/// `git checkout`, and some editors, remove a file and write it anew.
#[test]
fn a_file_that_is_replaced_takes_nothing_away() {
    let mut hand = Hand::new("replaced");
    hand.read(&[("x.yaml", Some(TWO))]);
    assert_eq!(hand.read(&[("x.yaml", None)]), [""; 0]);
    assert_eq!(hand.read(&[("x.yaml", Some(&other()))]), ["+a", "+c"]);
    assert_eq!(hand.later(), ["-b"]);
}

/// The clock of the file system may not have ticked between the two.
#[test]
fn a_second_writing_of_the_same_length_is_seen() {
    let mut hand = Hand::new("length");
    let now = SystemTime::now();
    for turn in 0..20 {
        let text = service("x", &(turn % 10).to_string());
        assert_eq!(hand.read(&[("x.yaml", Some(&text))]), [format!("+x={}", turn % 10)]);
    }
    let meta = std::fs::metadata(hand.folder.0.join("x.yaml")).unwrap();
    assert!(
        Stamp::of(&meta, now + TICK / 2).is_none(),
        "it may change without looking different"
    );
    assert!(Stamp::of(&meta, now + 3 * TICK).is_some());
    assert!(
        Stamp::of(&meta, now - TICK).is_none(),
        "a clock that went back says nothing"
    );
}

#[test]
fn an_object_that_makes_no_sense_is_for_the_engine_to_see() {
    let mut hand = Hand::new("senseless");
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: x}\nspec: {ports: yes}\n";
    assert_eq!(hand.read(&[("x.yaml", Some(text))]), ["?\"a\""]);
}

#[test]
fn a_broken_file_keeps_what_it_said() {
    let mut hand = Hand::new("broken");
    assert_eq!(hand.read(&[("x.yaml", Some(TWO))]), ["+a", "+b"]);
    assert_eq!(hand.read(&[("x.yaml", Some("kind: ["))]), [""; 0]);
    assert_eq!(hand.later(), [""; 0]);
    assert_eq!(hand.read(&[("x.yaml", None)]), [""; 0]);
    assert_eq!(hand.later(), ["-a", "-b"]);
    assert!(hand.tree.files.is_empty() && hand.tree.objects.is_empty());
}

#[test]
fn a_file_that_cannot_be_looked_at_is_not_gone() {
    let mut hand = Hand::new("loop");
    assert_eq!(hand.read(&[("x.yaml", Some(TWO))]), ["+a", "+b"]);
    let file = hand.folder.0.join("x.yaml");
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&file, &file).unwrap();
    let mut told = Vec::new();
    hand.tree.read(None, &mut |message| {
        told.push(word(message));
        true
    });
    assert!(told.is_empty() && hand.later().is_empty(), "{told:?}");
}

#[tokio::test]
async fn a_folder_that_moves_in_and_out_is_seen_whatever_it_is_called() {
    let folder = Folder::new("dots");
    let away = Folder::new("dots-away");
    std::fs::create_dir(away.0.join("team.a")).unwrap();
    away.write("team.a/x.yaml", TWO);
    let (messages, told) = mpsc::channel(10);
    follow(&folder.0, messages).unwrap();
    let mut followed = Followed { folder, told };
    followed.expect(&["synced"]).await;
    let (outside, inside) = (away.0.join("team.a"), followed.folder.0.join("team.a"));
    std::fs::rename(&outside, &inside).unwrap();
    followed.expect(&["+a", "+b"]).await;
    std::fs::rename(&inside, &outside).unwrap();
    followed.expect(&["-a", "-b"]).await;
}

/// A folder that is followed, and the next that is told.
struct Followed {
    folder: Folder,
    told: mpsc::Receiver<Message>,
}

impl Followed {
    async fn next(&mut self) -> String {
        let next = tokio::time::timeout(Duration::from_secs(60), self.told.recv()).await;
        word(next.expect("a change in time").unwrap())
    }

    async fn expect(&mut self, words: &[&str]) {
        for word in words {
            assert_eq!(self.next().await, *word);
        }
    }
}

#[tokio::test]
async fn a_folder_with_a_relative_name_is_followed() {
    let folder = Folder::new("followed");
    folder.write("x.yaml", TWO);
    let here = std::env::current_dir().unwrap();
    let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
    let (messages, told) = mpsc::channel(10);
    follow(&up.join(folder.0.strip_prefix("/").unwrap()), messages).unwrap();
    let mut followed = Followed { folder, told };
    followed.expect(&["+a", "+b", "synced"]).await;
    followed.folder.write("x.yaml", &other());
    followed.expect(&["+c", "-b"]).await;
}

/// What a broken file would say may be a policy.
#[tokio::test]
async fn nothing_is_served_before_every_file_was_readable() {
    let folder = Folder::new("unread");
    folder.write("x.yaml", TWO);
    folder.write("z.yaml", "kind: [");
    let (messages, told) = mpsc::channel(10);
    follow(&folder.0, messages).unwrap();
    let mut followed = Followed { folder, told };
    followed.expect(&["+a", "+b"]).await;
    followed.folder.write("w.yaml", &service("w", "1"));
    followed.expect(&["+w=1"]).await;
    followed.folder.write("z.yaml", &service("z", "1"));
    followed.expect(&["+z=1", "synced"]).await;
    followed.folder.write("z.yaml", "kind: [");
    followed.folder.write("w.yaml", &service("w", "2"));
    followed.expect(&["+w=2"]).await;
}

/// The system has only so many watches for all.
#[tokio::test]
async fn where_the_system_does_not_tell_files_are_looked_at() {
    let folder = Folder::new("deaf");
    folder.write("x.yaml", TWO);
    let (messages, told) = mpsc::channel(10);
    follow_with(Watching::deaf(Duration::from_millis(20)), folder.0.clone(), messages).unwrap();
    let mut followed = Followed { folder, told };
    followed.expect(&["+a", "+b", "synced"]).await;
    followed.folder.write("w.yaml", &service("w", "1"));
    followed.expect(&["+w=1"]).await;
    followed.folder.write("w.yaml", &service("w", "2"));
    followed.expect(&["+w=2"]).await;
    followed.folder.remove("w.yaml");
    followed.expect(&["-w"]).await;
}

#[tokio::test]
async fn a_mesh_configuration_is_followed() {
    let folder = Folder::new("mesh-config");
    let file = folder.0.join("mesh");
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
        folder.write("mesh", text);
        if expected.is_empty() {
            continue;
        }
        let next = tokio::time::timeout(Duration::from_secs(60), told.recv()).await;
        let Ok(Some(Message::MeshConfig(config))) = next else {
            panic!("{text} is not told")
        };
        assert_eq!(config.trust_domain, expected);
    }
}
