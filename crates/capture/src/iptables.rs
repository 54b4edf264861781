//! Rules → input of `iptables-restore --noflush`, and the commands that undo it.

use std::collections::BTreeMap;

use crate::rule::{Chain, Family, Rule, Table};

/// Which of the two programs, `iptables` or `ip6tables`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `iptables`.
    V4,
    /// `ip6tables`.
    V6,
}

impl Version {
    fn takes(self, rule: &Rule) -> bool {
        matches!(
            (self, rule.family),
            (_, Family::Any) | (Self::V4, Family::V4) | (Self::V6, Family::V6)
        )
    }

    /// Name of the program, followed by `suffix` (`-save`, `-restore` or nothing).
    pub fn program(self, suffix: &str) -> String {
        match self {
            Self::V4 => format!("iptables{suffix}"),
            Self::V6 => format!("ip6tables{suffix}"),
        }
    }
}

/// Rules of one version, in order, as `(rule, iptables text)`.
fn of(rules: &[Rule], version: Version) -> impl DoubleEndedIterator<Item = (&Rule, &str)> {
    rules
        .iter()
        .filter(move |r| version.takes(r))
        .filter_map(|r| Some((r, r.iptables.as_deref()?)))
}

/// Our chains that the rules of one version need, by table, in order of first use: first those that hold rules, then
/// those that are only jumped to.
pub(crate) fn chains(rules: &[Rule], version: Version) -> BTreeMap<Table, Vec<&'static str>> {
    let mut chains: BTreeMap<Table, Vec<&'static str>> = BTreeMap::new();
    let mut need = |table: Table, chain: Chain| {
        let list = chains.entry(table).or_default();
        if !chain.is_hook() && !list.contains(&chain.iptables()) {
            list.push(chain.iptables());
        }
    };
    for (rule, _) in of(rules, version) {
        need(rule.table, rule.chain);
    }
    for (rule, text) in of(rules, version) {
        if let Some(target) = jump_target(text) {
            need(rule.table, target);
        }
    }
    chains
}

/// The chain of ours that a rule ends in, if it does.
fn jump_target(text: &str) -> Option<Chain> {
    let (_, target) = text.rsplit_once("-j ")?;
    [
        Chain::Inbound,
        Chain::Redirect,
        Chain::InRedirect,
        Chain::IstioOutput,
        Chain::OutputDns,
        Chain::Divert,
        Chain::Tproxy,
        Chain::Drop,
    ]
    .into_iter()
    .find(|c| c.iptables() == target)
}

fn line(rule: &Rule, text: &str) -> String {
    let chain = rule.chain.iptables();
    match rule.insert {
        // iptables counts from one.
        Some(position) => format!("-I {chain} {} {text}", position + 1),
        None => format!("-A {chain} {text}"),
    }
}

/// Input of `iptables-restore --noflush`; empty if there are no rules for `version`.
pub fn restore(rules: &[Rule], version: Version) -> String {
    let mut tables: BTreeMap<Table, Vec<String>> = BTreeMap::new();
    for (table, names) in chains(rules, version) {
        tables
            .entry(table)
            .or_default()
            .extend(names.iter().map(|n| format!("-N {n}")));
    }
    for (rule, text) in of(rules, version) {
        tables.entry(rule.table).or_default().push(line(rule, text));
    }
    let mut input = String::new();
    for (table, lines) in tables {
        input.push_str(&format!("* {}\n", table.iptables()));
        for line in lines {
            input.push_str(&line);
            input.push('\n');
        }
        input.push_str("COMMIT\n");
    }
    input
}

/// Arguments that test for each rule (`iptables -C`).
pub fn checks(rules: &[Rule], version: Version) -> Vec<Vec<String>> {
    let check = |(rule, text): (&Rule, &str)| arguments(rule.table, "-C", rule.chain.iptables(), text);
    of(rules, version).map(check).collect()
}

/// Arguments that remove the rules from the kernel's chains, then our chains, in reverse order of creation.
pub fn cleanup(rules: &[Rule], version: Version) -> Vec<Vec<String>> {
    let delete = |(rule, text): (&Rule, &str)| arguments(rule.table, "-D", rule.chain.iptables(), text);
    let mut commands: Vec<_> = of(rules, version)
        .rev()
        .filter(|(r, _)| r.chain.is_hook())
        .map(delete)
        .collect();
    let chains = chains(rules, version);
    // A chain can only be deleted when nothing jumps to it: flush all first.
    for action in ["-F", "-X"] {
        for (table, names) in &chains {
            commands.extend(names.iter().rev().map(|name| arguments(*table, action, name, "")));
        }
    }
    commands
}

fn arguments(table: Table, action: &str, chain: &str, text: &str) -> Vec<String> {
    ["-t", table.iptables(), action, chain]
        .into_iter()
        .chain(text.split_whitespace())
        .map(str::to_owned)
        .collect()
}
