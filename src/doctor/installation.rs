//! What was seen of an installation, and what follows from it without judging: who made it, with which arguments it
//! runs, where its certificate comes from.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ObjectMeta;

use crate::kubernetes::Lookup;
use crate::kubernetes::cert_manager;
use crate::kubernetes::tls_secret::PublicCertificates;

/// The plain manifests' and the chart's default name, of the Service and of the Deployment.
pub const DEFAULT_NAME: &str = "floe-secrets-webhook";

/// The annotation that names the certificate of which cert-manager writes the CA.
const INJECT_CA_FROM: &str = "cert-manager.io/inject-ca-from";

/// The label that the chart gives its objects when it is a subchart; its value is the key of its values.
const SUBCHART: &str = "floe.dev/subchart";

/// What was seen. Lists are at most a page long.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The API server's version.
    pub version: String,
    /// Its time.
    pub now: Timestamp,
    /// The configuration's name, as it is or as it should be.
    pub name: String,
    /// The configuration.
    pub configuration: Lookup<MutatingWebhookConfiguration>,
    /// Other configurations with entries of ours that may concern the same namespaces.
    pub alike: Vec<Alike>,
    /// Where it runs.
    pub namespace: String,
    /// The Service's name; `None` when the entries name a URL.
    pub service_name: Option<String>,
    /// The Service.
    pub service: Lookup<Service>,
    /// What it leads to.
    pub slices: Lookup<Vec<EndpointSlice>>,
    /// The Deployments of the namespace.
    pub deployments: Lookup<Vec<Deployment>>,
    /// The pods with our labels.
    pub pods: Lookup<Vec<Pod>>,
    /// The disruption budgets of the namespace.
    pub budgets: Lookup<Vec<PodDisruptionBudget>>,
    /// The network policies of the namespace.
    pub policies: Lookup<Vec<NetworkPolicy>>,
    /// The controller's lease.
    pub lease: Lookup<Lease>,
    /// The certificates of the TLS Secret, never its key.
    pub pair: Lookup<PublicCertificates>,
    /// The chain that the URL's server shows.
    pub served: Option<Lookup<PublicCertificates>>,
    /// cert-manager's, where it makes the certificate.
    pub certificate: Option<cert_manager::Looked>,
}

/// Another configuration with entries of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alike {
    /// Its name.
    pub name: String,
    /// Whether labels keep it apart, so that it may concern other namespaces or other objects.
    pub labelled: bool,
}

/// Whose cluster it is, where that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// GKE.
    Google,
    /// EKS.
    Amazon,
}

/// Who made the objects, and so who mends them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstallMethod {
    /// A Helm release.
    Helm {
        /// Its name.
        release: String,
        /// Its namespace.
        namespace: String,
        /// It was applied on the server's side, as Helm 4 does. Then what somebody else has set since is a conflict.
        applied: bool,
        /// The key of our values where the release is of a chart that has ours as a subchart: an upgrade of the
        /// release with our chart alone would remove everything else.
        subchart: Option<String>,
    },
    /// The plain manifests, or something unknown: the folder that is applied.
    Manifests(&'static str),
}

impl InstallMethod {
    /// Brings back every object as it is written.
    #[must_use]
    pub fn again(&self) -> String {
        self.set("")
    }

    /// The same with values, as in `--set a=b`.
    #[must_use]
    pub fn set(&self, values: &str) -> String {
        match self {
            Self::Helm {
                release,
                namespace,
                applied,
                subchart,
            } => {
                let chart = if subchart.is_some() {
                    "PARENT-CHART"
                } else {
                    "charts/floe-secrets-webhook"
                };
                let mut command =
                    format!("helm upgrade {release} {chart} -n {namespace} --reuse-values");
                if *applied {
                    command.push_str(" --force-conflicts");
                }
                if !values.is_empty() {
                    command.push(' ');
                    command.push_str(
                        &subchart
                            .as_ref()
                            .map_or_else(|| values.to_owned(), |key| below(key, values)),
                    );
                }
                command
            }
            Self::Manifests(folder) => {
                format!("kubectl apply --server-side --force-conflicts -k {folder}")
            }
        }
    }
}

