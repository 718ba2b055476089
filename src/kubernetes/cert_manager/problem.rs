//! Finds the problem that keeps a certificate from being Ready: one sentence, and a command that fixes it.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::objects::{
    CertManagerCondition, Certificate, CertificateStatus, GROUP, Issuer, IssuerRef,
};
use super::read::{ObservedCertificate, VERSION};
use crate::kubernetes::lookup::Lookup;

/// Seconds by which a renewal may be late before it is reported.
const MAX_RENEWAL_DELAY: i64 = 3600;

/// Problem of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateProblem {
    /// A sentence that names the certificate.
    pub message: String,
    /// A command that fixes the problem, or shows what to fix.
    pub fix: String,
}

impl CertificateProblem {
    fn new(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; try: {}", self.message, self.fix)
    }
}

/// The problem that keeps a certificate from serving at `now`; `None` if it is Ready and in time, and if it may not be
/// read ([`Lookup::Unknown`]).
#[must_use]
pub fn find_problem(observed: &ObservedCertificate, now: Timestamp) -> Option<CertificateProblem> {
    let ObservedCertificate {
        namespace,
        name,
        served,
        certificate,
        issuer,
    } = observed;
    let subject = format!("certificate {name} in namespace {namespace}");
    if !served {
        return Some(CertificateProblem::new(
            format!("{subject} cannot exist: the cluster has no cert-manager ({GROUP}/{VERSION})"),
            "helm upgrade --install cert-manager oci://quay.io/jetstack/charts/cert-manager -n cert-manager \
             --create-namespace --set crds.enabled=true",
        ));
    }
    match certificate {
        Lookup::Found(certificate) => not_ready(&subject, namespace, certificate, issuer)
            .or_else(|| late(&subject, certificate, now)),
        Lookup::NotFound => Some(CertificateProblem::new(
            format!("{subject} not found"),
            format!("kubectl -n {namespace} get certificates"),
        )),
        Lookup::Unknown(_) => None,
    }
}

/// Problem of a certificate without the condition `Ready`.
fn not_ready(
    subject: &str,
    namespace: &str,
    certificate: &Certificate,
    issuer: &Lookup<Issuer>,
) -> Option<CertificateProblem> {
    let status = certificate.status.clone().unwrap_or_default();
    let Some(ready) = condition(&status.conditions, "Ready") else {
        return Some(CertificateProblem::new(
            format!("{subject} has no condition: cert-manager's controller has not looked at it"),
            "kubectl -n cert-manager get pods; kubectl -n cert-manager logs deployment/cert-manager",
        ));
    };
    if ready.status == "True" {
        return None;
    }
    // The nearest cause goes first: the issuer, then the request under way, then the certificate's own message.
    let cause = issuer_problem(namespace, &certificate.spec.issuer_ref, issuer)
        .unwrap_or_else(|| request_problem(namespace, &status, ready));
    Some(CertificateProblem {
        message: format!("{subject} is not Ready: {}", cause.message),
        ..cause
    })
}

/// Problem of a certificate that is Ready, but was not renewed in time.
fn late(subject: &str, certificate: &Certificate, now: Timestamp) -> Option<CertificateProblem> {
    let status = certificate.status.as_ref()?;
    let seconds_since = |time: &Option<Time>| {
        time.as_ref()
            .map(|time| now.as_second() - time.0.as_second())
    };
    let message = if seconds_since(&status.not_after).is_some_and(|seconds| seconds >= 0) {
        format!("{subject} has expired, and cert-manager did not renew it")
    } else if seconds_since(&status.renewal_time).is_some_and(|seconds| seconds > MAX_RENEWAL_DELAY)
    {
        format!("{subject} should have been renewed more than an hour ago")
    } else {
        return None;
    };
    Some(CertificateProblem::new(
        message,
        "kubectl -n cert-manager rollout restart deployment cert-manager",
    ))
}

