//! One process at a time on a data directory.

use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::data_dir::DataDir;

/// Longest time that a killed process takes to give up its lock.
const LETTING_GO: Duration = Duration::from_secs(3);

/// Holds the data directory for this process; given up with the process, however it ends. A process that was just killed
/// lets go only when the last of its threads has ended, so it is waited for.
///
/// # Errors
/// Another process holds it.
pub fn take(dir: &DataDir) -> Result<Flock<File>> {
    let mut file = File::create(dir.path().join("lock")).context("cannot create the lock file")?;
    let until = Instant::now() + LETTING_GO;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err(_) if Instant::now() >= until => {
                bail!(
                    "another process serves {}: give another --data-dir, or end that one with drydock down",
                    dir.path().display()
                )
            }
            Err((same, _)) => file = same,
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
