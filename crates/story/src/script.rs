//! The text of a story, parsed.
//!
//! ```text
//! # Title of a step
//! Prose, printed as it is.
//! @ until 60s          the next command is repeated until its output matches
//! @ fails              the next command must exit non-zero
//! @ traffic start      live traffic begins (or `stop`)
//! $ kubectl get pods   a command; a trailing backslash continues it
//! NAME    [..]         expected output: `[..]` is any text within a line,
//! ...                  and `...` is any number of lines
//! ```
//! The first line `= Title` names the story. An expected output ends at an empty line. No expected output: any will do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// A story.
#[derive(Debug)]
pub struct Story {
    pub title: String,
    pub steps: Vec<Step>,
}

impl Story {
    /// Whether a step belongs to the short form.
    pub fn is_short(&self) -> bool {
        self.steps.iter().any(|step| step.short)
    }
}

/// A part of a story that is timed as one.
#[derive(Debug)]
pub struct Step {
    pub title: String,
    /// Belongs to the short form, which tests run.
    pub short: bool,
    pub items: Vec<Item>,
}

#[derive(Debug)]
pub enum Item {
    Say(String),
    Run(Run),
    Traffic(bool),
}

#[derive(Debug)]
pub struct Run {
    pub command: String,
    pub expected: Vec<String>,
    /// How long the command may be repeated until its output matches.
    pub until: Option<Duration>,
    pub fails: bool,
    /// Line in the file, for messages.
    pub line: usize,
}

/// Reads one story, or all of a folder in name order.
pub fn read(path: &Path) -> Result<Vec<Story>> {
    let mut files: Vec<PathBuf> = if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|p| p.extension().is_some_and(|e| e == "story"))
            .collect()
    } else {
        vec![path.to_owned()]
    };
    files.sort();
    ensure!(!files.is_empty(), "{} has no *.story files", path.display());
    files
        .iter()
        .map(|file| {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            parse(&text).with_context(|| format!("in {}", file.display()))
        })
        .collect()
}

/// Parses the text of one story.
pub fn parse(text: &str) -> Result<Story> {
    let mut story = Story {
        title: String::new(),
        steps: Vec::new(),
    };
    let mut lines = text.lines().enumerate().peekable();
    let (mut until, mut fails) = (None, false);
    while let Some((index, line)) = lines.next() {
        let number = index + 1;
        if let Some(title) = line.strip_prefix("= ") {
            story.title = title.to_owned();
        } else if let Some(title) = line.strip_prefix("# ") {
            let (title, short) = title
                .strip_suffix(" (short)")
                .map_or((title, false), |title| (title, true));
            story.steps.push(Step {
                title: title.to_owned(),
                short,
                items: Vec::new(),
            });
        } else if line.trim().is_empty() {
            ensure!(
                until.is_none() && !fails,
                "line {number}: a directive must stand right before its command"
            );
        } else {
            let Some(step) = story.steps.last_mut() else {
                bail!("line {number}: begin a step with `# Title` first")
            };
            if let Some(directive) = line.strip_prefix("@ ") {
                match directive.split_whitespace().collect::<Vec<_>>()[..] {
                    ["until", duration] => until = Some(seconds(duration).with_context(|| format!("line {number}"))?),
                    ["fails"] => fails = true,
                    ["traffic", "start"] => step.items.push(Item::Traffic(true)),
                    ["traffic", "stop"] => step.items.push(Item::Traffic(false)),
                    _ => bail!("line {number}: unknown directive {directive:?}; there are until, fails, traffic"),
                }
            } else if let Some(command) = line.strip_prefix("$ ") {
                let mut command = command.to_owned();
                while command.ends_with('\\') {
                    let Some((_, next)) = lines.next() else {
                        bail!("line {number}: the command has no end")
                    };
                    command.push('\n');
                    command.push_str(next);
                }
                let mut expected = Vec::new();
                while let Some((_, next)) = lines
                    .next_if(|(_, next)| !next.trim().is_empty() && !next.starts_with("$ ") && !next.starts_with("@ "))
                {
                    expected.push(next.trim_end().to_owned());
                }
                let run = Run {
                    command,
                    expected,
                    until: until.take(),
                    fails: std::mem::take(&mut fails),
                    line: number,
                };
                step.items.push(Item::Run(run));
            } else {
                step.items.push(Item::Say(line.to_owned()));
            }
        }
    }
    ensure!(!story.title.is_empty(), "the story has no title; begin with `= Title`");
    ensure!(
        story.steps.iter().any(|step| !step.items.is_empty()),
        "the story has no steps"
    );
    Ok(story)
}

fn seconds(text: &str) -> Result<Duration> {
    let number = text.strip_suffix('s').and_then(|number| number.parse().ok());
    Ok(Duration::from_secs(number.with_context(|| {
        format!("{text:?} is no duration; write for example 60s")
    })?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_story_is_steps_of_prose_commands_and_traffic() {
        let story = parse("= Two\n\n# One (short)\nSome prose.\n@ traffic start\n@ until 5s\n$ echo a \\\n  b\na b\n...\n\n# Two\n@ fails\n$ false\n").unwrap();
        assert_eq!(story.title, "Two");
        assert!(story.steps[0].short && !story.steps[1].short && story.is_short());
        let Item::Run(run) = &story.steps[0].items[2] else {
            panic!("{:?}", story.steps[0].items)
        };
        assert_eq!(run.command, "echo a \\\n  b");
        assert_eq!(run.expected, ["a b", "..."]);
        assert_eq!(run.until, Some(Duration::from_secs(5)));
        let Item::Run(run) = &story.steps[1].items[0] else {
            panic!()
        };
        assert!(run.fails && run.expected.is_empty());
    }

    #[test]
    fn mistakes_name_the_line() {
        let error = |text: &str| format!("{:#}", parse(text).unwrap_err());
        assert!(error("= T\n# S\n@ sometimes\n").contains("line 3"));
        assert!(error("= T\n# S\n@ until soon\n").contains("line 3"));
        assert!(error("= T\ntext\n").contains("line 2"));
        assert!(error("# S\n$ a\n").contains("no title"));
    }
}