/// The same values below a key, as a parent chart has them.
fn below(key: &str, values: &str) -> String {
    let at = values
        .strip_prefix("--set ")
        .map(|assignment| match assignment.strip_prefix('\'') {
            Some(quoted) => format!("--set '{key}.{quoted}"),
            None => format!("--set {key}.{assignment}"),
        });
    at.unwrap_or_else(|| values.to_owned())
}

/// Where the serving certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// cert-manager makes it and writes the CA.
    CertManager {
        /// The Certificate's namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The controller.
    SelfManaged,
    /// Somebody else.
    Existing,
}

impl Installation {
    /// The entries.
    pub fn entries(&self) -> &[MutatingWebhook] {
        self.configuration
            .there()
            .and_then(|found| found.webhooks.as_deref())
            .unwrap_or_default()
    }

    /// The cloud, by the API server's version.
    pub fn cloud(&self) -> Option<Cloud> {
        if self.version.contains("-gke.") {
            Some(Cloud::Google)
        } else {
            self.version.contains("-eks-").then_some(Cloud::Amazon)
        }
    }

    /// The Deployment of this component.
    pub fn deployment(&self, component: &str) -> Option<&Deployment> {
        self.deployments.there()?.iter().find(|deployment| {
            let labels = deployment
                .spec
                .as_ref()
                .and_then(|spec| spec.template.metadata.as_ref()?.labels.as_ref());
            labels.is_some_and(|labels| {
                labels
                    .get("app.kubernetes.io/component")
                    .is_some_and(|value| value == component)
                    && (component != "webhook" || includes(labels, self.selector()))
            })
        })
    }

    /// What the Service selects.
    pub fn selector(&self) -> Option<&BTreeMap<String, String>> {
        self.service.there()?.spec.as_ref()?.selector.as_ref()
    }

    /// The value of `--FLAG=VALUE` of a component.
    pub fn argument(&self, component: &str, flag: &str) -> Option<&str> {
        argument(self.deployment(component)?, flag)
    }

    /// The namespaces that Secrets are read in; empty for all.
    pub fn scope(&self) -> Vec<&str> {
        self.argument("webhook", "--namespaces")
            .map(|list| list.split(',').collect())
            .unwrap_or_default()
    }

    /// The Secret of the certificate.
    pub fn secret_name(&self) -> String {
        let of_flag = self.argument("webhook", "--tls-secret").map(str::to_owned);
        let of_volume = || {
            let spec = pod_spec(self.deployment("webhook")?)?;
            let volume = spec
                .volumes
                .as_ref()?
                .iter()
                .find(|volume| volume.name == "tls")?;
            volume.secret.as_ref()?.secret_name.clone()
        };
        let default = || {
            format!(
                "{}-tls",
                self.service_name.as_deref().unwrap_or(DEFAULT_NAME)
            )
        };
        of_flag.or_else(of_volume).unwrap_or_else(default)
    }

    /// Where the certificate comes from.
    pub fn tls(&self) -> Tls {
        let annotation = self
            .configuration
            .there()
            .and_then(|found| found.metadata.annotations.as_ref()?.get(INJECT_CA_FROM));
        if let Some((namespace, name)) = annotation.and_then(|value| value.split_once('/')) {
            Tls::CertManager {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }
        } else if let Some(name) = self.argument("webhook", "--tls-certificate") {
            Tls::CertManager {
                namespace: self.namespace.clone(),
                name: name.to_owned(),
            }
        } else if self.argument("webhook", "--tls-secret").is_some() {
            Tls::SelfManaged
        } else {
            Tls::Existing
        }
    }

    /// Who made it.
    pub fn origin(&self) -> InstallMethod {
        let all = [
            self.configuration.there().map(|found| &found.metadata),
            self.deployment("webhook").map(|found| &found.metadata),
            self.service.there().map(|found| &found.metadata),
        ];
        let helm = |metadata: &ObjectMeta| {
            let annotations = metadata.annotations.as_ref()?;
            let mut managers = metadata.managed_fields.iter().flatten();
            let applied = managers.any(|entry| {
                entry.manager.as_deref() == Some("helm")
                    && entry.operation.as_deref() == Some("Apply")
            });
            Some(InstallMethod::Helm {
                applied,
                subchart: metadata
                    .labels
                    .as_ref()
                    .and_then(|labels| labels.get(SUBCHART))
                    .cloned(),
                release: annotations.get("meta.helm.sh/release-name")?.clone(),
                namespace: annotations.get("meta.helm.sh/release-namespace")?.clone(),
            })
        };
        let manifests = || match self.tls() {
            Tls::CertManager { .. } => InstallMethod::Manifests("manifests/webhook-cert-manager"),
            Tls::SelfManaged | Tls::Existing => InstallMethod::Manifests("manifests/webhook"),
        };
        all.into_iter()
            .flatten()
            .find_map(helm)
            .unwrap_or_else(manifests)
    }
}

