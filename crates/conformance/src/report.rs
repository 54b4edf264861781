//! Outcomes of cases, and the table that shows them.

use std::fmt::Write as _;

use serde::Serialize;

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "outcome", content = "detail")]
pub enum Outcome {
    /// As expected.
    Passed,
    /// What differs.
    Failed(String),
    /// What the case needs that is not there yet.
    Unsupported(String),
}

/// A case and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// Name, unique in its set.
    pub name: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Case {
    /// A case whose failure text may say that it is unsupported.
    pub fn new(name: String, result: Result<(), String>) -> Self {
        let outcome = match result {
            Ok(()) => Outcome::Passed,
            Err(text) => match text.strip_prefix("unsupported: ") {
                Some(reason) => Outcome::Unsupported(reason.to_owned()),
                None => Outcome::Failed(text),
            },
        };
        Self { name, outcome }
    }
}

/// All cases of a set.
#[derive(Clone, Debug, Serialize)]
pub struct Set {
    /// Name of the set.
    pub set: String,
    /// Its cases.
    pub cases: Vec<Case>,
    /// Why it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Set {
    fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> usize {
        self.cases.iter().filter(|c| wanted(&c.outcome)).count()
    }

    /// Number of cases that failed.
    pub fn failed(&self) -> usize {
        self.count(|o| matches!(o, Outcome::Failed(_)))
    }
}

/// The table, and below it the names of the cases that did not pass.
pub fn table(sets: &[Set]) -> String {
    let mut text = format!(
        "{:<16} {:>6} {:>6} {:>11} {:>6}\n",
        "set", "passed", "failed", "unsupported", "total"
    );
    for set in sets {
        if let Some(note) = &set.note {
            let _ = writeln!(text, "{:<16} {note}", set.set);
            continue;
        }
        let _ = writeln!(
            text,
            "{:<16} {:>6} {:>6} {:>11} {:>6}",
            set.set,
            set.count(|o| *o == Outcome::Passed),
            set.failed(),
            set.count(|o| matches!(o, Outcome::Unsupported(_))),
            set.cases.len()
        );
    }
    for set in sets {
        for case in &set.cases {
            let (mark, detail) = match &case.outcome {
                Outcome::Passed => continue,
                Outcome::Failed(detail) => ("failed", detail),
                Outcome::Unsupported(detail) => ("unsupported", detail),
            };
            let first = detail.lines().next().unwrap_or_default();
            let short: String = first.chars().take(140).collect();
            let _ = writeln!(text, "{mark:<11} {}/{}: {short}", set.set, case.name);
        }
    }
    text
}
