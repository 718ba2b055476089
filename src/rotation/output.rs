//! Output of the consumers of a Secret as tables or as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde::Serialize;

use crate::cli::output::write_columns;
use crate::consumers::{
    ConsumerCounts, ConsumerUse, Consumers, ContainerUse, DataChange, Effect, PodConsumer, UseKind,
    ValueAge, WorkloadConsumer,
};

const WORKLOAD_HEADER: [&str; 3] = ["WORKLOAD", "USES IT BY", "WHEN IT CHANGES"];
const POD_HEADER: [&str; 4] = ["POD", "OF", "VALUE", "CONTAINERS"];

/// Prints the Secret's last change, its workloads, and the pods that keep a value. Pods that follow a change are only
/// counted.
pub(crate) fn table(consumers: &Consumers, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", change_sentence(consumers))?;
    if !consumers.workloads.is_empty() {
        writeln!(out)?;
        let rows = consumers.workloads.iter().map(workload_row);
        write_columns(out, &with_header(WORKLOAD_HEADER, rows))?;
    }
    let keeping: Vec<&PodConsumer> = consumers
        .pods
        .iter()
        .filter(|pod| pod.value.is_some())
        .collect();
    if !keeping.is_empty() {
        writeln!(out)?;
        let rows = keeping.iter().map(|pod| pod_row(pod));
        write_columns(out, &with_header(POD_HEADER, rows))?;
    }
    writeln!(out)?;
    writeln!(out, "{}", summary(consumers))?;
    out.flush()
}

/// JSON object of a rotation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RotationDocument<'c> {
    namespace: &'c str,
    secret: RotatedSecret<'c>,
    workloads: &'c [WorkloadConsumer],
    pods: &'c [PodConsumer],
    counts: ConsumerCounts,
    notes: &'c [String],
}

#[derive(Serialize)]
struct RotatedSecret<'c> {
    name: &'c str,
    keys: Option<&'c BTreeSet<String>>,
    changed: Option<DataChange>,
}

/// The consumers as one object. It borrows them, because the JSON values of ten thousand pods take tens of MiB.
pub(crate) fn document(consumers: &Consumers) -> impl Serialize {
    let Consumers {
        namespace,
        secret,
        workloads,
        pods,
        counts,
        notes,
    } = consumers;
    RotationDocument {
        namespace,
        secret: RotatedSecret {
            name: &secret.name,
            keys: secret.keys.as_ref(),
            changed: secret.changed,
        },
        workloads,
        pods,
        counts: *counts,
        notes,
    }
}

fn change_sentence(consumers: &Consumers) -> String {
    let (name, namespace) = (&consumers.secret.name, &consumers.namespace);
    let secret = format!("Secret \"{name}\" in namespace \"{namespace}\"");
    match consumers.secret.changed {
        Some(change) if change.is_exact() => {
            format!("{secret}: its data last changed at {}.", change.latest)
        }
        Some(change) => format!(
            "{secret}: its data last changed at {} at the latest, and not before {}: whoever wrote the data wrote other fields too.",
            change.latest, change.earliest
        ),
        None => format!(
            "{secret}: the time of its last change is not known, because its managed fields do not have it."
        ),
    }
}

fn workload_row(workload: &WorkloadConsumer) -> [String; 3] {
    [
        format!("{}/{}", workload.kind, workload.name),
        uses_phrase(&workload.uses),
        effect_phrase(workload.effect),
    ]
}

fn pod_row(pod: &PodConsumer) -> [String; 4] {
    let value = match pod.value {
        Some(ValueAge::Old) => "old",
        Some(ValueAge::PossiblyOld) => "possibly old",
        Some(ValueAge::Current) => "current",
        None => "-",
    };
    let deleted = if pod.being_deleted {
        ", being deleted"
    } else {
        ""
    };
    let containers = pod
        .containers
        .iter()
        .map(|ContainerUse { name, started, .. }| format!("{name} since {started}"));
    [
        pod.name.clone(),
        pod.owner.clone().unwrap_or_else(|| "-".to_owned()),
        format!("{value}{deleted}"),
        containers.collect::<Vec<_>>().join(", "),
    ]
}

/// Kinds of uses, each with its containers.
fn uses_phrase(uses: &[ConsumerUse]) -> String {
    let mut by_kind: BTreeMap<UseKind, Vec<&str>> = BTreeMap::new();
    for used in uses {
        let containers = by_kind.entry(used.kind).or_default();
        containers.extend(used.container.as_deref());
    }
    let phrases = by_kind.into_iter().map(|(kind, containers)| {
        if containers.is_empty() {
            kind.as_str().to_owned()
        } else {
            format!("{} ({})", kind.as_str(), containers.join(", "))
        }
    });
    phrases.collect::<Vec<_>>().join("; ")
}

fn effect_phrase(effect: Effect) -> String {
    match effect {
        Effect::Restarts {
            by,
            annotation,
            possibly,
        } => {
            let program = if by == "infisical" {
                "the Infisical operator"
            } else {
                "Reloader"
            };
            let restarts = if possibly { "may restart" } else { "restarts" };
            format!("{program} {restarts} it ({annotation})")
        }
        Effect::NextRun => "the next run has the new value".to_owned(),
        Effect::KeepsOldValue => "nothing restarts it: it keeps the old value".to_owned(),
        Effect::Follows => "it gets the new value while it runs".to_owned(),
        Effect::Unknown => "not known".to_owned(),
    }
}

