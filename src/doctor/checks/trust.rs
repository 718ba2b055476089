//! Checks the CA that the API server trusts, the serving certificate, and whether the CA signed it.

mod ca_bundle;
pub mod commands;
mod serving_certificate;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, Error, RootCertStore};

use self::commands::{create_secret_command, publish_command, renew_command};
use crate::doctor::check::{Check, CheckId};
use crate::doctor::entries::bundle_pem;
use crate::doctor::installation::{CertificateSource, Installation};
use crate::kubernetes::Lookup;
use crate::tls::Leaf;

/// Evaluates the entries' CA, and the certificate that the webhook serves or has in its Secret.
pub fn evaluate(installation: &Installation) -> Vec<Check> {
    let mut checks = ca_bundle::evaluate(installation);
    let observed = installation
        .served_certificates
        .as_ref()
        .unwrap_or(&installation.secret_certificates);
    match observed {
        Lookup::Found(certificates) => match Leaf::from_chain(&certificates.chain) {
            Ok(leaf) => {
                checks.extend(serving_certificate::evaluate(installation, &leaf));
                checks.extend(trust(installation, &leaf, &certificates.chain));
            }
            Err(_) => checks.push(unreadable_certificate(installation)),
        },
        Lookup::NotFound => checks.push(secret_not_found(installation)),
        Lookup::Unknown(reason) => {
            let message = format!(
                "the certificate cannot be looked at: {reason}; `admission` shows whether it is trusted"
            );
            checks.push(Check::unchecked(CheckId::Certificate, message.clone()));
            checks.push(Check::unchecked(CheckId::Trust, message));
        }
    }
    checks
}

fn secret_not_found(installation: &Installation) -> Check {
    let message = format!(
        "Secret {} not found in namespace {}",
        installation.secret_name(),
        installation.namespace
    );
    let fix = match installation.certificate_source() {
        CertificateSource::CertManager { namespace, .. } => {
            format!("kubectl -n {namespace} describe certificate,certificaterequest")
        }
        CertificateSource::SelfManaged => installation.install_method().reinstall_command(),
        CertificateSource::Existing => create_secret_command(installation),
    };
    Check::failure(CheckId::Certificate, message, fix)
}

fn unreadable_certificate(installation: &Installation) -> Check {
    let secret = installation.secret_name();
    let message = format!("Secret {secret} holds no readable certificate");
    Check::failure(CheckId::Certificate, message, renew_command(installation))
}

/// Evaluates whether an API server with the entries' bundles trusts the certificate. Its names and validity period are
/// evaluated elsewhere.
fn trust(installation: &Installation, leaf: &Leaf, chain: &[u8]) -> Option<Check> {
    let entries = installation.entries();
    let Some(name) = leaf
        .names
        .iter()
        .find_map(|name| ServerName::try_from(name.trim_start_matches("*.").to_owned()).ok())
    else {
        return Some(Check::unchecked(
            CheckId::Trust,
            "the certificate has no name",
        ));
    };
    let valid_time = installation.now.max(leaf.not_before).min(leaf.not_after);
    let errors: Vec<(&str, String)> = entries
        .iter()
        .filter_map(|entry| {
            let error = verify(bundle_pem(entry)?, chain, &name, valid_time).err()?;
            Some((entry.name.as_str(), error))
        })
        .collect();
    if let Some((_, error)) = errors.first() {
        let names: Vec<&str> = errors.iter().map(|(name, _)| *name).collect();
        let message = format!(
            "the caBundle of {} has not signed the certificate ({error})",
            names.join(", ")
        );
        return Some(Check::failure(
            CheckId::Trust,
            message,
            publish_command(installation),
        ));
    }
    if entries.is_empty() {
        None
    } else if entries.iter().any(|entry| bundle_pem(entry).is_some()) {
        let message = "the caBundle has signed the certificate";
        Some(Check::ok(CheckId::Trust, message))
    } else {
        Some(Check::unchecked(CheckId::Trust, "there is no caBundle"))
    }
}

