//! Sets of names that proxies subscribed to, interned: a thousand sidecars that ask for the same thousand endpoints
//! share one set. A set is kept in parts by the names' hashes, so that one name more costs a part and not the set.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex, Weak};

use xds::resource::{ContentHash, name_byte};

use crate::diff::lock;

/// Rough memory of a name in bytes: its text, and what is around it.
pub(crate) fn name_bytes(name: &str) -> usize {
    name.len() + 64
}

/// An immutable set of resource names.
#[derive(Debug)]
pub struct NameSet {
    id: ContentHash,
    /// In order of their numbers, none empty.
    parts: Box<[Arc<Part>]>,
    len: usize,
    bytes: usize,
}

/// The names of a set whose hash is the part's number, in order.
#[derive(Debug)]
struct Part {
    number: u8,
    hash: ContentHash,
    names: Box<[Arc<str>]>,
    /// Rough memory of them.
    bytes: usize,
}

static EMPTY: LazyLock<Arc<NameSet>> = LazyLock::new(|| Arc::new(NameSet::of(ContentHash::of(&[]), Box::default())));

impl NameSet {
    fn of(id: ContentHash, parts: Box<[Arc<Part>]>) -> Self {
        Self {
            id,
            len: parts.iter().map(|part| part.names.len()).sum(),
            bytes: parts.iter().map(|part| part.bytes).sum(),
            parts,
        }
    }

    /// The empty set.
    pub fn empty() -> Arc<Self> {
        EMPTY.clone()
    }

    /// The same for equal sets, and for no others.
    pub fn id(&self) -> ContentHash {
        self.id
    }

    /// Whether the name is in the set.
    pub fn contains(&self, name: &str) -> bool {
        let part = self.part(name_byte(name));
        part.is_some_and(|part| part.names.binary_search_by(|own| (**own).cmp(name)).is_ok())
    }

    /// Names, in an order that is the same for equal sets.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.parts.iter().flat_map(|part| part.names.iter())
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Rough memory of the names.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn part(&self, number: u8) -> Option<&Arc<Part>> {
        let at = self.parts.binary_search_by_key(&number, |part| part.number).ok()?;
        self.parts.get(at)
    }
}

/// Makes equal sets one set.
#[derive(Debug, Default)]
pub struct Interner {
    sets: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    sets: HashMap<ContentHash, Weak<NameSet>>,
    sweep_at: usize,
}

/// A part of a set that is made: one of the set before, or another.
enum Edited<'a> {
    Kept(&'a Arc<Part>),
    New(ContentHash, Vec<&'a str>),
}

impl Edited<'_> {
    fn hash(&self) -> ContentHash {
        match self {
            Self::Kept(part) => part.hash,
            Self::New(hash, _) => *hash,
        }
    }
}

