//! The cluster's certificate authority: one root, kept in the data directory, that signs the server's
//! certificate and the client certificates of the administrator, the controllers, the node and the server itself.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{ToSpan, civil::Date};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{fmt, fs, io, net::IpAddr, path::Path, time::Duration};

/// Why certificates could not be loaded or made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file of the data directory could not be read or written.
    #[error("cannot access {path}: {source}; check the data directory's permissions")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate or key is not what it should be.
    #[error("{what}: {source}")]
    Certificate {
        /// What was being made or read.
        what: String,
        /// What the library said.
        source: rcgen::Error,
    },
    /// A PEM text holds no usable certificate or key.
    #[error("{0} holds no usable PEM block; remove it and start again to make a new one")]
    Pem(String),
}

fn cert_error(what: &str) -> impl FnOnce(rcgen::Error) -> PkiError {
    let what = what.to_owned();
    move |source| PkiError::Certificate { what, source }
}

/// A certificate with its private key, both PEM.
#[derive(Clone)]
pub struct Identity {
    /// Certificate chain, PEM.
    pub cert_pem: String,
    /// PKCS#8 private key, PEM.
    pub key_pem: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("cert_pem", &self.cert_pem)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// The chain and key as rustls takes them.
    ///
    /// # Errors
    /// When the PEM texts hold no certificate or key.
    pub fn to_rustls(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PkiError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(self.cert_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| PkiError::Pem("certificate".into()))?;
        let key =
            PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|_| PkiError::Pem("private key".into()))?;
        Ok((chain, key))
    }
}

/// The cluster's root, able to sign.
pub struct ClusterCa {
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for ClusterCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterCa")
            .field("cert_pem", &self.cert_pem)
            .finish_non_exhaustive()
    }
}

impl ClusterCa {
    /// Loads `ca.crt` and `ca.key` from `dir`, or makes them there (directory included, key readable by the owner only).
    ///
    /// # Errors
    /// When files cannot be read or written, or hold something else.
    pub fn load_or_create(dir: &Path) -> Result<Self, PkiError> {
        let (cert_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
        if cert_path.exists() && key_path.exists() {
            return Self::from_pem(read(&cert_path)?, &read(&key_path)?);
        }
        let (cert_pem, key_pem) = Self::generate("kubernetes")?;
        fs::create_dir_all(dir).map_err(|source| PkiError::File {
            path: dir.display().to_string(),
            source,
        })?;
        write_private(&key_path, &key_pem)?;
        write(&cert_path, &cert_pem)?;
        Self::from_pem(cert_pem, &key_pem)
    }

    /// A root that is kept nowhere.
    ///
    /// # Errors
    /// When the crypto library refuses.
    pub fn ephemeral() -> Result<Self, PkiError> {
        let (cert, key) = Self::generate("kubernetes")?;
        Self::from_pem(cert, &key)
    }

    fn generate(cn: &str) -> Result<(String, String), PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(cert_error("cluster CA key"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, cn);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        set_validity(&mut params);
        let cert = params.self_signed(&key).map_err(cert_error("cluster CA certificate"))?;
        Ok((cert.pem(), key.serialize_pem()))
    }

    fn from_pem(cert_pem: String, key_pem: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key_pem).map_err(cert_error("ca.key"))?;
        let issuer = Issuer::from_ca_cert_pem(&cert_pem, key).map_err(cert_error("ca.crt"))?;
        Ok(ClusterCa { cert_pem, issuer })
    }

    /// The root certificate, PEM.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// A serving certificate for DNS names and IP addresses.
    ///
    /// # Errors
    /// When a name is not a valid subject alternative name.
    pub fn server(&self, cn: &str, names: &[String]) -> Result<Identity, PkiError> {
        self.sign(cn, "", names, &[ExtendedKeyUsagePurpose::ServerAuth])
    }

