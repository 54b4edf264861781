//! Service account tokens: signing, the claims of a bound token, and verification.

use super::{pki::PkiError, user::User};
use crate::objects::{Objects, text};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, jwk::Jwk};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{fmt, path::Path};

/// Issuer of tokens and the audience of the API server itself.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Lifetime that client libraries ask for when they mean "as long as the pod": such a token lives a year.
const EXTENDABLE_SECONDS: i64 = 60 * 60 + 7;
/// How long an extended token lives.
const EXTENDED_SECONDS: i64 = 365 * 24 * 60 * 60;

/// The private claims: what the token is bound to.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Bound {
    /// Namespace of the service account.
    pub namespace: String,
    /// Node the bound pod runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Ref>,
    /// Pod the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Ref>,
    /// Secret the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Ref>,
    /// The service account itself.
    pub serviceaccount: Ref,
    /// Unix seconds after which use of an extended token deserves a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// An object by name and uid.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Ref {
    /// Name.
    pub name: String,
    /// Uid at the time the token was made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// Claims of a token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claims {
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    iss: String,
    jti: String,
    #[serde(rename = "kubernetes.io")]
    bound: Bound,
    nbf: i64,
    sub: String,
}

/// What a token is made for.
#[derive(Debug, Clone)]
pub struct TokenSpec {
    /// Audiences; empty means the API server.
    pub audiences: Vec<String>,
    /// Requested lifetime in seconds.
    pub seconds: i64,
    /// What it is bound to.
    pub bound: Bound,
}

/// Why a bearer token is refused; the texts are those of TokenReview.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of this cluster.
    #[error("invalid bearer token")]
    Invalid,
    /// A token of this cluster, for somebody else.
    #[error("[invalid bearer token, token audiences {} is invalid for the target audiences {}]", go_list(.have), go_list(.want))]
    Audience {
        /// Audiences of the token.
        have: Vec<String>,
        /// Audiences asked for.
        want: Vec<String>,
    },
    /// Expired, or bound to something that is gone.
    #[error("[invalid bearer token, {0}]")]
    Unusable(String),
}

fn go_list(items: &[String]) -> String {
    format!(
        "[{}]",
        items.iter().map(|i| format!("{i:?}")).collect::<Vec<_>>().join(" ")
    )
}

/// A verified token.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Who it stands for.
    pub user: User,
    /// Those of the wanted audiences that the token has.
    pub audiences: Vec<String>,
}

