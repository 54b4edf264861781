//! A cache that forgets: two generations, the older dropped when the younger is full.

use std::collections::HashMap;
use std::hash::Hash;

/// Keeps the most recently used, about half of the limit, and never more than `limit` of weight: what weighs more is not
/// kept at all.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    young: Generation<K, V>,
    old: Generation<K, V>,
    limit: usize,
}

#[derive(Debug)]
struct Generation<K, V> {
    entries: HashMap<K, (V, usize)>,
    weight: usize,
}

impl<K, V> Default for Generation<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            weight: 0,
        }
    }
}

impl<K: Hash + Eq, V: Clone> Recent<K, V> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            young: Generation::default(),
            old: Generation::default(),
            limit,
        }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        if let Some((value, _)) = self.young.entries.get(key) {
            return Some(value.clone());
        }
        let (key, (value, weight)) = self.old.entries.remove_entry(key)?;
        self.old.weight -= weight;
        self.insert(key, value.clone(), weight);
        Some(value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize) {
        if weight > self.limit {
            return;
        }
        if self.young.weight + weight > self.limit / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.weight += weight;
        if let Some((_, replaced)) = self.young.entries.insert(key, (value, weight)) {
            self.young.weight -= replaced;
        }
        if self.young.weight + self.old.weight > self.limit {
            self.old = Generation::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;

    #[test]
    fn there_is_never_more_than_the_limit() {
        let mut cache = Recent::new(10);
        for key in 0..200_usize {
            cache.insert(key % 40, key, key % 13);
            cache.get(&(key % 7));
            let all = cache.young.entries.values().chain(cache.old.entries.values());
            let weight: usize = all.map(|(_, weight)| weight).sum();
            assert_eq!(weight, cache.young.weight + cache.old.weight);
            assert!(weight <= 10, "{weight}");
        }
        cache.insert(1000, 1, 10);
        assert_eq!(cache.get(&1000), Some(1), "what just fits is kept");
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let mut cache = Recent::new(8);
        for key in 0..20 {
            cache.insert(key, key, 1);
            assert_eq!(cache.get(&0), Some(0), "used every time");
        }
        assert_eq!(cache.get(&5), None, "not used since");
    }
}