impl Interner {
    /// `base` plus `added` minus `removed`.
    pub fn edit<'a>(
        &self,
        base: &'a Arc<NameSet>,
        added: impl IntoIterator<Item = &'a str>,
        removed: impl IntoIterator<Item = &'a str>,
    ) -> Arc<NameSet> {
        let mut changes: BTreeMap<u8, (Vec<&str>, BTreeSet<&str>)> = BTreeMap::new();
        for name in added {
            changes.entry(name_byte(name)).or_default().0.push(name);
        }
        for name in removed {
            changes.entry(name_byte(name)).or_default().1.insert(name);
        }
        let mut parts: BTreeMap<u8, Edited<'_>> = BTreeMap::new();
        let mut differs = false;
        for (number, (added, removed)) in changes {
            let before = base.part(number).map(|part| &*part.names).unwrap_or_default();
            let mut names: Vec<&str> = before.iter().map(|name| &**name).chain(added).collect();
            names.sort_unstable();
            names.dedup();
            names.retain(|name| !removed.contains(name));
            if names.len() != before.len() || !names.iter().copied().eq(before.iter().map(|name| &**name)) {
                differs = true;
                parts.insert(number, Edited::New(hash(&names), names));
            }
        }
        if !differs {
            return base.clone();
        }
        for part in &base.parts {
            parts.entry(part.number).or_insert(Edited::Kept(part));
        }
        parts.retain(|_, part| !matches!(part, Edited::New(_, names) if names.is_empty()));
        self.intern(&parts)
    }

    fn intern(&self, parts: &BTreeMap<u8, Edited<'_>>) -> Arc<NameSet> {
        if parts.is_empty() {
            return NameSet::empty();
        }
        let mut key = Vec::with_capacity(parts.len() * 17);
        for (number, part) in parts {
            key.push(*number);
            key.extend_from_slice(part.hash().as_bytes());
        }
        let key = ContentHash::of(&key);
        let mut table = lock(&self.sets);
        if let Some(known) = table.sets.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let made = parts.iter().map(|(number, part)| match part {
            Edited::Kept(part) => (*part).clone(),
            Edited::New(hash, names) => Arc::new(Part {
                number: *number,
                hash: *hash,
                bytes: names.iter().map(|name| name_bytes(name)).sum(),
                names: names.iter().map(|name| Arc::from(*name)).collect(),
            }),
        });
        let set = Arc::new(NameSet::of(key, made.collect()));
        table.sets.insert(key, Arc::downgrade(&set));
        if table.sets.len() > table.sweep_at {
            table.sets.retain(|_, set| set.strong_count() > 0);
            table.sweep_at = 64 + 2 * table.sets.len();
        }
        set
    }
}

/// Hash of names in order.
fn hash(names: &[&str]) -> ContentHash {
    let mut text = Vec::with_capacity(names.iter().map(|name| name.len() + 8).sum());
    for name in names {
        text.extend_from_slice(&(name.len() as u64).to_be_bytes());
        text.extend_from_slice(name.as_bytes());
    }
    ContentHash::of(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_the_same_whatever_way_led_to_it() {
        let interner = Interner::default();
        let names: Vec<String> = (0..3000).map(|number| format!("n{number}")).collect();
        let at_once = interner.edit(&NameSet::empty(), names.iter().map(String::as_str), []);
        let mut one_by_one = NameSet::empty();
        for name in names.iter().rev() {
            one_by_one = interner.edit(&one_by_one, [&**name], []);
        }
        assert!(Arc::ptr_eq(&at_once, &one_by_one));
        assert_eq!((at_once.len(), at_once.iter().count()), (3000, 3000));
        let none = interner.edit(&at_once, [], names.iter().map(String::as_str));
        assert!(Arc::ptr_eq(&none, &NameSet::empty()));
    }

    #[test]
    fn one_name_more_costs_little() {
        let interner = Interner::default();
        let names: Vec<String> = (0..20_000).map(|number| format!("n{number}")).collect();
        let many = interner.edit(&NameSet::empty(), names.iter().map(String::as_str), []);
        let more = interner.edit(&many, ["another"], []);
        let shared = |part: &&Arc<Part>| many.parts.iter().any(|old| Arc::ptr_eq(old, part));
        assert_eq!(more.parts.iter().filter(shared).count(), more.parts.len() - 1);
        assert_eq!(more.bytes(), many.bytes() + name_bytes("another"));
    }

    #[test]
    fn equal_sets_are_one() {
        let interner = Interner::default();
        let one = interner.edit(&NameSet::empty(), ["b", "a"], []);
        let two = interner.edit(&NameSet::empty(), ["a", "b", "c"], ["c"]);
        assert!(Arc::ptr_eq(&one, &two));
        assert!(one.contains("a") && !one.contains("c"));
    }

    #[test]
    fn an_edit_without_effect_keeps_the_set() {
        let interner = Interner::default();
        let one = interner.edit(&NameSet::empty(), ["a"], []);
        assert!(Arc::ptr_eq(&one, &interner.edit(&one, ["a"], ["z"])));
    }
}
