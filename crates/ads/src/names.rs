//! Sets of names that proxies subscribed to, interned: a thousand sidecars that ask for the same thousand endpoints
//! share one set. A set is kept in parts by the names' hashes, so that one name more costs a part and not the set.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Range;
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

/// A part of a set that is made: one of the set before, or another, whose names are in this place of a list.
enum Edited<'a> {
    Kept(&'a Arc<Part>),
    New {
        number: u8,
        hash: ContentHash,
        names: Range<usize>,
    },
}

impl Edited<'_> {
    fn number(&self) -> u8 {
        match self {
            Self::Kept(part) => part.number,
            Self::New { number, .. } => *number,
        }
    }

    fn hash(&self) -> ContentHash {
        match self {
            Self::Kept(part) => part.hash,
            Self::New { hash, .. } => *hash,
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
        // Part, name, and whether it comes: of one name that comes and goes, the last says that it goes.
        let added = added.into_iter().map(|name| (name_byte(name), name, true));
        let removed = removed.into_iter().map(|name| (name_byte(name), name, false));
        let mut changes: Vec<(u8, &str, bool)> = added.chain(removed).collect();
        changes.sort_unstable_by(|a, b| (a.0, a.1, !a.2).cmp(&(b.0, b.1, !b.2)));
        let mut names = Vec::with_capacity(base.len + changes.len());
        let mut parts = Vec::with_capacity(1 << u8::BITS);
        let mut text = Vec::new();
        let mut kept = base.parts.iter().peekable();
        let mut differs = false;
        for changes in changes.chunk_by(|a, b| a.0 == b.0) {
            let number = changes[0].0;
            parts.extend(std::iter::from_fn(|| kept.next_if(|part| part.number < number)).map(Edited::Kept));
            let before = kept.next_if(|part| part.number == number);
            let begin = names.len();
            names.extend(after(before, changes));
            let new = &names[begin..];
            match before {
                Some(part) if part.names.iter().map(|name| &**name).eq(new.iter().copied()) => {
                    parts.push(Edited::Kept(part));
                }
                None if new.is_empty() => {}
                _ => {
                    differs = true;
                    let hash = hash(new, &mut text);
                    let names = begin..names.len();
                    if !names.is_empty() {
                        parts.push(Edited::New { number, hash, names });
                    }
                }
            }
        }
        parts.extend(kept.map(Edited::Kept));
        if differs {
            self.intern(&parts, &names)
        } else {
            base.clone()
        }
    }

    fn intern(&self, parts: &[Edited<'_>], names: &[&str]) -> Arc<NameSet> {
        if parts.is_empty() {
            return NameSet::empty();
        }
        let mut key = Vec::with_capacity(parts.len() * 17);
        for part in parts {
            key.push(part.number());
            key.extend_from_slice(part.hash().as_bytes());
        }
        let key = ContentHash::of(&key);
        let mut table = lock(&self.sets);
        if let Some(known) = table.sets.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let made = parts.iter().map(|part| match part {
            Edited::Kept(part) => (*part).clone(),
            Edited::New {
                number,
                hash,
                names: at,
            } => {
                let names = &names[at.clone()];
                Arc::new(Part {
                    number: *number,
                    hash: *hash,
                    bytes: names.iter().map(|name| name_bytes(name)).sum(),
                    names: names.iter().map(|name| Arc::from(*name)).collect(),
                })
            }
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

/// The names of a part after changes, which are in order: by name, and what goes last.
fn after<'a>(before: Option<&'a Arc<Part>>, changes: &[(u8, &'a str, bool)]) -> impl Iterator<Item = &'a str> {
    let before = before.map(|part| &*part.names).unwrap_or_default();
    let mut before = before.iter().map(|name| &**name).peekable();
    let mut changes = changes
        .chunk_by(|a, b| a.1 == b.1)
        .filter_map(|of_name| of_name.last())
        .peekable();
    std::iter::from_fn(move || {
        loop {
            let Some((_, name, comes)) = changes.peek() else {
                return before.next();
            };
            match before.peek().map_or(Ordering::Greater, |old| (*old).cmp(name)) {
                Ordering::Less => return before.next(),
                order => {
                    if order == Ordering::Equal {
                        before.next();
                    }
                    let (name, comes) = (*name, *comes);
                    changes.next();
                    if comes {
                        return Some(name);
                    }
                }
            }
        }
    })
}

/// Hash of names in order; `text` is room for it.
fn hash(names: &[&str], text: &mut Vec<u8>) -> ContentHash {
    text.clear();
    for name in names {
        text.extend_from_slice(&(name.len() as u64).to_be_bytes());
        text.extend_from_slice(name.as_bytes());
    }
    ContentHash::of(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn an_edit_adds_and_removes(edits in prop::collection::vec(prop::collection::vec((0..40_u8, any::<bool>()), 0..30), 1..6)) {
            let interner = Interner::default();
            let mut set = NameSet::empty();
            let mut expected = BTreeSet::new();
            for edit in edits {
                let named = |comes: bool| edit.iter().filter(move |(_, is)| *is == comes).map(|(number, _)| format!("n{number}"));
                let (added, removed): (Vec<String>, Vec<String>) = (named(true).collect(), named(false).collect());
                set = interner.edit(&set, added.iter().map(String::as_str), removed.iter().map(String::as_str));
                expected.extend(added);
                expected.retain(|name| !removed.contains(name));
                prop_assert_eq!(set.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>(), expected.clone());
                prop_assert_eq!(set.len(), expected.len());
                let names = (0..40).map(|number| format!("n{number}"));
                let agree = names.into_iter().all(|name| set.contains(&name) == expected.contains(&name));
                prop_assert!(agree);
                let at_once = interner.edit(&NameSet::empty(), expected.iter().map(String::as_str), []);
                prop_assert!(Arc::ptr_eq(&set, &at_once));
            }
        }
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
