//! Certificates of istiod's own ports, for every name it is reached by, renewed in time and after a change of the
//! authority (revisions.md §4.6).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use ca::tls::{MeshClients, ServingCertificate};
use ca::{Authority, Current};
use jiff::Timestamp;
use revision::name::Revision;

/// How often the end of validity is looked at.
const CHECK: Duration = Duration::from_secs(600);

/// Names in the certificate.
pub fn names(revision: &Revision, namespace: &str, custom: &[String]) -> Vec<String> {
    let mut names: Vec<String> = ["istiod", "istiod-remote", "istio-pilot"]
        .iter()
        .map(|name| format!("{name}.{namespace}.svc"))
        .collect();
    if !revision.is_unnamed() {
        names.push(format!("{}.{namespace}.svc", revision.istiod()));
    }
    names.extend(custom.iter().cloned());
    names.sort();
    names.dedup();
    names
}

/// What the TLS ports use.
#[derive(Debug)]
pub struct Serving {
    /// Own certificate.
    pub certificate: Arc<ServingCertificate>,
    /// Whom to trust as clients.
    pub clients: Arc<MeshClients>,
    /// When the certificate ends, in seconds since 1970.
    pub end: Arc<AtomicI64>,
    names: Vec<String>,
}

impl Serving {
    /// A first certificate.
    ///
    /// # Errors
    /// The authority cannot sign.
    pub fn new(authority: &Authority, names: Vec<String>) -> anyhow::Result<Self> {
        let now = Timestamp::now();
        let issued = authority.serving(&names, ca::issue::SERVING_TTL, now)?;
        Ok(Self {
            certificate: Arc::new(ServingCertificate::new(issued.certified_key()?)),
            clients: Arc::new(MeshClients::new(&authority.roots())?),
            end: Arc::new(AtomicI64::new(issued.not_after.as_second())),
            names,
        })
    }

    /// Keeps both fresh for ever.
    pub async fn keep(self, authority: Current) {
        let mut changes = authority.subscribe();
        loop {
            let replaced = tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => true,
                    Err(_) => return,
                },
                () = tokio::time::sleep(CHECK) => false,
            };
            if !replaced && !self.is_half_gone(Timestamp::now()) {
                continue;
            }
            if let Err(error) = self.renew(&authority.load()) {
                tracing::error!(%error, "own certificate not renewed; the old one stays in use");
            }
        }
    }

    fn is_half_gone(&self, now: Timestamp) -> bool {
        let half = ca::issue::SERVING_TTL.as_secs() / 2;
        self.end.load(Relaxed) - now.as_second() < i64::try_from(half).unwrap_or(i64::MAX)
    }

    fn renew(&self, authority: &Authority) -> anyhow::Result<()> {
        let issued = authority.serving(&self.names, ca::issue::SERVING_TTL, Timestamp::now())?;
        self.certificate.replace(issued.certified_key()?);
        self.clients.replace(&authority.roots())?;
        self.end.store(issued.not_after.as_second(), Relaxed);
        tracing::info!(until = %issued.not_after, "own certificate renewed");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_new_root_brings_a_new_certificate_before_the_next_check() {
        let authority =
            || Authority::self_signed("cluster.local", Timestamp::now() - jiff::Span::new().hours(1)).unwrap();
        let current = Current::new(authority());
        let serving = Serving::new(&current.load(), vec!["istiod.istio-system.svc".to_owned()]).unwrap();
        let (certificate, end) = (serving.certificate.clone(), serving.end.clone());
        let first = format!("{:?}", certificate.current().cert);
        // As if made long ago.
        end.store(0, Relaxed);
        assert!(serving.is_half_gone(Timestamp::now()));
        tokio::spawn(serving.keep(current.clone()));
        tokio::task::yield_now().await;
        current.replace(authority());
        let renewed = async {
            while end.load(Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), renewed).await.unwrap();
        assert_ne!(format!("{:?}", certificate.current().cert), first);
    }

    #[test]
    fn a_named_revision_answers_to_its_service_too() {
        let of = |revision: &str| names(&Revision::parse(revision).unwrap(), "istio-system", &[]);
        assert!(of("canary").contains(&"istiod-canary.istio-system.svc".to_owned()));
        assert_eq!(
            of("default"),
            [
                "istio-pilot.istio-system.svc",
                "istiod-remote.istio-system.svc",
                "istiod.istio-system.svc"
            ]
        );
    }
}
