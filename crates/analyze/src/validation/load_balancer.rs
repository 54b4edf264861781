//! How an endpoint is chosen.

use std::collections::BTreeSet;
use std::ops::Bound;

use api::names::label;
use api::networking::destination_rule::{ConsistentHash, LoadBalancer, LocalityLb};
use serde_json::Value;

use super::field::{Problems, check_duration};

/// Tables of Maglev are smaller than this.
const LARGEST_TABLE: u64 = 5_000_011;

pub(super) fn check(field: &str, balancer: Option<&LoadBalancer>, ejects: bool, problems: &mut Problems) {
    let Some(balancer) = balancer else { return };
    if let Some(hash) = &balancer.consistent_hash {
        check_hash(&format!("{field}.consistentHash"), hash, problems);
    }
    if let Some(warmup) = &balancer.warmup {
        let field = format!("{field}.warmup");
        problems.require(warmup.duration.is_some(), format!("{field}.duration"), "Required value");
        check_duration(problems, &format!("{field}.duration"), warmup.duration);
        problems.require(
            warmup.aggression.is_none_or(|aggression| aggression.0 >= 1.0),
            format!("{field}.aggression"),
            "Invalid value: must be at least 1",
        );
        problems.require(
            warmup
                .minimum_percent
                .is_none_or(|percent| (0.0..=100.0).contains(&percent.0)),
            format!("{field}.minimumPercent"),
            "Invalid value: must be between 0 and 100",
        );
    }
    if let Some(locality) = &balancer.locality_lb_setting {
        check_locality(&format!("{field}.localityLbSetting"), locality, ejects, problems);
    }
}

fn check_hash(field: &str, hash: &ConsistentHash, problems: &mut Problems) {
    if let Some(cookie) = &hash.http_cookie {
        let field = format!("{field}.httpCookie");
        problems.require(
            !cookie.name.is_empty(),
            format!("{field}.name"),
            "a cookie needs a name",
        );
        let mut names = BTreeSet::new();
        for (index, attribute) in cookie.attributes.iter().enumerate() {
            let field = format!("{field}.attributes[{index}].name");
            let twice = !names.insert(&attribute.name);
            problems.require(!attribute.name.is_empty(), &field, "an attribute needs a name");
            problems.require(
                !twice || attribute.name.is_empty(),
                &field,
                format!("{:?} is there twice", attribute.name),
            );
        }
    }
    let ring = hash.minimum_ring_size.is_some_and(|size| size.0 != 0);
    if ring {
        problems.warn(
            format!("{field}.minimumRingSize"),
            "is deprecated, use ringHash instead",
        );
        problems.require(
            hash.ring_hash.is_none() && hash.maglev.is_none(),
            field,
            "only one of minimumRingSize, ringHash and maglev can be set",
        );
    }
    if let Some(maglev) = &hash.maglev {
        let size = maglev.table_size.map_or(0, |size| size.0);
        problems.require(
            size < LARGEST_TABLE && is_prime(size),
            format!("{field}.maglev.tableSize"),
            format!("{size} is no prime number below {LARGEST_TABLE}"),
        );
    }
}

/// As Envoy reckons, for which 1 is one.
fn is_prime(number: u64) -> bool {
    let mut factors = (3..).step_by(2).take_while(|factor| factor * factor <= number);
    (1..4).contains(&number) || (number % 2 == 1 && factors.all(|factor| !number.is_multiple_of(factor)))
}

