//! Explanations as text or as JSON.

use std::io::{self, Write};

use serde::Serialize;

/// An explained object, in sentences.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    /// Whether the object is sent to the webhook, and by which entry of its configuration.
    pub webhook: Vec<String>,
    /// Annotations that decide, and those that have no effect.
    pub annotations: Vec<String>,
    pub containers: Vec<ContainerExplanation>,
    /// Whether the secrets and keys exist now.
    pub secrets: Vec<String>,
    /// Programs that restart the object when a secret changes.
    pub restart: Vec<String>,
    /// Pods of a workload.
    pub pods: Vec<String>,
    /// Missing entries, secrets and keys, and the reasons. None if the object has everything that it asks for.
    pub problems: Vec<String>,
    /// Parts that could not be checked.
    pub notes: Vec<String>,
}

/// One container of the object, or of its pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerExplanation {
    pub name: String,
    /// Whether it is an init container or a native sidecar.
    pub init: bool,
    /// Entries that it has, or would get, or the reason for which it gets nothing.
    pub lines: Vec<String>,
}

impl Explanation {
    /// Whether something is missing.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        !self.problems.is_empty()
    }
}

/// Prints the sentences below one title for each group. Groups without sentences are left out.
pub(crate) fn text(explanation: &Explanation, out: &mut dyn Write) -> io::Result<()> {
    let Explanation {
        kind,
        namespace,
        name,
        containers,
        ..
    } = explanation;
    writeln!(out, "{kind} \"{name}\" in namespace \"{namespace}\"")?;
    let container_lines: Vec<String> = containers
        .iter()
        .flat_map(|container| container.lines.iter().cloned())
        .collect();
    let groups = [
        ("Problems", &explanation.problems),
        ("Webhook", &explanation.webhook),
        ("Annotations", &explanation.annotations),
        ("Containers", &container_lines),
        ("Secrets", &explanation.secrets),
        ("Restart", &explanation.restart),
        ("Pods", &explanation.pods),
        ("Not checked", &explanation.notes),
    ];
    for (title, lines) in groups {
        if lines.is_empty() {
            continue;
        }
        writeln!(out, "\n{title}:")?;
        for line in lines {
            writeln!(out, "  {line}")?;
        }
    }
    out.flush()
}

/// The explanation as one JSON object.
pub(crate) fn to_json(explanation: &Explanation) -> io::Result<serde_json::Value> {
    serde_json::to_value(explanation).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_without_sentences_are_left_out() {
        let explanation = Explanation {
            kind: "Pod",
            namespace: "jobs".to_owned(),
            name: "etl".to_owned(),
            containers: vec![ContainerExplanation {
                name: "main".to_owned(),
                init: false,
                lines: vec!["container \"main\" takes every key of secret \"db\"".to_owned()],
            }],
            ..Explanation::default()
        };
        let mut out = Vec::new();
        text(&explanation, &mut out).unwrap();
        let expected = "Pod \"etl\" in namespace \"jobs\"\n\nContainers:\n  container \"main\" takes every key of secret \"db\"\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
