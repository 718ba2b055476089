//! Suggestions of similar names for secrets that do not exist.

use std::collections::BTreeMap;

use super::sources::Sources;
use injection::{SecretId, SecretSource, Suggestions};

/// Suggestions for one review. The known names of a namespace are read once, and only if a secret does not exist.
pub(super) struct NearNames<'m> {
    sources: &'m Sources,
    namespace: &'m str,
    known: BTreeMap<SecretSource, Vec<String>>,
    suggestions: Suggestions,
}

impl<'m> NearNames<'m> {
    pub(super) fn new(sources: &'m Sources, namespace: &'m str) -> Self {
        Self {
            sources,
            namespace,
            known: BTreeMap::new(),
            suggestions: Suggestions::default(),
        }
    }

    /// Known name that is similar to that of a secret which does not exist.
    pub(super) fn suggest(&mut self, secret: &SecretId) -> Option<String> {
        let names = self.sources.get(&secret.source)?.recent_names.as_ref()?;
        let known = self
            .known
            .entry(secret.source)
            .or_insert_with(|| names.recent_names(self.namespace));
        self.suggestions
            .nearest(secret.name.as_str(), known.iter().map(String::as_str))
    }
}
