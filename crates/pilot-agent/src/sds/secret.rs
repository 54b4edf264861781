//! Names of secrets, and secrets as Envoy reads them.

use std::path::PathBuf;

use prost::Message;
use xds::envoy::config::core::v3::{DataSource, data_source::Specifier};
use xds::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret::Type,
};
use xds::google::protobuf::Any;

/// No name is longer than this, in bytes.
const MAX_NAME: usize = 4096;
/// Roots of the operating system, in the order in which they are looked for.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

/// A secret that the agent can serve (control-plane.md §2.1, "SDS names").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// Key and certificate of the workload: `default`.
    Workload,
    /// Roots of the mesh: `ROOTCA`.
    Roots,
    /// Key and certificate in files: `file-cert:CERT~KEY`.
    FileCertificate {
        /// Chain.
        certificate: PathBuf,
        /// Key.
        key: PathBuf,
    },
    /// Roots in a file: `file-root:CA`, or `file-root:system`.
    FileRoots(PathBuf),
}

impl std::str::FromStr for Name {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name.len() > MAX_NAME {
            return Err(format!(
                "a secret's name of {} bytes; at most {MAX_NAME} are read",
                name.len()
            ));
        }
        if let Some(files) = name.strip_prefix("file-cert:")
            && let Some((certificate, key)) = files.split_once('~')
        {
            return Ok(Self::FileCertificate {
                certificate: certificate.into(),
                key: key.into(),
            });
        }
        match name {
            "default" => Ok(Self::Workload),
            "ROOTCA" => Ok(Self::Roots),
            "file-root:system" => Ok(Self::FileRoots(system_roots())),
            _ => match name.strip_prefix("file-root:") {
                Some(path) if !path.is_empty() => Ok(Self::FileRoots(path.into())),
                _ => Err(format!(
                    "{name:?} is not a secret of the agent: default, ROOTCA, file-cert:CERT~KEY or file-root:CA"
                )),
            },
        }
    }
}

fn system_roots() -> PathBuf {
    SYSTEM_ROOTS
        .iter()
        .map(PathBuf::from)
        .find(|p| p.exists())
        .unwrap_or_else(|| SYSTEM_ROOTS[0].into())
}

fn inline(bytes: &[u8]) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(Specifier::InlineBytes(bytes.to_vec())),
        ..Default::default()
    })
}

/// A key and its certificate.
pub(super) fn certificate(name: &str, chain: &[u8], key: &[u8]) -> Any {
    let tls = TlsCertificate {
        certificate_chain: inline(chain),
        private_key: inline(key),
        ..Default::default()
    };
    encode(name, Type::TlsCertificate(tls))
}

/// Roots to trust.
pub(super) fn roots(name: &str, roots: &[u8]) -> Any {
    let context = CertificateValidationContext {
        trusted_ca: inline(roots),
        ..Default::default()
    };
    encode(name, Type::ValidationContext(context))
}

fn encode(name: &str, secret: Type) -> Any {
    let secret = Secret {
        name: name.to_owned(),
        r#type: Some(secret),
    };
    Any {
        type_url: super::server::SECRET.to_owned(),
        value: secret.encode_to_vec().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, expected: Option<Name>| assert_eq!(name.parse::<Name>().ok(), expected, "{name}");
        check("default", Some(Name::Workload));
        check("ROOTCA", Some(Name::Roots));
        check(
            "file-cert:/a/cert.pem~/a/key.pem",
            Some(Name::FileCertificate {
                certificate: "/a/cert.pem".into(),
                key: "/a/key.pem".into(),
            }),
        );
        check("file-root:/a/ca.pem", Some(Name::FileRoots("/a/ca.pem".into())));
        check("file-cert:/a/cert.pem", None);
        check("file-root:", None);
        check("kubernetes://other/secret", None);
        check(&"x".repeat(5000), None);
    }
}
