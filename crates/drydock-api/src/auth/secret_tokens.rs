//! Long-lived tokens in Secrets of type `kubernetes.io/service-account-token`: filled in when the secret appears,
//! removed with the service account.

use super::{
    authenticate::now,
    pki::ClusterCa,
    token::{Bound, Ref, TokenKey, TokenSpec},
};
use crate::{
    Core,
    follow::Follower,
    meta,
    objects::{Objects, text},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use drydock_store::{Expect, Stored};
use serde_json::{Value, json};
use std::sync::Arc;

const KIND: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// Lifetime, seconds: ten years, as long as the cluster's certificates.
const LIFETIME: i64 = 10 * 365 * 24 * 60 * 60;

/// Follows secrets and service accounts for as long as the server runs.
pub async fn run(core: Arc<Core>, tokens: Arc<TokenKey>, ca: Arc<ClusterCa>) {
    let Some(resource) = core.registry.any_version("", "secrets") else {
        return;
    };
    let Some(mut secrets) = Follower::new(&core, "", "secrets") else {
        return;
    };
    let Some(mut accounts) = Follower::new(&core, "", "serviceaccounts") else {
        return;
    };
    loop {
        let found: Vec<Stored> = tokio::select! {
            key = secrets.next() => core.store.get(&key).into_iter().collect(),
            key = accounts.next() => {
                let mut parts = key.rsplit('/');
                let name = parts.next().unwrap_or_default();
                let namespace = parts.next().unwrap_or_default();
                let mut all = core.store.list(&resource.prefix(namespace)).items;
                all.retain(|stored| account_of(&stored.value) == name);
                all
            }
        };
        for stored in found {
            settle(&core, &tokens, &ca, &stored).await;
        }
    }
}

fn account_of(secret: &Value) -> &str {
    text(secret, &["metadata", "annotations", ACCOUNT])
}

/// Fills one secret, or removes it when its service account is gone.
async fn settle(core: &Core, tokens: &TokenKey, ca: &ClusterCa, stored: &Stored) {
    let secret = stored.value.as_ref();
    if secret["type"] != KIND || meta::is_deleting(secret) {
        return;
    }
    let expect = Expect::Revision(stored.revision);
    let namespace = meta::namespace(secret);
    let written = match core.get("", "serviceaccounts", namespace, account_of(secret)) {
        None => core.store.remove(&stored.key, expect).await,
        Some(account) => {
            let Some(next) = filled(tokens, ca, secret, meta::text(&account, "uid")) else {
                return;
            };
            core.store.put(&stored.key, expect, next).await
        }
    };
    if let Err(error) = written {
        // Somebody wrote in between: their event brings us here again.
        tracing::debug!(key = stored.key, %error, "token secret not settled");
    }
}

/// The secret with its token; `None` if it has one for this account already.
fn filled(tokens: &TokenKey, ca: &ClusterCa, secret: &Value, uid: &str) -> Option<Value> {
    let known = text(secret, &["metadata", "annotations", ACCOUNT_UID]);
    if known == uid && !text(secret, &["data", "token"]).is_empty() {
        return None;
    }
    let bound = Bound {
        namespace: meta::namespace(secret).into(),
        node: None,
        pod: None,
        secret: Some(Ref {
            name: meta::name(secret).into(),
            uid: meta::text(secret, "uid").into(),
        }),
        serviceaccount: Ref {
            name: account_of(secret).into(),
            uid: uid.into(),
        },
        warnafter: None,
    };
    let spec = TokenSpec {
        audiences: Vec::new(),
        seconds: LIFETIME,
        bound,
    };
    let (token, _) = tokens.issue(&spec, now()).ok()?;
    let mut next = secret.clone();
    next["metadata"]["annotations"][ACCOUNT_UID] = json!(uid);
    let data = &mut next["data"];
    data["token"] = json!(STANDARD.encode(token));
    data["ca.crt"] = json!(STANDARD.encode(ca.cert_pem()));
    data["namespace"] = json!(STANDARD.encode(meta::namespace(secret)));
    Some(next)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::auth::fixture::Fixed;

    #[test]
    fn a_filled_secret_authenticates_its_account() {
        let (tokens, ca) = (TokenKey::ephemeral().unwrap(), ClusterCa::ephemeral().unwrap());
        let secret = json!({"type": KIND, "metadata": {"namespace": "ns", "name": "s", "uid": "u1", "annotations": {ACCOUNT: "robot"}}});
        let next = filled(&tokens, &ca, &secret, "u2").unwrap();
        assert!(filled(&tokens, &ca, &next, "u2").is_none(), "nothing to do twice");
        let token = String::from_utf8(STANDARD.decode(text(&next, &["data", "token"])).unwrap()).unwrap();
        let mut objects = Fixed::default();
        objects.put("", "secrets", next);
        objects.put(
            "",
            "serviceaccounts",
            json!({"metadata": {"namespace": "ns", "name": "robot", "uid": "u2"}}),
        );
        let verified = tokens.verify(&token, &[], now(), &objects).unwrap();
        assert_eq!(verified.user.name, "system:serviceaccount:ns:robot");
    }
}
