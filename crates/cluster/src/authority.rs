//! The CA's secret: one for all revisions, because they must trust each other (control-plane.md §5).
//!
//! `cacerts` (mounted, or in the system namespace) is what an administrator plugged in and wins. Else
//! `istio-ca-secret` holds a self-signed root that the first istiod makes; of two that try at once, one creates it
//! and the other reads it.
//!
//! A root is made only at a start. What goes away under a running istiod is no reason to trust somebody else: the root
//! in force stays, and a self-signed one is written down again after a minute, so that the next istiod to start finds it.

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
use crate::deadline::timely;

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
    /// A file of the directory is there and cannot be read.
    #[error("{place}: {source}")]
    Unreadable {
        /// Directory.
        place: String,
        /// Why not.
        source: std::io::Error,
    },
    /// What was in force is not where it was found.
    #[error("{0} is gone; put it back, or restart istiod to do without it")]
    Gone(String),
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

/// Where an authority was found. Later ones win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    /// It is self-signed and istiod's to renew.
    SelfSigned,
    /// An administrator plugged it in as a secret, and renews it.
    PluggedIn,
    /// The same, as files.
    Directory,
}

/// Keeps an authority up to date that was loaded.
#[derive(Debug)]
pub struct Keeper {
    home: Home,
    origin: Origin,
    /// Whether the secret was gone at the last look.
    gone: bool,
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
    /// [`LoadError::Unusable`], [`LoadError::Unreadable`]: what is there cannot be used, and only a person can repair that.
    pub async fn load(self) -> Result<(Authority, Keeper), LoadError> {
        let mut backoff = Backoff::api();
        loop {
            match self.find_or_make().await {
                Err(LoadError::Api(error)) => {
                    tracing::warn!(%error, "certificate authority not loaded; trying again");
                    tokio::time::sleep(backoff.pause()).await;
                }
                done => return done.map(|(authority, origin)| (authority, Keeper::new(self, origin))),
            }
        }
    }

    async fn find_or_make(&self) -> Result<(Authority, Origin), LoadError> {
        if let Some(found) = self.find().await? {
            return Ok(found);
        }
        let now = Timestamp::now();
        let made = Authority::self_signed(&self.trust_domain, now).map_err(|source| LoadError::Unusable {
            place: "a new self-signed root".to_owned(),
            source,
        })?;
        if self.create(&made).await? {
            tracing::info!(secret = SELF_SIGNED, "made a self-signed root for the mesh");
            return Ok((made, Origin::SelfSigned));
        }
        // Another istiod was first: its root counts.
        let secret = timely(self.secrets().get(SELF_SIGNED)).await?;
        Ok((self.read_secret(SELF_SIGNED, secret, now)?, Origin::SelfSigned))
    }

    /// What is there now.
    async fn find(&self) -> Result<Option<(Authority, Origin)>, LoadError> {
        let now = Timestamp::now();
        if let Some(directory) = self.directory.as_deref()
            && let Some(plugged_in) = of_directory(directory, now)?
        {
            return Ok(Some((plugged_in, Origin::Directory)));
        }
        for (name, origin) in [(PLUGGED_IN, Origin::PluggedIn), (SELF_SIGNED, Origin::SelfSigned)] {
            if let Some(secret) = timely(self.secrets().get_opt(name)).await? {
                return Ok(Some((self.read_secret(name, secret, now)?, origin)));
            }
        }
        Ok(None)
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Writes the secret of a self-signed root where there is none; answers whether there was none.
    async fn create(&self, authority: &Authority) -> Result<bool, LoadError> {
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(SELF_SIGNED.to_owned()),
                ..Default::default()
            },
            type_: Some("istio.io/ca-root".to_owned()),
            data: Some(data(authority)),
            ..Default::default()
        };
        match timely(self.secrets().create(&PostParams::default(), &secret)).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn read_secret(&self, name: &str, secret: Secret, now: Timestamp) -> Result<Authority, LoadError> {
        Authority::from_files(&files(secret), now).map_err(|source| LoadError::Unusable {
            place: format!("secret {}/{name}", self.namespace),
            source,
        })
    }