/// Problem of the issuer; `None` if it is Ready or unknown.
fn issuer_problem(
    namespace: &str,
    reference: &IssuerRef,
    issuer: &Lookup<Issuer>,
) -> Option<CertificateProblem> {
    let (kind, name) = (reference.kind().to_lowercase(), &reference.name);
    let scope = if kind == "issuer" {
        format!("-n {namespace} ")
    } else {
        String::new()
    };
    let issuer = match issuer {
        Lookup::Found(issuer) => issuer,
        Lookup::NotFound => {
            return Some(CertificateProblem::new(
                format!("{kind} {name} not found"),
                format!("kubectl {scope}get {kind}s"),
            ));
        }
        Lookup::Unknown(_) => return None,
    };
    let conditions = issuer
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    match condition(conditions, "Ready") {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(CertificateProblem::new(
            format!("{kind} {name} is not Ready: {}", message_of(ready)),
            format!("kubectl {scope}describe {kind} {name}"),
        )),
        None => Some(CertificateProblem::new(
            format!("cert-manager's controller has not looked at {kind} {name}"),
            "kubectl -n cert-manager get pods",
        )),
    }
}

/// Problem of the request under way, or of the certificate itself.
fn request_problem(
    namespace: &str,
    status: &CertificateStatus,
    ready: &CertManagerCondition,
) -> CertificateProblem {
    // The message of a failed request has more details than that of the condition `Ready`.
    let failed = condition(&status.conditions, "Issuing")
        .filter(|issuing| issuing.status != "True" && !issuing.message.is_empty());
    CertificateProblem::new(
        message_of(failed.unwrap_or(ready)),
        format!("kubectl -n {namespace} describe certificate,certificaterequest"),
    )
}

fn condition<'c>(
    conditions: &'c [CertManagerCondition],
    kind: &str,
) -> Option<&'c CertManagerCondition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

