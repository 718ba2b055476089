//! `AdmissionRequest`, with a view of the objects under review.

use serde::{Deserialize, Serialize};

use crate::backend::is_dns_label;
use injection::{CowStr, MetadataView};

/// Limit of a uid in bytes; the API server's have 36. The uid is repeated in the response and in every log line.
pub(super) const MAX_UID: usize = 128;

/// Limit of names and API groups: a DNS-1123 subdomain.
const MAX_NAME: usize = 253;

/// Limit of resources and subresources: a DNS-1123 label.
const MAX_RESOURCE: usize = 63;

/// Operation on an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    Create,
    Update,
    Delete,
    /// `exec`, `attach`, `port-forward`, `proxy`.
    Connect,
    /// Unknown to this program.
    #[default]
    #[serde(other)]
    Other,
}

impl Operation {
    /// Value of the label in metrics, and of the field in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Connect => "connect",
            Self::Other => "other",
        }
    }
}

/// `AdmissionRequest`; `O` is the view of its objects.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
pub struct AdmissionRequest<'a, O> {
    /// The response must have the same.
    #[serde(borrow)]
    pub uid: CowStr<'a>,
    /// Resource in the version of the rule that matched.
    #[serde(borrow, default)]
    pub resource: Resource<'a>,
    /// `status`, `ephemeralcontainers`, …
    #[serde(borrow, default)]
    pub sub_resource: Option<CowStr<'a>>,
    /// Empty if the API server will generate it from `generateName`.
    #[serde(borrow, default)]
    pub name: Option<CowStr<'a>>,
    /// Namespace; the object's own field may be empty on CREATE.
    #[serde(borrow, default)]
    pub namespace: Option<CowStr<'a>>,
    #[serde(default)]
    pub operation: Operation,
    #[serde(borrow, default)]
    pub user_info: RequestUser<'a>,
    /// Nothing will be stored.
    #[serde(default)]
    pub dry_run: Option<bool>,
    /// New state of the object; absent on DELETE.
    #[serde(default = "none")]
    pub object: Option<O>,
    /// Previous state of the object; absent on CREATE.
    #[serde(default = "none")]
    pub old_object: Option<O>,
}

pub(super) fn none<O>() -> Option<O> {
    None
}

/// Group and plural of a resource.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Resource<'a> {
    /// Empty for the core group.
    #[serde(borrow, default)]
    pub group: CowStr<'a>,
    /// `pods`, `namespaces`, …
    #[serde(borrow, default)]
    pub resource: CowStr<'a>,
}

/// User that made the request.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct RequestUser<'a> {
    /// `system:serviceaccount:<namespace>:<name>` for service accounts.
    #[serde(borrow, default)]
    pub username: CowStr<'a>,
    #[serde(borrow, default)]
    pub uid: CowStr<'a>,
    #[serde(borrow, default)]
    pub extra: Option<UserExtra<'a>>,
}

impl RequestUser<'_> {
    /// Id of the credential; empty if the API server does not know one.
    #[must_use]
    pub fn credential_id(&self) -> &str {
        let extra = self.extra.as_ref();
        let ids = extra.and_then(|extra| extra.credential_id.as_deref());
        ids.unwrap_or_default().first().map_or("", CowStr::as_str)
    }
}

/// `extra` of a user, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct UserExtra<'a> {
    /// Id of the credential that was used: of a token, or since Kubernetes 1.32 of a certificate.
    #[serde(borrow, default, rename = "authentication.kubernetes.io/credential-id")]
    pub credential_id: Option<Vec<CowStr<'a>>>,
}

impl<O> AdmissionRequest<'_, O> {
    /// Checks that the strings which are repeated in keys, sentences and log lines are as short as an API server's.
    ///
    /// # Errors
    /// Name of the first field that is too long or malformed.
    pub(super) fn check_lengths(&self) -> Result<(), &'static str> {
        let within = |text: &CowStr<'_>, max: usize| text.as_str().len() <= max;
        let absent_or =
            |text: &Option<CowStr<'_>>, max| text.as_ref().is_none_or(|text| within(text, max));
        let checks = [
            ("uid", within(&self.uid, MAX_UID)),
            (
                "namespace",
                self.namespace().is_empty() || is_dns_label(self.namespace()),
            ),
            ("name", absent_or(&self.name, MAX_NAME)),
            ("resource's group", within(&self.resource.group, MAX_NAME)),
            ("resource", within(&self.resource.resource, MAX_RESOURCE)),
            ("subresource", absent_or(&self.sub_resource, MAX_RESOURCE)),
        ];
        checks
            .into_iter()
            .find(|(_, holds)| !holds)
            .map_or(Ok(()), |(field, _)| Err(field))
    }

    /// Namespace; empty for cluster-scoped objects.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace.as_ref().map_or("", CowStr::as_str)
    }

    /// Whether the request is about this resource itself, and not about one of its subresources.
    #[must_use]
    pub fn is_resource(&self, group: &str, resource: &str) -> bool {
        self.resource.group.as_str() == group
            && self.resource.resource.as_str() == resource
            && self
                .sub_resource
                .as_ref()
                .is_none_or(|sub| sub.as_str().is_empty())
    }
}

/// View of a Namespace or ServiceAccount: its metadata.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct SourceView<'a> {
    #[serde(borrow, default)]
    pub metadata: MetadataView<'a>,
}
