//! The workload's key and certificate: requested from the CA or read from files, renewed in time, published to whoever
//! serves them (control-plane.md §4.4).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ca::SpiffeId;
use ca::request::{KeyKind, Request};
use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use x509_parser::prelude::{FromDer, X509Certificate};
use xds::istio::v1::auth::IstioCertificateRequest;
use xds::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;

use crate::backoff::{Backoff, random_fraction};
use crate::control_plane::{ConnectError, ControlPlane};

/// A certificate is never renewed more often than this.
const SHORTEST_PERIOD: Duration = Duration::from_secs(1);

/// Key, certificate and roots of this workload.
#[derive(Clone, PartialEq, Eq)]
pub struct Workload {
    /// Leaf and intermediates, PEM.
    pub chain_pem: String,
    /// Roots to trust, PEM.
    pub roots_pem: String,
    /// End of validity of the leaf.
    pub not_after: Timestamp,
    key_pem: String,
}

impl Workload {
    /// Checks that the chain has a leaf.
    ///
    /// # Errors
    /// If it has none that can be read.
    pub fn new(chain_pem: String, key_pem: String, roots_pem: String) -> Result<Self, String> {
        let leaf = CertificateDer::from_pem_slice(chain_pem.as_bytes()).map_err(|e| format!("no certificate: {e}"))?;
        let (_, parsed) = X509Certificate::from_der(&leaf).map_err(|e| format!("no X.509 certificate: {e}"))?;
        let not_after = parsed.validity().not_after.timestamp();
        let not_after = Timestamp::from_second(not_after).map_err(|e| e.to_string())?;
        Ok(Self {
            chain_pem,
            roots_pem,
            not_after,
            key_pem,
        })
    }

    fn key_fits(&self) -> bool {
        let leaf = CertificateDer::from_pem_slice(self.chain_pem.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes());
        let (Ok(leaf), Ok(key)) = (leaf, key) else { return false };
        let Ok(key) = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key) else {
            return false;
        };
        rustls::sign::CertifiedKey::new(vec![leaf], key).keys_match().is_ok()
    }

    /// Private key, PEM. For Envoy and for TLS only; never for a log.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workload")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// The certificate in force, `None` until the first one is there.
pub type Published = watch::Receiver<Option<Arc<Workload>>>;

/// How to ask for certificates.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The CA.
    pub ca: ControlPlane,
    /// Who we are. The CA decides by our token; this is what we ask for.
    pub identity: SpiffeId,
    /// Lifetime to ask for.
    pub ttl: Duration,
    /// Kind of key.
    pub key: KeyKind,
    /// Share of the life left at renewal.
    pub grace_ratio: f64,
    /// The share varies by up to this much, so that replicas do not renew in step.
    pub grace_jitter: f64,
    /// Directory to write the files to as well.
    pub output: Option<PathBuf>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The CA cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The CA refused.
    #[error("the certificate authority at {address} refused: {code:?}: {message}")]
    Refused {
        /// `host:port`.
        address: String,
        /// gRPC code.
        code: tonic::Code,
        /// What it said.
        message: String,
    },
    /// No key could be made, or the answer is no certificate chain.
    #[error("the certificate cannot be used: {0}")]
    Unusable(String),
}

/// Time from issuing until renewal.
pub fn renew_after(lifetime: Duration, grace_ratio: f64, jitter: f64) -> Duration {
    let used = (1.0 - (grace_ratio + jitter)).clamp(0.0, 1.0);
    lifetime.mul_f64(used).max(SHORTEST_PERIOD)
}

