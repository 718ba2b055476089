//! Checks the names and the validity period of the serving certificate.

use super::commands::{create_secret_command, renew_command};
use crate::doctor::check::{Check, CheckId, or_ok};
use crate::doctor::installation::{CertificateSource, Installation};
use crate::tls::Leaf;

const DAY: i64 = 24 * 3600;

/// Time before the end of the validity period, in seconds, at which a certificate should have been renewed, unless a
/// quarter of its validity period is shorter.
const EXPIRES_SOON: i64 = 14 * DAY;

/// Evaluates the certificate.
pub fn evaluate(installation: &Installation, leaf: &Leaf) -> Vec<Check> {
    let hosts = hosts(installation);
    let problems = names(installation, leaf, &hosts)
        .into_iter()
        .chain(validity(installation, leaf, &hosts))
        .collect();
    or_ok(problems, CheckId::Certificate, || {
        let remaining = leaf.not_after.as_second() - installation.now.as_second();
        let hosts = hosts.join(", ");
        format!("for {hosts}, valid for {} more", duration(remaining))
    })
}

fn names(installation: &Installation, leaf: &Leaf, hosts: &[String]) -> Option<Check> {
    let missing: Vec<&str> = hosts
        .iter()
        .filter(|host| !leaf.serves(host))
        .map(String::as_str)
        .collect();
    if missing.is_empty() {
        return None;
    }
    let names: Vec<&str> = leaf.names.iter().map(String::as_str).collect();
    let message = format!(
        "the certificate is for {}, and the API server calls {}",
        names.join(", "),
        missing.join(", ")
    );
    let fix = match installation.certificate_source() {
        CertificateSource::Existing => create_secret_command(installation),
        CertificateSource::CertManager { .. } | CertificateSource::SelfManaged => {
            installation.install_method().reinstall_command()
        }
    };
    Some(Check::failure(CheckId::Certificate, message, fix))
}

fn validity(installation: &Installation, leaf: &Leaf, hosts: &[String]) -> Option<Check> {
    let now = installation.now.as_second();
    let (begin, end) = (leaf.not_before.as_second(), leaf.not_after.as_second());
    let remaining = end - now;
    if remaining <= 0 {
        let message = format!(
            "the certificate expired at {}; the next has to be for {}",
            leaf.not_after,
            hosts.join(", ")
        );
        let fix = renew_command(installation);
        Some(Check::failure(CheckId::Certificate, message, fix))
    } else if now < begin {
        let message = format!(
            "the certificate is not valid before {}: clocks differ",
            leaf.not_before
        );
        let fix = renew_command(installation);
        Some(Check::failure(CheckId::Certificate, message, fix))
    } else if remaining < EXPIRES_SOON.min((end - begin) / 4) {
        let message = format!(
            "the certificate expires in {}, at {}, and was not renewed",
            duration(remaining),
            leaf.not_after
        );
        let fix = renew_command(installation);
        Some(Check::warning(CheckId::Certificate, message, fix))
    } else {
        None
    }
}

/// Returns the host names with which the API server calls the webhook.
fn hosts(installation: &Installation) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for entry in installation.entries() {
        let host = match (&entry.client_config.service, &entry.client_config.url) {
            (Some(service), _) => Some(format!("{}.{}.svc", service.name, service.namespace)),
            (None, Some(url)) => host_of(url),
            (None, None) => None,
        };
        hosts.extend(host.filter(|host| !hosts.contains(host)));
    }
    if let (true, Some(service)) = (hosts.is_empty(), &installation.service_name) {
        hosts.push(format!("{service}.{}.svc", installation.namespace));
    }
    hosts
}

fn host_of(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    let host = uri
        .host()?
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    Some(host)
}

fn duration(seconds: i64) -> String {
    if seconds >= 2 * DAY {
        format!("{} days", seconds / DAY)
    } else {
        format!("{} h", seconds / 3600)
    }
}
