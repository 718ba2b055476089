//! Checks the collector that the webhook sends its records to: its name and certificate, as the webhook verifies them.

use crate::doctor::check::{Check, CheckId};
use crate::doctor::checks::trust;
use crate::doctor::installation::{Installation, argument};
use crate::kubernetes::Lookup;
use crate::kubernetes::tls_secret::PublicCertificates;
use crate::tls::Leaf;
use rustls::pki_types::ServerName;

use super::objects::AdminObjects;

/// Evaluates the output of the trail, and the certificate of the collector.
pub fn evaluate(installation: &Installation, objects: &AdminObjects) -> Check {
    let id = CheckId::AuditTrail;
    if let Lookup::Unknown(reason) = &installation.deployments {
        return Check::unchecked(id, reason.clone());
    }
    let Some(webhook) = installation.deployment("webhook") else {
        return Check::unchecked(id, "there is no Deployment of the webhook");
    };
    if argument(webhook, "--audit") == Some("off") {
        return Check::ok(id, "off: admissions leave no records");
    }
    let Some(url) = argument(webhook, "--audit-collector") else {
        let message = "records are on standard output alone: keep the containers' logs";
        return Check::ok(id, message);
    };
    let host = url.parse::<http::Uri>().ok();
    let Some(host) = host.as_ref().and_then(http::Uri::host) else {
        let message = format!("--audit-collector={url} is not a URL with a host");
        let fix = installation.install_method().reinstall_command();
        return Check::failure(id, message, fix);
    };
    if installation.deployment("admin").is_none() {
        return without_admin(installation, url, host);
    }
    let problem = match &objects.certificates {
        Lookup::Found(certificates) => problem_of(installation, certificates, host),
        Lookup::NotFound => Some("is not found".to_owned()),
        Lookup::Unknown(reason) => {
            let message = format!("the certificate of admin cannot be looked at: {reason}");
            return Check::unchecked(id, message);
        }
    };
    let secret = installation.tls_secret_of("admin").unwrap_or_default();
    match problem {
        None => {
            let message = format!("records go to {url}, whose certificate its CA verifies");
            Check::ok(id, message)
        }
        Some(problem) => {
            let message = format!(
                "records are not collected, because replicas cannot verify {url}: Secret {secret} {problem}"
            );
            let fix = format!(
                "kubectl -n {} describe secret,certificate",
                installation.namespace
            );
            Check::failure(id, message, fix)
        }
    }
}

/// A collector in the webhook's namespace has to be `admin`; another one is not part of the installation.
fn without_admin(installation: &Installation, url: &str, host: &str) -> Check {
    let id = CheckId::AuditTrail;
    if host.ends_with(&format!(".{}.svc", installation.namespace)) {
        let message = format!(
            "records go to {url}, and there is no Deployment of admin in namespace {}",
            installation.namespace
        );
        let fix = installation.install_method().reinstall_command();
        Check::failure(id, message, fix)
    } else {
        let message = format!("records go to {url}, which is not part of the installation");
        Check::unchecked(id, message)
    }
}

/// Reason why a replica does not accept the certificate, as the end of a sentence about the Secret.
fn problem_of(
    installation: &Installation,
    certificates: &PublicCertificates,
    host: &str,
) -> Option<String> {
    let Ok(leaf) = Leaf::from_chain(&certificates.chain) else {
        return Some("has no readable certificate".to_owned());
    };
    if !leaf.serves(host) {
        let names: Vec<&str> = leaf.names.iter().map(String::as_str).collect();
        return Some(format!("has a certificate for {}", names.join(", ")));
    }
    if installation.now > leaf.not_after {
        return Some(format!(
            "has a certificate that expired at {}",
            leaf.not_after
        ));
    }
    if certificates.ca.is_empty() {
        return Some("has no CA in ca.crt".to_owned());
    }
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let ca = certificates.ca.to_pem();
    let verified = trust::verify(
        ca.as_bytes(),
        &certificates.chain,
        &name,
        installation.now.max(leaf.not_before),
    );
    let error = verified.err()?;
    Some(format!(
        "has a certificate that its ca.crt has not signed ({error})"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::{NOW, healthy_installation, set_arguments};
    use crate::tls::{Bundle, Issued, issue};

    const HOST: &str = "floe-secrets-webhook-admin.floe-secrets-webhook.svc";

    fn issued(host: &str, age: i64) -> Issued {
        let begin = Timestamp::from_second(NOW - age).unwrap();
        let names = BTreeSet::from([host.to_owned()]);
        issue(&names, Duration::from_hours(1), begin).unwrap()
    }

    fn check_of(issued: &Issued, ca: Bundle) -> Check {
        let certificates = PublicCertificates {
            chain: issued.chain.clone().into_bytes(),
            ca,
        };
        let objects = AdminObjects {
            certificates: Lookup::Found(certificates),
            ..AdminObjects::default()
        };
        evaluate(&healthy_installation(), &objects)
    }

    #[test]
    fn certificate_for_the_name_by_its_ca_is_ok() {
        let pair = issued(HOST, 0);
        let check = check_of(&pair, pair.ca.clone());
        assert_eq!(check.status, Status::Ok, "{check:?}");
    }

    #[test]
    fn certificate_that_replicas_refuse_is_a_failure() {
        let pair = issued(HOST, 0);
        let old = issued(HOST, 7_200);
        let other = issued("other.svc", 0);
        for (check, part) in [
            (
                check_of(&pair, Bundle::default()),
                "admin-tls has no CA in ca.crt",
            ),
            (
                check_of(&pair, other.ca.clone()),
                "that its ca.crt has not signed",
            ),
            (check_of(&old, old.ca.clone()), "expired at"),
            (
                check_of(&other, other.ca.clone()),
                "has a certificate for other.svc",
            ),
        ] {
            assert!(
                check.status == Status::Failure && check.message.contains(part),
                "{check:?}"
            );
        }
        let objects = AdminObjects {
            certificates: Lookup::Found(PublicCertificates::default()),
            ..AdminObjects::default()
        };
        let check = evaluate(&healthy_installation(), &objects);
        assert!(
            check.message.ends_with("has no readable certificate"),
            "{check:?}"
        );
    }

    #[test]
    fn trail_that_is_off_or_elsewhere_is_not_a_failure() {
        let mut installation = healthy_installation();
        let mut status_with = |arguments: &[&str]| {
            set_arguments(&mut installation, 0, arguments);
            let check = evaluate(&installation, &AdminObjects::default());
            (check.status, check.message)
        };
        let (status, message) = status_with(&["--audit=off"]);
        assert!(
            status == Status::Ok && message.starts_with("off"),
            "{message}"
        );
        let (status, message) = status_with(&[]);
        assert!(
            status == Status::Ok && message.contains("standard output"),
            "{message}"
        );
        let (status, _) = status_with(&["--audit-collector=/collector"]);
        assert_eq!(status, Status::Failure);
        crate::doctor::test_support::remove_admin(&mut installation);
        set_arguments(
            &mut installation,
            0,
            &["--audit-collector=https://audit.example.com:9444"],
        );
        let check = evaluate(&installation, &AdminObjects::default());
        assert_eq!(check.status, Status::NotChecked, "{check:?}");
    }
}
