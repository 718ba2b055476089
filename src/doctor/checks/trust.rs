//! The CA that the API server is told to trust, the certificate, and whether the one has signed the other. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhook;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use crate::doctor::check::{Check, Id, or_ok};
use crate::doctor::installation::{Installation, Tls};
use crate::kubernetes::Lookup;
use crate::tls::{Bundle, Leaf};

/// A certificate that has less time than this, and less than a quarter of its whole time, should have been renewed.
const SOON: i64 = 14 * DAY;
const DAY: i64 = 24 * 3600;

/// Judges them.
pub fn judge(seen: &Installation) -> Vec<Check> {
    let mut checks = bundles(seen);
    let leaf = match seen.served.as_ref().unwrap_or(&seen.pair) {
        Lookup::Found(shown) => Leaf::from_chain(&shown.chain).map(|leaf| (leaf, &shown.chain)),
        Lookup::NotFound => {
            let says = format!(
                "Secret {} not found in namespace {}",
                seen.secret_name(),
                seen.namespace
            );
            let mend = match seen.tls() {
                Tls::CertManager { namespace, .. } => {
                    format!("kubectl -n {namespace} describe certificate,certificaterequest")
                }
                Tls::SelfManaged => seen.origin().again(),
                Tls::Existing => make_secret(seen),
            };
            checks.push(Check::failure(Id::Certificate, says, mend));
            return checks;
        }
        Lookup::Unknown(why) => {
            let why = format!(
                "the certificate cannot be looked at: {why}; `admission` shows whether it is trusted"
            );
            checks.push(Check::unchecked(Id::Certificate, why.clone()));
            checks.push(Check::unchecked(Id::Trust, why));
            return checks;
        }
    };
    let Ok((leaf, chain)) = leaf else {
        let says = format!(
            "Secret {} holds no readable certificate",
            seen.secret_name()
        );
        checks.push(Check::failure(Id::Certificate, says, renew(seen)));
        return checks;
    };
    checks.extend(certificate(seen, &leaf));
    checks.extend(trust(seen, &leaf, chain));
    checks
}

