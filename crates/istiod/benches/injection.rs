//! Injection over the whole way that a review takes: TLS, HTTP/2, the routes of port 15017, and back. Pods come at a fixed
//! rate, whether those before are answered or not, and each is timed from the moment at which it was due.
//!
//! `taskset -c 0` makes it one core, of the client's work, too. The figures to hold: 500 pods of a usual size per second,
//! 99 of 100 answered within five milliseconds; and a pod that is larger costs what its size explains.

#![allow(dead_code)]

#[path = "../../inject/benches/reviews.rs"]
mod reviews;
#[path = "../src/webhook.rs"]
mod webhook;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use webhook::{InjectionMetrics, Webhooks};

fn main() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(run());
}

async fn run() {
    println!(
        "{:>9} {:>7} {:>9} {:>9} {:>9} {:>9} {:>12}",
        "pod", "per s", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "CPU ms each"
    );
    let usual = measure(4 << 10, 500, 20).await;
    let large = measure(64 << 10, 100, 10).await;
    measure(256 << 10, 25, 10).await;
    let largest = measure(1 << 20, 5, 10).await;
    println!(
        "99 of 100 of usual pods, 500 per second: {:.2} ms (to hold: {P99_MS} ms){}",
        usual.p99,
        missed(usual.p99 > P99_MS)
    );
    let ratio = largest.processor_per_byte / large.processor_per_byte;
    println!(
        "a byte of a pod of 1 MiB costs {ratio:.2} of what one of 64 KiB does (to hold: {RATIO}){}",
        missed(ratio > RATIO)
    );
}

/// Most milliseconds for 99 of 100 reviews.
const P99_MS: f64 = 5.0;
/// Most that a byte of a pod of 1 MiB may cost, against one of 64 KiB. Processor time is counted in hundredths of a second.
const RATIO: f64 = 1.25;

fn missed(is: bool) -> &'static str {
    if is { ", MISSED" } else { "" }
}

/// What was measured.
struct Measured {
    /// Milliseconds for 99 of 100.
    p99: f64,
    /// Processor time.
    processor_per_byte: f64,
}

async fn measure(bytes: usize, rate: u32, seconds: u32) -> Measured {
    let sender = connect().await;
    let body = Bytes::from(reviews::review(bytes));
    // The first requests open buffers and warm caches; an istiod that runs has both.
    for _ in 0..rate {
        ask(sender.clone(), body.clone()).await;
    }
    let (begun, used) = (Instant::now(), processor());
    let mut asked = tokio::task::JoinSet::new();
    for index in 0..rate * seconds {
        let due = begun + Duration::from_secs(1) * index / rate;
        tokio::time::sleep_until(due.into()).await;
        let (sender, body) = (sender.clone(), body.clone());
        asked.spawn(async move {
            ask(sender, body).await;
            due.elapsed()
        });
    }
    let mut took = asked.join_all().await;
    let used = processor().saturating_sub(used);
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
    let each = used.as_secs_f64() * 1e3 / f64::from(rate * seconds);
    println!(
        "{:>9} {rate:>7} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {each:>12.3}",
        body.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    Measured {
        p99: at(0.99),
        processor_per_byte: each / body.len() as f64,
    }
}

async fn ask(mut sender: SendRequest<Full<Bytes>>, body: Bytes) {
    let request = Request::post("https://127.0.0.1/inject")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .expect("a request");
    sender.ready().await.expect("a connection");
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    let answer = response
        .into_body()
        .collect()
        .await
        .expect("the whole answer")
        .to_bytes();
    assert!(answer.windows(11).any(|part| part == b"\"JSONPatch\""));
}

/// A connection to port 15017 as istiod serves it, with a stand-in for its certificate.
async fn connect() -> SendRequest<Full<Bytes>> {
    let mut registry = prometheus_client::registry::Registry::default();
    let webhooks = Arc::new(Webhooks {
        injector: Some(Arc::new(reviews::injector())).into(),
        namespaces: Box::new(|_| Some(Default::default())),
        validate: Box::new(|_| Ok(Vec::new())),
        metrics: InjectionMetrics::register(&mut registry),
        validations: Arc::default(),
    });
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key);
    let mut server = server.expect("a server");
    server.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let limits = listen::Limits::default();
    let connections = listen::accept::tls(listener, Arc::new(server), limits);
    let (ending, shutdown) = watch::channel(false);
    tokio::spawn(async move {
        listen::http::serve(connections, webhook::router(webhooks), limits, shutdown).await;
        drop(ending);
    });

    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let mut client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("an option");
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let stream = tokio_rustls::TlsConnector::from(Arc::new(client))
        .connect(name, stream)
        .await;
    let stream = TokioIo::new(stream.expect("a handshake"));
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake(stream)
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// Processor time of this process.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    // Linux counts for programs in hundredths of a second.
    Duration::from_millis(ticks * 10)
}
