//! Sets of names that proxies subscribed to, interned: a thousand sidecars that ask for the same thousand endpoints
//! share one set.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use xds::resource::ContentHash;

/// An immutable set of resource names.
#[derive(Debug)]
pub struct NameSet {
    id: ContentHash,
    sorted: Box<[Box<str>]>,
}

static EMPTY: LazyLock<Arc<NameSet>> = LazyLock::new(|| {
    Arc::new(NameSet {
        id: ContentHash::of(&[]),
        sorted: Box::default(),
    })
});

impl NameSet {
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
        self.sorted.binary_search_by(|own| (**own).cmp(name)).is_ok()
    }

    /// Names in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.sorted.iter().map(|name| &**name)
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
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

impl Interner {
    /// `base` plus `added` minus `removed`.
    pub fn edit<'a>(
        &self,
        base: &'a Arc<NameSet>,
        added: impl IntoIterator<Item = &'a str>,
        removed: impl IntoIterator<Item = &'a str>,
    ) -> Arc<NameSet> {
        let mut names: Vec<&str> = base.iter().chain(added).collect();
        names.sort_unstable();
        names.dedup();
        let removed: BTreeSet<&str> = removed.into_iter().collect();
        names.retain(|name| !removed.contains(name));
        if names.len() == base.len() && names.iter().copied().eq(base.iter()) {
            return base.clone();
        }
        self.intern(&names)
    }

    /// `names` are in order, without repetition.
    fn intern(&self, names: &[&str]) -> Arc<NameSet> {
        if names.is_empty() {
            return NameSet::empty();
        }
        let mut key = Vec::with_capacity(names.iter().map(|name| name.len() + 8).sum());
        for name in names {
            key.extend_from_slice(&(name.len() as u64).to_be_bytes());
            key.extend_from_slice(name.as_bytes());
        }
        let key = ContentHash::of(&key);
        let mut table = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.sets.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let set = Arc::new(NameSet {
            id: key,
            sorted: names.iter().map(|name| Box::from(*name)).collect(),
        });
        table.sets.insert(key, Arc::downgrade(&set));
        if table.sets.len() > table.sweep_at {
            table.sets.retain(|_, set| set.strong_count() > 0);
            table.sweep_at = 64 + 2 * table.sets.len();
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