/// Whether every entry has a CA that can be one.
fn bundles(seen: &Installation) -> Vec<Check> {
    let entries = seen.entries();
    if entries.is_empty() {
        return Vec::new();
    }
    let mut checks = Vec::new();
    let which = |entries: Vec<&MutatingWebhook>| {
        entries
            .iter()
            .map(|entry| entry.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let empty: Vec<_> = entries
        .iter()
        .filter(|entry| pem(entry).is_none() && entry.client_config.url.is_none())
        .collect();
    if !empty.is_empty() {
        let says = format!(
            "no caBundle in {}: the API server trusts nobody there",
            which(empty)
        );
        checks.push(Check::failure(Id::CaBundle, says, publish(seen)));
    }
    let unreadable =
        |entry: &&MutatingWebhook| pem(entry).is_some_and(|pem| Bundle::from_pem(pem).is_empty());
    let unreadable: Vec<_> = entries.iter().filter(unreadable).collect();
    if !unreadable.is_empty() {
        let says = format!("the caBundle of {} holds no certificate", which(unreadable));
        checks.push(Check::failure(Id::CaBundle, says, publish(seen)));
    }
    let different: BTreeSet<Option<&[u8]>> = entries.iter().map(pem).collect();
    if checks.is_empty() && different.len() > 1 {
        let says = "the entries do not trust the same CA".to_owned();
        checks.push(Check::warning(Id::CaBundle, says, publish(seen)));
    }
    let outdated = |entry: &&MutatingWebhook| {
        pem(entry).is_some_and(|pem| {
            let bundle = Bundle::from_pem(pem);
            !bundle.is_empty()
                && Bundle::default()
                    .before(&bundle, usize::MAX, seen.now)
                    .is_empty()
        })
    };
    let outdated: Vec<_> = entries.iter().filter(outdated).collect();
    if !outdated.is_empty() {
        let says = format!(
            "every CA in the caBundle of {} has expired",
            which(outdated)
        );
        checks.push(Check::failure(Id::CaBundle, says, renew(seen)));
    }
    or_ok(checks, Id::CaBundle, || {
        match different.first().copied().flatten() {
            Some(pem) => format!(
                "every entry trusts the same {}",
                count(Bundle::from_pem(pem).len(), "CA")
            ),
            None => {
                "no entry names a CA: the API server trusts the ones of its own machine".to_owned()
            }
        }
    })
}

fn pem(entry: &MutatingWebhook) -> Option<&[u8]> {
    entry
        .client_config
        .ca_bundle
        .as_ref()
        .map(|bytes| bytes.0.as_slice())
        .filter(|pem| !pem.is_empty())
}

/// Names and time.
fn certificate(seen: &Installation, leaf: &Leaf) -> Vec<Check> {
    let now = seen.now.as_second();
    let mut checks = Vec::new();
    let hosts = hosts(seen);
    let lacking: Vec<&str> = hosts
        .iter()
        .filter(|host| !leaf.serves(host))
        .map(String::as_str)
        .collect();
    if !lacking.is_empty() {
        let names: Vec<&str> = leaf.names.iter().map(String::as_str).collect();
        let says = format!(
            "the certificate is for {}, and the API server calls {}",
            names.join(", "),
            lacking.join(", ")
        );
        let mend = match seen.tls() {
            Tls::Existing => make_secret(seen),
            Tls::CertManager { .. } | Tls::SelfManaged => seen.origin().again(),
        };
        checks.push(Check::failure(Id::Certificate, says, mend));
    }
    let (begin, end) = (leaf.not_before.as_second(), leaf.not_after.as_second());
    let left = end - now;
    if left <= 0 {
        checks.push(Check::failure(
            Id::Certificate,
            format!(
                "the certificate expired at {}; the next has to be for {}",
                leaf.not_after,
                hosts.join(", ")
            ),
            renew(seen),
        ));
    } else if now < begin {
        let says = format!(
            "the certificate is not valid before {}: clocks differ",
            leaf.not_before
        );
        checks.push(Check::failure(Id::Certificate, says, renew(seen)));
    } else if left < SOON.min((end - begin) / 4) {
        let says = format!(
            "the certificate expires in {}, at {}, and was not renewed",
            span(left),
            leaf.not_after
        );
        checks.push(Check::warning(Id::Certificate, says, renew(seen)));
    }
    or_ok(checks, Id::Certificate, || {
        format!("for {}, valid for {} more", hosts.join(", "), span(left))
    })
}

/// Whether an API server with these bundles takes the certificate; names and time are not judged again.
fn trust(seen: &Installation, leaf: &Leaf, chain: &[u8]) -> Vec<Check> {
    let Some(name) = leaf
        .names
        .iter()
        .find_map(|name| ServerName::try_from(name.trim_start_matches("*.").to_owned()).ok())
    else {
        return vec![Check::unchecked(Id::Trust, "the certificate has no name")];
    };
    let at = seen.now.max(leaf.not_before).min(leaf.not_after);
    let refusing: Vec<(&str, String)> = seen
        .entries()
        .iter()
        .filter_map(|entry| {
            Some((
                entry.name.as_str(),
                verify(pem(entry)?, chain, &name, at).err()?,
            ))
        })
        .collect();
    let Some((_, why)) = refusing.first() else {
        return if seen.entries().is_empty() {
            Vec::new()
        } else if seen.entries().iter().any(|entry| pem(entry).is_some()) {
            vec![Check::ok(
                Id::Trust,
                "the caBundle has signed the certificate",
            )]
        } else {
            vec![Check::unchecked(Id::Trust, "there is no caBundle")]
        };
    };
    let which: Vec<&str> = refusing.iter().map(|(name, _)| *name).collect();
    let says = format!(
        "the caBundle of {} has not signed the certificate ({why})",
        which.join(", ")
    );
    vec![Check::failure(Id::Trust, says, publish(seen))]
}

fn verify(bundle: &[u8], chain: &[u8], name: &ServerName<'_>, at: Timestamp) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(bundle).flatten());
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain).flatten().collect();
    let (leaf, more) = chain.split_first().ok_or("no certificate")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|_| "no CA that can be used".to_owned())?;
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        at.as_second().unsigned_abs(),
    ));
    match verifier.verify_server_cert(leaf, more, name, &[], at) {
        // The names are looked at last, and were judged before: this one may be a wildcard's part.
        Ok(_)
        | Err(rustls::Error::InvalidCertificate(
            rustls::CertificateError::NotValidForName
            | rustls::CertificateError::NotValidForNameContext { .. },
        )) => Ok(()),
        Err(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
            Err("unknown issuer".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The names under which the API server calls.
pub(super) fn hosts(seen: &Installation) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for entry in seen.entries() {
        let host = match (&entry.client_config.service, &entry.client_config.url) {
            (Some(service), _) => Some(format!("{}.{}.svc", service.name, service.namespace)),
            (None, Some(url)) => url.parse::<http::Uri>().ok().and_then(|url| {
                Some(
                    url.host()?
                        .trim_start_matches('[')
                        .trim_end_matches(']')
                        .to_owned(),
                )
            }),
            (None, None) => None,
        };
        hosts.extend(host.filter(|host| !hosts.contains(host)));
    }
    // Without entries, the ones that should be there.
    let service = seen.service_name.as_ref().filter(|_| hosts.is_empty());
    hosts.extend(service.map(|name| format!("{name}.{}.svc", seen.namespace)));
    hosts
}

/// Makes the configuration trust the CA that signed the certificate.
pub(super) fn publish(seen: &Installation) -> String {
    let (namespace, configuration) = (&seen.namespace, &seen.name);
    match seen.tls() {
        // Its CA injector writes when it starts.
        Tls::CertManager { .. } => {
            "kubectl -n cert-manager rollout restart deployment cert-manager-cainjector".to_owned()
        }
        Tls::SelfManaged => {
            format!(
                "kubectl -n {namespace} rollout restart deployment -l app.kubernetes.io/component=controller"
            )
        }
        Tls::Existing => {
            let known = seen.pair.there().is_some_and(|shown| !shown.ca.is_empty());
            let ca = if known {
                format!(
                    "$(kubectl -n {namespace} get secret {} -o jsonpath='{{.data.ca\\.crt}}')",
                    seen.secret_name()
                )
            } else {
                "$(openssl base64 -A -in ca.crt)".to_owned()
            };
            let count = seen.entries().len().saturating_sub(1);
            format!(
                "ca={ca}; for entry in $(seq 0 {count}); do kubectl patch mutatingwebhookconfiguration {configuration} \
                 --type=json -p \"[{{\\\"op\\\": \\\"add\\\", \\\"path\\\": \\\"/webhooks/$entry/clientConfig/caBundle\\\", \
                 \\\"value\\\": \\\"$ca\\\"}}]\"; done"
            )
        }
    }
}

/// Gets another certificate.
fn renew(seen: &Installation) -> String {
    let (namespace, secret) = (&seen.namespace, seen.secret_name());
    match seen.tls() {
        // Replicas serve on with what they have.
        Tls::CertManager { namespace, .. } => {
            format!("kubectl -n {namespace} delete secret {secret}")
        }
        Tls::SelfManaged => {
            format!("kubectl -n {namespace} logs -l app.kubernetes.io/component=controller")
        }
        Tls::Existing => make_secret(seen),
    }
}

fn make_secret(seen: &Installation) -> String {
    let (namespace, secret) = (&seen.namespace, seen.secret_name());
    format!(
        "kubectl -n {namespace} create secret tls {secret} --cert=tls.crt --key=tls.key --dry-run=client -o yaml \
         | kubectl apply --server-side --force-conflicts -f -"
    )
}

fn span(seconds: i64) -> String {
    if seconds >= 2 * DAY {
        count(usize::try_from(seconds / DAY).unwrap_or_default(), "day")
    } else {
        format!("{} h", seconds / 3600)
    }
}

fn count(many: usize, what: &str) -> String {
    if many == 1 {
        format!("one {what}")
    } else {
        format!("{many} {what}s")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::ByteString;

    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::{NOW, installation};
    use crate::kubernetes::tls_secret::PublicCertificates;
    use crate::tls::{Issued, issue};

    const HOST: &str = "floe-secrets-webhook.floe-secrets-webhook.svc";

    fn pair(host: &str, days: u64, ago: i64) -> Issued {
        let began = Timestamp::from_second(NOW - ago).expect("a time");
        issue(
            &[host.to_owned()].into(),
            Duration::from_hours(24 * days),
            began,
        )
        .expect("a certificate")
    }

    fn found(pair: &Issued, ca: &Bundle) -> Vec<(Id, Status, String)> {
        let mut seen = installation();
        seen.pair = Lookup::Found(PublicCertificates {
            chain: pair.chain.clone().into_bytes(),
            ca: pair.ca.clone(),
        });
        trusting(&mut seen, ca.to_pem().as_bytes());
        judge(&seen)
            .into_iter()
            .map(|check| (check.check, check.status, check.message))
            .collect()
    }

    fn trusting(seen: &mut Installation, ca: &[u8]) {
        if let Lookup::Found(configuration) = &mut seen.configuration {
            for entry in configuration.webhooks.iter_mut().flatten() {
                entry.client_config.ca_bundle = Some(ByteString(ca.to_vec()));
            }
        }
    }

    fn bad(found: Vec<(Id, Status, String)>) -> Vec<(Id, Status, String)> {
        found
            .into_iter()
            .filter(|(_, status, _)| *status != Status::Ok)
            .collect()
    }

    #[test]
    fn a_pair_of_the_trusted_ca_is_well() {
        let pair = pair(HOST, 90, 0);
        let all = found(&pair, &pair.ca);
        assert_eq!(bad(all.clone()), []);
        let says: Vec<&str> = all.iter().map(|(_, _, says)| says.as_str()).collect();
        assert_eq!(
            says,
            [
                "every entry trusts the same one CA",
                "for floe-secrets-webhook.floe-secrets-webhook.svc, valid for 90 days more",
                "the caBundle has signed the certificate"
            ]
        );
    }

    #[test]
    fn each_fault_is_one_finding() {
        let good = pair(HOST, 90, 0);
        let other = pair(HOST, 90, 0);
        let one = |found: Vec<(Id, Status, String)>| -> (Id, Status, String) {
            let [one]: [_; 1] = bad(found)
                .try_into()
                .unwrap_or_else(|all| panic!("{all:?}"));
            one
        };
        let (id, status, says) = one(found(&good, &other.ca));
        assert!(
            id == Id::Trust && status == Status::Failure && says.contains("has not signed"),
            "{says}"
        );
        let expired = pair(HOST, 90, 91 * DAY);
        // Its CA ends with it.
        let all = bad(found(&expired, &expired.ca));
        let ids: Vec<(Id, Status)> = all.iter().map(|(id, status, _)| (*id, *status)).collect();
        assert_eq!(
            ids,
            [
                (Id::CaBundle, Status::Failure),
                (Id::Certificate, Status::Failure)
            ],
            "{all:?}"
        );
        assert!(
            all[1].2.starts_with("the certificate expired at 20"),
            "{all:?}"
        );
        let late = pair(HOST, 90, 80 * DAY);
        let (id, status, says) = one(found(&late, &late.ca));
        assert!(
            id == Id::Certificate
                && status == Status::Warning
                && says.contains("expires in 10 days"),
            "{says}"
        );
        let short = pair(HOST, 1, 3600);
        assert_eq!(
            bad(found(&short, &short.ca)),
            [],
            "a short life is no neglect"
        );
        let elsewhere = pair("other.svc", 90, 0);
        let (id, status, says) = one(found(&elsewhere, &elsewhere.ca));
        assert!(id == Id::Certificate && status == Status::Failure, "{says}");
        assert!(
            says.contains("is for other.svc, and the API server calls floe-secrets-webhook."),
            "{says}"
        );
        let (id, _, says) = one(found(&good, &Bundle::default())
            .into_iter()
            .filter(|found| found.0 != Id::Trust)
            .collect());
        assert!(
            id == Id::CaBundle && says.starts_with("no caBundle in pods.secrets.floe.dev,"),
            "{says}"
        );
    }

    #[test]
    fn a_secret_that_may_not_be_read_is_no_failure() {
        let mut seen = installation();
        trusting(&mut seen, pair(HOST, 90, 0).ca.to_pem().as_bytes());
        seen.pair = Lookup::Unknown("secrets is forbidden".to_owned());
        let statuses: Vec<Status> = judge(&seen).iter().map(|check| check.status).collect();
        assert_eq!(
            statuses,
            [Status::Ok, Status::NotChecked, Status::NotChecked]
        );
    }
}
