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
