//! Reads the objects of an installation, each by itself, with the caller's permissions. Lists end after one page.

use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::checks::api_server::ApiServer;
use super::entries;
use super::installation::{
    CertificateSource, DEFAULT_NAME, Installation, SimilarConfiguration, name,
};
use super::served_certificate;
use crate::kubernetes::ObjectApi;
use crate::kubernetes::cert_manager;
use crate::kubernetes::lookup::{Lookup, read_optional};
use crate::kubernetes::tls_secret::{PublicCertificates, TlsSecret};

/// Limit of objects in a list.
const PAGE_SIZE: u32 = 100;

/// Name of the configuration if none is given and none is found.
const DEFAULT_CONFIGURATION: &str = "zz-floe-secrets-webhook";

/// Installation to read.
#[derive(Clone, Debug)]
pub struct InstallationTarget {
    /// Name of the configuration; if absent, it is found by its entries.
    pub configuration: Option<String>,
    /// Namespace of the webhook if its configuration does not name one.
    pub namespace: String,
}

/// Reads the installation.
pub async fn read(
    client: &Client,
    target: &InstallationTarget,
    server: &ApiServer,
) -> Installation {
    let (configuration_name, configuration, similar) =
        read_configurations(client, target.configuration.as_deref()).await;
    let entries = configuration
        .found()
        .and_then(|found| found.webhooks.as_deref())
        .unwrap_or_default();
    let reference = entries
        .iter()
        .find_map(|entry| entry.client_config.service.as_ref());
    let url = entries
        .iter()
        .find_map(|entry| entry.client_config.url.clone());
    let namespace = reference.map_or_else(
        || target.namespace.clone(),
        |service| service.namespace.clone(),
    );
    let service_name = match (&reference, &url) {
        (Some(service), _) => Some(service.name.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(DEFAULT_NAME.to_owned()),
    };
    let all = ListParams::default();
    let webhook_pods = ListParams::default().labels("app.kubernetes.io/component=webhook");
    let mut installation = Installation {
        version: server.version.clone(),
        now: server.now,
        configuration_name,
        configuration,
        similar,
        namespace: namespace.clone(),
        service: Lookup::NotFound,
        slices: Lookup::NotFound,
        deployments: list(client, &namespace, &all).await,
        pods: list(client, &namespace, &webhook_pods).await,
        budgets: list(client, &namespace, &all).await,
        network_policies: list(client, &namespace, &all).await,
        lease: Lookup::NotFound,
        secret_certificates: Lookup::NotFound,
        served_certificates: None,
        cert_manager: None,
        service_name,
    };
    if let Some(name) = &installation.service_name {
        (installation.service, installation.slices) = read_service(client, &namespace, name).await;
    }
    if installation.deployment("controller").is_some() {
        let leases: Api<Lease> = Api::namespaced(client.clone(), &namespace);
        installation.lease = read_optional(leases.get_opt(installation.lease_name())).await;
    }
    read_certificates(client, &mut installation, url).await;
    installation
}

async fn read_service(
    client: &Client,
    namespace: &str,
    name: &str,
) -> (Lookup<Service>, Lookup<Vec<EndpointSlice>>) {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let service = read_optional(services.get_opt(name)).await;
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
    (service, list(client, namespace, &of_service).await)
}

/// Reads the certificates of the Secret and of the URL's server, and what cert-manager reports.
async fn read_certificates(client: &Client, installation: &mut Installation, url: Option<String>) {
    let secret = TlsSecret::new(
        ObjectApi::new(client.clone()),
        &installation.namespace,
        &installation.secret_name(),
    );
    installation.secret_certificates = secret.certificates().await.into();
    if let (None, Some(url)) = (&installation.service_name, url) {
        installation.served_certificates = Some(read_served_certificates(&url).await);
    }
    if let CertificateSource::CertManager { namespace, name } = installation.certificate_source() {
        installation.cert_manager = Some(cert_manager::read(client, &namespace, &name).await);
    }
}

async fn read_served_certificates(url: &str) -> Lookup<PublicCertificates> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    served_certificate::read(url, Arc::new(provider)).await
}

/// Returns the name of the configuration, the configuration, and others with entries of this webhook.
async fn read_configurations(
    client: &Client,
    requested: Option<&str>,
) -> (
    String,
    Lookup<MutatingWebhookConfiguration>,
    Vec<SimilarConfiguration>,
) {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let params = ListParams::default().limit(PAGE_SIZE);
    let default = requested.unwrap_or(DEFAULT_CONFIGURATION);
    let listed =
        read_optional(async { api.list(&params).await.map(|list| Some(list.items)) }).await;
    let Lookup::Found(all) = listed else {
        // A caller who may not list may still be allowed to get this one.
        let found = read_optional(api.get_opt(default)).await;
        return (default.to_owned(), found, Vec::new());
    };
    let mut candidates: Vec<MutatingWebhookConfiguration> = all
        .into_iter()
        .filter(|found| entries::has_shipped_entry(entries_of(found)))
        .collect();
    let position = candidates
        .iter()
        .position(|found| name(&found.metadata) == default)
        .or_else(|| (requested.is_none() && !candidates.is_empty()).then_some(0));
    let chosen = position.map(|position| candidates.remove(position));
    let entries = chosen.as_ref().map(entries_of).unwrap_or_default();
    let similar = similar_to(entries, &candidates);
    match chosen {
        Some(found) => (
            name(&found.metadata).to_owned(),
            Lookup::Found(found),
            similar,
        ),
        // It may have entries of other names, or not be in the first page.
        None => (
            default.to_owned(),
            read_optional(api.get_opt(default)).await,
            similar,
        ),
    }
}

fn entries_of(configuration: &MutatingWebhookConfiguration) -> &[MutatingWebhook] {
    configuration.webhooks.as_deref().unwrap_or_default()
}

fn similar_to(
    entries: &[MutatingWebhook],
    others: &[MutatingWebhookConfiguration],
) -> Vec<SimilarConfiguration> {
    others
        .iter()
        .filter(|other| entries::overlap(entries, entries_of(other)))
        .map(|other| SimilarConfiguration {
            name: name(&other.metadata).to_owned(),
            labelled: entries::apart_by_labels(entries, entries_of(other)),
        })
        .collect()
}

/// Reads the first page of a namespace's objects of a kind.
async fn list<K>(client: &Client, namespace: &str, params: &ListParams) -> Lookup<Vec<K>>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    <K as Resource>::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let params = params.clone().limit(PAGE_SIZE);
    read_optional(async { api.list(&params).await.map(|list| Some(list.items)) }).await
}
