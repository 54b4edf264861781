//! Clients that want to do harm, or know no better.

use std::time::Duration;

use ads::{Limits, Protocol, kinds};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tonic::Code;

use crate::net::Net;
use crate::random::Random;
use crate::wire::{Ask, Wire, channel};

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
    match random.below(6) {
        0 => {
            // Too many names.
            let names = (0..=limits.names).map(|number| format!("n{number}")).collect();
            let mut wire = open(vec![ask(kinds::ENDPOINT, names)]).await?;
            if let Err(status) = wire.next().await {
                assert!(is_told(status.code(), Code::ResourceExhausted), "{status:?}");
            }
        }
        1 => {
            // A request that is too large.
            let mut wire = open(vec![ask(kinds::ENDPOINT, vec!["x".repeat(limits.request_bytes)])]).await?;
            if let Err(status) = wire.next().await {
                assert!(is_told(status.code(), Code::OutOfRange), "{status:?}");
            }
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

/// The stream was ended for that reason, or by the network.
fn is_told(code: Code, expected: Code) -> bool {
    code == expected
        || matches!(
            code,
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
        )
}
