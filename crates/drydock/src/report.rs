//! What `up` hears from the process that it starts: one line per event, on a pipe.

use std::fmt;
use std::io::Write;

/// One event on the way up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A part is there; with a word about it.
    Part {
        /// The part, e.g. `API server`.
        name: String,
        /// Address, name, or nothing.
        detail: String,
    },
    /// All parts are there.
    Ready,
    /// It cannot be; why.
    Failed(String),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Part { name, detail } => write!(f, "part\t{name}\t{detail}"),
            Report::Ready => f.write_str("ready"),
            Report::Failed(why) => write!(f, "failed\t{}", why.replace('\n', " ")),
        }
    }
}

impl Report {
    /// Reads a line; `None` if it is none of ours.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut parts = line.trim_end().splitn(3, '\t');
        match (parts.next()?, parts.next(), parts.next()) {
            ("part", Some(name), detail) => Some(Report::Part {
                name: name.into(),
                detail: detail.unwrap_or_default().into(),
            }),
            ("ready", None, None) => Some(Report::Ready),
            ("failed", Some(why), _) => Some(Report::Failed(why.into())),
            _ => None,
        }
    }

    /// Tells it on standard output: the pipe to `up`, or a person's terminal.
    pub fn tell(&self) {
        // Nobody may be listening any more; that is no reason to stop.
        let mut out = std::io::stdout().lock();
        writeln!(out, "{self}").and_then(|()| out.flush()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_round_trip() {
        for report in [
            Report::Part {
                name: "API server".into(),
                detail: "https://127.0.0.1:1".into(),
            },
            Report::Part {
                name: "DNS".into(),
                detail: String::new(),
            },
            Report::Ready,
            Report::Failed("port: in use".into()),
        ] {
            assert_eq!(Report::parse(&report.to_string()), Some(report));
        }
        assert_eq!(Report::parse("something else"), None);
    }
}
