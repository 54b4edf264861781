//! Certificates of istiod's own ports, for every name it is reached by, renewed in time and after a change of the
//! authority (revisions.md §4.6).

use std::sync::Arc;
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
    names: Vec<String>,
    not_after: Timestamp,
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
            names,
            not_after: issued.not_after,
        })
    }

    /// Keeps both fresh for ever.
    pub async fn keep(mut self, authority: Current) {
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
        let half = ca::issue::SERVING_TTL / 2;
        self.not_after.duration_since(now) < jiff::SignedDuration::try_from(half).unwrap_or_default()
    }

    fn renew(&mut self, authority: &Authority) -> anyhow::Result<()> {
        let issued = authority.serving(&self.names, ca::issue::SERVING_TTL, Timestamp::now())?;
        self.certificate.replace(issued.certified_key()?);
        self.clients.replace(&authority.roots())?;
        self.not_after = issued.not_after;
        tracing::info!(until = %self.not_after, "own certificate renewed");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
