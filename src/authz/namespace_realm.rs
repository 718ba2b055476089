//! Label of a namespace that names its realm. Only metadata of the namespace are read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use super::limiter::CallLimiter;
use super::reviewer::AccessUnavailable;
use super::shared_cache::SharedCache;
use crate::backend::is_dns_label;
use crate::kubernetes::{ObjectApi, Representation, parse};

/// Label of namespaces with the name of their realm.
pub const REALM_LABEL: &str = "secrets.floe.dev/realm";

/// Reader of the label.
#[async_trait]
pub trait NamespaceRealms: fmt::Debug + Send + Sync + 'static {
    /// Realm in the label of a namespace. `None` also for a namespace that does not exist: a caller cannot tell it from
    /// one of another realm, and neither can the calls that the API server gets.
    ///
    /// # Errors
    /// The namespace could not be read.
    async fn realm_of(
        &self,
        namespace: &str,
        tenant: &str,
    ) -> Result<Option<String>, AccessUnavailable>;
}

/// Labels of live namespaces, kept for 10 seconds.
#[derive(Debug)]
pub struct ApiNamespaceRealms {
    api: ObjectApi,
    cache: Arc<SharedCache<String, Option<String>>>,
}

#[derive(Deserialize)]
struct RealmNamespaceObject {
    metadata: RealmNamespaceMetadata,
}

#[derive(Deserialize)]
struct RealmNamespaceMetadata {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl ApiNamespaceRealms {
    #[must_use]
    pub fn new(api: ObjectApi) -> Self {
        Self {
            api,
            cache: SharedCache::new(&CallLimiter::new()),
        }
    }
}

async fn read(api: ObjectApi, namespace: String) -> Result<Option<String>, AccessUnavailable> {
    let path = format!("/api/v1/namespaces/{namespace}");
    let object = api.get(&path, Representation::Metadata).await;
    let object = object.and_then(|found| {
        found
            .map(|body| parse::<RealmNamespaceObject>(&path, &body))
            .transpose()
    });
    match object {
        Ok(object) => Ok(object.and_then(|mut object| object.metadata.labels.remove(REALM_LABEL))),
        Err(error) => Err(AccessUnavailable {
            reason: error.to_string(),
        }),
    }
}

#[async_trait]
impl NamespaceRealms for ApiNamespaceRealms {
    async fn realm_of(
        &self,
        namespace: &str,
        tenant: &str,
    ) -> Result<Option<String>, AccessUnavailable> {
        // Only names that are safe in a path.
        if !is_dns_label(namespace) {
            return Ok(None);
        }
        let (api, name) = (self.api.clone(), namespace.to_owned());
        self.cache
            .get(namespace.to_owned(), tenant, move || read(api, name))
            .await
    }
}
