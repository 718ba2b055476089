//! Ids of keys.

use super::limits::MAX_KEY_ID;

/// Id of a key (`kid`). It is only ever compared: it is in no path, no URL and no log line.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

impl KeyId {
    /// Id of 1 to [`MAX_KEY_ID`] visible ASCII characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_valid = (1..=MAX_KEY_ID).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_valid.then(|| Self(text.to_owned()))
    }
}

impl std::fmt::Debug for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyId")
    }
}
