//! From the text of a file to the objects that it says.
//!
//! What is kept of an object is its JSON: a tree of values takes several times as much, and nobody reads it until the
//! object is told.

use std::collections::BTreeMap;
use std::path::Path;

use mesh::{Key, Kind};
use serde_json::Value;

/// Objects of kinds that the mesh reads, as JSON.
pub(super) type Objects = BTreeMap<Key, Box<str>>;

type Object = (Key, Box<str>);

/// Largest file that is read, in bytes.
const LARGEST: u64 = 256 << 20;
/// Text of this size takes longer to read than a thread takes to start, in bytes.
const WORTH_A_THREAD: usize = 256 << 10;

pub(super) fn read_file(path: &Path) -> anyhow::Result<Objects> {
    let size = std::fs::metadata(path)?.len();
    anyhow::ensure!(size <= LARGEST, "{size} bytes; at most {LARGEST} are read");
    read_text(&std::fs::read_to_string(path)?)
}

/// Documents that are objects; a `List` counts as its items, documents of other shapes are left out. Much text is read
/// by all processors.
pub(super) fn read_text(text: &str) -> anyhow::Result<Objects> {
    let documents: Vec<&str> = gotemplate::documents(text).map(|document| document.text).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(text.len() / WORTH_A_THREAD).max(1);
    let share = documents.len().div_ceil(threads).max(1);
    let mut parts = documents.chunks(share);
    let first = parts.next().unwrap_or_default();
    let all: anyhow::Result<Vec<Vec<Object>>> = std::thread::scope(|scope| {
        let others: Vec<_> = parts.map(|part| scope.spawn(move || guarded(part))).collect();
        let joined = others
            .into_iter()
            .map(|other| other.join().unwrap_or_else(|_| Err(a_bug())));
        std::iter::once(guarded(first)).chain(joined).collect()
    });
    Ok(all?.into_iter().flatten().collect())
}

/// A panic of the parser costs these documents, and not all that comes later.
fn guarded(documents: &[&str]) -> anyhow::Result<Vec<Object>> {
    std::panic::catch_unwind(|| read_documents(documents)).unwrap_or_else(|_| Err(a_bug()))
}

fn a_bug() -> anyhow::Error {
    anyhow::anyhow!("a document could not be read; this is a bug of the control plane")
}

fn read_documents(documents: &[&str]) -> anyhow::Result<Vec<Object>> {
    let mut objects = Vec::with_capacity(documents.len());
    let mut keep = |value: &Value| {
        objects.extend(key(value).map(|key| (key, value.to_string().into_boxed_str())));
    };
    for document in documents {
        let value: Value = serde_saphyr::from_str(document)?;
        let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
        match &value["items"] {
            Value::Array(items) if is_list => items.iter().for_each(&mut keep),
            _ if is_list => {}
            _ => keep(&value),
        }
    }
    Ok(objects)
}

fn key(object: &Value) -> Option<Key> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let group = text("/apiVersion")?.split_once('/').map_or("", |(group, _)| group);
    let namespace = text("/metadata/namespace").unwrap_or_default();
    let kind = Kind::find(group, text("/kind")?)?;
    Some(Key::new(kind, namespace, text("/metadata/name")?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::TWO;
    use super::*;

    fn names(objects: &Objects) -> Vec<&str> {
        objects.keys().map(|key| &*key.name).collect()
    }

    #[test]
    fn documents_and_lists_are_objects() {
        assert_eq!(names(&read_text(TWO).unwrap()), ["a", "b"]);
    }

    #[test]
    fn what_the_mesh_does_not_read_is_not_kept() {
        let account =
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a, namespace: x}\n---\nkind: List\n---\n7\n";
        assert_eq!(names(&read_text(account).unwrap()), [""; 0]);
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
}