/// The key that signs service account tokens.
pub struct TokenKey {
    encoding: EncodingKey,
    decoding: DecodingKey,
    kid: String,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl TokenKey {
    /// Loads `sa.key` (RSA, PEM) from `dir`, or makes it there.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is no RSA key.
    pub fn load_or_create(dir: &Path) -> Result<Self, PkiError> {
        let path = dir.join("sa.key");
        if path.exists() {
            let pem = std::fs::read_to_string(&path).map_err(|source| PkiError::File {
                path: path.display().to_string(),
                source,
            })?;
            return Self::from_pem(&pem);
        }
        let pem = Self::generate()?;
        std::fs::create_dir_all(dir).map_err(|source| PkiError::File {
            path: dir.display().to_string(),
            source,
        })?;
        super::pki::write_private(&path, &pem)?;
        Self::from_pem(&pem)
    }

    /// A key that is kept nowhere.
    ///
    /// # Errors
    /// When the crypto library refuses.
    pub fn ephemeral() -> Result<Self, PkiError> {
        Self::from_pem(&Self::generate()?)
    }

    fn generate() -> Result<String, PkiError> {
        KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
            .map(|k| k.serialize_pem())
            .map_err(|source| PkiError::Certificate {
                what: "service account key".into(),
                source,
            })
    }

    fn from_pem(pem: &str) -> Result<Self, PkiError> {
        let pair = KeyPair::from_pem(pem).map_err(|source| PkiError::Certificate {
            what: "sa.key".into(),
            source,
        })?;
        let bad = |_| PkiError::Pem("sa.key".into());
        let public = pair.public_key_pem();
        Ok(TokenKey {
            encoding: EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(bad)?,
            decoding: DecodingKey::from_rsa_pem(public.as_bytes()).map_err(bad)?,
            kid: URL_SAFE_NO_PAD.encode(Sha256::digest(public.as_bytes())),
        })
    }

    /// Signs a token. `now` is in Unix seconds. Returns the token and when it says it expires.
    ///
    /// # Errors
    /// When the crypto library refuses.
    pub fn issue(&self, spec: &TokenSpec, now: i64) -> Result<(String, i64), jsonwebtoken::errors::Error> {
        let audiences = if spec.audiences.is_empty() {
            vec![ISSUER.to_owned()]
        } else {
            spec.audiences.clone()
        };
        let mut bound = spec.bound.clone();
        let mut exp = now.saturating_add(spec.seconds);
        let stated = exp;
        if bound.pod.is_some() && spec.seconds == EXTENDABLE_SECONDS && audiences.iter().any(|a| a == ISSUER) {
            bound.warnafter = Some(exp);
            exp = now.saturating_add(EXTENDED_SECONDS);
        }
        let claims = Claims {
            aud: audiences,
            exp,
            iat: now,
            iss: ISSUER.into(),
            jti: uuid::Uuid::new_v4().to_string(),
            sub: format!(
                "system:serviceaccount:{}:{}",
                bound.namespace, bound.serviceaccount.name
            ),
            bound,
            nbf: now,
        };
        let mut header = Header::new(Algorithm::RS256);
        header.typ = None;
        header.kid = Some(self.kid.clone());
        Ok((jsonwebtoken::encode(&header, &claims, &self.encoding)?, stated))
    }

    /// Verifies signature, time, audience and that what the token is bound to still exists.
    /// An empty `want` means the API server's own audience. `now` is in Unix seconds.
    ///
    /// # Errors
    /// The reason of the refusal.
    pub fn verify(
        &self,
        token: &str,
        want: &[String],
        now: i64,
        objects: &dyn Objects,
    ) -> Result<Verified, TokenError> {
        let mut rules = Validation::new(Algorithm::RS256);
        rules.validate_aud = false;
        rules.validate_exp = false;
        rules.validate_nbf = false;
        rules.set_issuer(&[ISSUER]);
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &rules)
            .map_err(|_| TokenError::Invalid)?
            .claims;
        let own = [ISSUER.to_owned()];
        let want = if want.is_empty() { &own[..] } else { want };
        let audiences: Vec<String> = want.iter().filter(|a| claims.aud.contains(a)).cloned().collect();
        if audiences.is_empty() {
            return Err(TokenError::Audience {
                have: claims.aud,
                want: want.to_vec(),
            });
        }
        if now >= claims.exp {
            return Err(TokenError::Unusable("service account token has expired".into()));
        }
        if now + 60 < claims.nbf {
            return Err(TokenError::Unusable("service account token is not valid yet".into()));
        }
        check_bound(&claims.bound, objects)?;
        Ok(Verified {
            user: user_of(&claims),
            audiences,
        })
    }

    /// The key set that verifies tokens (`/openid/v1/jwks`).
    ///
    /// # Errors
    /// When the crypto library cannot express the key.
    pub fn jwks(&self) -> Result<Value, jsonwebtoken::errors::Error> {
        let mut jwk = Jwk::from_encoding_key(&self.encoding, Algorithm::RS256)?;
        jwk.common.key_id = Some(self.kid.clone());
        jwk.common.public_key_use = Some(jsonwebtoken::jwk::PublicKeyUse::Signature);
        Ok(json!({ "keys": [jwk] }))
    }
}

