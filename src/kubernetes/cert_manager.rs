//! cert-manager's `Certificate`, `Issuer` and `ClusterIssuer`, as far as the webhook's own certificate needs them: what
//! keeps a certificate from being Ready, in one sentence, and what to do.
//!
//! [`look`] reads, [`trouble`] judges. Serving never depends on either.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::{ApiResource, GroupVersionKind, Object};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};

use crate::kubernetes::lookup::{self, Lookup};

/// The API group, which is also the group of its own issuers.
pub const GROUP: &str = "cert-manager.io";

/// The version that is read.
const VERSION: &str = "v1";

/// How far behind its time a renewal may be before it is a finding.
const OVERDUE: i64 = 3600;

/// What a `Certificate` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSpec {
    /// The Secret that it is put into.
    #[serde(default)]
    pub secret_name: String,
    /// Who signs it.
    #[serde(default)]
    pub issuer_ref: IssuerRef,
}

/// Who signs a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerRef {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// `Issuer` when not said.
    #[serde(default)]
    pub kind: Option<String>,
    /// [`GROUP`] when not said; other groups are other programs.
    #[serde(default)]
    pub group: Option<String>,
}

/// What cert-manager says of a `Certificate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// `Ready`, `Issuing`.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// End of validity of what the Secret holds.
    #[serde(default)]
    pub not_after: Option<Time>,
    /// When the next one is due.
    #[serde(default)]
    pub renewal_time: Option<Time>,
}

/// An issuer's spec: nothing of it is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerSpec {}

/// What cert-manager says of an issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerStatus {
    /// `Ready`.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// One condition of either.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// `Ready`, `Issuing`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    #[serde(default)]
    pub status: String,
    /// A word.
    #[serde(default)]
    pub reason: String,
    /// A sentence.
    #[serde(default)]
    pub message: String,
}

/// A `Certificate`.
pub type Certificate = Object<CertificateSpec, CertificateStatus>;

/// An `Issuer` or a `ClusterIssuer`.
pub type Issuer = Object<IssuerSpec, IssuerStatus>;

/// The certificate and who should sign it.
#[derive(Clone, Debug)]
pub struct Looked {
    /// Where.
    pub namespace: String,
    /// The certificate's name.
    pub name: String,
    /// Whether the API server knows the kind.
    pub served: bool,
    /// The certificate.
    pub certificate: Lookup<Certificate>,
    /// Its issuer; [`Lookup::Hidden`] where it is another program's.
    pub issuer: Lookup<Issuer>,
}

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// A sentence that names the certificate.
    pub says: String,
    /// A command that mends it, or shows what to mend.
    pub mend: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; try: {}", self.says, self.mend)
    }
}

/// Reads the certificate and its issuer.
pub async fn look(client: &Client, namespace: &str, name: &str) -> Looked {
    let certificates: Api<Certificate> = Api::namespaced_with(
        client.clone(),
        namespace,
        &resource("Certificate", "certificates"),
    );
    let certificate = lookup::look(certificates.get_opt(name)).await;
    let issuer = match &certificate {
        Lookup::Found(certificate) => issuer(client, namespace, &certificate.spec.issuer_ref).await,
        Lookup::NotFound | Lookup::Unknown(_) => {
            Lookup::Unknown("its certificate is not known".to_owned())
        }
    };
    // A name that is not there and a kind that is not there are both 404.
    let served = match certificate {
        Lookup::NotFound => client
            .list_api_group_resources(&format!("{GROUP}/{VERSION}"))
            .await
            .is_ok(),
        Lookup::Found(_) | Lookup::Unknown(_) => true,
    };
    Looked {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        served,
        certificate,
        issuer,
    }
}

async fn issuer(client: &Client, namespace: &str, reference: &IssuerRef) -> Lookup<Issuer> {
    if !reference.is_ours() {
        return Lookup::Unknown("it is another program's".to_owned());
    }
    let issuers: Api<Issuer> = if reference.kind() == "ClusterIssuer" {
        Api::all_with(client.clone(), &resource("ClusterIssuer", "clusterissuers"))
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource("Issuer", "issuers"))
    };
    lookup::look(issuers.get_opt(&reference.name)).await
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, kind), plural)
}

impl IssuerRef {
    fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("Issuer")
    }

    fn is_ours(&self) -> bool {
        self.group
            .as_deref()
            .is_none_or(|group| group.is_empty() || group == GROUP)
            && matches!(self.kind(), "Issuer" | "ClusterIssuer")
    }
}

