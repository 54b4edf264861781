//! Puts identity, permission, admission, ownership and streams into the pipeline's seams,
//! and runs what the server itself keeps in order: custom resource definitions and composed roles.

use crate::{
    Core,
    admission::Chain,
    apply::Ownership,
    auth::{
        aggregation,
        authenticate::Auth,
        bootstrap,
        keys::Keys,
        pki::PkiError,
        rbac,
        reviews::Reviews,
        token::openid_configuration,
        token_request::TokenRequests,
    },
    crd,
    hooks::{Hooks, VirtualResource},
    kinds,
    stream::{NodeConnector, tunnel::Tls},
};
use drydock_store::Error as StoreError;
use std::{collections::BTreeMap, sync::Arc};

/// The review kinds by group and resource.
const REVIEWS: [&str; 6] = [
    "authentication.k8s.io/tokenreviews",
    "authentication.k8s.io/selfsubjectreviews",
    "authorization.k8s.io/subjectaccessreviews",
    "authorization.k8s.io/selfsubjectaccessreviews",
    "authorization.k8s.io/selfsubjectrulesreviews",
    "authorization.k8s.io/localsubjectaccessreviews",
];

/// The hooks of a full server. `base` is the URL by which clients reach it.
///
/// # Errors
/// When the keys cannot be used.
pub fn hooks(core: &Arc<Core>, keys: &Keys, base: &str) -> Result<Hooks, PkiError> {
    let auth = Auth { core: core.clone(), tokens: keys.tokens.clone() };
    let mut virtuals: BTreeMap<String, Arc<dyn VirtualResource>> = BTreeMap::new();
    for name in REVIEWS {
        virtuals.insert(name.into(), Arc::new(Reviews(auth.clone())));
    }
    virtuals.insert("/serviceaccounts/token".into(), Arc::new(TokenRequests(auth.clone())));
    let jwks = keys.tokens.jwks().map_err(|_| PkiError::Pem("sa.key".into()))?;
    let documents = BTreeMap::from([
        ("/.well-known/openid-configuration".to_owned(), openid_configuration(base)),
        ("/openid/v1/jwks".to_owned(), jwks),
    ]);
    let tls = Tls::new(keys.ca.cert_pem(), &keys.node_client)?;
    Ok(Hooks {
        authenticator: Arc::new(auth.clone()),
        authorizer: Arc::new(auth),
        admission: Arc::new(Chain { core: core.clone() }),
        fields: Arc::new(Ownership),
        connector: Arc::new(NodeConnector { core: core.clone(), tls }),
        virtuals,
        documents,
    })
}

/// Makes the default roles and bindings if they are missing, and registers established definitions.
/// To be called before the server answers.
///
/// # Errors
/// When the store cannot be written.
pub async fn prepare(core: &Core) -> Result<(), StoreError> {
    for role in bootstrap::cluster_roles() {
        kinds::ensure(core, rbac::GROUP, "clusterroles", role).await?;
    }
    for binding in bootstrap::cluster_role_bindings() {
        kinds::ensure(core, rbac::GROUP, "clusterrolebindings", binding).await?;
    }
    crd::controller::load(core);
    Ok(())
}

/// Runs until the store closes.
pub async fn run(core: Arc<Core>) {
    tokio::join!(crd::controller::run(core.clone()), aggregation::run(core));
}
