//! Access reviews by the API server: permissions of the caller, the webhook, the controller and `admin`.

use std::collections::BTreeSet;

use kube::Client;

use super::permission::Permission;
use super::required::{of_admin, of_controller, of_doctor, of_webhook};
use crate::doctor::installation::{Installation, pod_spec};
use crate::kubernetes::reviews::{self, ReviewSubject};

/// A required permission, and whether the subject has it.
#[derive(Clone, Debug)]
pub struct PermissionAnswer {
    pub permission: Permission,
    /// The error is a sentence.
    pub allowed: Result<bool, String>,
}

/// Permissions of a ServiceAccount.
#[derive(Clone, Debug)]
pub struct AccountPermissions {
    /// Name of the ServiceAccount.
    pub account: String,
    pub answers: Vec<PermissionAnswer>,
}

/// Result of all access reviews.
#[derive(Clone, Debug, Default)]
pub struct PermissionReview {
    /// Name of the calling user.
    pub user: Option<String>,
    pub caller: Vec<PermissionAnswer>,
    /// `None` if the ServiceAccount is unknown.
    pub webhook: Option<AccountPermissions>,
    /// `None` if the ServiceAccount is unknown.
    pub controller: Option<AccountPermissions>,
    /// `None` if the ServiceAccount is unknown.
    pub admin: Option<AccountPermissions>,
}

/// Reviews all required permissions.
pub async fn read(
    client: &Client,
    installation: &Installation,
    probe_namespace: Option<&str>,
    drift: bool,
) -> PermissionReview {
    let required = of_doctor(installation, probe_namespace, drift);
    let (user, caller) = futures::future::join(
        reviews::user_name(client),
        review_all(client, ReviewSubject::Caller, required),
    )
    .await;
    let review_component = async |component: &str, required: BTreeSet<Permission>| {
        let account = service_account(installation, component)?;
        let subject = ReviewSubject::ServiceAccount {
            namespace: &installation.namespace,
            name: &account,
        };
        let answers = review_all(client, subject, required).await;
        Some(AccountPermissions { account, answers })
    };
    PermissionReview {
        user,
        caller,
        webhook: review_component("webhook", of_webhook(installation)).await,
        controller: review_component("controller", of_controller(installation)).await,
        admin: review_component("admin", of_admin(installation)).await,
    }
}

/// Returns the name of a component's ServiceAccount.
fn service_account(installation: &Installation, component: &str) -> Option<String> {
    let spec = pod_spec(installation.deployment(component)?)?;
    let account = spec.service_account_name.as_deref().unwrap_or("default");
    Some(account.to_owned())
}

async fn review_all(
    client: &Client,
    subject: ReviewSubject<'_>,
    permissions: BTreeSet<Permission>,
) -> Vec<PermissionAnswer> {
    let accesses: Vec<_> = permissions.iter().map(Permission::attributes).collect();
    let allowed = reviews::review_all(client, subject, accesses).await;
    let answers = permissions.into_iter().zip(allowed);
    answers
        .map(|(permission, allowed)| PermissionAnswer {
            permission,
            allowed,
        })
        .collect()
}
