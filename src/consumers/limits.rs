//! Limits of what is read and kept.

/// Pods that are kept with their names, those with an older value first; further ones are only counted. At most 300
/// bytes of each are kept, so that the names of a large namespace take a few MiB.
pub const MAX_LISTED_PODS: usize = 10_000;

/// Workloads that are kept with their names; further ones are only counted.
pub(super) const MAX_LISTED_WORKLOADS: usize = 5_000;

/// Objects per page. A pod is 5 to 20 kB, so a page is a few MiB at most, and a longer one is requested in halves.
pub(super) const PAGE_SIZE: usize = 200;

/// Owners of pods whose own owner is read, each once. Pods of further ones are listed under their direct
/// owner, and the effect on them is unknown.
pub(super) const MAX_OWNERS_READ: usize = 2_000;

/// Containers that are kept of one pod.
pub(super) const MAX_CONTAINERS: usize = 50;

/// Uses that are listed of one pod or workload. All are evaluated.
pub(super) const MAX_USES: usize = 20;

/// Workloads whose effect on their pods is kept. The effect on pods of further ones is unknown.
pub(super) const MAX_EFFECTS: usize = 20_000;

/// Keys of a Secret that are kept. The keys of a Secret with more count as unknown.
pub(crate) const MAX_KEYS: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_contain_the_limits() {
        let page = include_str!("../../docs/ROTATION.md");
        for sentence in [
            format!("read {PAGE_SIZE} at a time"),
            format!("{MAX_USES} uses of each"),
            format!("the pods of {},000 workloads", MAX_EFFECTS / 1000),
            format!("the owners of {},000 ReplicaSets", MAX_OWNERS_READ / 1000),
            format!(
                "{},000 pods and {},000 workloads",
                MAX_LISTED_PODS / 1000,
                MAX_LISTED_WORKLOADS / 1000
            ),
        ] {
            assert!(
                page.contains(&sentence),
                "docs/ROTATION.md has no {sentence:?}"
            );
        }
    }
}
