//! Label of the Secrets that this program manages.

/// Label of every Secret that `set_secret` creates. A Secret without it is never written.
pub(in crate::backend::kubernetes) const MANAGED_BY: (&str, &str) =
    ("app.kubernetes.io/managed-by", "floe-secrets-webhook");
