//! What a process has used, from /proc.

use anyhow::{Context, Result};

/// Processor time and memory of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Seconds of processor time, user and system.
    pub cpu: f64,
    /// Resident memory in KiB.
    pub memory: f64,
}

/// Clock ticks per second of /proc/PID/stat, fixed on Linux.
const TICKS: f64 = 100.0;

/// Reads the figures of a process.
pub fn usage(pid: u32) -> Result<Usage> {
    let stat =
        std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    // The name in brackets may hold blanks; fields are counted behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory = resident
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0);
    Ok(Usage {
        cpu: (ticks(11) + ticks(12)) / TICKS,
        memory,
    })
}

/// Seconds of processor time of the threads that live now, to the nanosecond: for spans too short for ticks.
pub fn busy(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0.0;
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} is gone"))?;
    for task in tasks {
        // A thread may end between the listing and the reading.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        nanoseconds += text
            .split_whitespace()
            .next()
            .and_then(|field| field.parse::<f64>().ok())
            .unwrap_or(0.0);
    }
    Ok(nanoseconds / 1e9)
}
