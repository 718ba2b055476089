//! Injection without the webhook: objects of Kubernetes 1.36 and newer by which the API server itself injects `env-from`.
//!
//! For clusters that forbid webhooks. A `MutatingAdmissionPolicy` adds `envFrom` of Secrets to pods. It cannot look up a
//! Secret, read defaults or record anything. So a `ValidatingAdmissionPolicy` refuses pods whose annotations ask for
//! more than that, and pods that would run without what they ask for. Pure: it makes objects and talks to nobody.
//!
//! Source: `k8s.io/api/admissionregistration/v1`, types `MutatingAdmissionPolicy`, `ValidatingAdmissionPolicy`.

mod expressions;
mod objects;

pub use objects::objects;

/// Containers that a pod may have, and Secrets that it may ask for: CEL has no ranges, so their numbers are written out.
pub const MAX_ITEMS: usize = 16;

/// Sidecar entries that one expression may have.
pub const MAX_SIDECARS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_contain_the_limits() {
        let docs = include_str!("../docs/POLICY.md");
        for limit in [
            format!("at most {MAX_ITEMS} containers"),
            format!("at most {MAX_ITEMS} Secrets"),
            format!("at most {MAX_SIDECARS} entries"),
        ] {
            assert!(docs.contains(&limit), "docs/POLICY.md lacks {limit:?}");
        }
    }
}
