//! Limits of one document.

/// Limits of one document. Anchors are replayed as often as aliases use them, so the nodes after replay are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct YamlLimits {
    /// Bytes of the text.
    pub bytes: usize,
    /// Levels of maps and lists in each other.
    pub depth: usize,
    /// Maps, lists and scalars, after aliases are replaced by what they refer to.
    pub nodes: usize,
    /// Aliases.
    pub aliases: usize,
    /// Bytes of a key: keys are part of messages.
    pub key_bytes: usize,
}

impl YamlLimits {
    /// A file that a person wrote: a manifest, a profile, a configuration.
    pub(crate) const HAND_WRITTEN: Self = Self {
        bytes: 1024 * 1024,
        depth: 64,
        nodes: 100_000,
        aliases: 1_000,
        key_bytes: 253,
    };
}