/// Verifies the chain with the CAs of a bundle, except the name of the leaf.
pub fn verify(
    bundle: &[u8],
    chain: &[u8],
    name: &ServerName<'_>,
    time: Timestamp,
) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(bundle).flatten());
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain).flatten().collect();
    let (leaf, intermediates) = chain.split_first().ok_or("no certificate")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|_| "no CA that can be used".to_owned())?;
    let seconds = time.as_second().unsigned_abs();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    match verifier.verify_server_cert(leaf, intermediates, name, &[], time) {
        // rustls verifies the name last. Names are evaluated elsewhere, and this one may be a part of a wildcard.
        Ok(_)
        | Err(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => Ok(()),
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            Err("unknown issuer".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::{NOW, healthy_installation};
    use crate::kubernetes::tls_secret::PublicCertificates;
    use crate::tls::{Bundle, Issued, issue};

    const DAY: i64 = 24 * 3600;
    const HOST: &str = "floe-secrets-webhook.floe-secrets-webhook.svc";

    /// Issues a certificate for a host that is valid for so many days, since `age` seconds.
    fn pair(host: &str, days: u64, age: i64) -> Issued {
        let begin = Timestamp::from_second(NOW - age).expect("a time");
        issue(
            &[host.to_owned()].into(),
            Duration::from_hours(24 * days),
            begin,
        )
        .expect("a certificate")
    }

    fn checks_of(pair: &Issued, ca: &Bundle) -> Vec<(CheckId, Status, String)> {
        let mut installation = healthy_installation();
        installation.secret_certificates = Lookup::Found(PublicCertificates {
            chain: pair.chain.clone().into_bytes(),
            ca: pair.ca.clone(),
        });
        set_bundles(&mut installation, ca.to_pem().as_bytes());
        evaluate(&installation)
            .into_iter()
            .map(|check| (check.check, check.status, check.message))
            .collect()
    }

    fn set_bundles(installation: &mut Installation, ca: &[u8]) {
        if let Lookup::Found(configuration) = &mut installation.configuration {
            for entry in configuration.webhooks.iter_mut().flatten() {
                entry.client_config.ca_bundle = Some(ByteString(ca.to_vec()));
            }
        }
    }

    fn problems(checks: Vec<(CheckId, Status, String)>) -> Vec<(CheckId, Status, String)> {
        checks
            .into_iter()
            .filter(|(_, status, _)| *status != Status::Ok)
            .collect()
    }

    fn only_problem(checks: Vec<(CheckId, Status, String)>) -> (CheckId, Status, String) {
        let [problem]: [_; 1] = problems(checks)
            .try_into()
            .unwrap_or_else(|all| panic!("{all:?}"));
        problem
    }

    #[test]
    fn certificate_of_the_trusted_ca_is_ok() {
        let pair = pair(HOST, 90, 0);
        let all = checks_of(&pair, &pair.ca);
        assert_eq!(problems(all.clone()), []);
        let messages: Vec<&str> = all.iter().map(|(_, _, message)| message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "every entry trusts the same one CA",
                "for floe-secrets-webhook.floe-secrets-webhook.svc, valid for 90 days more",
                "the caBundle has signed the certificate"
            ]
        );
    }

    #[test]
    fn certificate_of_another_ca_is_a_trust_problem() {
        let (good, other) = (pair(HOST, 90, 0), pair(HOST, 90, 0));
        let (id, status, message) = only_problem(checks_of(&good, &other.ca));
        assert!(
            id == CheckId::Trust && status == Status::Failure && message.contains("has not signed"),
            "{message}"
        );
    }

    #[test]
    fn certificate_and_ca_expire_together() {
        let expired = pair(HOST, 90, 91 * DAY);
        let all = problems(checks_of(&expired, &expired.ca));
        let ids: Vec<(CheckId, Status)> =
            all.iter().map(|(id, status, _)| (*id, *status)).collect();
        assert_eq!(
            ids,
            [
                (CheckId::CaBundle, Status::Failure),
                (CheckId::Certificate, Status::Failure)
            ],
            "{all:?}"
        );
        assert!(
            all[1].2.starts_with("the certificate expired at 20"),
            "{all:?}"
        );
    }

    #[test]
    fn certificate_near_its_end_is_a_warning() {
        let late = pair(HOST, 90, 80 * DAY);
        let (id, status, message) = only_problem(checks_of(&late, &late.ca));
        assert!(
            id == CheckId::Certificate
                && status == Status::Warning
                && message.contains("expires in 10 days"),
            "{message}"
        );
        let short = pair(HOST, 1, 3600);
        assert_eq!(
            problems(checks_of(&short, &short.ca)),
            [],
            "a quarter of its validity period is left"
        );
    }

    #[test]
    fn certificate_for_another_host_is_a_failure() {
        let other = pair("other.svc", 90, 0);
        let (id, status, message) = only_problem(checks_of(&other, &other.ca));
        assert!(
            id == CheckId::Certificate && status == Status::Failure,
            "{message}"
        );
        assert!(
            message.contains("is for other.svc, and the API server calls floe-secrets-webhook."),
            "{message}"
        );
    }

    #[test]
    fn entries_without_bundles_are_named() {
        let mut checks = checks_of(&pair(HOST, 90, 0), &Bundle::default());
        checks.retain(|(id, ..)| *id != CheckId::Trust);
        let (id, _, message) = only_problem(checks);
        assert!(
            id == CheckId::CaBundle && message.starts_with("no caBundle in pods.secrets.floe.dev,"),
            "{message}"
        );
    }

    #[test]
    fn unreadable_secret_is_not_a_failure() {
        let mut installation = healthy_installation();
        set_bundles(&mut installation, pair(HOST, 90, 0).ca.to_pem().as_bytes());
        installation.secret_certificates = Lookup::Unknown("secrets is forbidden".to_owned());
        let statuses: Vec<Status> = evaluate(&installation)
            .iter()
            .map(|check| check.status)
            .collect();
        assert_eq!(
            statuses,
            [Status::Ok, Status::NotChecked, Status::NotChecked]
        );
    }
}
