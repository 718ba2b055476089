//! Engine that asks the API server: SubjectAccessReview, so that RBAC and every other authorizer of the cluster decide.

use std::fmt;

use async_trait::async_trait;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use kube::Client;

use super::question::{API_GROUP, AccessQuestion, ApiPermission};
use super::reviewer::{AccessReviewer, AccessUnavailable, AccessVerdict};
use super::subject::AccessSubject;
use crate::kubernetes::lookup::describe_error;
use crate::kubernetes::reviews::{self, ReviewSubject};

/// Version in questions. RBAC does not compare it; other authorizers may.
const API_VERSION: &str = "v1";

/// Engine that asks the API server, each time. [`super::CachedReviewer`] sets the time limit and bounds the calls.
#[derive(Clone)]
pub struct SubjectAccessReviewer {
    client: Client,
}

/// Implemented by hand because a client has no `Debug`, and has credentials.
impl fmt::Debug for SubjectAccessReviewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubjectAccessReviewer")
            .finish_non_exhaustive()
    }
}

impl SubjectAccessReviewer {
    /// Creates an engine over a client that may create `subjectaccessreviews`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

fn attributes(question: &AccessQuestion) -> ResourceAttributes {
    let ApiPermission { verb, resource } = question.permission();
    let (resource, subresource) = resource.parts();
    ResourceAttributes {
        group: Some(API_GROUP.to_owned()),
        version: Some(API_VERSION.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(str::to_owned),
        verb: Some(verb.as_str().to_owned()),
        namespace: question.namespace().map(str::to_owned),
        name: question.name().map(str::to_owned),
        ..ResourceAttributes::default()
    }
}

#[async_trait]
impl AccessReviewer for SubjectAccessReviewer {
    async fn review(
        &self,
        subject: &AccessSubject,
        question: &AccessQuestion,
    ) -> Result<AccessVerdict, AccessUnavailable> {
        let user = ReviewSubject::User {
            name: subject.user(),
            uid: subject.uid(),
            groups: subject.groups(),
        };
        match reviews::review(&self.client, user, attributes(question)).await {
            Ok(Some(true)) => Ok(AccessVerdict::Allowed),
            Ok(Some(false)) => Ok(AccessVerdict::Denied),
            Ok(None) => Err(AccessUnavailable {
                reason: "the API server returned a review without a result".to_owned(),
            }),
            Err(error) => Err(AccessUnavailable {
                reason: describe_error(&error),
            }),
        }
    }
}
