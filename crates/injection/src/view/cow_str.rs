//! Text that is borrowed from the input where possible.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Text borrowed from the input if it has no escapes, owned otherwise.
///
/// A newtype, because serde borrows a `Cow` in a field, but never one in an `Option`, a list or a map.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(transparent)]
pub struct CowStr<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl CowStr<'_> {
    /// The text, borrowed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a str> for CowStr<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}