/// What keeps a certificate from serving at `now`; `None` when it is Ready and in time, and when nothing can be said
/// because it may not be read ([`Lookup::Hidden`]).
#[must_use]
pub fn trouble(looked: &Looked, now: Timestamp) -> Option<Trouble> {
    let Looked {
        namespace,
        name,
        served,
        certificate,
        issuer,
    } = looked;
    let this = format!("certificate {name} in namespace {namespace}");
    let found = |says: String, mend: String| Some(Trouble { says, mend });
    let describe = format!("kubectl -n {namespace} describe certificate,certificaterequest");
    if !served {
        return found(
            format!("{this} cannot exist: the cluster has no cert-manager ({GROUP}/{VERSION})"),
            "helm upgrade --install cert-manager oci://quay.io/jetstack/charts/cert-manager -n cert-manager \
             --create-namespace --set crds.enabled=true"
                .to_owned(),
        );
    }
    let certificate = match certificate {
        Lookup::Found(certificate) => certificate,
        Lookup::NotFound => {
            return found(
                format!("{this} not found"),
                format!("kubectl -n {namespace} get certificates"),
            );
        }
        Lookup::Unknown(_) => return None,
    };
    let status = certificate.status.clone().unwrap_or_default();
    let Some(ready) = condition(&status.conditions, "Ready") else {
        return found(
            format!("{this} has no condition: cert-manager's controller has not looked at it"),
            "kubectl -n cert-manager get pods; kubectl -n cert-manager logs deployment/cert-manager".to_owned(),
        );
    };
    if ready.status != "True" {
        let (why, mend) = unready(
            namespace,
            &certificate.spec.issuer_ref,
            issuer,
            &status,
            ready,
            describe,
        );
        return found(format!("{this} is not Ready: {why}"), mend);
    }
    let since = |time: &Option<Time>| {
        time.as_ref()
            .map(|time| now.as_second() - time.0.as_second())
    };
    let renew = "kubectl -n cert-manager rollout restart deployment cert-manager".to_owned();
    if since(&status.not_after).is_some_and(|since| since >= 0) {
        return found(
            format!("{this} has expired, and cert-manager did not renew it"),
            renew,
        );
    }
    if since(&status.renewal_time).is_some_and(|since| since > OVERDUE) {
        return found(
            format!("{this} should have been renewed more than an hour ago"),
            renew,
        );
    }
    None
}

/// Why a certificate is not Ready, the nearest cause first: its issuer, then the request under way, then its own words.
fn unready(
    namespace: &str,
    reference: &IssuerRef,
    issuer: &Lookup<Issuer>,
    status: &CertificateStatus,
    ready: &Condition,
    describe: String,
) -> (String, String) {
    let (kind, name) = (reference.kind().to_lowercase(), &reference.name);
    let at = if kind == "issuer" {
        format!("-n {namespace} ")
    } else {
        String::new()
    };
    match issuer {
        Lookup::NotFound => {
            return (
                format!("{kind} {name} not found"),
                format!("kubectl {at}get {kind}s"),
            );
        }
        Lookup::Found(issuer) => {
            let conditions = issuer
                .status
                .as_ref()
                .map(|status| status.conditions.as_slice())
                .unwrap_or_default();
            match condition(conditions, "Ready") {
                Some(of_issuer) if of_issuer.status == "True" => {}
                Some(of_issuer) => {
                    let why = format!("{kind} {name} is not Ready: {}", words(of_issuer));
                    return (why, format!("kubectl {at}describe {kind} {name}"));
                }
                None => {
                    let why = format!("cert-manager's controller has not looked at {kind} {name}");
                    return (why, "kubectl -n cert-manager get pods".to_owned());
                }
            }
        }
        Lookup::Unknown(_) => {}
    }
    let issuing =
        condition(&status.conditions, "Issuing").filter(|issuing| issuing.status != "True");
    // A failed request says more than what it failed to mend.
    (
        words(
            issuing
                .filter(|issuing| !issuing.message.is_empty())
                .unwrap_or(ready),
        ),
        describe,
    )
}

fn condition<'c>(conditions: &'c [Condition], kind: &str) -> Option<&'c Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