    /// Replaces the secret only if it still holds what was renewed; answers whether it did.
    async fn store(&self, before: &Authority, renewed: &Authority) -> Result<bool, LoadError> {
        let secrets = self.secrets();
        let mut secret = timely(secrets.get(SELF_SIGNED)).await?;
        if files(secret.clone()).get("ca-cert.pem") != before.to_files().get("ca-cert.pem") {
            return Ok(false);
        }
        secret.data = Some(data(renewed));
        // The resource version read above makes this a compare-and-set.
        match timely(secrets.replace(SELF_SIGNED, &PostParams::default(), &secret)).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Keeper {
    fn new(home: Home, origin: Origin) -> Self {
        Self {
            home,
            origin,
            gone: false,
        }
    }

    /// Keeps `current` up with the secret: takes what others wrote, and renews a self-signed root in time.
    pub async fn keep(mut self, current: Current) {
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

    async fn refresh(&mut self, held: &Authority) -> Result<Option<Authority>, LoadError> {
        let found = self.home.find().await?;
        let gone_still = std::mem::replace(&mut self.gone, found.is_none()) && found.is_none();
        let (stored, origin) = match found {
            Some((stored, origin)) if origin >= self.origin => (stored, origin),
            None if gone_still && self.origin == Origin::SelfSigned => return self.restore(held).await,
            _ => return Err(LoadError::Gone(self.place())),
        };
        self.origin = origin;
        let due = match origin {
            Origin::PluggedIn | Origin::Directory => None,
            Origin::SelfSigned => {
                ca::rotation::rotate(&stored, Timestamp::now()).map_err(|source| LoadError::Unusable {
                    place: format!("renewal of {SELF_SIGNED}"),
                    source,
                })?
            }
        };
        let valid = match due {
            None => stored,
            Some(renewed) if self.home.store(&stored, &renewed).await? => renewed,
            // Another istiod was first: its root counts, and at once. Ours is in nobody's bundle.
            Some(_) => match self.home.find().await? {
                Some((valid, _)) => valid,
                None => return Ok(None),
            },
        };
        Ok((valid.to_files() != held.to_files()).then_some(valid))
    }

    /// Writes the root in force down again: at the second look, because who takes the secret away and starts istiod anew
    /// at once wants another root. Who was faster with another one has started without ours; the next look takes that up.
    async fn restore(&self, held: &Authority) -> Result<Option<Authority>, LoadError> {
        if self.home.create(held).await? {
            tracing::warn!(
                secret = SELF_SIGNED,
                "the secret was gone; written again, with the root in force. To change the root, replace its content"
            );
        }
        Ok(None)
    }

    fn place(&self) -> String {
        let namespace = &self.home.namespace;
        match (self.origin, &self.home.directory) {
            (Origin::Directory, Some(directory)) => format!("the signing key in directory {}", directory.display()),
            (Origin::SelfSigned, _) => format!("secret {namespace}/{SELF_SIGNED}"),
            _ => format!("secret {namespace}/{PLUGGED_IN}"),
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

fn data(authority: &Authority) -> BTreeMap<String, ByteString> {
    let files = authority.to_files().into_iter();
    files.map(|(name, content)| (name, ByteString(content))).collect()
}

/// The authority of a directory; nothing if it holds no signing key.
///
/// # Errors
/// Its files cannot be read, or are no authority.
pub fn of_directory(directory: &Path, now: Timestamp) -> Result<Option<Authority>, LoadError> {
    let place = || format!("directory {}", directory.display());
    let files = read_directory(directory).map_err(|source| LoadError::Unreadable { place: place(), source })?;
    files
        .map(|files| Authority::from_files(&files, now))
        .transpose()
        .map_err(|source| LoadError::Unusable { place: place(), source })
}

/// The directory's files, if it holds a signing key.
fn read_directory(directory: &Path) -> std::io::Result<Option<BTreeMap<String, Vec<u8>>>> {
    const NAMES: [&str; 7] = [
        "ca-cert.pem",
        "ca-key.pem",
        "cert-chain.pem",
        "root-cert.pem",
        "tls.crt",
        "tls.key",
        "ca.crt",
    ];
    let mut files = BTreeMap::new();
    for name in NAMES {
        match std::fs::read(directory.join(name)) {
            Ok(content) => drop(files.insert(name.to_owned(), content)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok((files.contains_key("ca-key.pem") || files.contains_key("tls.key")).then_some(files))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
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
        let roots =
            |loaded: Result<(Authority, Keeper), LoadError>| loaded.map(|(authority, _)| authority.roots_pem()).ok();
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

    fn keeper(api: &fake::Api, origin: Origin) -> Keeper {
        Keeper::new(home(api), origin)
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
        assert!(matches!(keeper(&api, Origin::PluggedIn).refresh(&old).await, Ok(None)));
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
        let (mut one, mut two) = (keeper(&api, Origin::SelfSigned), keeper(&api, Origin::SelfSigned));
        let (one, two) = tokio::join!(one.refresh(&old), two.refresh(&old));
        let roots = |refreshed: Result<Option<Authority>, LoadError>| refreshed.ok().flatten().map(|a| a.roots_pem());
        let (one, two) = (roots(one), roots(two));
        assert!(one.is_some());
        assert_eq!(one, two);
        let stored = home(&api).load().await;
        assert_eq!(
            stored.ok().map(|(a, _)| a.roots_pem()),
            one,
            "and it is the one that others will read"
        );
    }

    #[tokio::test]
    async fn what_others_put_in_force_is_taken() {
        let api = fake::Api::default();
        let (held, mut keeper) = home(&api).load().await.unwrap();
        assert!(matches!(keeper.refresh(&held).await, Ok(None)), "nothing changed");
        let other = fake::Api::default();
        let (replaced, _) = home(&other).load().await.unwrap();
        api.put(SECRET, other.get(SECRET).unwrap());
        let refreshed = keeper.refresh(&held).await.unwrap();
        assert_eq!(refreshed.map(|a| a.roots_pem()), Some(replaced.roots_pem()));
    }

    #[tokio::test]
    async fn a_root_whose_secret_goes_stays_in_force_and_is_written_again() {
        let api = fake::Api::default();
        let (held, mut keeper) = home(&api).load().await.unwrap();
        let stored = api.get(SECRET).unwrap();
        api.delete(SECRET);
        // Whoever wants another root has time to start istiod without it.
        assert!(matches!(keeper.refresh(&held).await, Err(LoadError::Gone(_))));
        assert_eq!(api.get(SECRET), None);
        assert!(matches!(keeper.refresh(&held).await, Ok(None)));
        assert_eq!(api.get(SECRET).unwrap()["data"], stored["data"]);
        assert!(matches!(keeper.refresh(&held).await, Ok(None)));
    }

    #[tokio::test]
    async fn what_was_plugged_in_gives_way_to_nothing_less() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let plugged_in = Authority::self_signed("cluster.local", Timestamp::now()).unwrap();
        for (name, content) in plugged_in.to_files() {
            std::fs::write(path(&name), content).unwrap();
        }
        let api = fake::Api::default();
        api.put(SECRET, secret(SELF_SIGNED, &old_root()));
        let home = Home {
            directory: Some(directory.path().to_owned()),
            ..home(&api)
        };
        let (held, mut keeper) = home.clone().load().await.unwrap();
        assert_eq!(held.roots_pem(), plugged_in.roots_pem());
        std::fs::rename(path("ca-key.pem"), path("away")).unwrap();
        for _ in 0..3 {
            assert!(matches!(keeper.refresh(&held).await, Err(LoadError::Gone(_))));
        }
        api.delete(SECRET);
        for _ in 0..3 {
            assert!(matches!(keeper.refresh(&held).await, Err(LoadError::Gone(_))));
        }
        assert_eq!(
            api.get(SECRET),
            None,
            "a key that is kept in files is written nowhere else"
        );
        // There, and for a moment not to be read.
        std::fs::create_dir(path("ca-key.pem")).unwrap();
        assert!(matches!(keeper.refresh(&held).await, Err(LoadError::Unreadable { .. })));
        assert!(matches!(home.load().await, Err(LoadError::Unreadable { .. })));
        assert_eq!(api.get(SECRET), None);
    }
}
