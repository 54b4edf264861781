//! The shared libraries that a program needs, as the machine's own loader finds them.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Library (path inside the image, without the first slash) → file on this machine. Empty for static programs.
pub fn of(program: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("ldd (part of the C library) does not run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let said = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
        // What ldd says of a static program.
        if said.contains("not a dynamic executable") || said.contains("statically linked") {
            return Ok(BTreeMap::new());
        }
        bail!("ldd {}: {}", program.display(), said.trim());
    }
    parse(&text).with_context(|| format!("ldd {}", program.display()))
}

fn parse(text: &str) -> Result<BTreeMap<String, PathBuf>> {
    let mut out = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if line.contains("=> not found") {
            bail!("{line}");
        }
        let path = match line.split_once("=> ") {
            Some((_, rest)) => rest.split(' ').next(),
            None => line.split(' ').next().filter(|p| p.starts_with('/')),
        };
        if let Some(path) = path.filter(|p| p.starts_with('/')) {
            out.insert(path.trim_start_matches('/').to_string(), PathBuf::from(path));
        }
    }
    Ok(out)
}

/// Where libraries that nobody links are: beside the C library.
pub fn beside_c_library() -> Result<PathBuf> {
    let own = of(&std::env::current_exe().context("find this program")?)?;
    let libc = own
        .into_iter()
        .find(|(name, _)| name.ends_with("/libc.so.6"))
        .map(|(_, path)| path);
    let libc = libc.context("this program has no C library")?;
    Ok(libc.parent().unwrap_or(Path::new("/")).to_path_buf())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_what_ldd_says() {
        let text = "\tlinux-vdso.so.1 (0x0)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x1)\n\t/lib64/ld-linux-x86-64.so.2 (0x2)\n";
        assert_eq!(
            parse(text).unwrap().into_keys().collect::<Vec<_>>(),
            ["lib/x86_64-linux-gnu/libc.so.6", "lib64/ld-linux-x86-64.so.2"]
        );
        assert!(parse("\tlibx.so => not found\n").is_err());
        assert_eq!(parse("\tstatically linked\n").unwrap().len(), 0);
    }
}
