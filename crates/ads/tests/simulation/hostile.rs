//! Clients that want to do harm, or know no better.

use std::time::Duration;

use ads::{Limits, Protocol, kinds};
use fake_envoy::Ask;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tonic::Code;

use crate::net::Net;
use crate::random::Random;
use crate::wire::{Wire, channel};

/// Tries one thing after the other, for ever.
pub async fn live(number: usize, net: Net, mut random: Random, limits: Limits) {
    loop {
        let protocol = if random.one_in(2) {
            Protocol::Delta
        } else {
            Protocol::Sotw
        };
        // A network that is down or a replica that restarts is no result.
        let _ = timeout(
            Duration::from_secs(40),
            attack(number, &net, &mut random, protocol, &limits),
        )
        .await;
        net.cut_client(number);
        sleep(Duration::from_millis(u64::from(random.below(3000)))).await;
    }
}

async fn attack(number: usize, net: &Net, random: &mut Random, protocol: Protocol, limits: &Limits) -> Option<()> {
    let node = format!("hostile-{number}~{}", number % 2);
    let ask = |url: &'static str, names: Vec<String>| Ask {
        url,
        names,
        ..Ask::default()
    };
    let everything = vec![ask(kinds::CLUSTER, Vec::new())];
    let open = |first| async {
        Wire::open(protocol, channel(net, number, 0).await.ok()?, &node, first)
            .await
            .ok()
    };
    let (too_many, too_large, _) = too_much(limits);
    match random.below(6) {
        0 => {
            let mut wire = open(vec![too_many]).await?;
            let told = wire.next().await.map_err(|status| status.code());
            assert!(is_told(&told, Code::ResourceExhausted), "{told:?}");
        }
        1 => {
            let mut wire = open(vec![too_large]).await?;
            let told = wire.next().await.map_err(|status| status.code());
            assert!(is_told(&told, Code::OutOfRange), "{told:?}");
        }
        2 => {
            // Acknowledges and rejects what was never sent, again and again, and reads nothing.
            let wire = open(everything).await?;
            for nonce in 0..2000 {
                let error = random.one_in(2).then(|| "no".repeat(100));
                let nonce = format!("{nonce:08x}");
                let words = Ask {
                    nonce,
                    error,
                    ..ask(kinds::CLUSTER, Vec::new())
                };
                wire.ask(words).await;
            }
        }
        3 => {
            // Asks for the same thing again and again and reads nothing.
            let wire = open(everything).await?;
            for _ in 0..2000 {
                wire.ask(ask(kinds::ENDPOINT, vec!["c1".to_owned(), "c2".to_owned()]))
                    .await;
            }
        }
        4 => {
            // Opens a stream and is silent, or gone without a word.
            let _wire = open(everything).await?;
            if random.one_in(2) {
                net.lose(number);
            }
            sleep(Duration::from_secs(39)).await;
        }
        _ => {
            // Speaks another language.
            let mut io = net.connect(number, 0).await.ok()?;
            io.write_all(b"GET / HTTP/1.0\r\n\r\n").await.ok()?;
            let mut answer = Vec::new();
            io.read_to_end(&mut answer).await.ok()?;
        }
    }
    Some(())
}

/// Too many names, too large a request, too long a name.
fn too_much(limits: &Limits) -> (Ask, Ask, Ask) {
    let ask = |names| Ask {
        url: kinds::ENDPOINT,
        names,
        ..Ask::default()
    };
    (
        ask((0..=limits.names).map(|number| format!("n{number}")).collect()),
        ask(vec!["x".repeat(limits.request_bytes)]),
        ask(vec!["x".repeat(limits.name_bytes + 1)]),
    )
}

/// What is refused although the network is good is refused for its reason and no other.
pub async fn is_refused(number: usize, net: &Net, protocol: Protocol, limits: &Limits) {
    let (too_many, too_large, too_long) = too_much(limits);
    for (ask, expected) in [
        (too_many, Code::ResourceExhausted),
        (too_large, Code::OutOfRange),
        (too_long, Code::ResourceExhausted),
    ] {
        let node = format!("hostile-{number}~0");
        let channel = channel(net, number, 0).await.unwrap();
        let mut wire = Wire::open(protocol, channel, &node, vec![ask]).await.unwrap();
        let told = wire.next().await.map_err(|status| status.code());
        assert_eq!(told.err(), Some(expected), "{protocol:?}");
    }
}

/// Reads all it is sent and never says a word about it.
pub async fn reads_and_never_answers(number: usize, net: Net, protocol: Protocol, names: Vec<Ask>) {
    let node = format!("mute-{number}~0");
    let channel = channel(&net, number, 0).await.unwrap();
    let mut wire = Wire::open(protocol, channel, &node, names).await.unwrap();
    while wire.next().await.is_ok_and(|told| told.is_some()) {}
}

/// The stream was ended for that reason, or by the network; that it was not ended is neither.
fn is_told<T>(told: &Result<T, Code>, expected: Code) -> bool {
    let by_network = [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Internal];
    told.as_ref()
        .is_err_and(|code| *code == expected || by_network.contains(code))
}
