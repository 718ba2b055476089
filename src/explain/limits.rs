//! Limits of what is read and printed.

/// Pods of a workload that are read and evaluated; further ones are only counted.
pub(super) const MAX_PODS: usize = 20;

/// `ReplicaSets` or Jobs of a workload whose pods are looked for.
pub(super) const MAX_OWNERS: usize = 1_000;

/// Objects per page of a list of metadata.
pub(super) const PAGE_SIZE: usize = 500;

/// Webhook configurations per page. They are read in full, and a cluster has few.
pub(super) const CONFIGURATIONS_PAGE_SIZE: usize = 50;

/// Keys of a Secret that are named when one is missing.
pub(super) const MAX_NAMED_KEYS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumers::MAX_KEYS;
    use crate::defaults::MAX_BYTES;

    #[test]
    fn docs_contain_the_limits() {
        let page = include_str!("../../docs/EXPLAIN.md");
        let thousands = |count: usize| format!("{},{:03}", count / 1000, count % 1000);
        for sentence in [
            format!("at most {MAX_PODS} of its pods"),
            format!("at most {} of its ReplicaSets", thousands(MAX_OWNERS)),
            format!("more than {} keys", thousands(MAX_KEYS)),
            format!("more than {} KiB", MAX_BYTES >> 10),
        ] {
            assert!(
                page.contains(&sentence),
                "docs/EXPLAIN.md has no {sentence:?}"
            );
        }
    }
}
