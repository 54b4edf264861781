//! The CA's secret: one for all revisions, because they must trust each other (control-plane.md §5).
//!
//! `cacerts` (mounted, or in the system namespace) is what an administrator plugged in and wins. Else
//! `istio-ca-secret` holds a self-signed root that the first istiod makes; of two that try at once, one creates it
//! and the other reads it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ca::{Authority, AuthorityError, Current};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::backoff::Backoff;

/// Secret of the self-signed root.
pub const SELF_SIGNED: &str = "istio-ca-secret";
/// Secret of a root that an administrator plugged in.
pub const PLUGGED_IN: &str = "cacerts";
/// How often it is looked at again.
const CHECK: Duration = Duration::from_secs(60);

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The secret or directory holds no usable authority. Nothing is overwritten.
    #[error("{place}: {source}")]
    Unusable {
        /// Secret or directory.
        place: String,
        /// What is wrong with it.
        source: AuthorityError,
    },
    /// The API server failed.
    #[error("the certificate authority's secret cannot be read or written: {0}")]
    Api(#[from] kube::Error),
}

/// Where the authority comes from.
#[derive(Clone)]
pub struct Home {
    /// Client that may get and create secrets in `namespace`.
    pub client: Client,
    /// System namespace.
    pub namespace: String,
    /// Trust domain of a root that is made.
    pub trust_domain: String,
    /// Directory of a plugged-in authority (`ROOT_CA_DIR`), used if it holds one.
    pub directory: Option<std::path::PathBuf>,
}

/// Who keeps an authority up to date.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeper {
    /// An administrator plugged it in and renews it.
    Administrator,
    /// It is self-signed and istiod's.
    Istiod,
}

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Home")
            .field("namespace", &self.namespace)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl Home {
    /// Loads the authority, making it if nobody has; tries until the API server answers.
    ///
    /// # Errors
    /// [`LoadError::Unusable`]: what is there cannot be used, and only a person can repair that.
    pub async fn load(&self) -> Result<Authority, LoadError> {
        let mut backoff = Backoff::api();
        loop {
            match self.try_load().await {
                Err(LoadError::Api(error)) => {
                    tracing::warn!(%error, "certificate authority not loaded; trying again");
                    tokio::time::sleep(backoff.pause()).await;
                }
                done => return done.map(|(authority, _)| authority),
            }
        }
    }

    /// Keeps `current` up with the secret: takes what others wrote, and renews a self-signed root in time.
    pub async fn keep(self, current: Current) {
        loop {
            tokio::time::sleep(CHECK).await;
            match self.refresh(&current.load()).await {
                Ok(Some(authority)) => {
                    tracing::info!(until = %authority.not_after(), "certificate authority replaced");
                    current.replace(authority);
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "certificate authority not checked; keeping the one in force"),
            }
        }
    }

    async fn try_load(&self) -> Result<(Authority, Keeper), LoadError> {
        let now = Timestamp::now();
        if let Some(plugged_in) = self
            .directory
            .as_deref()
            .and_then(|directory| of_directory(directory, now))
        {
            return Ok((plugged_in?, Keeper::Administrator));
        }
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        for (name, keeper) in [(PLUGGED_IN, Keeper::Administrator), (SELF_SIGNED, Keeper::Istiod)] {
            if let Some(secret) = secrets.get_opt(name).await? {
                return Ok((self.read_secret(name, secret, now)?, keeper));
            }
        }
        let made = Authority::self_signed(&self.trust_domain, now).map_err(|source| LoadError::Unusable {
            place: "a new self-signed root".to_owned(),
            source,
        })?;
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(SELF_SIGNED.to_owned()),
                ..Default::default()
            },
            type_: Some("istio.io/ca-root".to_owned()),
            data: Some(
                made.to_files()
                    .into_iter()
                    .map(|(name, content)| (name, ByteString(content)))
                    .collect(),
            ),
            ..Default::default()
        };
        match secrets.create(&PostParams::default(), &secret).await {
            Ok(_) => {
                tracing::info!(secret = SELF_SIGNED, "made a self-signed root for the mesh");
                Ok((made, Keeper::Istiod))
            }
            // Another istiod was first: its root counts.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let secret = secrets.get(SELF_SIGNED).await?;
                Ok((self.read_secret(SELF_SIGNED, secret, now)?, Keeper::Istiod))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn read_secret(&self, name: &str, secret: Secret, now: Timestamp) -> Result<Authority, LoadError> {
        Authority::from_files(&files(secret), now).map_err(|source| LoadError::Unusable {
            place: format!("secret {}/{name}", self.namespace),
            source,
        })
    }

    async fn refresh(&self, held: &Authority) -> Result<Option<Authority>, LoadError> {
        let (stored, keeper) = self.try_load().await?;
        let due = match keeper {
            Keeper::Administrator => None,
            Keeper::Istiod => {
                ca::rotation::rotate(&stored, Timestamp::now()).map_err(|source| LoadError::Unusable {
                    place: format!("renewal of {SELF_SIGNED}"),
                    source,
                })?
            }
        };
        let valid = match due {
            None => stored,
            Some(renewed) if self.store(&stored, &renewed).await? => renewed,
            // Another istiod was first: its root counts, and at once. Ours is in nobody's bundle.
            Some(_) => self.try_load().await?.0,
        };
        Ok((valid.to_files() != held.to_files()).then_some(valid))
    }

    /// Replaces the secret only if it still holds what was renewed; answers whether it did.
    async fn store(&self, before: &Authority, renewed: &Authority) -> Result<bool, LoadError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut secret = secrets.get(SELF_SIGNED).await?;
        if files(secret.clone()).get("ca-cert.pem") != before.to_files().get("ca-cert.pem") {
            return Ok(false);
        }
        secret.data = Some(
            renewed
                .to_files()
                .into_iter()
                .map(|(name, content)| (name, ByteString(content)))
                .collect(),
        );
        // The resource version read above makes this a compare-and-set.
        match secrets.replace(SELF_SIGNED, &PostParams::default(), &secret).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn files(secret: Secret) -> BTreeMap<String, Vec<u8>> {
    secret
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(name, content)| (name, content.0))
        .collect()
}

