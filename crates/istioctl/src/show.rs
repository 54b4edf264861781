//! Progress of an installation: one line that is redrawn on a terminal, lines without repeats elsewhere.

use std::collections::BTreeMap;
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
}

impl Default for Show {
    fn default() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
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

    fn message(&self, state: &mut State, message: String) {
        if self.bar.is_hidden() && message != state.last {
            anstream::eprintln!("- {message}");
        }
        self.bar.set_message(message.clone());
        state.last = message;
    }
}

/// `Processing resources for Istiod. Waiting for Deployment/istio-system/istiod-canary (0 of 1 …)`.
fn processing(running: &BTreeMap<Kind, Vec<String>>) -> String {
    let mut names: Vec<&str> = running.keys().map(|kind| kind.title()).collect();
    names.sort_unstable();
    let mut waiting: Vec<&str> = running.values().flatten().map(String::as_str).collect();
    waiting.sort_unstable();
    let mut text = format!("Processing resources for {}.", names.join(", "));
    if !waiting.is_empty() {
        text.push_str(" Waiting for ");
        text.push_str(&waiting.join(", "));
    }
    text
}

impl Progress for Show {
    fn event(&self, event: Event) {
        let mut state = self.state();
        match event {
            Event::Processing { kind, waiting } => {
                state.running.insert(kind, waiting);
                let message = processing(&state.running);
                self.message(&mut state, message);
            }
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
            Event::Pruning => self.message(&mut state, "Pruning removed resources".to_owned()),
            Event::Note(text) => self.line(&format!("❗ {text}")),
        }
    }
}