fn check_locality(field: &str, locality: &LocalityLb, ejects: bool, problems: &mut Problems) {
    if !locality.distribute.is_empty() && !locality.failover.is_empty() {
        return problems.add(field, "can not simultaneously specify 'distribute' and 'failover'");
    }
    let topology = [label::REGION, label::ZONE, label::SUBZONE];
    let by_place = |label: &&String| topology.contains(&label.as_str());
    if let Some(label) = locality.failover_priority.iter().find(by_place)
        && !locality.failover.is_empty()
    {
        return problems.add(
            format!("{field}.failoverPriority"),
            format!("can not simultaneously set 'failover' and topology label '{label}' in 'failoverPriority'"),
        );
    }
    for (index, distribute) in locality.distribute.iter().enumerate() {
        let field = format!("{field}.distribute[{index}].to");
        let weights = || distribute.to.values().map(|weight| weight.0);
        problems.require(
            weights().all(|weight| (1..=100).contains(&weight)),
            &field,
            "a locality's weight must be between 1 and 100",
        );
        let total: u64 = weights().map(u64::from).sum();
        problems.require(total == 100, &field, format!("total locality weight {total} != 100"));
        check_localities(&field, distribute.to.keys(), problems);
    }
    let sources = locality.distribute.iter().map(|distribute| &distribute.from);
    check_localities(&format!("{field}.distribute.from"), sources, problems);
    let fails_over = !locality.failover.is_empty() || !locality.failover_priority.is_empty();
    if fails_over && !ejects {
        problems.warn(field, "outlier detection policy must be provided for failover");
    }
    for (index, failover) in locality.failover.iter().enumerate() {
        check_failover(
            &format!("{field}.failover[{index}]"),
            &failover.from,
            &failover.to,
            problems,
        );
    }
}

fn check_failover(field: &str, from: &str, to: &str, problems: &mut Problems) {
    problems.require(from != to, field, "must lead to another region");
    problems.require(
        ![from, to].iter().any(|region| region.contains(['/', '*'])),
        field,
        "is between regions only, without zones and '*'",
    );
}

/// Endpoints of the own zone first.
pub(super) fn check_zones(field: &str, balancer: &Value, ejects: bool, problems: &mut Problems) {
    let zones = &balancer["zoneAwareLbSetting"];
    problems.require(
        zones.is_null() || balancer["localityLbSetting"].is_null(),
        field,
        "only one of localityLbSetting and zoneAwareLbSetting can be set",
    );
    let field = format!("{field}.zoneAwareLbSetting");
    if !ejects
        && ["failover", "failoverPriority"]
            .iter()
            .any(|name| !zones[*name].is_null())
    {
        problems.warn(&field, "outlier detection policy must be provided for failover");
    }
    let places = [label::REGION, label::ZONE, label::SUBZONE];
    for priority in zones["failoverPriority"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        problems.require(
            !places.contains(&priority),
            format!("{field}.failoverPriority"),
            format!("{priority} is taken into account anyway; leave it out"),
        );
    }
    for (index, failover) in zones["failover"].as_array().into_iter().flatten().enumerate() {
        let text = |name: &str| failover[name].as_str().unwrap_or_default();
        check_failover(
            &format!("{field}.failover[{index}]"),
            text("from"),
            text("to"),
            problems,
        );
    }
}

/// Places, `region/zone/subzone` as far as they go, of which none includes another one that follows.
fn check_localities<'a>(field: &str, localities: impl Iterator<Item = &'a String>, problems: &mut Problems) {
    // What is before a `*`: two places overlap if one of them begins with the other.
    let mut seen: BTreeSet<Vec<&str>> = BTreeSet::new();
    for locality in localities {
        let parts: Vec<&str> = locality.splitn(3, '/').collect();
        let stars = locality.matches('*').count();
        problems.require(
            stars == 0 || (stars == 1 && locality.ends_with('*')),
            field,
            format!("{locality:?}: a '*' stands once and at the end"),
        );
        problems.require(
            parts.iter().all(|part| !part.is_empty()),
            field,
            format!("{locality:?} must not contain empty region, zone or subzone"),
        );
        problems.require(
            !overlaps(&seen, &parts),
            field,
            format!("{locality:?} overlaps with an earlier one"),
        );
        seen.insert(parts.into_iter().take_while(|part| *part != "*").collect());
    }
}

/// Is a place, or a part of it, in an earlier one?
fn overlaps(earlier: &BTreeSet<Vec<&str>>, later: &[&str]) -> bool {
    let is_part = (0..=later.len()).any(|parts| later.get(..parts).is_some_and(|begin| earlier.contains(begin)));
    let has_part = || {
        let mut parts = earlier.range::<[&str], _>((Bound::Included(later), Bound::Unbounded));
        parts.next().is_some_and(|part| part.starts_with(later))
    };
    is_part || has_part()
}
