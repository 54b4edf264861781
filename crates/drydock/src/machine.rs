//! What the machine must offer: Linux, root, a container runtime.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::data_dir::DataDir;

/// Becomes root through `sudo` when it asks for no password, or says that root is needed. `sudo` may drop the
/// environment, so the data directory is handed over on the command line.
///
/// # Errors
/// Not root, and no way to become it.
pub fn become_root(dir: &DataDir) -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("containers need Linux");
    }
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let asks_nothing = Command::new("sudo")
        .args(["-n", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !asks_nothing.is_ok_and(|status| status.success()) {
        bail!("root is needed to run containers: run this as root, or allow sudo without a password");
    }
    let mut command = Command::new("sudo");
    command
        .args(["-n", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1));
    let told = |argument: OsString| argument.as_encoded_bytes().starts_with(b"--data-dir");
    if !std::env::args_os().any(told) {
        command.arg("--data-dir").arg(dir.path());
    }
    let error = command.exec();
    bail!("cannot run sudo: {error}");
}

/// Checks for the programs that the node runs.
///
/// # Errors
/// One is missing; the message says how to get it.
pub fn check_programs() -> Result<()> {
    if !on_path("runc") && !on_path("crun") {
        bail!("neither runc nor crun is installed: apt-get install runc");
    }
    if !on_path("nft") {
        bail!("nft is not installed: apt-get install nftables");
    }
    Ok(())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path)
        .chain(system)
        .any(|dir| Path::new(&dir).join(program).is_file())
}

/// Gives files that root has made to the person who called `sudo`.
pub fn give_to_caller(path: &Path) {
    let id = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) {
        std::os::unix::fs::chown(path, Some(user), Some(group)).ok();
    }
}