impl Issuer {
    /// Asks once.
    ///
    /// # Errors
    /// If the CA cannot be reached, refuses, or answers with something else.
    pub async fn request(&self, current: Option<&Workload>) -> Result<Workload, IssueError> {
        let (identity, kind) = (self.identity.clone(), self.key);
        let made = tokio::task::spawn_blocking(move || Request::new(&identity, kind)).await;
        let made = made.map_err(|e| IssueError::Unusable(e.to_string()))?;
        let made = made.map_err(|e| IssueError::Unusable(format!("no key: {e}")))?;
        let channel = self.ca.connect(current).await?;
        let body = IstioCertificateRequest {
            csr: made.csr_pem.clone(),
            validity_duration: i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX),
            metadata: None,
        };
        let mut request = tonic::Request::new(body);
        request.set_timeout(Duration::from_secs(10));
        *request.metadata_mut() = self.ca.metadata().await;
        let answer = IstioCertificateServiceClient::new(channel)
            .create_certificate(request)
            .await;
        let mut chain = answer
            .map_err(|status| IssueError::Refused {
                address: self.ca.address.clone(),
                code: status.code(),
                message: status.message().to_owned(),
            })?
            .into_inner()
            .cert_chain;
        // Leaf, intermediates, root bundle.
        let roots = chain.pop().filter(|_| !chain.is_empty());
        let roots = roots.ok_or_else(|| IssueError::Unusable("the chain has no root".to_owned()))?;
        let joined: String = chain.iter().map(|pem| format!("{}\n", pem.trim_end())).collect();
        Workload::new(joined, made.key_pem.clone(), roots).map_err(IssueError::Unusable)
    }

    /// Asks, publishes, and renews for ever: at the end of the period, or when the mesh's roots change on disk.
    pub async fn keep(
        self,
        publish: watch::Sender<Option<Arc<Workload>>>,
        mut roots: watch::Receiver<Option<Vec<u8>>>,
    ) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut last_problem = String::new();
        loop {
            let current = publish.borrow().clone();
            let wait = match self.request(current.as_deref()).await {
                Ok(workload) => {
                    backoff.reset();
                    last_problem.clear();
                    let lifetime = Duration::try_from(workload.not_after.duration_since(Timestamp::now()));
                    let jitter = self.grace_jitter * (2.0 * random_fraction() - 1.0);
                    let wait = renew_after(lifetime.unwrap_or_default(), self.grace_ratio, jitter);
                    tracing::info!(identity = %self.identity, not_after = %workload.not_after,
                        renew_in = ?wait, "workload certificate issued");
                    self.write_out(&workload);
                    publish.send_replace(Some(Arc::new(workload)));
                    wait
                }
                Err(error) => {
                    let wait = backoff.pause();
                    let problem = error.to_string();
                    if problem == last_problem {
                        tracing::debug!(%problem, retry_in = ?wait, "still no workload certificate");
                    } else {
                        tracing::warn!(%problem, retry_in = ?wait, "no workload certificate; trying again");
                        last_problem = problem;
                    }
                    wait
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                Ok(()) = roots.changed() => tracing::info!("the mesh's roots changed; renewing the certificate"),
                () = publish.closed() => return,
            }
        }
    }

    fn write_out(&self, workload: &Workload) {
        let Some(directory) = &self.output else { return };
        for (name, text) in [
            ("cert-chain.pem", workload.chain_pem.as_str()),
            ("key.pem", workload.key_pem()),
            ("root-cert.pem", workload.roots_pem.as_str()),
        ] {
            if let Err(error) = write_private(&directory.join(name), text.as_bytes()) {
                tracing::warn!(%error, directory = %directory.display(), "OUTPUT_CERTS cannot be written");
            }
        }
    }
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let temporary = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&temporary)?.write_all(content)?;
    std::fs::rename(&temporary, path)
}

/// Where certificates are mounted that do not come from the CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Chain.
    pub chain: PathBuf,
    /// Key.
    pub key: PathBuf,
    /// Roots.
    pub root: PathBuf,
}

impl Files {
    /// `cert-chain.pem`, `key.pem` and `root-cert.pem` in `directory`.
    pub fn in_directory(directory: &str) -> Self {
        let file = |name: &str| Path::new(directory).join(name);
        Self {
            chain: file("cert-chain.pem"),
            key: file("key.pem"),
            root: file("root-cert.pem"),
        }
    }

    /// Whether all three are there.
    pub fn exist(&self) -> bool {
        [&self.chain, &self.key, &self.root].into_iter().all(|f| f.exists())
    }

    fn read(&self) -> Result<Workload, String> {
        let text = |path: &Path| std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()));
        let workload = Workload::new(text(&self.chain)?, text(&self.key)?, text(&self.root)?)?;
        // Two files are not replaced in one step: a key without its certificate is one that is being swapped.
        if workload.key_fits() {
            Ok(workload)
        } else {
            Err(format!("{} is not the key of the certificate", self.key.display()))
        }
    }

    /// Publishes the files, and again whenever they change.
    pub async fn keep(self, publish: watch::Sender<Option<Arc<Workload>>>) {
        let mut every = tokio::time::interval(crate::sds::files::POLL);
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = publish.closed() => return,
            }
            match self.read() {
                Ok(workload) => {
                    publish.send_if_modified(|current| {
                        let changed = current.as_deref() != Some(&workload);
                        if changed {
                            *current = Some(Arc::new(workload));
                        }
                        changed
                    });
                }
                Err(error) => tracing::warn!(%error, "mounted certificates cannot be used; the last good ones stay"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_at_half_life_give_or_take() {
        let day = Duration::from_secs(86_400);
        let check = |ratio, jitter, hours: f64| {
            let after = renew_after(day, ratio, jitter).as_secs_f64() / 3600.0;
            assert!((after - hours).abs() < 0.001, "{after}");
        };
        check(0.5, 0.0, 12.0);
        check(0.5, 0.01, 11.76);
        check(0.2, 0.0, 19.2);
        assert_eq!(renew_after(day, 1.0, 0.5), SHORTEST_PERIOD);
        assert_eq!(renew_after(Duration::ZERO, 0.5, 0.0), SHORTEST_PERIOD);
    }
}
