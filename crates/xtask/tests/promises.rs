//! docs/promises.md tells the truth: every test that it names exists, and what has none says so.
#![allow(clippy::unwrap_used)]

use std::path::Path;

/// A test by its file and its name; the name of a story's is the title of a step.
fn exists(file: &str, name: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let Ok(source) = std::fs::read_to_string(root.join(file)) else {
        return false;
    };
    if file.ends_with(".story") {
        let mut titles = source.lines().filter_map(|line| line.strip_prefix("# "));
        return titles.any(|title| title.trim_end_matches(" (short)") == name);
    }
    source
        .match_indices(&format!("fn {name}("))
        .any(|(at, _)| is_test(&source[..at]))
}

/// Whether what stands before a function makes it a test.
fn is_test(before: &str) -> bool {
    let above = before.rsplit_once('\n').map_or("", |(above, _)| above);
    let mut lines = above
        .lines()
        .rev()
        .take_while(|line| line.trim_start().starts_with('#'));
    lines.any(|line| line.contains("test"))
}

#[test]
fn every_promise_names_tests_that_exist_or_says_that_there_is_none() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/promises.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut promises = 0;
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [promise, held] = cells[..] else {
            panic!("two cells: {line}")
        };
        if held == "held by" || held.starts_with("none yet") {
            continue;
        }
        for reference in held.split("`, `").map(|reference| reference.trim_matches('`')) {
            let (file, name) = reference
                .split_once(": ")
                .unwrap_or_else(|| panic!("{promise}: {reference}"));
            assert!(exists(file, name), "{promise}: {file} has no test {name:?}");
        }
        promises += 1;
    }
    assert!(promises > 40, "only {promises} promises are held by a test");
}

#[test]
fn a_test_that_is_none_is_not_found() {
    assert!(exists(
        "crates/xtask/tests/promises.rs",
        "a_test_that_is_none_is_not_found"
    ));
    assert!(!exists("crates/xtask/tests/promises.rs", "is_test"));
    assert!(!exists("crates/xtask/tests/promises.rs", "no_such_test"));
    assert!(!exists("e2e/faults/2-killed.story", "no such step"));
}
