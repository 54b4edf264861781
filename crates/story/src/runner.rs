//! Runs stories: commands in a shell, output compared, traffic beside them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::killpg;
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cluster::{self, Cluster};
use crate::report::{self, Report};
use crate::script::{Item, Run, Step, Story};
use crate::traffic::{Totals, Traffic};
use crate::visit::Visit;
use crate::{expect, project, terminal};

/// Longest time that one command may take.
const LONGEST: Duration = Duration::from_secs(180);
/// Pause between two tries of a command that is repeated until it matches.
const PAUSE: Duration = Duration::from_millis(300);

/// Runs stories in order; whether all went as they say. A cluster that was made for them is taken down whatever happens.
pub async fn run(path: &Path, stories: &[Story], kubeconfig: Option<PathBuf>, keep: bool, short: bool) -> Result<bool> {
    let programs = cluster::programs()?;
    // From here on a signal no longer ends this process, and with it leaves a cluster behind.
    let mut interruption = Interruption::expect()?;
    let cluster = match kubeconfig {
        Some(kubeconfig) => Cluster::existing(kubeconfig)?,
        None => Cluster::local(&programs)?,
    };
    let visit = match cluster.is_local() {
        true => None,
        false => Some(Visit::begin(&cluster.kubeconfig).await?),
    };
    let root = project::root(path, &programs);
    // A story without a step of the short form would pass without doing a thing.
    let stories: Vec<_> = stories.iter().filter(|story| !short || story.is_short()).collect();
    let told = tell_all(&stories, &cluster, &programs, root, short, &mut interruption).await;
    let verdict = |reports: &[Report], left: usize| report::verdict(reports, stories.len(), left);
    if let Some(visit) = visit
        && !told.as_ref().is_ok_and(|reports| verdict(reports, 0).is_ok())
    {
        // Nobody takes this cluster down.
        match visit.left().await {
            Ok(left) if left.is_empty() => {
                terminal::say("The stories left no namespace and no webhook in the cluster.")
            }
            Ok(left) => terminal::say(&format!("The stories left in the cluster: {}", left.join(", "))),
            Err(error) => terminal::say(&format!(
                "What the stories left in the cluster cannot be told: {error:#}"
            )),
        }
    }
    if keep && cluster.is_local() {
        terminal::say(&cluster.hint());
        return Ok(conclude(&verdict(&told?, 0)));
    }
    let down = cluster.down(&programs);
    let left = match (&told, down) {
        // The first error is the one that explains; it is not buried under this one.
        (Err(_), Err(error)) => vec![format!("{error:#}")],
        (_, down) => down?,
    };
    for thing in &left {
        terminal::differs(0, &format!("left behind: {thing}"));
    }
    Ok(conclude(&verdict(&told?, left.len())))
}

/// The last word.
fn conclude(verdict: &Result<String, String>) -> bool {
    terminal::verdict(verdict);
    verdict.is_ok()
}

/// Tells the stories, and how each went.
async fn tell_all(
    stories: &[&Story],
    cluster: &Cluster,
    programs: &Path,
    root: PathBuf,
    short: bool,
    interruption: &mut Interruption,
) -> Result<Vec<Report>> {
    let scratch = tempfile::Builder::new().prefix("trysail-story-files-").tempdir();
    let shell = Shell {
        programs: programs.to_owned(),
        root,
        kubeconfig: cluster.kubeconfig.clone(),
        data_dir: cluster.local.clone(),
        scratch: scratch.context("cannot make a folder for the files of the stories")?,
    };
    let mut reports = Vec::new();
    let mut error = None;
    if stories.is_empty() {
        bail!("none of the stories has a step of the short form: run them without --short");
    }
    for story in stories {
        tokio::select! {
            report = tell(story, &shell, short) => match report {
                // The next story counts on a clean cluster.
                Ok(report) if report.differences > 0 => {
                    reports.push(report);
                    break;
                }
                Ok(report) => reports.push(report),
                Err(failure) => {
                    error = Some(failure);
                    break;
                }
            },
            () = interruption.comes() => {
                terminal::say("interrupted");
                break;
            }
        }
    }
    reports.iter().for_each(Report::print);
    match error {
        Some(error) => Err(error),
        None => Ok(reports),
    }
}

/// Ctrl-C, or a request to end.
struct Interruption {
    interrupt: Signal,
    terminate: Signal,
}

impl Interruption {
    fn expect() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn comes(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
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
        if let Err(error) = teller.step(step).await {
            teller.stop_traffic().await;
            return Err(error);
        }
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
    root: PathBuf,
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
            .current_dir(&self.root);
        if let Some(folder) = &self.data_dir {
            command.env("DRYDOCK_DATA_DIR", folder);
        }
        output(command, LONGEST).await
    }
}

/// What a command prints, and whether it succeeds; ended after `longest` with everything that it has started.
async fn output(mut command: Command, longest: Duration) -> Result<(String, bool)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut child = command.spawn().context("cannot run bash")?;
    let group = Group::of(&child);
    let mut pipe = child.stdout.take().context("bash has no output")?;
    let mut output = Vec::new();
    // What was printed before the time ran out is what explains it.
    let read = tokio::time::timeout(longest, pipe.read_to_end(&mut output)).await;
    let mut text = String::from_utf8_lossy(&output).into_owned();
    if read.is_err() {
        text.push_str(&format!("(no end after {} s)\n", longest.as_secs()));
        return Ok((text, false));
    }
    let status = child.wait().await.context("cannot wait for bash")?;
    group.leave();
    Ok((text, status.success()))
}

/// The processes of a command; killed when this is dropped before the command has ended.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw))
    }

    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            killpg(group, nix::sys::signal::Signal::SIGKILL).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_command_that_does_not_end_takes_its_children_along() {
        let mut command = Command::new("bash");
        command.args(["-c", "sleep 1000 & echo $!; wait"]);
        let (text, succeeded) = output(command, Duration::from_millis(500)).await.unwrap();
        assert!(!succeeded && text.contains("(no end after 0 s)"), "{text}");
        let child = format!("/proc/{}/stat", text.lines().next().unwrap());
        let deadline = Instant::now() + Duration::from_secs(10);
        // Gone, or a zombie that nobody has asked for yet.
        while std::fs::read_to_string(&child).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < deadline, "the child lives on");
            tokio::task::yield_now().await;
        }
    }
}
