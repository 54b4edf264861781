//! A pod's directory with the agent running in it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use pilot_agent::fetch::{self, FetchError, Target};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::istiod::{Istiod, TOKEN};
use testkit::free_port;

/// Nothing that is waited for takes longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// Envoy's binary, or `None` with a line that says how to get it.
pub fn envoy() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bin/envoy");
    let path = std::env::var_os("TRYSAIL_ENVOY").map_or_else(default, PathBuf::from);
    match path.canonicalize() {
        Ok(path) => Some(path),
        Err(_) => {
            println!(
                "skipped: no Envoy at {} (make build puts it there, or set TRYSAIL_ENVOY)",
                path.display()
            );
            None
        }
    }
}

pub struct Pod {
    directory: tempfile::TempDir,
    agent: Child,
    status: Target,
    admin: Target,
}

/// What a listener of the proxy showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    pub identity: String,
    pub serial: Vec<u8>,
    pub body: String,
}

impl Pod {
    pub fn start(envoy: &Path, istiod: &Istiod, env: &[(&str, &str)]) -> Self {
        Self::start_with_token(envoy, istiod, TOKEN, env)
    }

    pub fn start_with_token(envoy: &Path, istiod: &Istiod, token: &str, env: &[(&str, &str)]) -> Self {
        Self::start_prepared(envoy, istiod, token, env, |_| ())
    }

    /// With an empty `token` there is none. `prepare` may put more files into the pod's directory.
    pub fn start_prepared(
        envoy: &Path,
        istiod: &Istiod,
        token: &str,
        env: &[(&str, &str)],
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let write = |path: &str, content: &str| put(directory.path(), path, content);
        if !token.is_empty() {
            write("var/run/secrets/tokens/istio-token", token);
        }
        write(
            "var/run/secrets/istio/root-cert.pem",
            &istiod.authority.load().roots_pem(),
        );
        write("etc/istio/pod/labels", "app=\"sleep\"\n");
        let (status, admin) = (free_port(), free_port());
        let config = serde_json::json!({
            "discoveryAddress": format!("localhost:{}", istiod.address.port()),
            "binaryPath": envoy, "statusPort": status, "proxyAdminPort": admin, "concurrency": 1,
        });
        let agent = Command::new(env!("CARGO_BIN_EXE_pilot-agent"))
            .args([
                "proxy",
                "sidecar",
                "--domain",
                "test-ns.svc.cluster.local",
                "--proxyLogLevel=warning",
            ])
            .env_clear()
            .env("POD_NAME", "sleep-1")
            .env("POD_NAMESPACE", "test-ns")
            .env("SERVICE_ACCOUNT", "sleep")
            .env("INSTANCE_IP", "127.0.0.1")
            .env("ISTIO_META_CLUSTER_ID", "Kubernetes")
            .env("ECC_SIGNATURE_ALGORITHM", "ECDSA")
            .env("PROXY_CONFIG", config.to_string())
            .env("ENVOY_STATUS_PORT", free_port().to_string())
            .env("ENVOY_PROMETHEUS_PORT", free_port().to_string())
            .envs(env.iter().copied())
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(directory.path().join("log")).unwrap())
            .stderr(std::fs::File::create(directory.path().join("errors")).unwrap())
            .spawn()
            .unwrap();
        let local = |port| Target::plain("127.0.0.1", port);
        Self {
            directory,
            agent,
            status: local(status),
            admin: local(admin),
        }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces a file of the pod.
    pub fn write(&self, path: &str, content: &str) {
        put(self.directory(), path, content);
    }

    /// Opens a connection to the listener and keeps it.
    pub async fn connect(&self, istiod: &Istiod) -> Option<tokio::net::TcpStream> {
        tokio::net::TcpStream::connect(("127.0.0.1", istiod.listener))
            .await
            .ok()
    }

