//! Constants of requests and Secrets.

/// Label of every Secret that `set_secret` creates. A Secret without it is never written.
pub(super) const MANAGED_BY: (&str, &str) =
    ("app.kubernetes.io/managed-by", "floe-secrets-webhook");

/// `Accept` header of a request for metadata alone. It has no `application/json` beside it: a server without this
/// representation must reject the request rather than send the values.
pub(super) const ACCEPT_METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// `Accept` header of a request for the metadata of a list.
pub(super) const ACCEPT_METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
/// `Accept` header of a request for the full object.
pub(super) const ACCEPT_FULL: &str = "application/json";
