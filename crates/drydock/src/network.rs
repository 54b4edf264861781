//! Which networks a cluster uses: numbered, so that clusters of one machine do not meet.
//!
//! Network `n` is pods 10.244.n.0/24 and services 10.(96+n).0.0/16. A running cluster holds its number by a file under
//! /run, which a reboot clears, as it does the networks themselves.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use nix::fcntl::{Flock, FlockArg};

const CLAIMS: &str = "/run/drydock/networks";
const NUMBERS: std::ops::Range<u8> = 0..64;

/// Addresses of pods of network `n`.
#[must_use]
pub fn pods(n: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(10, 244, n, 0), 24)
}

/// Addresses of services of network `n`.
#[must_use]
pub fn services(n: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(10, 96 + n, 0, 0), 16)
}

/// Claims a network for the cluster in `data_dir`: the one that it had before, or a free one.
///
/// # Errors
/// None is free, or the one that it had is held by another running cluster.
pub fn claim(data_dir: &Path, before: Option<u8>) -> Result<u8> {
    claim_in(Path::new(CLAIMS), data_dir, before, &in_use()?)
}

/// Gives back what the cluster in `data_dir` holds.
pub fn release(data_dir: &Path) {
    release_in(Path::new(CLAIMS), data_dir);
}

/// Addresses of the machine's interfaces: a network that has one of them is somebody else's.
fn in_use() -> Result<Vec<Ipv4Addr>> {
    let interfaces = nix::ifaddrs::getifaddrs().context("cannot list the network interfaces")?;
    let addresses = interfaces.filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()));
    Ok(addresses.collect())
}

fn claim_in(claims: &Path, data_dir: &Path, before: Option<u8>, in_use: &[Ipv4Addr]) -> Result<u8> {
    fs::create_dir_all(claims).with_context(|| format!("cannot create {}", claims.display()))?;
    // Clusters that start at the same moment claim one after another: a claim is looked at, and perhaps replaced, whole.
    let directory = fs::File::open(claims).with_context(|| format!("cannot open {}", claims.display()))?;
    let _one_by_one = Flock::lock(directory, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("cannot lock {}", claims.display()))?;
    if let Some(n) = before {
        if take(claims, data_dir, n)? {
            return Ok(n);
        }
        let holder = holder(claims, n).unwrap_or_default();
        bail!(
            "the network {} of this cluster is used by the cluster in {}: take that one down, or reset this one",
            pods(n),
            holder.display()
        );
    }
    for n in NUMBERS {
        let free = !in_use
            .iter()
            .any(|address| pods(n).contains(address) || services(n).contains(address));
        if free && take(claims, data_dir, n)? {
            return Ok(n);
        }
    }
    bail!("no network is free: {} clusters are running", NUMBERS.len());
}

fn holder(claims: &Path, n: u8) -> Option<PathBuf> {
    fs::read_to_string(claims.join(n.to_string())).ok().map(PathBuf::from)
}

/// Takes a number, unless a cluster that still exists holds it.
fn take(claims: &Path, data_dir: &Path, n: u8) -> Result<bool> {
    let file = claims.join(n.to_string());
    for _ in 0..2 {
        match fs::File::create_new(&file) {
            Ok(mut claim) => {
                let path = data_dir.as_os_str().as_encoded_bytes();
                claim
                    .write_all(path)
                    .with_context(|| format!("cannot write {}", file.display()))?;
                return Ok(true);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let holder = holder(claims, n).unwrap_or_default();
                if holder == data_dir {
                    return Ok(true);
                }
                // A cluster that just starts has its directory, and nothing in it yet.
                if holder.exists() {
                    return Ok(false);
                }
                // Its cluster was wiped without `drydock reset`.
                fs::remove_file(&file).ok();
            }
            Err(error) => return Err(error).with_context(|| format!("cannot create {}", file.display())),
        }
    }
    Ok(false)
}

fn release_in(claims: &Path, data_dir: &Path) {
    for n in NUMBERS.filter(|n| holder(claims, *n).as_deref() == Some(data_dir)) {
        fs::remove_file(claims.join(n.to_string())).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_get_different_networks_and_keep_them() {
        let dir = std::env::temp_dir().join(format!("drydock-networks-{}", std::process::id()));
        let claims = dir.join("claims");
        let cluster = |name: &str| {
            let path = dir.join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("cluster.json"), "{}").unwrap();
            path
        };
        let (a, b, c) = (cluster("a"), cluster("b"), cluster("c"));
        let busy = ["10.244.1.1".parse().unwrap(), "10.99.3.4".parse().unwrap()];
        let claim = |path: &Path, before| claim_in(&claims, path, before, &busy);
        assert_eq!(claim(&a, None).unwrap(), 0);
        assert_eq!(claim(&b, None).unwrap(), 2, "1 has an address of the machine");
        assert_eq!(claim(&a, Some(0)).unwrap(), 0, "claiming again is fine");
        assert_eq!(claim(&c, None).unwrap(), 4, "3 has an address among its services");
        assert!(
            claim(&c, Some(0))
                .unwrap_err()
                .to_string()
                .contains("used by the cluster in")
        );
        release_in(&claims, &c);
        assert!(claim(&c, Some(0)).is_err(), "only the holder gives back");
        release_in(&claims, &a);
        assert_eq!(claim(&c, Some(0)).unwrap(), 0);
        fs::remove_dir_all(&b).unwrap();
        assert_eq!(
            claim(&a, Some(2)).unwrap(),
            2,
            "the claim of a wiped cluster does not count"
        );
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn clusters_that_start_at_once_get_different_networks() {
        let dir = tempfile::tempdir().unwrap();
        let claims = dir.path().join("claims");
        let starting = |name: String| {
            let path = dir.path().join(name);
            fs::create_dir_all(&path).unwrap();
            claim_in(&claims, &path, None, &[]).unwrap()
        };
        let starting = &starting;
        let taken: std::collections::BTreeSet<u8> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..32).map(|n| scope.spawn(move || starting(n.to_string()))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(taken.len(), 32);
    }
}
