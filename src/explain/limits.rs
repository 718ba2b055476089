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

    #[test]
    fn docs_contain_the_limits() {
        let page = include_str!("../../docs/EXPLAIN.md");
        assert!(page.contains(&format!("at most {MAX_PODS} of its pods")));
    }
}
