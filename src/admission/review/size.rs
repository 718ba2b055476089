//! Size of a review once it is decoded, estimated from its bytes.

/// Limit of objects and lists in a review, counted by their brackets wherever these occur. Two objects of the largest
/// size that the API server stores have a tenth of that. Each may take [`NODE_BYTES`] once decoded, so that the largest
/// body and its decoded form together fit into the bytes that large requests may hold.
pub(super) const MAX_NODES: usize = 130_000;

/// Bytes that an object or list of a review takes once decoded, at most.
const NODE_BYTES: usize = 128;

/// Objects and lists in a review's bytes, or more: brackets within strings are counted as well.
pub(super) fn count_nodes(bytes: &[u8]) -> usize {
    // Counted in bytes, in chunks short enough for that, so that the compiler vectorises it: a count in `usize` took
    // half of the time of decoding.
    let opened = |chunk: &[u8]| {
        chunk
            .iter()
            .map(|byte| u8::from(byte | 0x20 == b'{'))
            .sum::<u8>()
    };
    bytes
        .chunks(usize::from(u8::MAX))
        .map(|chunk| usize::from(opened(chunk)))
        .sum()
}

/// Memory that a review takes once it is decoded, in addition to its own bytes: at most 17 MB. Zero if it has so many
/// objects and lists that [`super::decode`] rejects it.
#[must_use]
pub fn decoded_bytes(bytes: &[u8]) -> usize {
    let nodes = count_nodes(bytes);
    if nodes > MAX_NODES {
        0
    } else {
        nodes * NODE_BYTES
    }
}
