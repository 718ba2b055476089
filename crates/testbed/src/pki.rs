//! Certificates for tests. Every leaf is X.509 v3 with SAN and extended key usage, because rustls rejects others.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};

use super::process::Folder;

/// Certificate authority of a test.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Certificate and its key, in PEM.
#[derive(Clone)]
pub struct CertificatePair {
    pub cert: String,
    /// Private key, PKCS #8.
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer =
            CertifiedIssuer::self_signed(params, key()).expect("a self-signed certificate");
        Self { issuer }
    }

    /// CA certificate: a CA bundle.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a server certificate for these host names and IP addresses.
    pub fn server(&self, hosts: &[&str]) -> CertificatePair {
        let hosts: Vec<String> = hosts.iter().copied().map(str::to_owned).collect();
        let mut params = CertificateParams::new(hosts.clone()).expect("host names");
        params.distinguished_name = distinguished_name(&hosts[0], &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    /// Issues a client certificate: its common name is the user, its organisations are the groups.
    pub fn client(&self, user: &str, groups: &[&str]) -> CertificatePair {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(user, groups);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    /// Issues any other certificate. Without dates it does not expire within a test.
    pub fn issue(&self, mut params: CertificateParams) -> CertificatePair {
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = key();
        let cert = params
            .signed_by(&key, &self.issuer)
            .expect("a signed certificate");
        CertificatePair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl CertificatePair {
    /// Writes `STEM.crt` and `STEM.key`.
    pub fn write(&self, folder: &Folder, stem: &str) -> (PathBuf, PathBuf) {
        (
            folder.write(&format!("{stem}.crt"), &self.cert),
            folder.write(&format!("{stem}.key"), &self.key),
        )
    }
}

/// New key in PEM, private and public, such as the one that signs `ServiceAccount` tokens.
pub fn signing_key() -> (String, String) {
    let key = key();
    (key.serialize_pem(), key.public_key_pem())
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn distinguished_name(common_name: &str, organisations: &[&str]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for organisation in organisations {
        name.push(DnType::OrganizationName, *organisation);
    }
    name.push(DnType::CommonName, common_name);
    name
}
