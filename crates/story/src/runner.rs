//! Runs stories: commands in a shell, output compared, traffic beside them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::cluster::{self, Cluster};
use crate::report::Report;
use crate::script::{Item, Run, Step, Story};
use crate::traffic::{Totals, Traffic};
use crate::{expect, terminal};

/// Longest time that one command may take.
const LONGEST: Duration = Duration::from_secs(180);
/// Pause between two tries of a command that is repeated until it matches.
const PAUSE: Duration = Duration::from_millis(300);

/// Runs stories in order; whether all went as they say.
pub async fn run(stories: &[Story], kubeconfig: Option<PathBuf>, keep: bool, short: bool) -> Result<bool> {
    let programs = cluster::programs()?;
    let cluster = match kubeconfig {
        Some(kubeconfig) => Cluster::existing(kubeconfig)?,
        None => Cluster::local(&programs)?,
    };
    let scratch = tempfile::Builder::new().prefix("trysail-story-files-").tempdir();
    let shell = Shell {
        programs: programs.clone(),
        kubeconfig: cluster.kubeconfig.clone(),
        data_dir: cluster.local.clone(),
        scratch: scratch.context("cannot make a folder for the files of the stories")?,
    };
    let mut reports = Vec::new();
    for story in stories {
        tokio::select! {
            report = tell(story, &shell, short) => {
                let report = report?;
                let failed = report.differences > 0;
                reports.push(report);
                // The next story counts on a clean cluster.
                if failed {
                    break;
                }
            }
            _ = tokio::signal::ctrl_c() => {
                terminal::say("interrupted; taking the cluster down");
                break;
            }
        }
    }
    reports.iter().for_each(Report::print);
    let mut passed = reports.len() == stories.len() && reports.iter().all(Report::passed);
    if keep {
        terminal::say(&cluster.hint());
    } else if cluster.is_local() {
        let left = cluster.down(&programs)?;
        for thing in &left {
            terminal::differs(0, &format!("left behind: {thing}"));
        }
        passed &= left.is_empty();
    }
    Ok(passed)
}

async fn tell(story: &Story, shell: &Shell, short: bool) -> Result<Report> {
    terminal::story(&story.title);
    let mut teller = Teller {
        shell,
        traffic: None,
        totals: Totals::default(),
        differences: 0,
    };
    let mut steps = Vec::new();
    for (index, step) in story.steps.iter().filter(|step| step.short || !short).enumerate() {
        let started = Instant::now();
        terminal::step(index + 1, &step.title);
        let differences = teller.differences;
        teller.step(step).await?;
        steps.push((format!("{}. {}", index + 1, step.title), started.elapsed()));
        // What follows builds on this step; going on would only bury the first difference.
        if teller.differences > differences {
            break;
        }
    }
    teller.stop_traffic().await;
    Ok(Report {
        title: story.title.clone(),
        steps,
        differences: teller.differences,
        traffic: teller.totals,
    })
}

struct Teller<'a> {
    shell: &'a Shell,
    traffic: Option<Traffic>,
    totals: Totals,
    differences: usize,
}

impl Teller<'_> {
    async fn step(&mut self, step: &Step) -> Result<()> {
        for item in &step.items {
            match item {
                Item::Say(text) => terminal::say(text),
                Item::Traffic(true) => {
                    let traffic = Traffic::start(&self.shell.kubeconfig).await?;
                    terminal::traffic(&format!("traffic begins: {}", traffic.describe()));
                    self.traffic = Some(traffic);
                }
                Item::Traffic(false) => self.stop_traffic().await,
                Item::Run(run) => {
                    if !self.command(run).await? {
                        self.differences += 1;
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    async fn stop_traffic(&mut self) {
        if let Some(traffic) = self.traffic.take() {
            self.totals.add(traffic.stop().await);
            terminal::traffic(&format!(
                "traffic ends: {} requests, {} failed",
                self.totals.sent(),
                self.totals.failed()
            ));
        }
    }

    async fn command(&self, run: &Run) -> Result<bool> {
        terminal::command(&run.command);
        let deadline = Instant::now() + run.until.unwrap_or_default();
        loop {
            let (output, succeeded) = self.shell.run(&run.command).await?;
            let verdict = match expect::matches(&run.expected, &output) {
                Ok(()) if succeeded == run.fails => Err(format!(
                    "the command {}",
                    if succeeded {
                        "succeeded, but should fail"
                    } else {
                        "failed"
                    }
                )),
                other => other,
            };
            match verdict {
                Ok(()) => {
                    terminal::output(&output);
                    return Ok(true);
                }
                Err(_) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
                Err(difference) => {
                    terminal::output(&output);
                    terminal::differs(run.line, &difference);
                    return Ok(false);
                }
            }
        }
    }
}

struct Shell {
    programs: PathBuf,
    kubeconfig: PathBuf,
    /// Data folder of a local cluster, so that `drydock` in a story means that cluster.
    data_dir: Option<PathBuf>,
    /// Folder for files that commands write, as `$SCRATCH`; it goes with the run.
    scratch: tempfile::TempDir,
}

impl Shell {
    /// Runs a command line from the project's root as a user would; stdout and stderr as a terminal mixes them.
    async fn run(&self, line: &str) -> Result<(String, bool)> {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!("exec 2>&1\n{line}")])
            .env("PATH", format!("{}:{path}", self.programs.display()))
            .env("KUBECONFIG", &self.kubeconfig)
            .env("SCRATCH", self.scratch.path())
            .current_dir(self.programs.parent().unwrap_or(Path::new(".")))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if let Some(folder) = &self.data_dir {
            command.env("DRYDOCK_DATA_DIR", folder);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run bash")?;
        let mut pipe = child.stdout.take().context("bash has no output")?;
        let mut output = Vec::new();
        // What was printed before the time ran out is what explains it.
        let read = tokio::time::timeout(LONGEST, pipe.read_to_end(&mut output)).await;
        let mut text = String::from_utf8_lossy(&output).into_owned();
        if read.is_err() {
            text.push_str(&format!("(no end after {} s)\n", LONGEST.as_secs()));
            return Ok((text, false));
        }
        let status = child.wait().await.context("cannot wait for bash")?;
        Ok((text, status.success()))
    }
}
