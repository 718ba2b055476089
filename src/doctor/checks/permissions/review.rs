//! Access reviews by the API server: permissions of the caller, the webhook and the controller.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use super::permission::Permission;
use super::required::{of_controller, of_doctor, of_webhook};
use crate::doctor::installation::{Installation, pod_spec};
use crate::kubernetes::lookup;

/// Limit of concurrent access reviews.
const MAX_CONCURRENT_REVIEWS: usize = 8;

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
}

/// Reviews all required permissions.
pub async fn read(
    client: &Client,
    installation: &Installation,
    probe_namespace: Option<&str>,
    drift: bool,
) -> PermissionReview {
    let required = of_doctor(installation, probe_namespace, drift);
    let (user, caller) =
        futures::future::join(read_user(client), review_all(client, None, required)).await;
    let review_component = async |component: &str, required: BTreeSet<Permission>| {
        let account = service_account(installation, component)?;
        let subject = Some((installation.namespace.as_str(), account.as_str()));
        let answers = review_all(client, subject, required).await;
        Some(AccountPermissions { account, answers })
    };
    PermissionReview {
        user,
        caller,
        webhook: review_component("webhook", of_webhook(installation)).await,
        controller: review_component("controller", of_controller(installation)).await,
    }
}

/// Returns the name of a component's ServiceAccount.
fn service_account(installation: &Installation, component: &str) -> Option<String> {
    let spec = pod_spec(installation.deployment(component)?)?;
    let account = spec.service_account_name.as_deref().unwrap_or("default");
    Some(account.to_owned())
}

async fn read_user(client: &Client) -> Option<String> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = api
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .ok()?;
    review.status?.user_info?.username
}

/// Reviews permissions of a ServiceAccount (namespace and name), or of the caller.
async fn review_all(
    client: &Client,
    account: Option<(&str, &str)>,
    permissions: BTreeSet<Permission>,
) -> Vec<PermissionAnswer> {
    let reviews = permissions.into_iter().map(|permission| async move {
        let allowed = match account {
            Some(account) => review_account(client, account, &permission).await,
            None => review_caller(client, &permission).await,
        };
        PermissionAnswer {
            permission,
            allowed: allowed.map_err(|error| lookup::describe_error(&error)),
        }
    });
    stream::iter(reviews)
        .buffered(MAX_CONCURRENT_REVIEWS)
        .collect()
        .await
}

async fn review_account(
    client: &Client,
    (namespace, name): (&str, &str),
    permission: &Permission,
) -> Result<bool, kube::Error> {
    let groups = [
        "system:authenticated",
        "system:serviceaccounts",
        &format!("system:serviceaccounts:{namespace}"),
    ];
    let spec = SubjectAccessReviewSpec {
        user: Some(format!("system:serviceaccount:{namespace}:{name}")),
        groups: Some(groups.map(str::to_owned).to_vec()),
        resource_attributes: Some(permission.attributes()),
        ..SubjectAccessReviewSpec::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let review = SubjectAccessReview {
        spec,
        ..SubjectAccessReview::default()
    };
    let review = api.create(&PostParams::default(), &review).await?;
    Ok(review.status.is_some_and(|status| status.allowed))
}

async fn review_caller(client: &Client, permission: &Permission) -> Result<bool, kube::Error> {
    let spec = SelfSubjectAccessReviewSpec {
        resource_attributes: Some(permission.attributes()),
        ..SelfSubjectAccessReviewSpec::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let review = SelfSubjectAccessReview {
        spec,
        ..SelfSubjectAccessReview::default()
    };
    let review = api.create(&PostParams::default(), &review).await?;
    Ok(review.status.is_some_and(|status| status.allowed))
}
