//! Programs that restart a workload when one of its secrets changes, in sentences.

use injection::WorkloadKind;

use super::error::ExplainError;
use super::reader::Explainer;
use super::target::ExplainTarget;
use crate::consumers::{Effect, SecretHead, effect_on_stored};
use crate::kubernetes::Representation;

impl Explainer {
    /// Sentences about the restart of a pod's workload; `None` is a pod without one.
    pub(super) async fn restarts_of_owner(
        &self,
        namespace: &str,
        owner: Option<(&str, &str)>,
        secrets: &[SecretHead],
    ) -> Result<Vec<String>, ExplainError> {
        let Some((kind, name)) = owner else {
            let sentence =
                "a pod without an owner is restarted by nothing: delete it and create it again";
            return Ok(vec![sentence.to_owned()]);
        };
        let Some(target) = ExplainTarget::of_owner(kind, name) else {
            return Ok(vec![format!(
                "what restarts {kind} \"{name}\" is not known: it is not a kind that Reloader or the Infisical operator restarts, or its owner was not read"
            )]);
        };
        let body = self
            .api
            .get(&target.path(namespace), Representation::Full)
            .await;
        match (body, target.workload()) {
            (Ok(Some(body)), Some(workload)) => Ok(restarts(&target, workload, &body, secrets)),
            (Err(error), _) if !error.kind.is_denied() => Err(error.into()),
            _ => Ok(vec![format!(
                "{kind} \"{name}\" could not be read, so what restarts it is not known"
            )]),
        }
    }
}

/// Sentences about the restart of a workload, one for each secret.
pub(super) fn restarts(
    target: &ExplainTarget,
    kind: WorkloadKind,
    body: &[u8],
    secrets: &[SecretHead],
) -> Vec<String> {
    let ExplainTarget {
        kind: title, name, ..
    } = target;
    let line = |secret: &SecretHead| {
        let changed = format!("when secret \"{}\" changes", secret.name);
        Some(match effect_on_stored(kind, body, secret)? {
            Effect::Restarts {
                by: "infisical",
                annotation,
                ..
            } => format!(
                "{changed}, the Infisical operator restarts {title} \"{name}\" ({annotation}), if it keeps that secret"
            ),
            Effect::Restarts {
                annotation,
                possibly: false,
                ..
            } => {
                format!("{changed}, Reloader restarts {title} \"{name}\" ({annotation})")
            }
            Effect::Restarts {
                annotation,
                possibly: true,
                ..
            } => format!(
                "{changed}, Reloader restarts {title} \"{name}\" if an entry of {annotation} matches it"
            ),
            Effect::NextRun => {
                format!("{changed}, the next run of {title} \"{name}\" has the new value")
            }
            // The effect on a stored workload is known.
            Effect::KeepsOldValue | Effect::Follows | Effect::Unknown => format!(
                "{changed}, nothing restarts {title} \"{name}\": its containers keep the old value until kubectl rollout restart"
            ),
        })
    };
    secrets.iter().filter_map(line).collect()
}
