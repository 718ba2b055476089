//! Sequences that once lost or kept something.

use serde_json::{Value, json};

use super::author::{Field, LIST, Manifest, PREFIX, Step, source};

/// Steps on a workload of a kind that is applied first.
pub struct Known {
    pub name: &'static str,
    pub kind: &'static str,
    pub manifest: Manifest,
    pub steps: Vec<Step>,
}

fn prefixed(key: &str) -> String {
    format!("{PREFIX}{key}")
}

fn manifest(fields: &[(Field, Value)]) -> Manifest {
    fields
        .iter()
        .cloned()
        .chain([(Field::Image, json!("one"))])
        .collect()
}

pub fn all() -> Vec<Known> {
    let template = || Field::Template(prefixed("env-from"));
    let metadata = || Field::Metadata(prefixed("env-from"));
    let sources = |name: &str| (Field::EnvFrom, json!([source(name)]));
    let taking_over = || {
        vec![
            Step::ServerApply(0, manifest(&[(template(), json!("a"))])),
            // Then the manager alone owns the annotation.
            Step::Annotate(template(), Some(json!("b"))),
            Step::ServerApply(0, manifest(&[(template(), json!("a"))])),
            Step::ServerApply(0, manifest(&[sources("a")])),
        ]
    };
    let asking = || manifest(&[(template(), json!("a"))]);
    vec![
        Known {
            name: "an apply without annotations takes all of them out of the template, the record too",
            kind: "DaemonSet",
            manifest: asking(),
            steps: vec![Step::Apply(manifest(&[]))],
        },
        Known {
            name: "what is added to a list that a manager owns is taken back",
            kind: "StatefulSet",
            manifest: asking(),
            steps: vec![
                Step::ServerApply(0, manifest(&[(template(), json!("a")), sources("x")])),
                Step::Annotate(template(), None),
            ],
        },
        Known {
            name: "what is added to an owned list for Reloader is taken back",
            kind: "Deployment",
            manifest: manifest(&[(metadata(), json!("a"))]),
            steps: vec![
                Step::ServerApply(
                    0,
                    manifest(&[
                        (metadata(), json!("a")),
                        (Field::Metadata(LIST.to_owned()), json!("x")),
                    ]),
                ),
                Step::Annotate(metadata(), None),
            ],
        },
        Known {
            name: "a manager takes over the whole secret",
            kind: "Deployment",
            manifest: asking(),
            steps: taking_over(),
        },
        Known {
            name: "a manager takes over the whole secret where containers are one field",
            kind: "Rollout",
            manifest: asking(),
            steps: taking_over(),
        },
    ]
}
