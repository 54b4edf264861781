//! Clients that take places, or their time.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use listen::{Limits, accept, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Nothing here takes this long; it turns a hang into a failure.
const DEADLINE: Duration = Duration::from_secs(20);
/// Limits that a test reaches at once.
const SHORT: Limits = Limits {
    connections: 2,
    handshakes: 2,
    handshake_timeout: Duration::from_millis(50),
    header_timeout: Duration::from_millis(50),
};

struct Server {
    address: SocketAddr,
    ending: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

async fn server(limits: Limits, tls: bool) -> Server {
    server_until(limits, tls, |shutdown| shutdown).await
}

async fn server_until(
    limits: Limits,
    tls: bool,
    until: impl FnOnce(watch::Receiver<bool>) -> watch::Receiver<bool>,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ending, shutdown) = watch::channel(false);
    let shutdown = until(shutdown);
    let router = Router::new().route("/", get(|| async { "hello" }));
    let task = if tls {
        tokio::spawn(http::serve(
            accept::tls(listener, certificate(), limits),
            router,
            limits,
            shutdown,
        ))
    } else {
        tokio::spawn(http::serve(accept::tcp(listener, limits), router, limits, shutdown))
    };
    Server { address, ending, task }
}

fn certificate() -> Arc<rustls::ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let builder = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    Arc::new(builder.with_single_cert(vec![made.cert.der().clone()], key).unwrap())
}

/// Connects, sends `text`, and reads until the server closes.
async fn talk(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(text.as_bytes()).await;
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer))
        .await
        .expect("the server closes");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_client_that_does_not_say_what_it_wants_is_closed() {
    let server = server(SHORT, false).await;
    for text in [
        "",
        "GET / HT",
        "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        assert!(!talk(server.address, text).await.contains("hello"), "{text:?}");
    }
    // Kept alive after an answer, and then silent.
    let answer = talk(server.address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_dropped() {
    let server = server(SHORT, true).await;
    assert_eq!(talk(server.address, "").await, "");
}

#[tokio::test]
async fn connections_have_a_number_and_places_come_back() {
    let patient = Limits {
        header_timeout: DEADLINE,
        ..SHORT
    };
    let server = server(patient, false).await;
    let ask = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..patient.connections {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        // The answer says that the connection has its place.
        assert!(stream.read_u8().await.is_ok());
        held.push(stream);
    }
    assert_eq!(talk(server.address, ask).await, "", "no place is left");
    held.clear();
    let served = async { while !talk(server.address, ask).await.ends_with("hello") {} };
    tokio::time::timeout(DEADLINE, served)
        .await
        .expect("a place comes back");
}

#[tokio::test]
async fn the_end_does_not_wait_for_idle_clients() {
    let server = server(
        Limits {
            header_timeout: Duration::from_secs(3600),
            ..SHORT
        },
        false,
    )
    .await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(idle.read_u8().await.is_ok());
    server.ending.send_replace(true);
    tokio::time::timeout(DEADLINE, server.task)
        .await
        .expect("ends")
        .unwrap();
}

#[tokio::test]
async fn a_port_whose_callers_hear_of_the_end_later_answers_until_then() {
    let patient = Limits {
        header_timeout: DEADLINE,
        ..SHORT
    };
    // Far longer than this takes.
    let server = server_until(patient, false, |shutdown| {
        http::later(shutdown, Duration::from_secs(3600))
    })
    .await;
    server.ending.send_replace(true);
    // A port that ends at once may let one more in.
    for _ in 0..2 {
        let answer = talk(server.address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(answer.ends_with("hello"), "{answer}");
    }
    assert!(!server.task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn later_is_that_much_later_and_not_never() {
    let (ending, shutdown) = watch::channel(false);
    let mut later = http::later(shutdown, Duration::from_secs(3));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!*later.borrow(), "nobody asked for the end");
    ending.send_replace(true);
    let asked = tokio::time::Instant::now();
    assert!(later.wait_for(|ending| *ending).await.is_ok());
    assert_eq!(asked.elapsed().as_secs(), 3);
}
