//! Subject of a question: the user and the groups that RBAC knows.

use serde_json::Value;

use crate::identity::AuthenticatedCaller;
use crate::identity::kubernetes::ServiceAccountName;

/// Name of the realm of ServiceAccounts and other users of the cluster.
pub const CLUSTER_REALM: &str = "kubernetes";

/// User and groups of a caller, as SubjectAccessReview gets them. Only [`super::RealmGuard::subject`] makes one: it
/// prefixes the names of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessSubject {
    realm: String,
    tenant: String,
    user: String,
    uid: String,
    /// Sorted, each once.
    groups: Vec<String>,
}

impl AccessSubject {
    /// Subject of a caller whose token the API server reviewed: its user and groups as they are.
    pub(super) fn of_cluster(caller: &AuthenticatedCaller) -> Self {
        let user = &caller.user_info;
        let account = ServiceAccountName::of_username(&user.subject);
        let namespace = account.map(|account| account.namespace).unwrap_or_default();
        let uid = user.claims.get("uid").and_then(Value::as_str);
        Self::new(
            CLUSTER_REALM,
            format!("{CLUSTER_REALM}/{namespace}"),
            user.subject.clone(),
            uid.unwrap_or_default().to_owned(),
            user.groups.clone(),
        )
    }

    pub(super) fn new(
        realm: &str,
        tenant: String,
        user: String,
        uid: String,
        mut groups: Vec<String>,
    ) -> Self {
        groups.sort_unstable();
        groups.dedup();
        Self {
            realm: realm.to_owned(),
            tenant,
            user,
            uid,
            groups,
        }
    }

    /// Realm of the caller, which decides about namespaces before RBAC does.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Tenant of the limit of concurrent reviews: a realm, or the namespace of a ServiceAccount.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Empty for users of an issuer.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.uid
    }

    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.groups
    }
}
