//! What is set up already, read from `iptables-save`.

use std::collections::BTreeMap;

use crate::iptables::{self, Version};
use crate::rule::Rule;

/// Output of `iptables-save` longer than this is not read, in bytes.
pub const MAX_SAVE: usize = 16 * 1024 * 1024;

/// Our chains, by table and name, with the number of their rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chains(BTreeMap<(String, String), usize>);

impl Chains {
    /// Reads the output of `iptables-save` (or the input of `iptables-restore`).
    pub fn parse(text: &str) -> Self {
        let mut chains = BTreeMap::new();
        let mut table = "";
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("*") => table = words.next().unwrap_or_default(),
                Some(word) if word.starts_with('*') => table = &word[1..],
                Some("-N") => declare(&mut chains, table, words.next().unwrap_or_default()),
                Some("-A" | "-I") => {
                    let key = (table.to_owned(), words.next().unwrap_or_default().to_owned());
                    if let Some(count) = chains.get_mut(&key) {
                        *count += 1;
                    }
                }
                Some(word) if word.starts_with(':') => declare(&mut chains, table, &word[1..]),
                _ => {}
            }
        }
        Self(chains)
    }

    /// Whether none of our chains exist.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn declare(chains: &mut BTreeMap<(String, String), usize>, table: &str, chain: &str) {
    if chain.starts_with("ISTIO_") {
        chains.insert((table.to_owned(), chain.to_owned()), 0);
    }
}

/// How what is there compares with what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing of ours.
    Nothing,
    /// The same chains with as many rules; [`iptables::checks`] can settle whether they are the same rules.
    SameShape,
    /// Leftovers of something else.
    Other,
}

/// Compares the output of `iptables-save` with `rules`.
pub fn compare(saved: &str, rules: &[Rule], version: Version) -> Found {
    let there = Chains::parse(saved);
    if there.is_empty() {
        Found::Nothing
    } else if there == Chains::parse(&iptables::restore(rules, version)) {
        Found::SameShape
    } else {
        Found::Other
    }
}
