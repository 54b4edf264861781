//! The table at the end.

use std::time::Duration;

use anstream::println;
use owo_colors::OwoColorize;

use crate::traffic::Totals;

/// How a story went.
#[derive(Debug)]
pub struct Report {
    pub title: String,
    pub steps: Vec<(String, Duration)>,
    /// Commands whose output or exit status differs.
    pub differences: usize,
    pub traffic: Totals,
}

impl Report {
    /// Whether everything was as the story says.
    pub fn passed(&self) -> bool {
        self.differences == 0 && self.traffic.is_clean()
    }

    /// What is wrong with it, in a few words.
    fn fault(&self) -> String {
        let traffic = &self.traffic;
        let what = match (self.differences, self.steps.last()) {
            // What follows a difference is not told, so that it is in the last step.
            (1.., Some((step, _))) => format!("a command differs in step {step}"),
            (1.., None) => "a command differs".to_owned(),
            (0, _) if traffic.failed() > 0 => {
                format!("{} of {} requests failed", traffic.failed(), traffic.sent())
            }
            (0, _) => "requests were missing, or not all over mTLS".to_owned(),
        };
        format!("{}: {what}", self.title)
    }

    /// Prints the table.
    pub fn print(&self) {
        let width = self
            .steps
            .iter()
            .map(|(title, _)| title.chars().count())
            .max()
            .unwrap_or(0)
            .max(40);
        println!("\n{}", self.title.bold());
        for (title, took) in &self.steps {
            println!("  {title:width$}  {:>7.1} s", took.as_secs_f64());
        }
        let total: Duration = self.steps.iter().map(|(_, took)| *took).sum();
        println!("  {:width$}  {:>7.1} s", "total".bold(), total.as_secs_f64());
        let traffic = &self.traffic;
        if traffic.sent() > 0 {
            println!(
                "  {:width$}  {:>9}",
                "requests from outside, through the gateway", traffic.outside.sent
            );
            println!("  {:width$}  {:>9}", "requests inside the mesh", traffic.inside.sent);
            println!("  {:width$}  {:>9}", "failed", traffic.failed());
            println!(
                "  {:width$}  {:>8.1}%",
                "over mTLS, as the receiving proxy saw it",
                traffic.mtls_share()
            );
            if traffic.cut_off > 0 {
                println!(
                    "  {:width$}  {:>9}",
                    "cut off with their client or the API server", traffic.cut_off
                );
            }
            for failure in &traffic.failures {
                println!("    {} {failure}", "✘".red());
            }
        }
        if self.differences > 0 {
            println!(
                "  {:width$}  {:>9}",
                "commands that differ from the story", self.differences
            );
        }
        let verdict = if self.passed() {
            "passed".green().to_string()
        } else {
            "FAILED".red().to_string()
        };
        println!("  {verdict}");
    }
}

/// How all stories went, in the one line that is still on the screen when everything else has scrolled away.
pub fn verdict(reports: &[Report], stories: usize, left: usize) -> Result<String, String> {
    let mut faults: Vec<String> = reports
        .iter()
        .filter(|report| !report.passed())
        .map(Report::fault)
        .collect();
    if reports.len() < stories {
        faults.push(format!("{} of {stories} stories were told", reports.len()));
    }
    if left > 0 {
        faults.push(format!("left behind: {left}"));
    }
    if faults.is_empty() {
        Ok(format!("passed: {stories} of {stories}"))
    } else {
        Err(format!("FAILED: {}", faults.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Count;

    fn report(differences: usize, failed: u64) -> Report {
        let count = Count { sent: 10, failed };
        Report {
            title: "A story".to_owned(),
            steps: vec![
                ("1. It begins".to_owned(), Duration::ZERO),
                ("2. It ends".to_owned(), Duration::ZERO),
            ],
            differences,
            traffic: Totals {
                outside: count,
                inside: Count { sent: 10, failed: 0 },
                mtls: 10,
                ..Totals::default()
            },
        }
    }

    #[test]
    fn the_last_line_says_what_is_wrong() {
        let check = |reports: &[Report], left: usize, expected: Result<&str, &str>| {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(verdict(reports, 2, left), expected);
        };
        check(&[report(0, 0), report(0, 0)], 0, Ok("passed: 2 of 2"));
        check(
            &[report(1, 0)],
            0,
            Err("FAILED: A story: a command differs in step 2. It ends; 1 of 2 stories were told"),
        );
        check(
            &[report(0, 0), report(0, 3)],
            1,
            Err("FAILED: A story: 3 of 20 requests failed; left behind: 1"),
        );
        check(&[report(0, 0)], 0, Err("FAILED: 1 of 2 stories were told"));
    }
}