fn words(condition: &Condition) -> String {
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

    fn looked(certificate: Lookup<Certificate>, issuer: Lookup<Issuer>) -> Looked {
        Looked {
            namespace: "floe".to_owned(),
            name: "tls".to_owned(),
            served: true,
            certificate,
            issuer,
        }
    }

    fn says(looked: &Looked) -> Option<(String, String)> {
        trouble(looked, NOW.parse().expect("a time")).map(|Trouble { says, mend }| (says, mend))
    }

    fn is(kind: &str, status: &str, message: &str) -> Value {
        json!({"type": kind, "status": status, "reason": "Reason", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn a_certificate_that_is_ready_and_in_time_is_no_trouble() {
        let ready = json!({"conditions": [is("Ready", "True", "up to date")], "notAfter": "2026-09-01T00:00:00Z",
            "renewalTime": "2026-08-01T00:00:00Z"});
        assert_eq!(
            says(&looked(certificate(&ready), Lookup::NotFound)),
            None,
            "its issuer matters at the next renewal"
        );
        let hidden = looked(Lookup::Unknown("you may not".to_owned()), Lookup::NotFound);
        assert_eq!(says(&hidden), None, "nothing is said about what nobody saw");
    }

    #[test]
    fn the_nearest_cause_is_named() {
        let unready =
            certificate(&json!({"conditions": [is("Ready", "False", "Secret does not exist.")]}));
        let expect = |issuer: Lookup<Issuer>, why: &str, mend: &str| {
            let (says, how) = says(&looked(unready.clone(), issuer)).expect("trouble");
            assert_eq!(
                says,
                format!("certificate tls in namespace floe is not Ready: {why}")
            );
            assert_eq!(how, mend);
        };
        expect(
            Lookup::NotFound,
            "issuer ca not found",
            "kubectl -n floe get issuers",
        );
        expect(
            issuer(&json!([is("Ready", "False", "secret \"ca\" not found")])),
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
            issuer(&json!([is("Ready", "True", "")])),
            "Secret does not exist",
            describe,
        );
        expect(
            Lookup::Unknown("you may not".to_owned()),
            "Secret does not exist",
            describe,
        );

        let failed = json!({"conditions": [is("Ready", "False", "no Secret"), is("Issuing", "False", "denied by policy")]});
        let (says, _) = says(&looked(
            certificate(&failed),
            issuer(&json!([is("Ready", "True", "")])),
        ))
        .expect("trouble");
        assert!(says.ends_with("is not Ready: denied by policy"), "{says}");
    }

    #[test]
    fn what_is_missing_or_late_is_told_apart() {
        let absent = looked(Lookup::NotFound, Lookup::NotFound);
        assert_eq!(
            says(&absent).expect("trouble").0,
            "certificate tls in namespace floe not found"
        );
        let none = Looked {
            served: false,
            ..absent
        };
        assert!(
            says(&none)
                .expect("trouble")
                .0
                .ends_with("the cluster has no cert-manager (cert-manager.io/v1)")
        );
        let young = looked(certificate(&json!({})), Lookup::NotFound);
        assert!(
            says(&young)
                .expect("trouble")
                .0
                .contains("has not looked at it")
        );
        let at = |not_after: &str, renewal: &str| {
            let ready = json!({"conditions": [is("Ready", "True", "")], "notAfter": not_after, "renewalTime": renewal});
            says(&looked(certificate(&ready), Lookup::NotFound)).map(|(says, _)| says)
        };
        assert!(
            at("2026-06-01T00:00:00Z", "2026-05-01T00:00:00Z")
                .expect("trouble")
                .contains("has expired")
        );
        let late = at("2026-07-01T00:00:00Z", "2026-05-31T22:00:00Z").expect("trouble");
        assert!(late.contains("should have been renewed"), "{late}");
        assert_eq!(at("2026-07-01T00:00:00Z", "2026-05-31T23:30:00Z"), None);
    }

    #[test]
    fn a_cluster_issuer_is_of_no_namespace() {
        let object = json!({
            "metadata": {"name": "tls"}, "spec": {"issuerRef": {"name": "corp", "kind": "ClusterIssuer"}},
            "status": {"conditions": [is("Ready", "False", "")]},
        });
        let certificate = Lookup::Found(serde_json::from_value(object).expect("a certificate"));
        let (says, mend) = says(&looked(certificate, Lookup::NotFound)).expect("trouble");
        assert!(says.ends_with("clusterissuer corp not found"), "{says}");
        assert_eq!(mend, "kubectl get clusterissuers");
        let foreign = IssuerRef {
            name: "x".to_owned(),
            kind: Some("AWSPCAIssuer".to_owned()),
            group: Some("awspca.cert-manager.io".to_owned()),
        };
        assert!(!foreign.is_ours());
    }
}
