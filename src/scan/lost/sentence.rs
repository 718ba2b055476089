//! Lost references, and the sentence about them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use injection::{ContainerList, MAX_LISTED};

/// References that a workload lost in its latest revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct LostReferences {
    /// Secrets by list and name of the container.
    pub containers: BTreeMap<(ContainerList, String), BTreeSet<String>>,
    /// Names of the removed annotations, with the prefix.
    pub annotations: BTreeSet<String>,
}

impl LostReferences {
    /// Sentence about a revision of a workload: the lost references, the reason, and what to do.
    pub fn sentence(&self, kind: &str, name: &str, revision: i64) -> String {
        let Self {
            containers,
            annotations,
        } = self;
        let lost = ListedParts(containers.iter().map(|((list, container), secrets)| {
            let word = if secrets.len() == 1 {
                "secret"
            } else {
                "secrets"
            };
            format!(
                "{list} {container:?} lost {word} {}",
                ListedParts(secrets.iter().map(|secret| format!("{secret:?}")))
            )
        }));
        let word = if annotations.len() == 1 {
            "annotation"
        } else {
            "annotations"
        };
        let annotations = ListedParts(annotations.iter());
        format!(
            "{lost} in revision {revision} of {kind} {name:?}, which no longer has the {word} {annotations}. Restore the {word}, or write the references into the pod template. If they are not needed, do nothing: only the latest revision is compared, and the next one ends this finding"
        )
    }
}

/// List of at most [`MAX_LISTED`] parts, with the number of further ones.
struct ListedParts<I>(I);

impl<I: Iterator<Item: fmt::Display> + ExactSizeIterator + Clone> fmt::Display for ListedParts<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.clone().take(MAX_LISTED).enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            part.fmt(f)?;
        }
        match self.0.len().saturating_sub(MAX_LISTED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
