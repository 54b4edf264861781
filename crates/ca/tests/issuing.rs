//! What a certificate looks like, whatever the request asked for.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use ca::authority::keys;
use ca::request::{KeyKind, Request};
use ca::{Authority, AuthorityError, SpiffeId};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const NOW: i64 = 1_800_000_000;
const DAY: u64 = 24 * 3600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn id(s: &str) -> SpiffeId {
    s.parse().unwrap()
}

fn root() -> Authority {
    Authority::self_signed("cluster.local", at(NOW)).unwrap()
}

fn with_leaf<R>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> R) -> R {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    look(&certificate)
}

#[test]
fn a_request_is_signed_for_the_caller_not_for_what_it_asks() {
    let authority = root();
    for kind in [KeyKind::Rsa2048, KeyKind::EcdsaP256] {
        let request = Request::new(&id("spiffe://cluster.local/ns/istio-system/sa/istiod"), kind).unwrap();
        let caller = id("spiffe://cluster.local/ns/test-ns/sa/sleep");
        let issued = authority.issue(&request.csr_pem, &caller, None, at(NOW)).unwrap();
        assert_eq!(issued.chain.len(), 2, "leaf and root");
        assert_eq!(issued.chain[1], authority.roots_pem());
        with_leaf(&issued.chain[0], |leaf| {
            let names = leaf.subject_alternative_name().unwrap().unwrap();
            assert_eq!(
                names.value.general_names,
                [GeneralName::URI("spiffe://cluster.local/ns/test-ns/sa/sleep")]
            );
            let usage = leaf.extended_key_usage().unwrap().unwrap().value;
            assert!(usage.server_auth && usage.client_auth);
            let usage = leaf.key_usage().unwrap().unwrap().value;
            assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
            assert!(!leaf.is_ca());
        });
    }
}

#[test]
fn lifetimes_are_clamped_and_backdated() {
    let authority = root();
    let request = Request::new(&id("spiffe://a/ns/b/sa/c"), KeyKind::EcdsaP256).unwrap();
    let check = |asked: Option<u64>, now: i64, expected: i64| {
        let ttl = asked.map(Duration::from_secs);
        let issued = authority
            .issue(&request.csr_pem, &id("spiffe://a/ns/b/sa/c"), ttl, at(now))
            .unwrap();
        assert_eq!(issued.not_after.as_second() - now, expected, "{asked:?}");
        with_leaf(&issued.chain[0], |leaf| {
            assert_eq!(leaf.validity().not_before.timestamp(), now - 120)
        });
    };
    check(None, NOW, DAY as i64);
    check(Some(60), NOW, 60);
    check(Some(400 * DAY), NOW, 90 * DAY as i64);
    check(Some(u64::MAX), NOW, 90 * DAY as i64);
    let end = authority.not_after().as_second();
    check(None, end - 100, 100);
    let late = authority
        .issue(&request.csr_pem, &id("spiffe://a/ns/b/sa/c"), None, at(end))
        .unwrap_err();
    assert!(late.to_string().contains("expired"), "{late}");
}

#[test]
fn malformed_requests_are_refused() {
    let authority = root();
    let good = Request::new(&id("spiffe://a/ns/b/sa/c"), KeyKind::EcdsaP256)
        .unwrap()
        .csr_pem;
    let other = Request::new(&id("spiffe://a/ns/b/sa/c"), KeyKind::EcdsaP256)
        .unwrap()
        .csr_pem;
    // The head of one request with the signature of another: no proof of possession.
    let (good_lines, other_lines): (Vec<_>, Vec<_>) = (good.lines().collect(), other.lines().collect());
    let half = good_lines.len() / 2;
    let mixed = [&good_lines[..half], &other_lines[half..]].concat().join("\n");
    let huge = "x".repeat(ca::issue::MAX_REQUEST + 1);
    for bad in [
        "",
        "hello",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        &mixed,
        &huge,
    ] {
        let refused = authority.issue(bad, &id("spiffe://a/ns/b/sa/c"), None, at(NOW));
        assert!(matches!(refused, Err(ca::IssueError::Request(_))), "{refused:?}");
    }
}

#[test]
fn the_secret_is_read_as_it_was_written() {
    let written = root();
    let read = Authority::from_files(&written.to_files(), at(NOW)).unwrap();
    assert_eq!(read.to_files(), written.to_files());
    assert!(read.is_self_signed());
}

/// root → intermediate, as an operator plugs it in.
fn plugged_in() -> (Authority, BTreeMap<String, Vec<u8>>) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let root = root();
    let files = root.to_files();
    let text = |k: &str| String::from_utf8(files[k].clone()).unwrap();
    let issuer =
        Issuer::from_ca_cert_pem(&text(keys::CA_CERT), KeyPair::from_pem(&text(keys::CA_KEY)).unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = time::OffsetDateTime::from_unix_timestamp(NOW - 1000).unwrap();
    params.not_after = time::OffsetDateTime::from_unix_timestamp(NOW + 1_000_000).unwrap();
    let intermediate = params.signed_by(&key, &issuer).unwrap();
    let chain = format!("{}{}", intermediate.pem(), text(keys::CA_CERT));
    let files = BTreeMap::from([
        (keys::CA_CERT.to_owned(), intermediate.pem().into_bytes()),
        (keys::CA_KEY.to_owned(), key.serialize_pem().into_bytes()),
        (keys::CERT_CHAIN.to_owned(), chain.into_bytes()),
        (keys::ROOT_CERT.to_owned(), files[keys::CA_CERT].clone()),
    ]);
    (root, files)
}

