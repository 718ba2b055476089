//! Consumers found in one namespace so far: listed up to a limit, all of them counted. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::found::{ConsumerCounts, Consumers, Effect, PodConsumer, ValueAge, WorkloadConsumer};
use super::kinds::{WORKLOAD_LISTS, WorkloadList};
use super::limits::{MAX_EFFECTS, MAX_LISTED_PODS, MAX_LISTED_WORKLOADS};
use super::owners::{OwnerLookup, PodOwner};
use super::progress::ReadProgress;
use super::secret_head::{DataChange, SecretHead};

/// Results of one read so far.
pub(super) struct NamespaceRead<'r> {
    pub namespace: &'r str,
    pub secret: &'r SecretHead,
    pub change: DataChange,
    pub progress: &'r ReadProgress,
    pub counts: ConsumerCounts,
    pub notes: Vec<String>,
    /// Whether the defaults could not be read. They are not requested again for every pod.
    pub has_unread_defaults: bool,
    workloads: Vec<WorkloadConsumer>,
    /// Effects on the pods of workloads, also of those that are not listed.
    effects: BTreeMap<PodOwner, Effect>,
    /// Kinds whose objects were not all read.
    unread_kinds: BTreeSet<&'static str>,
    /// Listed pods with an older value.
    stale: Vec<PodConsumer>,
    /// Other listed pods.
    others: Vec<PodConsumer>,
    /// Consumers that were found, as `Kind/name`: a list that is restarted returns objects again.
    known: BTreeSet<String>,
}

impl<'r> NamespaceRead<'r> {
    pub fn new(namespace: &'r str, secret: &'r SecretHead, progress: &'r ReadProgress) -> Self {
        // Without a time of the last change, every container that keeps a value may have an older one.
        let unknown = DataChange {
            earliest: jiff::Timestamp::UNIX_EPOCH,
            latest: jiff::Timestamp::MAX,
        };
        Self {
            namespace,
            secret,
            change: secret.changed.unwrap_or(unknown),
            progress,
            counts: ConsumerCounts::default(),
            notes: Vec::new(),
            has_unread_defaults: false,
            workloads: Vec::new(),
            effects: BTreeMap::new(),
            unread_kinds: BTreeSet::new(),
            stale: Vec::new(),
            others: Vec::new(),
            known: BTreeSet::new(),
        }
    }

    /// Adds a sentence once.
    pub fn note(&mut self, sentence: String) {
        if !self.notes.contains(&sentence) && self.notes.len() < WORKLOAD_LISTS.len() + 2 {
            self.notes.push(sentence);
        }
    }

    /// Records that not all objects of a kind were read.
    pub fn kind_unread(&mut self, title: &'static str) {
        self.unread_kinds.insert(title);
    }

    pub fn workload_found(&mut self, found: Option<WorkloadConsumer>) {
        let Some(workload) = found else { return };
        if !self
            .known
            .insert(format!("{}/{}", workload.kind, workload.name))
        {
            return;
        }
        self.counts.workloads += 1;
        if self.effects.len() < MAX_EFFECTS {
            let owner = PodOwner {
                kind: workload.kind.to_owned(),
                name: workload.name.clone(),
            };
            self.effects.insert(owner, workload.effect);
        } else {
            self.unread_kinds.insert(workload.kind);
        }
        if self.workloads.len() < MAX_LISTED_WORKLOADS {
            self.workloads.push(workload);
        }
    }

    /// Effect of a change on the pods of an owner.
    pub fn effect_on_pods_of(&self, found: &OwnerLookup) -> Effect {
        let kind = found.owner.kind.as_str();
        if let Some(effect) = self.effects.get(&found.owner) {
            return *effect;
        }
        match WorkloadList::titled(kind) {
            Some(list) if !list.kind.is_restartable() => Effect::NextRun,
            // The workload was read, and no program that reads its annotations restarts it because of this Secret.
            Some(list) if !self.unread_kinds.contains(list.title) => Effect::KeepsOldValue,
            // A ReplicaSet without an owner is restarted by nothing.
            None if kind == "ReplicaSet" && found.is_known => Effect::KeepsOldValue,
            Some(_) | None => Effect::Unknown,
        }
    }

    pub fn pod_found(&mut self, pod: PodConsumer) {
        if !self.known.insert(format!("Pod/{}", pod.name)) {
            return;
        }
        self.counts.pods += 1;
        self.counts.old += u64::from(pod.value == Some(ValueAge::Old));
        self.counts.possibly_old += u64::from(pod.value == Some(ValueAge::PossiblyOld));
        let is_full = self.stale.len() + self.others.len() >= MAX_LISTED_PODS;
        if pod.is_stale() {
            self.progress.count_stale();
            // Pods with an older value are listed first, in the place of another one.
            if !is_full || self.others.pop().is_some() {
                self.stale.push(pod);
            }
        } else if !is_full {
            self.others.push(pod);
        }
    }