/// Sentences about the pods: how many have an older value, and what each group of them waits for.
fn summary(consumers: &Consumers) -> String {
    let counts = consumers.counts;
    let mut sentences = vec![if counts.stale() == 0 {
        format!("None of {} pods runs with an older value.", counts.pods)
    } else if counts.possibly_old == 0 {
        format!(
            "{} of {} pods run with an older value.",
            counts.old, counts.pods
        )
    } else {
        format!(
            "{} of {} pods run with an older value, and {} more may do so: they started between the two times, or so soon after the change that they may have been given the value from before.",
            counts.old, counts.pods, counts.possibly_old
        )
    }];
    let stale = || consumers.pods.iter().filter(|pod| pod.is_stale());
    if stale().any(|pod| pod.effect == Effect::NextRun) {
        sentences.push(
            "A pod of a Job keeps its value until the Job ends; the next run has the new one."
                .to_owned(),
        );
    }
    let is_kept = |pod: &PodConsumer| pod.effect == Effect::KeepsOldValue;
    if stale().any(|pod| is_kept(pod) && pod.owner.is_some()) {
        sentences.push(
            "No program restarts the pods of a workload that keeps the old value: kubectl rollout restart."
                .to_owned(),
        );
    }
    if stale().any(|pod| is_kept(pod) && pod.owner.is_none()) {
        sentences.push("A pod without an owner has to be deleted and created again.".to_owned());
    }
    if stale().any(|pod| pod.effect == Effect::Unknown) {
        sentences.push(
            "For pods whose workload could not be read, it is not known whether a program restarts them."
                .to_owned(),
        );
    }
    let listed = consumers.pods.len() as u64;
    if counts.pods > listed {
        sentences.push(format!("{} pods are not listed.", counts.pods - listed));
    }
    sentences.join(" ")
}

/// Rows below their header.
fn with_header<const N: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> Vec<[String; N]> {
    std::iter::once(header.map(str::to_owned))
        .chain(rows)
        .collect()
}

#[cfg(test)]
mod tests {
    use injection::Annotations;
    use jiff::Timestamp;

    use super::*;
    use crate::consumers::SecretHead;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn consumers(change: Option<(i64, i64)>) -> Consumers {
        let env_from = ConsumerUse {
            kind: UseKind::EnvFrom,
            container: Some("main".to_owned()),
            annotation: None,
        };
        let effect = Effect::Restarts {
            by: "reloader",
            annotation: "secret.reloader.stakater.com/reload",
            possibly: false,
        };
        let container = ContainerUse {
            name: "main".to_owned(),
            started: at(10),
            value: ValueAge::Old,
        };
        let pod = PodConsumer {
            name: "api-1".to_owned(),
            owner: Some("Deployment/api".to_owned()),
            uses: vec![env_from.clone()],
            effect,
            containers: vec![container],
            value: Some(ValueAge::Old),
            being_deleted: true,
        };
        Consumers {
            namespace: "jobs".to_owned(),
            secret: SecretHead {
                name: "db".to_owned(),
                created: None,
                keys: None,
                changed: change.map(|(earliest, latest)| DataChange {
                    earliest: at(earliest),
                    latest: at(latest),
                }),
                annotations: Annotations::default(),
            },
            workloads: vec![WorkloadConsumer {
                kind: "Deployment",
                name: "api".to_owned(),
                uses: vec![env_from],
                effect,
            }],
            pods: vec![pod],
            counts: ConsumerCounts {
                workloads: 1,
                pods: 3,
                old: 1,
                ..ConsumerCounts::default()
            },
            notes: Vec::new(),
        }
    }

    #[test]
    fn table_has_change_workloads_and_pods() {
        let mut out = Vec::new();
        table(&consumers(Some((20, 20))), &mut out).unwrap();
        let expected = "\
Secret \"db\" in namespace \"jobs\": its data last changed at 1970-01-01T00:00:20Z.

WORKLOAD         USES IT BY       WHEN IT CHANGES
Deployment/api   envFrom (main)   Reloader restarts it (secret.reloader.stakater.com/reload)

POD     OF               VALUE                CONTAINERS
api-1   Deployment/api   old, being deleted   main since 1970-01-01T00:00:10Z

1 of 3 pods run with an older value. 2 pods are not listed.
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn uncertain_and_unknown_changes_are_described() {
        let latest = change_sentence(&consumers(Some((5, 20))));
        assert!(
            latest.contains(
                "at 1970-01-01T00:00:20Z at the latest, and not before 1970-01-01T00:00:05Z"
            ),
            "{latest}"
        );
        assert!(change_sentence(&consumers(None)).contains("is not known"));
    }

    #[test]
    fn unknown_effects_are_described() {
        let mut unknown = consumers(Some((20, 20)));
        unknown.pods[0].effect = Effect::Unknown;
        assert!(summary(&unknown).contains("it is not known whether a program restarts them"));
        let document = serde_json::to_value(document(&unknown)).unwrap();
        assert_eq!(document["pods"][0]["change"], "unknown");
    }

    #[test]
    fn json_has_effects_and_values() {
        let found = consumers(Some((20, 20)));
        let document = serde_json::to_value(document(&found)).unwrap();
        assert_eq!(document["pods"][0]["change"], "restarts");
        assert_eq!(document["pods"][0]["beingDeleted"], true);
        assert_eq!(document["workloads"][0]["by"], "reloader");
        assert_eq!(
            document["secret"]["changed"]["latest"],
            "1970-01-01T00:00:20Z"
        );
        assert_eq!(document["counts"]["old"], 1);
    }
}