fn check_bound(bound: &Bound, objects: &dyn Objects) -> Result<(), TokenError> {
    let unusable = |text: String| Err(TokenError::Unusable(text));
    let uid = |object: &Value| text(object, &["metadata", "uid"]).to_owned();
    let account = &bound.serviceaccount;
    match objects.get("", "serviceaccounts", &bound.namespace, &account.name) {
        None => return unusable(format!("serviceaccounts {:?} not found", account.name)),
        Some(o) if uid(&o) != account.uid => {
            return unusable(format!(
                "service account UID ({}) does not match claim ({})",
                uid(&o),
                account.uid
            ));
        }
        Some(_) => {}
    }
    for (resource, what, reference) in [("pods", "pod", &bound.pod), ("secrets", "secret", &bound.secret)] {
        let Some(reference) = reference else { continue };
        match objects.get("", resource, &bound.namespace, &reference.name) {
            None => return unusable("service account token has been invalidated".into()),
            Some(o) if uid(&o) != reference.uid => {
                return unusable(format!(
                    "{what} UID ({}) does not match service account {what} ref claim ({})",
                    uid(&o),
                    reference.uid
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn user_of(claims: &Claims) -> User {
    let bound = &claims.bound;
    let mut user = User {
        name: claims.sub.clone(),
        uid: bound.serviceaccount.uid.clone(),
        groups: vec![
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{}", bound.namespace),
        ],
        ..User::default()
    };
    user.join(super::user::AUTHENTICATED);
    let mut extra = |key: &str, value: String| {
        user.extra
            .insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
    };
    extra("credential-id", format!("JTI={}", claims.jti));
    for (kind, r) in [("node", &bound.node), ("pod", &bound.pod)] {
        if let Some(r) = r {
            extra(&format!("{kind}-name"), r.name.clone());
            if !r.uid.is_empty() {
                extra(&format!("{kind}-uid"), r.uid.clone());
            }
        }
    }
    user
}

/// The document at `/.well-known/openid-configuration`; `base` is the server's own URL.
#[must_use]
pub fn openid_configuration(base: &str) -> Value {
    json!({
        "issuer": ISSUER,
        "jwks_uri": format!("{base}/openid/v1/jwks"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::auth::fixture::Fixed;

    fn spec(audiences: &[&str]) -> TokenSpec {
        TokenSpec {
            audiences: audiences.iter().map(|s| (*s).to_owned()).collect(),
            seconds: 600,
            bound: Bound {
                namespace: "ns".into(),
                node: None,
                pod: Some(Ref {
                    name: "p".into(),
                    uid: "pu".into(),
                }),
                secret: None,
                serviceaccount: Ref {
                    name: "sa".into(),
                    uid: "su".into(),
                },
                warnafter: None,
            },
        }
    }

    #[test]
    fn a_token_is_good_for_its_audience_its_time_and_its_pod() {
        let key = TokenKey::ephemeral().unwrap();
        let mut objects = Fixed::default();
        objects.put(
            "",
            "serviceaccounts",
            json!({"metadata":{"namespace":"ns","name":"sa","uid":"su"}}),
        );
        objects.put("", "pods", json!({"metadata":{"namespace":"ns","name":"p","uid":"pu"}}));
        let (token, exp) = key.issue(&spec(&["istio-ca"]), 1000).unwrap();
        assert_eq!(exp, 1600);
        let ca = ["istio-ca".to_owned()];
        let ok = key.verify(&token, &ca, 1500, &objects).unwrap();
        assert_eq!(ok.user.name, "system:serviceaccount:ns:sa");
        assert_eq!(ok.user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
        assert_eq!(
            key.verify(&token, &[], 1500, &objects).unwrap_err().to_string(),
            format!(
                "[invalid bearer token, token audiences [\"istio-ca\"] is invalid for the target audiences [\"{ISSUER}\"]]"
            )
        );
        assert!(key.verify(&token, &ca, 1600, &objects).is_err(), "expired");
        assert_eq!(
            key.verify("garbage", &ca, 1, &objects).unwrap_err(),
            TokenError::Invalid
        );
        objects.put(
            "",
            "pods",
            json!({"metadata":{"namespace":"ns","name":"p","uid":"another"}}),
        );
        assert!(key.verify(&token, &ca, 1500, &objects).is_err(), "the pod was replaced");
        assert_eq!(key.jwks().unwrap()["keys"][0]["kty"], "RSA");
    }
}
