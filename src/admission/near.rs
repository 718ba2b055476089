//! "Did you mean", for secrets.

use std::collections::BTreeMap;

use super::mutator::Binders;
use crate::injection::{SecretId, SecretSource, Suggestions};

/// Suggestions for the secrets of one review that do not exist. A namespace's names are looked up once, and only when
/// one is missing; an outage costs nothing here.
pub(super) struct NearNames<'m> {
    binders: &'m Binders,
    namespace: &'m str,
    known: BTreeMap<SecretSource, Vec<String>>,
    suggestions: Suggestions,
}

impl<'m> NearNames<'m> {
    /// For a review of an object in `namespace`.
    pub(super) fn new(binders: &'m Binders, namespace: &'m str) -> Self {
        Self { binders, namespace, known: BTreeMap::new(), suggestions: Suggestions::default() }
    }

    /// A name that looks like that of a secret which does not exist.
    pub(super) fn of(&mut self, secret: &SecretId) -> Option<String> {
        let names = self.binders.get(&secret.source)?.names.as_ref()?;
        let known = self.known.entry(secret.source).or_insert_with(|| names.recent_names(self.namespace));
        self.suggestions.nearest(secret.name.as_str(), known.iter().map(String::as_str))
    }
}