    /// The consumers, sorted.
    pub fn finish(mut self) -> Consumers {
        self.workloads
            .sort_by(|one, other| (one.kind, &one.name).cmp(&(other.kind, &other.name)));
        let mut pods = self.stale;
        pods.append(&mut self.others);
        pods.sort_by(|one, other| {
            let rank = |pod: &PodConsumer| pod.value.unwrap_or(ValueAge::Current);
            (rank(one), &one.name).cmp(&(rank(other), &other.name))
        });
        Consumers {
            namespace: self.namespace.to_owned(),
            secret: self.secret.clone(),
            workloads: self.workloads,
            pods,
            counts: self.counts,
            notes: self.notes,
        }
    }
}

#[cfg(test)]
mod tests {
    use injection::Annotations;

    use super::*;

    fn secret() -> SecretHead {
        SecretHead {
            name: "db".to_owned(),
            created: None,
            keys: Some(BTreeSet::new()),
            changed: None,
            annotations: Annotations::default(),
        }
    }

    fn pod(name: &str, value: ValueAge) -> PodConsumer {
        PodConsumer {
            name: name.to_owned(),
            owner: None,
            uses: Vec::new(),
            effect: Effect::KeepsOldValue,
            containers: Vec::new(),
            value: Some(value),
            being_deleted: false,
        }
    }

    fn workload(number: usize) -> WorkloadConsumer {
        WorkloadConsumer {
            kind: "Deployment",
            name: format!("api-{number}"),
            uses: Vec::new(),
            effect: Effect::Follows,
        }
    }

    fn owner(kind: &str, name: &str, is_known: bool) -> OwnerLookup {
        OwnerLookup {
            owner: PodOwner {
                kind: kind.to_owned(),
                name: name.to_owned(),
            },
            is_known,
        }
    }

    #[test]
    fn pods_beyond_the_limit_are_counted_and_old_ones_are_listed() {
        let (secret, progress) = (secret(), ReadProgress::default());
        let mut read = NamespaceRead::new("jobs", &secret, &progress);
        for number in 0..=MAX_LISTED_PODS {
            read.pod_found(pod(&format!("current-{number}"), ValueAge::Current));
        }
        read.pod_found(pod("old", ValueAge::Old));
        let Consumers { pods, counts, .. } = read.finish();
        assert_eq!(pods.len(), MAX_LISTED_PODS);
        assert_eq!(counts.pods, MAX_LISTED_PODS as u64 + 2);
        assert_eq!((pods[0].name.as_str(), counts.stale()), ("old", 1));
    }

    #[test]
    fn effects_of_workloads_are_known_beyond_the_listed_ones() {
        let (secret, progress) = (secret(), ReadProgress::default());
        let mut read = NamespaceRead::new("jobs", &secret, &progress);
        let effect = |read: &NamespaceRead<'_>, number: usize| {
            read.effect_on_pods_of(&owner("Deployment", &format!("api-{number}"), true))
        };
        for number in 0..MAX_EFFECTS {
            read.workload_found(Some(workload(number)));
        }
        assert_eq!(effect(&read, MAX_LISTED_WORKLOADS), Effect::Follows);
        assert_eq!(effect(&read, MAX_EFFECTS), Effect::KeepsOldValue);
        read.workload_found(Some(workload(MAX_EFFECTS)));
        assert_eq!(effect(&read, MAX_EFFECTS), Effect::Unknown);
        let found = read.finish();
        assert_eq!(found.workloads.len(), MAX_LISTED_WORKLOADS);
        assert_eq!(found.counts.workloads, MAX_EFFECTS as u64 + 1);
    }

    #[test]
    fn effect_is_unknown_for_owners_that_were_not_read() {
        let (secret, progress) = (secret(), ReadProgress::default());
        let mut read = NamespaceRead::new("jobs", &secret, &progress);
        read.kind_unread("Rollout");
        for (kind, is_known, expected) in [
            ("StatefulSet", true, Effect::KeepsOldValue),
            ("Rollout", true, Effect::Unknown),
            ("Job", false, Effect::NextRun),
            ("CronJob", true, Effect::NextRun),
            ("ReplicaSet", true, Effect::KeepsOldValue),
            ("ReplicaSet", false, Effect::Unknown),
            ("Workflow", true, Effect::Unknown),
        ] {
            let effect = read.effect_on_pods_of(&owner(kind, "x", is_known));
            assert_eq!(effect, expected, "{kind}");
        }
    }
}
