#![allow(clippy::unwrap_used)]
use super::field::MOST_TOLD;
use super::tests::{invalid, valid, verdict};

/// A VirtualService with one rule of these matches.
fn matched(matches: impl Iterator<Item = String>) -> String {
    let matches: Vec<String> = matches.collect();
    format!(
        r#"{{"hosts": ["a"], "http": [{{"match": [{}], "redirect": {{"uri": "/"}}}}]}}"#,
        matches.join(", ")
    )
}

#[test]
fn what_is_said_of_an_object_does_not_grow_with_its_square() {
    let nested = |count: usize| {
        let paths = (1..=count).map(|length| format!(r#"{{"uri": {{"prefix": "{}"}}}}"#, "/".repeat(length)));
        verdict("VirtualService", &matched(paths)).unwrap()
    };
    assert_eq!(nested(5).len(), 10, "each pair of a few is told");
    let many = nested(1000);
    assert_eq!(many.len(), MOST_TOLD + 1);
    assert!(many.iter().all(|text| text.len() < 1000));
    assert_eq!(
        many[MOST_TOLD],
        "VirtualService has 499400 more rules or matches that are not used."
    );
    let too_many = nested(3000);
    assert_eq!(too_many.len(), MOST_TOLD + 2);
    assert!(
        too_many[MOST_TOLD + 1].contains("split it"),
        "{}",
        too_many[MOST_TOLD + 1]
    );
}

#[test]
fn errors_are_told_as_far_as_somebody_reads_them() {
    let ports = |count: usize| {
        let message = verdict(
            "VirtualService",
            &matched((0..count).map(|_| r#"{"port": 99999}"#.to_owned())),
        );
        message.unwrap_err()
    };
    assert!(ports(2).starts_with("configuration is invalid: 2 errors occurred: "));
    let many = ports(5000);
    assert_eq!(many.matches("99999").count(), MOST_TOLD);
    assert!(many.ends_with("; … and 4900 more"), "{many}");
    assert!(many.contains(" 5000 errors occurred"), "{many}");
    let long = verdict("DestinationRule", &format!(r#"{{"host": "{}"}}"#, "a/".repeat(100_000))).unwrap_err();
    assert!(long.len() < 5000 && long.ends_with('…'), "{} bytes", long.len());
}

#[test]
fn many_hosts_are_not_compared_each_with_each() {
    let quoted = |names: &[String]| {
        names
            .iter()
            .map(|name| format!("{name:?}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    // Each with each, these would be two hundred million comparisons and more.
    let hosts: Vec<String> = (0..20_000).map(|index| format!("a{index}.com")).collect();
    let (first, last) = (quoted(&hosts[..2]), quoted(&hosts));
    let spec = |hosts: &str, names: &str| {
        format!(
            r#"{{"hosts": [{hosts}], "tls": [{{"match": [{{"sniHosts": [{names}]}}], "route": [{{"destination": {{"host": "a"}}}}]}}]}}"#
        )
    };
    valid("VirtualService", &spec(&last, &last));
    invalid(
        "VirtualService",
        &spec(&format!(r#"{last}, "*99.com""#), &first),
        r#"spec.hosts[20000]: duplicate host "*99.com": "a"#,
    );
    invalid(
        "VirtualService",
        &spec(&first, r#""a2.com""#),
        r#""a2.com" is none of the hosts"#,
    );
    let shares: Vec<String> = (0..10_000)
        .map(|index| format!(r#"{{"from": "a/b{index}", "to": {{"c": 100}}}}"#))
        .collect();
    let places = |more: &str| {
        format!(
            r#"{{"host": "a", "trafficPolicy": {{"loadBalancer": {{"localityLbSetting": {{"distribute": [{}{more}]}}}}}}}}"#,
            shares.join(", ")
        )
    };
    valid("DestinationRule", &places(""));
    for place in ["a", "a/b7", "a/b7/c"] {
        let more = format!(r#", {{"from": "{place}", "to": {{"c": 100}}}}"#);
        invalid(
            "DestinationRule",
            &places(&more),
            &format!("{place:?} overlaps with an earlier one"),
        );
    }
}