/// Whether all labels of `some` are among `all`.
pub(super) fn includes(
    all: &BTreeMap<String, String>,
    some: Option<&BTreeMap<String, String>>,
) -> bool {
    some.is_none_or(|some| some.iter().all(|(key, value)| all.get(key) == Some(value)))
}

/// A Deployment's pods.
pub(super) fn pod_spec(deployment: &Deployment) -> Option<&PodSpec> {
    deployment.spec.as_ref()?.template.spec.as_ref()
}

/// Our container: the first.
pub(super) fn container(deployment: &Deployment) -> Option<&Container> {
    pod_spec(deployment)?.containers.first()
}

/// The value of `--FLAG=VALUE`.
pub(super) fn argument<'d>(deployment: &'d Deployment, flag: &str) -> Option<&'d str> {
    let args = container(deployment)?.args.as_ref()?;
    args.iter()
        .find_map(|argument| argument.strip_prefix(flag)?.strip_prefix('='))
}

/// An object's name.
pub(super) fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::test_support::{installation, merged};
    use super::*;

    #[test]
    fn who_made_it_is_who_mends_it() {
        let mut seen = installation();
        assert_eq!(seen.origin(), InstallMethod::Manifests("manifests/webhook"));
        let again = |seen: &mut Installation, operation: &str| {
            if let Lookup::Found(service) = &mut seen.service {
                *service = merged(
                    service,
                    &json!({"metadata": {
                        "annotations": {"meta.helm.sh/release-name": "a", "meta.helm.sh/release-namespace": "b"},
                        "managedFields": [{"manager": "helm", "operation": operation}],
                    }}),
                );
            }
            seen.origin().set("--set c=d")
        };
        let expected = "helm upgrade a charts/floe-secrets-webhook -n b --reuse-values";
        // Helm 3 knows no conflicts, and not the flag.
        assert_eq!(again(&mut seen, "Update"), format!("{expected} --set c=d"));
        assert_eq!(
            again(&mut seen, "Apply"),
            format!("{expected} --force-conflicts --set c=d")
        );
    }

    /// Our chart in the place of the parent's would remove the rest of its release.
    #[test]
    fn subcharts_are_mended_by_their_parent() {
        let mut seen = installation();
        if let Lookup::Found(service) = &mut seen.service {
            let annotations =
                json!({"meta.helm.sh/release-name": "a", "meta.helm.sh/release-namespace": "b"});
            let labels = json!({"floe.dev/subchart": "secretsWebhook"});
            *service = merged(
                service,
                &json!({"metadata": {"annotations": annotations, "labels": labels}}),
            );
        }
        let origin = seen.origin();
        let command = "helm upgrade a PARENT-CHART -n b --reuse-values";
        assert_eq!(origin.again(), command);
        assert_eq!(
            origin.set("--set c=d"),
            format!("{command} --set secretsWebhook.c=d")
        );
        assert_eq!(
            origin.set("--set 'c={d,e}'"),
            format!("{command} --set 'secretsWebhook.c={{d,e}}'")
        );
        assert_eq!(
            origin.set("--values values.yaml"),
            format!("{command} --values values.yaml")
        );
    }

    #[test]
    fn arguments_say_where_things_are() {
        let seen = installation();
        assert_eq!(seen.secret_name(), "floe-secrets-webhook-tls");
        assert_eq!(seen.tls(), Tls::Existing);
        assert_eq!(
            seen.argument("controller", "--lease-name"),
            Some("floe-secrets-controller")
        );
        assert_eq!(seen.argument("webhook", "--lease-name"), None);
        assert!(seen.scope().is_empty() && seen.deployment("admin").is_none());
    }
}