    /// A client certificate: `cn` is the user, `group` its group (organization); empty for none.
    ///
    /// # Errors
    /// When the crypto library refuses.
    pub fn client(&self, cn: &str, group: &str) -> Result<Identity, PkiError> {
        self.sign(cn, group, &[], &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// A kubelet-like identity: serves under `names` and is a client as `system:node:<node>`.
    ///
    /// # Errors
    /// When a name is not a valid subject alternative name.
    pub fn node(&self, node: &str, names: &[String]) -> Result<Identity, PkiError> {
        self.sign(
            &format!("system:node:{node}"),
            "system:nodes",
            names,
            &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        )
    }

    /// Signs a request (PEM) as it is, for `seconds` from now, with the named usages.
    ///
    /// # Errors
    /// When it is no request, or asks for extensions that are not understood.
    pub fn sign_request(&self, pem: &str, usages: &[&str], seconds: i64) -> Result<String, PkiError> {
        let what = "certificate signing request";
        let mut request = CertificateSigningRequestParams::from_pem(pem).map_err(cert_error(what))?;
        let params = &mut request.params;
        params.key_usages = usages
            .iter()
            .filter_map(|usage| match *usage {
                "digital signature" => Some(KeyUsagePurpose::DigitalSignature),
                "key encipherment" => Some(KeyUsagePurpose::KeyEncipherment),
                "content commitment" => Some(KeyUsagePurpose::ContentCommitment),
                "data encipherment" => Some(KeyUsagePurpose::DataEncipherment),
                "key agreement" => Some(KeyUsagePurpose::KeyAgreement),
                _ => None,
            })
            .collect();
        params.extended_key_usages = usages
            .iter()
            .filter_map(|usage| match *usage {
                "server auth" => Some(ExtendedKeyUsagePurpose::ServerAuth),
                "client auth" => Some(ExtendedKeyUsagePurpose::ClientAuth),
                _ => None,
            })
            .collect();
        params.is_ca = IsCa::NoCa;
        let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        // Clocks differ a little: valid from five minutes ago.
        params.not_before = epoch + Duration::from_secs(now.saturating_sub(300));
        params.not_after = epoch + Duration::from_secs(now.saturating_add(u64::try_from(seconds).unwrap_or(0)));
        params.serial_number = Some(SerialNumber::from(uuid::Uuid::new_v4().as_bytes().to_vec()));
        request
            .signed_by(&self.issuer)
            .map(|cert| cert.pem())
            .map_err(cert_error(what))
    }

    fn sign(
        &self,
        cn: &str,
        group: &str,
        names: &[String],
        usages: &[ExtendedKeyUsagePurpose],
    ) -> Result<Identity, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(cert_error("private key"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, cn);
        if !group.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(cert_error(name))?),
            });
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from(uuid::Uuid::new_v4().as_bytes().to_vec()));
        set_validity(&mut params);
        let cert = params.signed_by(&key, &self.issuer).map_err(cert_error(cn))?;
        Ok(Identity {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

/// Ten years from yesterday: a local cluster outlives its certificates only by being forgotten.
fn set_validity(params: &mut CertificateParams) {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let date = |d: Date| rcgen::date_time_ymd(i32::from(d.year()), d.month().unsigned_abs(), d.day().unsigned_abs());
    params.not_before = date(today.saturating_sub(1.day()));
    params.not_after = date(today.saturating_add(10.years()));
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::File {
        path: path.display().to_string(),
        source,
    })
}

fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    fs::write(path, text).map_err(|source| PkiError::File {
        path: path.display().to_string(),
        source,
    })
}

/// Writes `text` readable by the owner only.
pub(super) fn write_private(path: &Path, text: &str) -> Result<(), PkiError> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut f| f.write_all(text.as_bytes()))
        .map_err(|source| PkiError::File {
            path: path.display().to_string(),
            source,
        })
}

/// A kubeconfig that reaches `server` (a URL) as `identity`; everything is inline, so the file can be moved.
#[must_use]
pub fn kubeconfig(cluster: &str, server: &str, ca_pem: &str, user: &str, identity: &Identity) -> String {
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: {cluster}\n  cluster:\n    server: {server}\n    \
         certificate-authority-data: {}\nusers:\n- name: {user}\n  user:\n    client-certificate-data: {}\n    \
         client-key-data: {}\ncontexts:\n- name: {cluster}\n  context:\n    cluster: {cluster}\n    user: {user}\n\
         current-context: {cluster}\n",
        STANDARD.encode(ca_pem),
        STANDARD.encode(&identity.cert_pem),
        STANDARD.encode(&identity.key_pem),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::auth::certificate::user_of;

    #[test]
    fn a_client_certificate_names_user_and_groups() {
        let ca = ClusterCa::ephemeral().unwrap();
        let admin = ca.client("kubernetes-admin", "system:masters").unwrap();
        let (chain, _) = admin.to_rustls().unwrap();
        let user = user_of(&chain[0]).unwrap();
        assert_eq!(user.name, "kubernetes-admin");
        assert_eq!(user.groups, ["system:masters", "system:authenticated"]);
    }

    #[test]
    fn the_root_survives_a_restart() {
        let dir = std::env::temp_dir().join(format!("drydock-pki-{}", uuid::Uuid::new_v4()));
        let first = ClusterCa::load_or_create(&dir).unwrap().cert_pem().to_owned();
        let again = ClusterCa::load_or_create(&dir).unwrap();
        assert_eq!(first, again.cert_pem());
        again
            .server("apiserver", &["localhost".into(), "127.0.0.1".into()])
            .unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_request_is_signed_as_it_is() {
        let ca = ClusterCa::ephemeral().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "jane");
        params.distinguished_name.push(DnType::OrganizationName, "dev");
        let request = params.serialize_request(&key).unwrap().pem().unwrap();
        let pem = ca.sign_request(&request, &["client auth"], 3600).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(user_of(&der).unwrap().groups, ["dev", "system:authenticated"]);
    }

    #[test]
    fn a_kubeconfig_is_yaml() {
        let id = Identity {
            cert_pem: "c".into(),
            key_pem: "k".into(),
        };
        let text = kubeconfig("drydock", "https://127.0.0.1:6443", "ca", "admin", &id);
        let v: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(v["users"][0]["user"]["client-key-data"], "aw==");
        assert_eq!(v["clusters"][0]["cluster"]["server"], "https://127.0.0.1:6443");
    }
}
