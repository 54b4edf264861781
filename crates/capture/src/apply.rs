//! Rules → commands. Applying twice changes nothing; leftovers of other rules are removed first.

use crate::config::Config;
use crate::iptables::{self, Version};
use crate::nftables;
use crate::program;
use crate::state::{self, Found};

/// One command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Program, found on `PATH`.
    pub program: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Standard input.
    pub input: Option<String>,
}

/// Runs commands: the system, a printer for `--dry-run`, a recorder in tests.
pub trait Runner {
    /// Runs to the end and returns standard output.
    ///
    /// # Errors
    /// If the program is not there, or exits with another code than 0; the text says which and what it printed.
    fn run(&mut self, command: &Command) -> Result<String, String>;
}

/// Why the capture is not in place.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A value is refused.
    #[error(transparent)]
    Config(#[from] crate::ConfigError),
    /// A command failed.
    #[error(
        "traffic capture is not set up: {0}; the init container needs NET_ADMIN and NET_RAW (or use the CNI plugin)"
    )]
    Command(String),
}

/// Sets up the capture with iptables.
///
/// # Errors
/// If a value is refused or a command fails.
pub fn with_iptables(config: &Config, runner: &mut dyn Runner) -> Result<(), ApplyError> {
    let rules = program::rules(config)?;
    let wanted = versions(config);
    let mut in_place = true;
    let mut leftovers = Vec::new();
    for version in [Version::V4, Version::V6] {
        // Without a working program there is nothing of ours: applying will say what is wrong.
        let saved = runner.run(&command(version, "-save", &[])).unwrap_or_default();
        if !wanted.contains(&version) {
            continue;
        }
        let found = state::compare(&saved, &rules, version);
        let is_there = |args: &Vec<String>| runner.run(&command(version, "", args)).is_ok();
        if found == Found::SameShape && iptables::checks(&rules, version).iter().all(is_there) {
            continue;
        }
        in_place = false;
        if found != Found::Nothing {
            leftovers.push((version, saved));
        }
    }
    if !in_place {
        for (version, saved) in &leftovers {
            remove_rules(config, runner, *version)?;
            remove_leftovers(runner, *version, saved);
        }
        for version in wanted {
            let input = Some(iptables::restore(&rules, *version));
            let restore = Command {
                input,
                ..command(*version, "-restore", &["--noflush".to_owned()])
            };
            runner.run(&restore).map_err(ApplyError::Command)?;
        }
    }
    for version in wanted {
        // Only for the log.
        let _ = runner.run(&command(*version, "-save", &[]));
    }
    Ok(())
}

fn versions(config: &Config) -> &'static [Version] {
    if config.enable_ipv6 {
        &[Version::V4, Version::V6]
    } else {
        &[Version::V4]
    }
}

/// Whether the rules of `config` are in force, as iptables has them.
///
/// # Errors
/// If a value is refused.
pub fn in_force_with_iptables(config: &Config, runner: &mut dyn Runner) -> Result<bool, ApplyError> {
    let rules = program::rules(config)?;
    let mut there = |version: Version, args: &Vec<String>| runner.run(&command(version, "", args)).is_ok();
    Ok(versions(config).iter().all(|version| {
        iptables::checks(&rules, *version)
            .iter()
            .all(|args| there(*version, args))
    }))
}

/// Whether the rules of `config` are in force, as nftables has them: each chain holds as many rules as it was given. (The
/// kernel prints rules in other words than it was told them.)
///
/// # Errors
/// If a value is refused.
pub fn in_force_with_nftables(config: &Config, runner: &mut dyn Runner) -> Result<bool, ApplyError> {
    let chains = nftables::chains_of(&program::rules(config)?);
    Ok(chains.into_iter().all(|((table, chain), rules)| {
        let args = ["list", "chain", "inet", table.nftables(), chain.nftables()];
        let list = Command {
            program: "nft".to_owned(),
            args: args.map(str::to_owned).to_vec(),
            input: None,
        };
        runner
            .run(&list)
            .is_ok_and(|listed| nftables::count_rules(&listed) == rules)
    }))
}

/// Removes the capture of `config` with iptables. What is not there is not an error.
///
/// # Errors
/// If a value is refused.
pub fn clean_iptables(config: &Config, runner: &mut dyn Runner) -> Result<(), ApplyError> {
    for version in versions(config) {
        remove_rules(config, runner, *version)?;
        if let Ok(saved) = runner.run(&command(*version, "-save", &[])) {
            remove_leftovers(runner, *version, &saved);
        }
    }
    Ok(())
}

/// Sets up the capture with nftables: one transaction replaces what was there.
///
/// # Errors
/// If a value is refused or the command fails.
pub fn with_nftables(config: &Config, runner: &mut dyn Runner) -> Result<(), ApplyError> {
    let input = nftables::transaction(&program::rules(config)?);
    run_nft(runner, input)
}

/// Removes the capture with nftables.
///
/// # Errors
/// If the command fails.
pub fn clean_nftables(runner: &mut dyn Runner) -> Result<(), ApplyError> {
    run_nft(runner, nftables::cleanup())
}

fn run_nft(runner: &mut dyn Runner, input: String) -> Result<(), ApplyError> {
    let args = ["-f", "-"].map(str::to_owned).to_vec();
    let nft = Command {
        program: "nft".to_owned(),
        args,
        input: Some(input),
    };
    runner.run(&nft).map(drop).map_err(ApplyError::Command)
}

fn command(version: Version, suffix: &str, args: &[String]) -> Command {
    Command {
        program: version.program(suffix),
        args: args.to_vec(),
        input: None,
    }
}

/// Removes the rules of `config` in either interception mode: those of the other mode may be what is left, and some of
/// them name no chain of ours by which they could be recognised.
fn remove_rules(config: &Config, runner: &mut dyn Runner, version: Version) -> Result<(), ApplyError> {
    for mode in ["REDIRECT", "TPROXY"] {
        let rules = program::rules(&Config {
            inbound_interception_mode: mode.to_owned(),
            ..config.clone()
        })?;
        for args in iptables::cleanup(&rules, version) {
            let _ = runner.run(&command(version, "", &args));
        }
    }
    Ok(())
}

/// Removes every chain of ours, whoever made it, and the jumps to them, as `saved` lists them.
fn remove_leftovers(runner: &mut dyn Runner, version: Version, saved: &str) {
    let lines: Vec<&str> = saved.lines().collect();
    let mut table = "";
    let (mut jumps, mut flushes, mut deletions) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        if let Some(name) = line.strip_prefix('*') {
            table = name.trim();
        } else if let Some(chain) = line.strip_prefix(":ISTIO_").and_then(|l| l.split_whitespace().next()) {
            let chain = format!("ISTIO_{chain}");
            flushes.push(["-t", table, "-F", &chain].map(str::to_owned).to_vec());
            deletions.push(["-t", table, "-X", &chain].map(str::to_owned).to_vec());
        } else if let Some(rule) = line.strip_prefix("-A ")
            && !rule.starts_with("ISTIO_")
            && rule.contains("-j ISTIO_")
        {
            let words = ["-t", table, "-D"].into_iter().chain(rule.split_whitespace());
            jumps.push(words.map(str::to_owned).collect());
        }
    }
    for args in jumps.into_iter().chain(flushes).chain(deletions) {
        let _ = runner.run(&command(version, "", &args));
    }
}
