//! Rules → one `nft` transaction that replaces our tables whole.

use std::collections::BTreeMap;

use crate::rule::{Chain, Rule, Table};

/// Tables in the order in which they are set up.
pub const TABLES: [Table; 3] = [Table::Nat, Table::Mangle, Table::Raw];

/// Chains of a table in the order in which they are declared, with the hook of those that have one.
fn chains(table: Table) -> &'static [(Chain, Option<&'static str>)] {
    match table {
        Table::Nat => &[
            (Chain::Prerouting, Some("{ type nat hook prerouting priority -100 ; }")),
            (Chain::Output, Some("{ type nat hook output priority -100 ; }")),
            (Chain::Inbound, None),
            (Chain::Redirect, None),
            (Chain::InRedirect, None),
            (Chain::IstioOutput, None),
            (Chain::OutputDns, None),
        ],
        Table::Mangle => &[
            (
                Chain::Prerouting,
                Some("{ type filter hook prerouting priority -150 ; }"),
            ),
            (Chain::Output, Some("{ type route hook output priority -150 ; }")),
            (Chain::Divert, None),
            (Chain::Tproxy, None),
            (Chain::Inbound, None),
            (Chain::Drop, None),
        ],
        Table::Raw => &[
            (
                Chain::Prerouting,
                Some("{ type filter hook prerouting priority -300 ; }"),
            ),
            (Chain::Output, Some("{ type filter hook output priority -300 ; }")),
            (Chain::Inbound, None),
            (Chain::OutputDns, None),
        ],
    }
}

/// Input of `nft -f -`.
pub fn transaction(rules: &[Rule]) -> String {
    TABLES.into_iter().map(|table| one_table(rules, table)).collect()
}

fn one_table(rules: &[Rule], table: Table) -> String {
    let ours: Vec<(&Rule, &str)> = rules
        .iter()
        .filter(|r| r.table == table)
        .filter_map(|r| Some((r, r.nftables.as_deref()?)))
        .collect();
    if ours.is_empty() {
        return String::new();
    }
    let name = table.nftables();
    let mut text = format!("add table inet {name}\nflush table inet {name}\n");
    for (chain, hook) in chains(table)
        .iter()
        .filter(|(c, _)| ours.iter().any(|(r, _)| r.chain == *c))
    {
        let hook = hook.map(|h| format!(" {h}")).unwrap_or_default();
        text.push_str(&format!("add chain inet {name} {}{hook}\n", chain.nftables()));
    }
    let mut filled: BTreeMap<Chain, usize> = BTreeMap::new();
    for (rule, statement) in ours {
        let chain = rule.chain.nftables();
        let so_far = filled.entry(rule.chain).or_default();
        // nft cannot insert at the end of a chain: that is an append.
        match rule.insert.filter(|position| position < so_far) {
            Some(position) => {
                text.push_str(&format!(
                    "insert rule inet {name} {chain} index {position} {statement}\n"
                ));
            }
            None => text.push_str(&format!("add rule inet {name} {chain} {statement}\n")),
        }
        *so_far += 1;
    }
    text
}

/// Chains that the transaction makes, with the number of rules in each.
pub fn chains_of(rules: &[Rule]) -> BTreeMap<(Table, Chain), usize> {
    let mut counts = BTreeMap::new();
    for rule in rules.iter().filter(|rule| rule.nftables.is_some()) {
        *counts.entry((rule.table, rule.chain)).or_default() += 1;
    }
    counts
}

/// Number of rules in what `nft list chain` printed.
pub fn count_rules(listed: &str) -> usize {
    let rule = |line: &&str| line.starts_with("\t\t") && !line.trim_start().starts_with("type ");
    listed.lines().filter(rule).count()
}

/// Input of `nft -f -` that removes our tables, whether they are there or not.
pub fn cleanup() -> String {
    let one = |t: Table| format!("add table inet {0}\ndelete table inet {0}\n", t.nftables());
    TABLES.into_iter().map(one).collect()
}
