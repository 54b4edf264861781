//! Progress of an installation: lines that are redrawn on a terminal, lines without repeats elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use install::component::Kind;
use install::progress::{Event, Progress};

/// Shows events on standard error.
#[derive(Debug)]
pub struct Show {
    bar: ProgressBar,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: BTreeMap<Kind, Vec<String>>,
    last: String,
    problems: BTreeSet<String>,
}

impl Default for Show {
    fn default() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}\n  {wide_msg}") {
            bar.set_style(style);
        }
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Self {
            bar,
            state: Mutex::default(),
        }
    }
}

impl Show {
    /// Ends with a line.
    pub fn finish(&self, line: &str) {
        self.bar.finish_and_clear();
        anstream::eprintln!("{line}");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, line: &str) {
        self.bar.suspend(|| anstream::eprintln!("{line}"));
    }

    /// What is done, and what it waits for. On a terminal these are two lines, the second cut off at its width.
    fn message(&self, state: &mut State, doing: &str, waiting: &[&str]) {
        let whole = match waiting {
            [] => doing.to_owned(),
            waiting => format!("{doing} Waiting for {}", waiting.join(", ")),
        };
        if self.bar.is_hidden() && whole != state.last {
            anstream::eprintln!("- {whole}");
        }
        self.bar.set_prefix(doing.to_owned());
        self.bar.set_message(waiting.join(", "));
        state.last = whole;
    }

    /// On a terminal the reason is cut off where it matters, so it is told once, in a line of its own.
    fn problem(&self, state: &mut State, problem: String) {
        if !self.bar.is_hidden() && !state.problems.contains(&problem) {
            self.line(&format!("❗ {problem}"));
            state.problems.insert(problem);
        }
    }
}

/// `Processing resources for Istiod.`, and `Deployment/istio-system/istiod-canary (0 of 1 …)` for each that is waited for.
fn processing(running: &BTreeMap<Kind, Vec<String>>) -> (String, Vec<&str>) {
    let mut names: Vec<&str> = running.keys().map(|kind| kind.title()).collect();
    names.sort_unstable();
    let mut waiting: Vec<&str> = running.values().flatten().map(String::as_str).collect();
    waiting.sort_unstable();
    (format!("Processing resources for {}.", names.join(", ")), waiting)
}

impl Progress for Show {
    fn event(&self, event: Event) {
        let mut state = self.state();
        match event {
            Event::Processing { kind, waiting } => {
                state.running.insert(kind, waiting);
                let running = state.running.clone();
                let (doing, waiting) = processing(&running);
                self.message(&mut state, &doing, &waiting);
            }
            Event::Problem(problem) => self.problem(&mut state, problem),
            Event::Installed(kind) => {
                state.running.remove(&kind);
                self.line(&format!("✔ {} installed {}", kind.title(), kind.icon()));
            }
            Event::Failed(kind, error) => {
                state.running.remove(&kind);
                // The whole of it is the command's last word.
                let first = error.lines().next().unwrap_or_default();
                self.line(&format!("✘ {} encountered an error: {first}", kind.title()));
            }
            Event::Pruning => self.message(&mut state, "Pruning removed resources", &[]),
            Event::WouldRemove(id) => self.line(&format!("would be removed: {}", id.path())),
            Event::Note(text) => self.line(&format!("❗ {text}")),
        }
    }
}
