//! An installation as it was read, and properties that follow from its objects: its install method, the arguments of
//! its components, the source of its certificate.

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

use super::install_method::InstallMethod;
use crate::kubernetes::Lookup;
use crate::kubernetes::cert_manager;
use crate::kubernetes::tls_secret::PublicCertificates;

/// Default name of the Service and of the Deployment, in the plain manifests and in the chart.
pub const DEFAULT_NAME: &str = "floe-secrets-webhook";

/// Default name of the controller's Lease.
pub const DEFAULT_LEASE: &str = "floe-secrets-controller";

/// Annotation with the certificate whose CA cert-manager writes into the entries.
const INJECT_CA_FROM_ANNOTATION: &str = "cert-manager.io/inject-ca-from";

/// Objects of an installation. Lists have at most one page.
#[derive(Clone, Debug)]
pub struct Installation {
    /// Version of the API server.
    pub version: String,
    /// Time of the API server.
    pub now: Timestamp,
    /// Actual or expected name of the configuration.
    pub configuration_name: String,
    pub configuration: Lookup<MutatingWebhookConfiguration>,
    pub similar: Vec<SimilarConfiguration>,
    /// Namespace of the webhook.
    pub namespace: String,
    /// Name of the Service; `None` if the entries name a URL.
    pub service_name: Option<String>,
    pub service: Lookup<Service>,
    pub slices: Lookup<Vec<EndpointSlice>>,
    /// All Deployments of the namespace.
    pub deployments: Lookup<Vec<Deployment>>,
    /// Pods with the webhook's labels.
    pub pods: Lookup<Vec<Pod>>,
    /// All disruption budgets of the namespace.
    pub budgets: Lookup<Vec<PodDisruptionBudget>>,
    /// All network policies of the namespace.
    pub network_policies: Lookup<Vec<NetworkPolicy>>,
    /// Lease of the controller.
    pub lease: Lookup<Lease>,
    /// Certificates of the TLS Secret, never its key.
    pub secret_certificates: Lookup<PublicCertificates>,
    /// Certificates that the URL's server presents.
    pub served_certificates: Option<Lookup<PublicCertificates>>,
    /// The Certificate and its issuer, in cert-manager mode.
    pub cert_manager: Option<cert_manager::ObservedCertificate>,
}

/// Another configuration with entries of this webhook that may match objects in the same namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimilarConfiguration {
    pub name: String,
    /// Whether conditions on labels differ, so that it may match other namespaces or other objects.
    pub labelled: bool,
}

/// Cloud provider of the cluster, where a fix depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// GKE.
    Google,
    /// EKS.
    Amazon,
}

/// Source of the serving certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// cert-manager issues it and writes the CA.
    CertManager {
        /// Namespace of the Certificate.
        namespace: String,
        /// Name of the Certificate.
        name: String,
    },
    /// The controller issues it and writes the CA.
    SelfManaged,
    /// A Secret that is written by others.
    Existing,
}

impl Installation {
    pub fn entries(&self) -> &[MutatingWebhook] {
        self.configuration
            .found()
            .and_then(|found| found.webhooks.as_deref())
            .unwrap_or_default()
    }

    /// Returns the cloud provider, from the API server's version.
    pub fn cloud(&self) -> Option<Cloud> {
        if self.version.contains("-gke.") {
            Some(Cloud::Google)
        } else {
            self.version.contains("-eks-").then_some(Cloud::Amazon)
        }
    }

    /// Returns the Deployment of a component: `webhook`, `controller` or `admin`.
    pub fn deployment(&self, component: &str) -> Option<&Deployment> {
        self.deployments.found()?.iter().find(|deployment| {
            pod_labels(deployment).is_some_and(|labels| {
                is_component(labels, component)
                    && (component != "webhook" || includes(labels, self.selector()))
            })
        })
    }

    /// Returns the selector of the Service.
    pub fn selector(&self) -> Option<&BTreeMap<String, String>> {
        self.service.found()?.spec.as_ref()?.selector.as_ref()
    }

    /// Returns the value of `--FLAG=VALUE` of a component.
    pub fn argument(&self, component: &str, flag: &str) -> Option<&str> {
        argument(self.deployment(component)?, flag)
    }

    /// Returns the namespaces in which Secrets are read; empty for all.
    pub fn scope(&self) -> Vec<&str> {
        self.argument("webhook", "--namespaces")
            .map(|list| list.split(',').collect())
            .unwrap_or_default()
    }

    /// Returns the name of the controller's Lease.
    pub fn lease_name(&self) -> &str {
        self.argument("controller", "--lease-name")
            .unwrap_or(DEFAULT_LEASE)
    }