fn message_of(condition: &CertManagerCondition) -> String {
    let message = condition.message.trim_end_matches('.');
    if message.is_empty() {
        condition.reason.clone()
    } else {
        message.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-06-01T00:00:00Z";

    fn certificate(status: &Value) -> Lookup<Certificate> {
        let object = json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": "tls", "namespace": "floe"},
            "spec": {"secretName": "tls", "issuerRef": {"name": "ca", "kind": "Issuer"}, "dnsNames": ["x"]},
            "status": status,
        });
        Lookup::Found(serde_json::from_value(object).expect("a certificate"))
    }

    fn issuer(conditions: &Value) -> Lookup<Issuer> {
        let object = json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": {"name": "ca", "namespace": "floe"},
            "spec": {"ca": {"secretName": "ca"}}, "status": {"conditions": conditions},
        });
        Lookup::Found(serde_json::from_value(object).expect("an issuer"))
    }

    fn observed(certificate: Lookup<Certificate>, issuer: Lookup<Issuer>) -> ObservedCertificate {
        ObservedCertificate {
            namespace: "floe".to_owned(),
            name: "tls".to_owned(),
            served: true,
            certificate,
            issuer,
        }
    }

    /// Message and fix of the problem at [`NOW`].
    fn problem(observed: &ObservedCertificate) -> Option<(String, String)> {
        find_problem(observed, NOW.parse().expect("a time"))
            .map(|CertificateProblem { message, fix }| (message, fix))
    }

    fn condition_json(kind: &str, status: &str, message: &str) -> Value {
        json!({"type": kind, "status": status, "reason": "Reason", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn certificate_that_is_ready_and_in_time_has_no_problem() {
        let ready = json!({"conditions": [condition_json("Ready", "True", "up to date")], "notAfter": "2026-09-01T00:00:00Z",
            "renewalTime": "2026-08-01T00:00:00Z"});
        assert_eq!(
            problem(&observed(certificate(&ready), Lookup::NotFound)),
            None,
            "the issuer matters only at the next renewal"
        );
        let hidden = observed(Lookup::Unknown("you may not".to_owned()), Lookup::NotFound);
        assert_eq!(
            problem(&hidden),
            None,
            "an unreadable certificate has no known problem"
        );
    }

    #[test]
    fn problem_names_the_nearest_cause() {
        let unready = certificate(
            &json!({"conditions": [condition_json("Ready", "False", "Secret does not exist.")]}),
        );
        let expect = |issuer: Lookup<Issuer>, cause: &str, expected: &str| {
            let (message, fix) = problem(&observed(unready.clone(), issuer)).expect("a problem");
            assert_eq!(
                message,
                format!("certificate tls in namespace floe is not Ready: {cause}")
            );
            assert_eq!(fix, expected);
        };
        expect(
            Lookup::NotFound,
            "issuer ca not found",
            "kubectl -n floe get issuers",
        );
        expect(
            issuer(&json!([condition_json(
                "Ready",
                "False",
                "secret \"ca\" not found"
            )])),
            "issuer ca is not Ready: secret \"ca\" not found",
            "kubectl -n floe describe issuer ca",
        );
        expect(
            issuer(&json!([])),
            "cert-manager's controller has not looked at issuer ca",
            "kubectl -n cert-manager get pods",
        );
        let describe = "kubectl -n floe describe certificate,certificaterequest";
        expect(
            issuer(&json!([condition_json("Ready", "True", "")])),
            "Secret does not exist",
            describe,
        );
        expect(
            Lookup::Unknown("you may not".to_owned()),
            "Secret does not exist",
            describe,
        );

        let failed = json!({"conditions": [condition_json("Ready", "False", "no Secret"), condition_json("Issuing", "False", "denied by policy")]});
        let (message, _) = problem(&observed(
            certificate(&failed),
            issuer(&json!([condition_json("Ready", "True", "")])),
        ))
        .expect("a problem");
        assert!(
            message.ends_with("is not Ready: denied by policy"),
            "{message}"
        );
    }

    #[test]
    fn missing_and_late_certificates_are_distinguished() {
        let absent = observed(Lookup::NotFound, Lookup::NotFound);
        assert_eq!(
            problem(&absent).expect("a problem").0,
            "certificate tls in namespace floe not found"
        );
        let without_cert_manager = ObservedCertificate {
            served: false,
            ..absent
        };
        assert!(
            problem(&without_cert_manager)
                .expect("a problem")
                .0
                .ends_with("the cluster has no cert-manager (cert-manager.io/v1)")
        );
        let new = observed(certificate(&json!({})), Lookup::NotFound);
        assert!(
            problem(&new)
                .expect("a problem")
                .0
                .contains("has not looked at it")
        );
        let at = |not_after: &str, renewal: &str| {
            let ready = json!({"conditions": [condition_json("Ready", "True", "")], "notAfter": not_after, "renewalTime": renewal});
            problem(&observed(certificate(&ready), Lookup::NotFound)).map(|(message, _)| message)
        };
        assert!(
            at("2026-06-01T00:00:00Z", "2026-05-01T00:00:00Z")
                .expect("a problem")
                .contains("has expired")
        );
        let late = at("2026-07-01T00:00:00Z", "2026-05-31T22:00:00Z").expect("a problem");
        assert!(late.contains("should have been renewed"), "{late}");
        assert_eq!(at("2026-07-01T00:00:00Z", "2026-05-31T23:30:00Z"), None);
    }

    #[test]
    fn cluster_issuer_has_no_namespace() {
        let object = json!({
            "metadata": {"name": "tls"}, "spec": {"issuerRef": {"name": "corp", "kind": "ClusterIssuer"}},
            "status": {"conditions": [condition_json("Ready", "False", "")]},
        });
        let certificate = Lookup::Found(serde_json::from_value(object).expect("a certificate"));
        let (message, fix) = problem(&observed(certificate, Lookup::NotFound)).expect("a problem");
        assert!(
            message.ends_with("clusterissuer corp not found"),
            "{message}"
        );
        assert_eq!(fix, "kubectl get clusterissuers");
        let foreign = IssuerRef {
            name: "x".to_owned(),
            kind: Some("AWSPCAIssuer".to_owned()),
            group: Some("awspca.cert-manager.io".to_owned()),
        };
        assert!(!foreign.is_built_in());
    }
}