/// The authority of a directory; nothing if it holds no signing key.
pub fn of_directory(directory: &Path, now: Timestamp) -> Option<Result<Authority, LoadError>> {
    let files = read_directory(directory)?;
    let place = format!("directory {}", directory.display());
    Some(Authority::from_files(&files, now).map_err(|source| LoadError::Unusable { place, source }))
}

/// The directory's files, if it holds a signing key.
fn read_directory(directory: &Path) -> Option<BTreeMap<String, Vec<u8>>> {
    const NAMES: [&str; 7] = [
        "ca-cert.pem",
        "ca-key.pem",
        "cert-chain.pem",
        "root-cert.pem",
        "tls.crt",
        "tls.key",
        "ca.crt",
    ];
    let read = |name: &&str| {
        std::fs::read(directory.join(name))
            .ok()
            .map(|content| ((*name).to_owned(), content))
    };
    let files: BTreeMap<String, Vec<u8>> = NAMES.iter().filter_map(read).collect();
    (files.contains_key("ca-key.pem") || files.contains_key("tls.key")).then_some(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    const SECRET: &str = "/api/v1/namespaces/istio-system/secrets/istio-ca-secret";

    fn home(api: &fake::Api) -> Home {
        Home {
            client: api.client(),
            namespace: "istio-system".into(),
            trust_domain: "cluster.local".into(),
            directory: None,
        }
    }

    #[tokio::test]
    async fn two_that_start_at_once_share_one_root() {
        let api = fake::Api::default();
        let (one, two) = (home(&api), home(&api));
        let (one, two) = tokio::join!(one.load(), two.load());
        let roots = |loaded: Result<Authority, LoadError>| loaded.map(|authority| authority.roots_pem()).ok();
        let (one, two) = (roots(one), roots(two));
        assert!(one.is_some());
        assert_eq!(one, two);
    }

    #[tokio::test]
    async fn a_secret_that_cannot_be_used_is_left_alone() {
        let api = fake::Api::default();
        let broken =
            serde_json::json!({ "metadata": { "name": SELF_SIGNED }, "data": { "ca-cert.pem": "bm9uc2Vuc2U=" } });
        let broken = api.put(SECRET, broken);
        assert!(matches!(home(&api).load().await, Err(LoadError::Unusable { .. })));
        assert_eq!(api.get(SECRET), Some(broken));
    }

    fn secret(name: &str, authority: &Authority) -> serde_json::Value {
        let files = authority.to_files().into_iter();
        let data: BTreeMap<String, ByteString> = files.map(|(name, content)| (name, ByteString(content))).collect();
        serde_json::json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "data": data })
    }

    /// A self-signed root that is due for renewal.
    fn old_root() -> Authority {
        let nine_years_ago = Timestamp::now() - jiff::Span::new().hours(9 * 365 * 24);
        let Ok(old) = Authority::self_signed("cluster.local", nine_years_ago) else {
            panic!("a root")
        };
        old
    }

    #[tokio::test]
    async fn a_root_that_was_plugged_in_is_renewed_by_who_did_it() {
        let api = fake::Api::default();
        let old = old_root();
        let plugged_in = api.put(
            "/api/v1/namespaces/istio-system/secrets/cacerts",
            secret(PLUGGED_IN, &old),
        );
        assert!(matches!(home(&api).refresh(&old).await, Ok(None)));
        assert_eq!(
            api.get("/api/v1/namespaces/istio-system/secrets/cacerts"),
            Some(plugged_in)
        );
        assert_eq!(api.get(SECRET), None);
    }

    #[tokio::test]
    async fn of_two_that_renew_at_once_both_use_the_root_that_was_stored() {
        let api = fake::Api::default();
        let old = old_root();
        api.put(SECRET, secret(SELF_SIGNED, &old));
        let (one, two) = (home(&api), home(&api));
        let (one, two) = tokio::join!(one.refresh(&old), two.refresh(&old));
        let roots = |refreshed: Result<Option<Authority>, LoadError>| refreshed.ok().flatten().map(|a| a.roots_pem());
        let (one, two) = (roots(one), roots(two));
        assert!(one.is_some());
        assert_eq!(one, two);
        let stored = home(&api).load().await;
        assert_eq!(
            stored.ok().map(|a| a.roots_pem()),
            one,
            "and it is the one that others will read"
        );
    }

    #[tokio::test]
    async fn what_others_put_in_force_is_taken() {
        let api = fake::Api::default();
        let held = home(&api).load().await;
        let Ok(held) = held else { panic!("a new root") };
        assert!(matches!(home(&api).refresh(&held).await, Ok(None)), "nothing changed");
        let other = fake::Api::default();
        let Ok(replaced) = home(&other).load().await else {
            panic!("another root")
        };
        api.put(SECRET, other.get(SECRET).unwrap_or_default());
        let refreshed = home(&api).refresh(&held).await;
        assert_eq!(
            refreshed.ok().flatten().map(|a| a.roots_pem()),
            Some(replaced.roots_pem())
        );
    }
}
