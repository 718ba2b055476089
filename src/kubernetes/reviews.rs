//! Reviews of permissions by the API server: of the caller, and of a ServiceAccount.

use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use super::lookup;

/// Limit of concurrent reviews in [`review_all`].
const MAX_CONCURRENT_REVIEWS: usize = 8;

/// Subject of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewSubject<'a> {
    /// The user that the client authenticates as.
    Caller,
    /// A ServiceAccount with the groups that every ServiceAccount has.
    ServiceAccount { namespace: &'a str, name: &'a str },
    /// A user with exactly these groups.
    User {
        name: &'a str,
        /// Empty if the user has none.
        uid: &'a str,
        groups: &'a [String],
    },
}

/// Name of the user that the client authenticates as; `None` if the API server does not report it.
pub async fn user_name(client: &Client) -> Option<String> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = api
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .ok()?;
    review.status?.user_info?.username
}

/// Reviews each access, a few at a time. The results have the order of the accesses; an error is a sentence.
pub async fn review_all(
    client: &Client,
    subject: ReviewSubject<'_>,
    accesses: impl IntoIterator<Item = ResourceAttributes>,
) -> Vec<Result<bool, String>> {
    let reviews = accesses.into_iter().map(|access| async move {
        is_allowed(client, subject, access)
            .await
            .map_err(|error| lookup::describe_error(&error))
    });
    stream::iter(reviews)
        .buffered(MAX_CONCURRENT_REVIEWS)
        .collect()
        .await
}

/// Whether the subject has the access.
///
/// # Errors
/// The API server could not be reached, or rejects the review.
pub async fn is_allowed(
    client: &Client,
    subject: ReviewSubject<'_>,
    access: ResourceAttributes,
) -> Result<bool, kube::Error> {
    let allowed = review(client, subject, access).await?;
    Ok(allowed.unwrap_or(false))
}

/// Whether the subject has the access; `None` if the response has no status. An authorizer that denies is final, and
/// errors of authorizers beside the result are not an answer: RBAC has them for bindings to roles that are gone.
///
/// # Errors
/// The API server could not be reached, or rejects the review.
pub async fn review(
    client: &Client,
    subject: ReviewSubject<'_>,
    access: ResourceAttributes,
) -> Result<Option<bool>, kube::Error> {
    let status = match subject {
        ReviewSubject::Caller => {
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec {
                    resource_attributes: Some(access),
                    ..SelfSubjectAccessReviewSpec::default()
                },
                ..SelfSubjectAccessReview::default()
            };
            let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
            api.create(&PostParams::default(), &review).await?.status
        }
        ReviewSubject::ServiceAccount { namespace, name } => {
            let review = service_account_review(namespace, name, access);
            let api: Api<SubjectAccessReview> = Api::all(client.clone());
            api.create(&PostParams::default(), &review).await?.status
        }
        ReviewSubject::User { name, uid, groups } => {
            let review = user_review(name, uid, groups, access);
            let api: Api<SubjectAccessReview> = Api::all(client.clone());
            api.create(&PostParams::default(), &review).await?.status
        }
    };
    Ok(status.map(|status| status.allowed && status.denied != Some(true)))
}

fn user_review(
    name: &str,
    uid: &str,
    groups: &[String],
    access: ResourceAttributes,
) -> SubjectAccessReview {
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(name.to_owned()),
            uid: (!uid.is_empty()).then(|| uid.to_owned()),
            groups: Some(groups.to_vec()),
            resource_attributes: Some(access),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

fn service_account_review(
    namespace: &str,
    name: &str,
    access: ResourceAttributes,
) -> SubjectAccessReview {
    let groups = [
        "system:authenticated",
        "system:serviceaccounts",
        &format!("system:serviceaccounts:{namespace}"),
    ];
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{namespace}:{name}")),
            groups: Some(groups.map(str::to_owned).to_vec()),
            resource_attributes: Some(access),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}
