//! `drydock logs`: the serving process's own log.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::data_dir::DataDir;

/// Prints the log; `follow` goes on until interrupted.
///
/// # Errors
/// There is none.
pub fn run(dir: &DataDir, follow: bool, last: Option<usize>) -> Result<()> {
    let path = dir.log();
    let mut file =
        File::open(&path).with_context(|| format!("no log at {}: has the cluster been up?", path.display()))?;
    let mut out = std::io::stdout().lock();
    if let Some(last) = last {
        out.write_all(lines(&mut file, last)?.as_bytes())?;
    }
    loop {
        let copied = std::io::copy(&mut file, &mut out)?;
        out.flush()?;
        if !follow {
            return Ok(());
        }
        if copied == 0 {
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The last lines of a file.
///
/// # Errors
/// It cannot be read.
pub fn tail(path: &Path, last: usize) -> Result<String> {
    lines(&mut File::open(path)?, last)
}

fn lines(file: &mut impl Read, last: usize) -> Result<String> {
    let mut kept = VecDeque::new();
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        kept.push_back(String::from_utf8_lossy(&line).into_owned());
        line.clear();
        if kept.len() > last {
            kept.pop_front();
        }
    }
    Ok(Vec::from(kept).concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines() {
        assert_eq!(lines(&mut "a\nb\nc".as_bytes(), 2).unwrap(), "b\nc");
        assert_eq!(lines(&mut "a\n".as_bytes(), 5).unwrap(), "a\n");
        assert_eq!(lines(&mut "".as_bytes(), 5).unwrap(), "");
    }
}
