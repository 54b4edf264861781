//! What the machine can do at most: copy memory, move bytes over loopback, sign.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Result;
use rcgen::{KeyPair, SigningKey};
use serde::Serialize;

/// How long each is tried.
const TIME: Duration = Duration::from_millis(500);
/// Larger than caches.
const BLOCK: usize = 64 << 20;
/// Of one write to a socket: what a control plane writes at once.
const WRITE: usize = 64 << 10;

/// Figures of one core.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Limits {
    /// GiB per second that one core copies.
    pub copy_gib_s: f64,
    /// GiB per second from one thread to another over a loopback connection.
    pub loopback_gib_s: f64,
    /// ECDSA P-256 signatures per second: one is in every full handshake, on either side.
    pub signatures_s: f64,
}

/// Measures them.
pub fn measure() -> Result<Limits> {
    let gib = |bytes: f64| bytes / f64::from(1 << 30);
    let source = vec![1_u8; BLOCK];
    let mut target = vec![0_u8; BLOCK];
    let copies = rate(|| {
        target.copy_from_slice(std::hint::black_box(&source));
        std::hint::black_box(&mut target);
        Ok(())
    })?;
    let key = KeyPair::generate()?;
    let signatures_s = rate(|| {
        std::hint::black_box(key.sign(b"message")?);
        Ok(())
    })?;
    Ok(Limits {
        copy_gib_s: gib(copies * BLOCK as f64),
        loopback_gib_s: gib(loopback()?),
        signatures_s,
    })
}

/// How often per second something can be done.
fn rate(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let (begun, mut times) = (Instant::now(), 0_u32);
    while begun.elapsed() < TIME {
        work()?;
        times += 1;
    }
    Ok(f64::from(times) / begun.elapsed().as_secs_f64())
}

/// Bytes per second.
fn loopback() -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    let reader = std::thread::spawn(move || -> std::io::Result<u64> {
        let (mut buffer, mut total) = (vec![0; 4 * WRITE], 0);
        loop {
            match receiver.read(&mut buffer)? {
                0 => return Ok(total),
                count => total += count as u64,
            }
        }
    });
    let (begun, block) = (Instant::now(), vec![1; WRITE]);
    while begun.elapsed() < TIME {
        sender.write_all(&block)?;
    }
    drop(sender);
    let total = reader.join().map_err(|_| anyhow::anyhow!("the reader ended"))??;
    Ok(total as f64 / begun.elapsed().as_secs_f64())
}