#[test]
fn an_intermediate_sends_its_chain_in_both_layouts() {
    let (root, files) = plugged_in();
    let tls = BTreeMap::from([
        (keys::TLS_CERT.to_owned(), files[keys::CERT_CHAIN].clone()),
        (keys::TLS_KEY.to_owned(), files[keys::CA_KEY].clone()),
        (keys::TLS_ROOT.to_owned(), files[keys::ROOT_CERT].clone()),
    ]);
    for layout in [files, tls] {
        let authority = Authority::from_files(&layout, at(NOW)).unwrap();
        assert!(!authority.is_self_signed());
        let caller = id("spiffe://cluster.local/ns/a/sa/b");
        let request = Request::new(&caller, KeyKind::EcdsaP256).unwrap();
        let issued = authority.issue(&request.csr_pem, &caller, None, at(NOW)).unwrap();
        assert_eq!(issued.chain.len(), 3, "leaf, intermediate, root");
        assert_eq!(issued.chain[2], root.roots_pem());
        assert!(
            ca::rotation::rotate(&authority, authority.not_after())
                .unwrap()
                .is_none(),
            "not ours to renew"
        );
    }
}

#[test]
fn a_wrong_secret_says_what_is_wrong() {
    type Files = BTreeMap<String, Vec<u8>>;
    let check = |change: &dyn Fn(&mut Files), now: i64, says: &str| {
        let (_, mut files) = plugged_in();
        change(&mut files);
        let error = Authority::from_files(&files, at(now)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    let other = root().to_files();
    check(&|f| drop(f.remove(keys::CA_KEY)), NOW, "has no \"ca-key.pem\"");
    check(&|f| drop(f.remove(keys::ROOT_CERT)), NOW, "has no \"root-cert.pem\"");
    check(
        &|f| drop(f.insert(keys::CA_CERT.into(), b"hello".to_vec())),
        NOW,
        "ca-cert.pem of the certificate authority",
    );
    check(
        &|f| drop(f.insert(keys::CA_KEY.into(), other[keys::CA_KEY].clone())),
        NOW,
        "is not the key of",
    );
    check(
        &|f| drop(f.insert(keys::ROOT_CERT.into(), other[keys::CA_CERT].clone())),
        NOW,
        "no certificate in root-cert.pem",
    );
    check(&|_| (), NOW + 2_000_000, "expired");
    assert!(matches!(
        Authority::from_files(&BTreeMap::new(), at(NOW)),
        Err(AuthorityError::Missing(_))
    ));
}

#[test]
fn debug_output_holds_no_secret() {
    let authority = root();
    let caller = id("spiffe://cluster.local/ns/a/sa/b");
    let request = Request::new(&caller, KeyKind::EcdsaP256).unwrap();
    let serving = authority
        .serving(&["istiod.istio-system.svc".into()], ca::issue::SERVING_TTL, at(NOW))
        .unwrap();
    let credentials = ca::Credentials {
        token: Some("very-secret".into()),
        ..Default::default()
    };
    let printed = format!("{authority:?} {request:?} {serving:?} {credentials:?}");
    let key = String::from_utf8(authority.to_files()[keys::CA_KEY].clone()).unwrap();
    for secret in [
        key.lines().nth(1).unwrap(),
        request.key_pem.lines().nth(1).unwrap(),
        "very-secret",
        "PRIVATE",
    ] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[test]
fn a_renewed_root_verifies_what_was_signed_before() {
    let old = root();
    let caller = id("spiffe://cluster.local/ns/a/sa/b");
    let request = Request::new(&caller, KeyKind::EcdsaP256).unwrap();
    let late = old.not_after().as_second() - 1000;
    let issued = old.issue(&request.csr_pem, &caller, None, at(late)).unwrap();
    let new = ca::rotation::rotate(&old, at(late)).unwrap().unwrap();
    let verify = |authority: &Authority| {
        let clients = ca::tls::MeshClients::new(&authority.roots()).unwrap();
        let leaf = CertificateDer::from_pem_slice(issued.chain[0].as_bytes()).unwrap();
        let now = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(late as u64));
        rustls::server::danger::ClientCertVerifier::verify_client_cert(&clients, &leaf, &[], now).is_ok()
    };
    assert!(verify(&old) && verify(&new));
    assert!(
        !verify(&Authority::self_signed("cluster.local", at(late)).unwrap()),
        "another key's root does not"
    );
}
