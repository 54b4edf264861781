//! Ports for servers that another process opens, or that open one number twice.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below what Linux hands out by itself (`net.ipv4.ip_local_port_range`): a port that the system gave and that was let go
/// may be given to anybody before it is opened again.
const RANGE: Range<u32> = 20_000..32_000;

/// A port that nobody has open for TCP or UDP, and that this process asks for once only.
///
/// It is looked up and not tried: a socket that was opened to try would stay open, for a moment after it was closed, in
/// every program that another thread is just starting.
///
/// # Panics
/// If none is free, or the kernel does not show its sockets.
#[must_use]
pub fn free_port() -> u16 {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let count = RANGE.end - RANGE.start;
    // Processes that run at once begin far from each other.
    let begin = std::process::id().wrapping_mul(97);
    let open = open_ports();
    let mut candidates = (0..count).filter_map(|_| {
        let step = begin.wrapping_add(ASKED.fetch_add(1, Ordering::Relaxed));
        u16::try_from(RANGE.start + step % count).ok()
    });
    candidates.find(|port| !open.contains(port)).expect("a free port")
}

fn open_ports() -> Vec<u16> {
    let read = |table: &&str| std::fs::read_to_string(format!("/proc/net/{table}"));
    let needed = ["tcp", "udp"].map(|table| read(&table).expect("the sockets under /proc/net"));
    // A kernel without IPv6 has no tables of it.
    let more = ["tcp6", "udp6"].iter().filter_map(|table| read(table).ok());
    needed
        .into_iter()
        .chain(more)
        .flat_map(|table| ports_of(&table))
        .collect()
}

/// The local ports of a table such as `/proc/net/tcp`.
fn ports_of(table: &str) -> Vec<u16> {
    let local = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
    local
        .filter_map(|address| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn what_is_open_is_seen() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind("[::]:0")
            .or_else(|_| TcpListener::bind("0.0.0.0:0"))
            .unwrap();
        let open = open_ports();
        assert!(open.contains(&udp.local_addr().unwrap().port()), "{open:?}");
        assert!(open.contains(&listener.local_addr().unwrap().port()), "{open:?}");
    }

    #[test]
    fn no_port_is_given_twice() {
        let given: std::collections::BTreeSet<u16> = (0..10).map(|_| free_port()).collect();
        assert_eq!(given.len(), 10);
        assert!(given.iter().all(|port| RANGE.contains(&u32::from(*port))));
    }
}