    pub fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        format!("{}\n{}", read("log"), read("errors"))
    }

    /// Asks again and again until `condition` holds.
    pub async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        self.until_some(what, async || condition().await.then_some(())).await;
    }

    pub async fn until_some<T>(&self, what: &str, condition: impl AsyncFn() -> Option<T>) -> T {
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no {what} within {DEADLINE:?}; the agent's log:\n{}", self.log());
    }

    async fn ready(&self) -> Result<Response<Bytes>, FetchError> {
        fetch::get(&self.status, "/healthz/ready", Duration::from_secs(5), 1 << 16).await
    }

    pub async fn is_ready(&self) -> bool {
        self.ready().await.is_ok_and(|r| r.status().is_success())
    }

    pub async fn why_not_ready(&self) -> Option<String> {
        let answer = self.ready().await.ok().filter(|r| !r.status().is_success())?;
        Some(String::from_utf8_lossy(answer.body()).into_owned())
    }

    pub async fn metrics(&self) -> String {
        let answer = fetch::get(&self.status, "/stats/prometheus", Duration::from_secs(10), 1 << 24)
            .await
            .unwrap();
        String::from_utf8_lossy(answer.body()).into_owned()
    }

    /// The addresses that the DNS proxy on `server` gives for `name`.
    pub async fn resolve(&self, server: std::net::SocketAddr, name: &str) -> Option<Vec<String>> {
        use hickory_proto::op::{Message, Query};
        use hickory_proto::rr::{Name, RecordType};
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&query.to_vec().unwrap(), server).await.ok()?;
        let mut buffer = [0; 4096];
        let length = tokio::time::timeout(Duration::from_secs(2), socket.recv(&mut buffer))
            .await
            .ok()?
            .ok()?;
        let answer = Message::from_vec(&buffer[..length]).ok()?;
        let addresses: Vec<String> = answer.answers.iter().map(|r| r.data.to_string()).collect();
        (!addresses.is_empty()).then_some(addresses)
    }

    pub async fn name_table(&self) -> String {
        let answer = fetch::get(&self.status, "/debug/ndsz", Duration::from_secs(5), 1 << 16)
            .await
            .unwrap();
        String::from_utf8_lossy(answer.body()).into_owned()
    }

    async fn post(&self, path: &str) -> bool {
        let request = http::Request::post(path)
            .header("host", "localhost")
            .body(Default::default())
            .unwrap();
        let answer = fetch::fetch(&self.status, request, Duration::from_secs(5), 1 << 16).await;
        answer.is_ok_and(|r| r.status().is_success())
    }

    pub async fn quit(&self) -> bool {
        self.post("/quitquitquit").await
    }

    pub async fn order_drain(&self) -> bool {
        self.post("/drain").await
    }

    pub async fn envoy_uptime(&self) -> u64 {
        let answer = fetch::get(
            &self.admin,
            "/stats?filter=server.uptime",
            Duration::from_secs(5),
            1 << 16,
        )
        .await
        .unwrap();
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        text.trim()
            .rsplit(' ')
            .next()
            .and_then(|v| v.parse().ok())
            .unwrap_or_else(|| panic!("{text}"))
    }

    pub async fn body(&self, istiod: &Istiod) -> Option<String> {
        self.served(istiod).await.map(|s| s.body)
    }

    /// Connects to the listener with TLS, trusting the mesh's roots.
    pub async fn served(&self, istiod: &Istiod) -> Option<Served> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(istiod.authority.load().roots());
        let verifier =
            rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), ca::tls::provider());
        let config = rustls::ClientConfig::builder_with_provider(ca::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Chain(verifier.build().unwrap())))
            .with_no_client_auth();
        let tcp = tokio::net::TcpStream::connect(("127.0.0.1", istiod.listener))
            .await
            .ok()?;
        let name = ServerName::try_from("workload").unwrap();
        let mut tls = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
            .ok()?;
        let leaf = tls.get_ref().1.peer_certificates()?.first()?.clone().into_owned();
        tls.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await
            .ok()?;
        let mut answer = String::new();
        tls.read_to_string(&mut answer).await.ok()?;
        let body = answer.split_once("\r\n\r\n")?.1.to_owned();
        let identity = ca::authenticate::identities(&leaf).ok()?.first()?.to_string();
        let (_, parsed) = X509Certificate::from_der(&leaf).ok()?;
        Some(Served {
            identity,
            serial: parsed.raw_serial().to_vec(),
            body,
        })
    }

    pub fn terminate(&self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.agent.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    }

    pub async fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            if let Some(status) = self.agent.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the agent did not end within {DEADLINE:?}; its log:\n{}", self.log());
    }

    pub async fn kill(&mut self) {
        self.terminate();
        self.ended().await;
    }
}

fn put(directory: &Path, path: &str, content: &str) {
    let path = directory.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

impl Drop for Pod {
    fn drop(&mut self) {
        if matches!(self.agent.try_wait(), Ok(None)) {
            // A test failed. The second signal ends the agent without further waiting, and its Envoy with it.
            let start = Instant::now();
            while matches!(self.agent.try_wait(), Ok(None)) && start.elapsed() < DEADLINE {
                self.terminate();
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = self.agent.kill();
            let _ = self.agent.wait();
        }
    }
}

/// Verifies the chain; the name is a SPIFFE one, which the caller looks at.
#[derive(Debug)]
struct Chain(Arc<rustls::client::WebPkiServerVerifier>);

impl rustls::client::danger::ServerCertVerifier for Chain {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        match self.0.verify_server_cert(leaf, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(rustls::client::danger::ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
