//! Namespace or ServiceAccount in the cache.

use std::sync::Arc;

use tokio::time::Instant;

use super::object::DefaultsObject;
use injection::{AnnotationOwner, AnnotationRef, Annotations, InvalidAnnotation};

/// Limit of the bytes of our annotations, names and values, of one Namespace or ServiceAccount: several times what the
/// largest request of a pod takes. An object may have 256 KiB of annotations, and an author of ServiceAccounts must not
/// fill the memory with them.
pub const MAX_BYTES: usize = 64 * 1024;

/// Object, and the time at which its read began.
#[derive(Debug)]
pub(super) struct CachedObject {
    /// Has no annotations if they are too large.
    pub object: Arc<DefaultsObject>,
    pub mistake: Option<InvalidAnnotation>,
    /// Whether its annotations request a secret, so that it may add to a pod.
    pub requests_secrets: bool,
    pub began: Instant,
    bytes: usize,
}

impl CachedObject {
    pub fn new(
        mut object: DefaultsObject,
        namespace: &str,
        account: Option<&str>,
        began: Instant,
    ) -> Self {
        let owner = || match account {
            Some(account) => AnnotationOwner::ServiceAccount(account.to_owned()),
            None => AnnotationOwner::Namespace(namespace.to_owned()),
        };
        let mistake = oversize(&object.annotations, owner);
        if mistake.is_some() {
            object.annotations = Annotations::default();
        }
        let (requests_secrets, bytes) = (
            requests_secrets(&object.annotations),
            bytes(&object.annotations),
        );
        Self {
            object: Arc::new(object),
            mistake,
            requests_secrets,
            began,
            bytes,
        }
    }

    /// Approximate size in bytes, with a key of `key` bytes.
    pub fn weight(&self, key: usize) -> u32 {
        /// Overhead of an entry of the cache, and of each annotation in it.
        const ENTRY: usize = 512;
        const ANNOTATION: usize = 96;
        let bytes =
            ENTRY + 2 * key + self.bytes + self.object.annotations.ours().count() * ANNOTATION;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

fn bytes(annotations: &Annotations<'_>) -> usize {
    annotations
        .ours()
        .map(|(key, value)| key.len() + value.len())
        .sum()
}

/// Whether annotations request a secret, and do not opt out.
fn requests_secrets(annotations: &Annotations<'_>) -> bool {
    let is_reference = |key: &str| key == "env-from" || key == "refs" || key.starts_with("env.");
    !annotations.opts_out() && annotations.ours().any(|(key, _)| is_reference(key))
}

/// Rejects defaults that have more than [`MAX_BYTES`]; the sentence names the longest annotation.
#[must_use]
pub fn oversize(
    annotations: &Annotations<'_>,
    owner: impl FnOnce() -> AnnotationOwner,
) -> Option<InvalidAnnotation> {
    let bytes = bytes(annotations);
    let (key, _) = annotations
        .ours()
        .max_by_key(|(key, value)| key.len() + value.len())?;
    (bytes > MAX_BYTES).then(|| InvalidAnnotation {
        site: AnnotationRef::new(key, owner()),
        problem: format!(
            "together the defaults of this object come to {bytes} bytes; at most {MAX_BYTES} are read. Ask for fewer \
             secrets here, or by shorter annotations"
        ),
        unsupported: false,
    })
}
