//! The IO: what is looked at, each by itself, with the rights of whoever asks. Lists end after one page.

use std::sync::Arc;
use std::time::Duration;

use http::header::DATE;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::client::Body;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::entries;
use super::installation::{Alike, DEFAULT_NAME, Installation, Tls, name};
use super::served;
use crate::kubernetes::ObjectApi;
use crate::kubernetes::cert_manager;
use crate::kubernetes::lookup::{Lookup, look};
use crate::kubernetes::proxy;
use crate::kubernetes::tls_secret::TlsSecret;

/// Objects in a list.
const PAGE: u32 = 100;

/// How long the API server may take for its version.
const FIRST: Duration = Duration::from_secs(30);

/// The name where none is given and none is found.
const DEFAULT_CONFIGURATION: &str = "zz-floe-secrets-webhook";

/// The API server, and its clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// `v1.36.3`.
    pub version: String,
    /// What it says the time is.
    pub now: Timestamp,
    /// How far the clock here is ahead of it, in seconds.
    pub ahead: i64,
}

/// Asks for its version; `here` is the clock of this machine.
///
/// # Errors
/// A sentence, when nothing can be looked at.
pub async fn api_server(client: &Client, here: fn() -> Timestamp) -> Result<ApiServer, String> {
    let asked = async {
        let request = http::Request::get("/version")
            .body(Body::empty())
            .map_err(|error| error.to_string())?;
        let answer = client.send(request).await.map_err(|error| match error {
            kube::Error::Auth(_) => "no credential for the API server could be obtained".to_owned(),
            error => proxy::fault(&error)
                .unwrap_or_else(|| "the API server cannot be reached".to_owned()),
        })?;
        let status = answer.status();
        let date = answer
            .headers()
            .get(DATE)
            .and_then(|date| date.to_str().ok())
            .and_then(http_date);
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(|_| "the answer broke off".to_owned())?
            .to_bytes();
        if !status.is_success() {
            return Err(format!(
                "the API server answered HTTP {} to /version",
                status.as_u16()
            ));
        }
        let body: serde_json::Value = serde_json::from_slice(&body)
            .map_err(|_| "what answers is no Kubernetes API server".to_owned())?;
        let version = body.get("gitVersion").and_then(serde_json::Value::as_str);
        let version = version
            .ok_or("what answers is no Kubernetes API server")?
            .to_owned();
        let now = date.unwrap_or_else(here);
        Ok(ApiServer {
            version,
            now,
            ahead: here().as_second() - now.as_second(),
        })
    };
    timeout(FIRST, asked)
        .await
        .unwrap_or_else(|_| Err("the API server did not answer in time".to_owned()))
}

/// `Sun, 22 Nov 2026 17:41:03 GMT`.
fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text)
        .ok()
        .map(|time| time.timestamp())
}

/// What to look for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The configuration, when it is not to be found by its entries.
    pub configuration: Option<String>,
    /// Where the webhook runs, when the configuration does not say.
    pub namespace: String,
}

