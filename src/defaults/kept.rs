//! One Namespace or ServiceAccount as it is remembered.

use std::sync::Arc;

use tokio::time::Instant;

use super::object::DefaultsObject;
use injection::{AnnotationOwner, AnnotationRef, Annotations, InvalidAnnotation};

/// The most bytes of annotations of ours, names and values, that one Namespace or ServiceAccount may have: several
/// times what the largest request that a pod may make takes. An object may have 256 KiB of them; whoever may write
/// ServiceAccounts must not fill the memory with those.
pub const MAX_BYTES: usize = 64 * 1024;

/// A source, and when the read behind it began.
#[derive(Debug)]
pub(super) struct CachedObject {
    /// Without its annotations where those are too large.
    pub source: Arc<DefaultsObject>,
    pub mistake: Option<InvalidAnnotation>,
    /// Its annotations ask for a secret: it can say yes.
    pub asks: bool,
    pub began: Instant,
    bytes: usize,
}

impl CachedObject {
    pub fn new(
        mut source: DefaultsObject,
        namespace: &str,
        account: Option<&str>,
        began: Instant,
    ) -> Self {
        let origin = || match account {
            Some(account) => AnnotationOwner::ServiceAccount(account.to_owned()),
            None => AnnotationOwner::Namespace(namespace.to_owned()),
        };
        let mistake = oversize(&source.annotations, origin);
        if mistake.is_some() {
            source.annotations = Annotations::default();
        }
        let (asks, bytes) = (asks(&source.annotations), bytes(&source.annotations));
        Self {
            source: Arc::new(source),
            mistake,
            asks,
            began,
            bytes,
        }
    }

    /// About how many bytes it takes, with a key of so many.
    pub fn weight(&self, key: usize) -> u32 {
        /// An entry of the cache, and an annotation of it, beside their texts.
        const ENTRY: usize = 512;
        const ANNOTATION: usize = 96;
        let bytes =
            ENTRY + 2 * key + self.bytes + self.source.annotations.ours().count() * ANNOTATION;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

fn bytes(annotations: &Annotations<'_>) -> usize {
    annotations
        .ours()
        .map(|(key, value)| key.len() + value.len())
        .sum()
}

/// Whether annotations ask for a secret, and do not opt out.
fn asks(annotations: &Annotations<'_>) -> bool {
    let asks = |key: &str| key == "env-from" || key == "refs" || key.starts_with("env.");
    !annotations.opts_out() && annotations.ours().any(|(key, _)| asks(key))
}

/// What is wrong with defaults that come to more than [`MAX_BYTES`]; the longest annotation stands for all.
#[must_use]
pub fn oversize(
    annotations: &Annotations<'_>,
    origin: impl FnOnce() -> AnnotationOwner,
) -> Option<InvalidAnnotation> {
    let bytes = bytes(annotations);
    let (key, _) = annotations
        .ours()
        .max_by_key(|(key, value)| key.len() + value.len())?;
    (bytes > MAX_BYTES).then(|| InvalidAnnotation {
        site: AnnotationRef::new(key, origin()),
        problem: format!(
            "together the defaults of this object come to {bytes} bytes; at most {MAX_BYTES} are read. Ask for fewer \
             secrets here, or by shorter annotations"
        ),
        unsupported: false,
    })
}