    /// Returns the name of the TLS Secret of a component, from its arguments or its volumes.
    pub fn tls_secret_of(&self, component: &str) -> Option<String> {
        let deployment = self.deployment(component)?;
        let of_volume = || {
            let volumes = pod_spec(deployment)?.volumes.as_ref()?;
            let volume = volumes.iter().find(|volume| volume.name == "tls")?;
            volume.secret.as_ref()?.secret_name.clone()
        };
        let of_flag = argument(deployment, "--tls-secret").map(str::to_owned);
        of_flag.or_else(of_volume)
    }

    /// Returns the name of the TLS Secret of the webhook.
    pub fn secret_name(&self) -> String {
        let default = || {
            format!(
                "{}-tls",
                self.service_name.as_deref().unwrap_or(DEFAULT_NAME)
            )
        };
        self.tls_secret_of("webhook").unwrap_or_else(default)
    }

    pub fn certificate_source(&self) -> CertificateSource {
        let annotation = self.configuration.found().and_then(|found| {
            found
                .metadata
                .annotations
                .as_ref()?
                .get(INJECT_CA_FROM_ANNOTATION)
        });
        if let Some((namespace, name)) = annotation.and_then(|value| value.split_once('/')) {
            CertificateSource::CertManager {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }
        } else if let Some(name) = self.argument("webhook", "--tls-certificate") {
            CertificateSource::CertManager {
                namespace: self.namespace.clone(),
                name: name.to_owned(),
            }
        } else if self.argument("webhook", "--tls-secret").is_some() {
            CertificateSource::SelfManaged
        } else {
            CertificateSource::Existing
        }
    }

    pub fn install_method(&self) -> InstallMethod {
        let objects = [
            self.configuration.found().map(|found| &found.metadata),
            self.deployment("webhook").map(|found| &found.metadata),
            self.service.found().map(|found| &found.metadata),
        ];
        let manifests = || {
            InstallMethod::Manifests(match self.certificate_source() {
                CertificateSource::CertManager { .. } => "manifests/webhook-cert-manager",
                CertificateSource::SelfManaged | CertificateSource::Existing => "manifests/webhook",
            })
        };
        objects
            .into_iter()
            .flatten()
            .find_map(InstallMethod::of_helm_object)
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

pub(super) fn is_component(labels: &BTreeMap<String, String>, component: &str) -> bool {
    labels
        .get("app.kubernetes.io/component")
        .is_some_and(|value| value == component)
}

/// Returns the labels of a Deployment's pods.
pub(super) fn pod_labels(deployment: &Deployment) -> Option<&BTreeMap<String, String>> {
    let template = &deployment.spec.as_ref()?.template;
    template.metadata.as_ref()?.labels.as_ref()
}

pub(super) fn pod_spec(deployment: &Deployment) -> Option<&PodSpec> {
    deployment.spec.as_ref()?.template.spec.as_ref()
}

/// Returns the first container, which is the program's own; injected sidecars follow it.
pub(super) fn container(deployment: &Deployment) -> Option<&Container> {
    pod_spec(deployment)?.containers.first()
}

/// Returns the value of `--FLAG=VALUE`.
pub(super) fn argument<'d>(deployment: &'d Deployment, flag: &str) -> Option<&'d str> {
    let args = container(deployment)?.args.as_ref()?;
    args.iter()
        .find_map(|argument| argument.strip_prefix(flag)?.strip_prefix('='))
}

pub(super) fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::test_support::{healthy_installation, merged};
    use super::*;

    #[test]
    fn install_method_is_the_release_of_any_object() {
        let mut installation = healthy_installation();
        assert_eq!(
            installation.install_method(),
            InstallMethod::Manifests("manifests/webhook")
        );
        if let Lookup::Found(service) = &mut installation.service {
            let annotations =
                json!({"meta.helm.sh/release-name": "a", "meta.helm.sh/release-namespace": "b"});
            *service = merged(service, &json!({"metadata": {"annotations": annotations}}));
        }
        let release = InstallMethod::Helm {
            release: "a".to_owned(),
            namespace: "b".to_owned(),
            applied: false,
            subchart: None,
        };
        assert_eq!(installation.install_method(), release);
    }

    #[test]
    fn names_and_certificate_source_follow_the_arguments() {
        let installation = healthy_installation();
        assert_eq!(installation.secret_name(), "floe-secrets-webhook-tls");
        assert_eq!(
            installation.certificate_source(),
            CertificateSource::Existing
        );
        assert_eq!(
            installation.argument("controller", "--lease-name"),
            Some("floe-secrets-controller")
        );
        assert_eq!(installation.argument("webhook", "--lease-name"), None);
        assert_eq!(
            installation.tls_secret_of("admin").as_deref(),
            Some("floe-secrets-webhook-admin-tls")
        );
        assert!(installation.scope().is_empty() && installation.deployment("console").is_none());
    }
}
