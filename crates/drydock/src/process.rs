//! The process that serves a cluster, told from a later one that got the same number.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::data_dir::{self, DataDir};

/// Longest time that a killed process takes to be gone.
const DYING: Duration = Duration::from_millis(300);

/// A process by its number and the time it started, in clock ticks since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    pid: i32,
    started: u64,
}

impl Process {
    /// This process.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn own() -> Result<Self> {
        let pid = i32::try_from(std::process::id()).context("a process number out of range")?;
        let started = started(pid).context("cannot read /proc/self/stat")?;
        Ok(Process { pid, started })
    }

    /// The process that serves the cluster, if it is alive.
    #[must_use]
    pub fn of(dir: &DataDir) -> Option<Self> {
        let text = fs::read(dir.process_file()).ok()?;
        let process: Process = serde_json::from_slice(&text).ok()?;
        process.is_alive().then_some(process)
    }

    /// Leaves word that this process serves the cluster.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn register(self, dir: &DataDir) -> Result<()> {
        let text = serde_json::to_vec(&self).context("cannot encode process.json")?;
        data_dir::write(&dir.process_file(), &text)
    }

    /// The process number.
    #[must_use]
    pub fn pid(self) -> i32 {
        self.pid
    }

    /// Since when it runs.
    #[must_use]
    pub fn age(self) -> Option<Duration> {
        let uptime: f64 = fs::read_to_string("/proc/uptime")
            .ok()?
            .split(' ')
            .next()?
            .parse()
            .ok()?;
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten()?;
        #[allow(clippy::cast_precision_loss)] // seconds since boot
        let started = self.started as f64 / ticks as f64;
        Some(Duration::from_secs_f64((uptime - started).max(0.0)))
    }

    fn is_alive(self) -> bool {
        started(self.pid) == Some(self.started)
    }

    /// Whether it is still there after a moment: a process that was just killed takes one to go.
    #[must_use]
    pub fn stays(self) -> bool {
        let until = Instant::now() + DYING;
        while self.is_alive() {
            if Instant::now() >= until {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Asks it to end, and after `patience` ends it.
    ///
    /// # Errors
    /// It is still there afterwards.
    pub fn stop(self, patience: Duration) -> Result<()> {
        for (signal, wait) in [(Signal::SIGTERM, patience), (Signal::SIGKILL, Duration::from_secs(5))] {
            if !self.is_alive() {
                return Ok(());
            }
            kill(Pid::from_raw(self.pid), signal).ok();
            let until = Instant::now() + wait;
            while self.is_alive() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        if self.is_alive() {
            bail!("process {} does not end", self.pid);
        }
        Ok(())
    }
}

/// Start time of a process (field 22 of its stat), `None` if there is none or it is only waiting to be reaped.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, spaces and parentheses too.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        None
    } else {
        fields.nth(18)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_alive_and_a_later_one_of_the_same_number_is_not_it() {
        let own = Process::own().unwrap();
        assert!(own.is_alive());
        assert!(own.age().unwrap() < Duration::from_secs(3600));
        assert!(
            !Process {
                started: own.started + 1,
                ..own
            }
            .is_alive()
        );
    }

    #[test]
    fn a_process_is_asked_to_end() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = Process {
            pid,
            started: started(pid).unwrap(),
        };
        process.stop(Duration::from_secs(5)).unwrap();
        assert!(!process.is_alive());
        child.wait().unwrap();
    }
}