/// Looks at everything.
pub async fn read(client: &Client, wanted: &Wanted, server: &ApiServer) -> Installation {
    let (name, configuration, alike) =
        configurations(client, wanted.configuration.as_deref()).await;
    let entries = configuration
        .there()
        .and_then(|found| found.webhooks.as_deref())
        .unwrap_or_default();
    let reference = entries
        .iter()
        .find_map(|entry| entry.client_config.service.as_ref());
    let url = entries
        .iter()
        .find_map(|entry| entry.client_config.url.clone());
    let namespace = reference.map_or_else(
        || wanted.namespace.clone(),
        |service| service.namespace.clone(),
    );
    let service_name = match (&reference, &url) {
        (Some(service), _) => Some(service.name.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(DEFAULT_NAME.to_owned()),
    };
    let mut seen = Installation {
        version: server.version.clone(),
        now: server.now,
        name,
        configuration,
        alike,
        namespace: namespace.clone(),
        service: Lookup::NotFound,
        slices: Lookup::NotFound,
        deployments: list(client, &namespace, &ListParams::default()).await,
        pods: list(
            client,
            &namespace,
            &ListParams::default().labels("app.kubernetes.io/component=webhook"),
        )
        .await,
        budgets: list(client, &namespace, &ListParams::default()).await,
        policies: list(client, &namespace, &ListParams::default()).await,
        lease: Lookup::NotFound,
        pair: Lookup::NotFound,
        served: None,
        certificate: None,
        service_name,
    };
    if let Some(name) = &seen.service_name {
        let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
        seen.service = look(services.get_opt(name)).await;
        let slices = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
        seen.slices = list::<EndpointSlice>(client, &namespace, &slices).await;
    }
    if seen.deployment("controller").is_some() {
        let name = seen
            .argument("controller", "--lease-name")
            .unwrap_or("floe-secrets-controller");
        let leases: Api<Lease> = Api::namespaced(client.clone(), &namespace);
        seen.lease = look(leases.get_opt(name)).await;
    }
    let secret = TlsSecret::new(
        ObjectApi::new(client.clone()),
        &namespace,
        &seen.secret_name(),
    );
    seen.pair = secret.certificates().await.into();
    if let (None, Some(url)) = (&seen.service_name, url) {
        seen.served = Some(
            served::look(
                &url,
                Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            )
            .await,
        );
    }
    if let Tls::CertManager { namespace, name } = seen.tls() {
        seen.certificate = Some(cert_manager::look(client, &namespace, &name).await);
    }
    seen
}

/// The configuration, its name, and others with entries of ours.
async fn configurations(
    client: &Client,
    wanted: Option<&str>,
) -> (String, Lookup<MutatingWebhookConfiguration>, Vec<Alike>) {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let params = ListParams::default().limit(PAGE);
    let listed = look(async { api.list(&params).await.map(|list| Some(list.items)) }).await;
    let Lookup::Found(all) = listed else {
        // Who may not list may still be allowed this one.
        let name = wanted.unwrap_or(DEFAULT_CONFIGURATION).to_owned();
        let found = look(api.get_opt(&name)).await;
        return (name, found, Vec::new());
    };
    let mut ours: Vec<MutatingWebhookConfiguration> = all
        .into_iter()
        .filter(|found| entries::is_ours(found.webhooks.as_deref().unwrap_or_default()))
        .collect();
    let default = wanted.unwrap_or(DEFAULT_CONFIGURATION);
    let at = ours
        .iter()
        .position(|found| name(&found.metadata) == default);
    let at = at.or_else(|| (wanted.is_none() && !ours.is_empty()).then_some(0));
    let chosen = at.map(|at| ours.remove(at));
    let entries = chosen
        .as_ref()
        .and_then(|found| found.webhooks.as_deref())
        .unwrap_or_default();
    ours.retain(|other| entries::overlap(entries, other.webhooks.as_deref().unwrap_or_default()));
    let alike = |other: &MutatingWebhookConfiguration| Alike {
        name: name(&other.metadata).to_owned(),
        labelled: entries::apart_by_labels(entries, other.webhooks.as_deref().unwrap_or_default()),
    };
    let alike = ours.iter().map(alike).collect();
    match chosen {
        Some(found) => (
            name(&found.metadata).to_owned(),
            Lookup::Found(found),
            alike,
        ),
        // By its name, with entries of other names, or not in the first page.
        None => (default.to_owned(), look(api.get_opt(default)).await, alike),
    }
}

/// A page of a namespace's objects of a kind.
async fn list<K>(client: &Client, namespace: &str, params: &ListParams) -> Lookup<Vec<K>>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
    <K as Resource>::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let params = params.clone().limit(PAGE);
    look(async { api.list(&params).await.map(|list| Some(list.items)) }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_servers_clock_is_read() {
        let read = http_date("Sun, 22 Nov 2026 17:41:03 GMT").expect("a date");
        assert_eq!(read.to_string(), "2026-11-22T17:41:03Z");
    }
}
