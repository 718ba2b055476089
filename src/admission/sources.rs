//! Sources of secrets that annotations may name.

use std::collections::BTreeMap;
use std::sync::Arc;

use injection::SecretSource;

use crate::backend::SecretBinder;
use crate::backend::layers::cached::RecentNames;

/// Source of secrets that annotations may name.
#[derive(Clone, Debug)]
pub struct Source {
    pub binder: Arc<dyn SecretBinder>,
    /// Recently read names, for suggestions ("did you mean").
    pub recent_names: Option<Arc<dyn RecentNames>>,
}

/// Configured sources, by the name that annotations use.
pub type Sources = BTreeMap<SecretSource, Source>;
