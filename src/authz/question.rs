//! Questions about access: a verb and a resource of the admin API's group, in a namespace or in the whole cluster.

use thiserror::Error;

use crate::backend::is_dns_label;

/// API group of the resources in questions. No API server serves it: RBAC compares texts.
pub const API_GROUP: &str = "admin.secrets.floe.dev";

/// Characters of the name of an object in a question.
const MAX_NAME: usize = 253;

/// Verb of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccessVerb {
    Create,
    Export,
    Get,
    List,
    Update,
}

impl AccessVerb {
    /// Word in rules of RBAC.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Export => "export",
            Self::Get => "get",
            Self::List => "list",
            Self::Update => "update",
        }
    }
}

/// Resource of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccessResource {
    AuditChains,
    AuditEvents,
    Backends,
    IdentityClients,
    IdentityProviders,
    InjectionPreviews,
    Realms,
    Replicas,
    /// Names, keys and metadata of secrets, and changes of them.
    Secrets,
    SecretConsumers,
    /// Values of secrets. A resource of its own, so that no right on `secrets` reads a value.
    SecretValue,
    TokenReviews,
}

impl AccessResource {
    /// Word in rules of RBAC: the resource, with its subresource after a slash.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuditChains => "auditchains",
            Self::AuditEvents => "auditevents",
            Self::Backends => "backends",
            Self::IdentityClients => "identityclients",
            Self::IdentityProviders => "identityproviders",
            Self::InjectionPreviews => "injectionpreviews",
            Self::Realms => "realms",
            Self::Replicas => "replicas",
            Self::Secrets => "secrets",
            Self::SecretConsumers => "secrets/consumers",
            Self::SecretValue => "secrets/value",
            Self::TokenReviews => "tokenreviews",
        }
    }

    /// Resource and subresource, as a SubjectAccessReview has them.
    #[must_use]
    pub fn parts(self) -> (&'static str, Option<&'static str>) {
        match self.as_str().split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource)),
            None => (self.as_str(), None),
        }
    }
}

/// Permission that a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApiPermission {
    pub verb: AccessVerb,
    pub resource: AccessResource,
}

/// Question about access of one caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccessQuestion {
    permission: ApiPermission,
    namespace: Option<String>,
    name: Option<String>,
}

/// Reason why a request asks for nothing that could exist. No engine is asked then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidQuestion {
    #[error("the route needs a namespace: name one")]
    MissingNamespace,
    #[error("the route is about the whole cluster: name no namespace")]
    UnexpectedNamespace,
    #[error(
        "not the name of a namespace: use at most 63 lower-case letters, digits and hyphens, as in \"team-a\""
    )]
    Namespace,
    #[error(
        "not the name of an object: use 1 to {MAX_NAME} characters without slashes, spaces and wildcards"
    )]
    Name,
}

impl AccessQuestion {
    /// Creates a question. Without a namespace, it is about the whole cluster; without a name, about every object.
    ///
    /// # Errors
    /// The namespace or the name cannot be one. The empty text and `*` mean "all" to RBAC, and are errors.
    pub fn new(
        permission: ApiPermission,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<Self, InvalidQuestion> {
        if !namespace.is_none_or(is_dns_label) {
            return Err(InvalidQuestion::Namespace);
        }
        if !name.is_none_or(is_object_name) {
            return Err(InvalidQuestion::Name);
        }
        Ok(Self {
            permission,
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
        })
    }

    #[must_use]
    pub fn permission(&self) -> ApiPermission {
        self.permission
    }

    /// `None`: the whole cluster.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// `None`: every object.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

fn is_object_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: ApiPermission = ApiPermission {
        verb: AccessVerb::Get,
        resource: AccessResource::SecretValue,
    };

    #[test]
    fn question_has_no_wildcards() {
        for namespace in ["", "*", "a/b", "A", "..", &"a".repeat(64)] {
            assert_eq!(
                AccessQuestion::new(READ, Some(namespace), None),
                Err(InvalidQuestion::Namespace)
            );
        }
        for name in ["", "*", "a/b", "a b", "a\n", &"a".repeat(254)] {
            assert_eq!(
                AccessQuestion::new(READ, Some("a"), Some(name)),
                Err(InvalidQuestion::Name)
            );
        }
        let question = AccessQuestion::new(READ, Some("a"), Some("db.v1")).unwrap();
        assert_eq!(
            (question.namespace(), question.name()),
            (Some("a"), Some("db.v1"))
        );
    }

    #[test]
    fn values_are_a_resource_of_their_own() {
        assert_eq!(READ.resource.parts(), ("secrets", Some("value")));
        assert_eq!(AccessResource::Secrets.parts(), ("secrets", None));
    }
}
