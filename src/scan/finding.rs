//! What a scan finds, and what it looked at.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Objects that are too large to be read and are named; more of them are only counted.
const UNREAD: usize = 10;

/// Notes that are kept.
const MAX_NOTES: usize = 20;

/// An object that runs without what its annotations ask for, whose annotations or labels have no effect, or whose
/// containers lost references.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Where.
    pub namespace: String,
    /// `v1`, `apps/v1`, …
    pub api_version: &'static str,
    /// `Pod`, `Deployment`, …
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// `Kind/name` of what made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What is missing, has no effect or was lost, each a sentence.
    pub problems: Vec<String>,
}

/// What a scan has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// An object runs without what it asks for.
    Drifted(Finding),
    /// An object has annotations or labels of ours, or nearly ours, that have no effect.
    Ineffective(Finding),
    /// A workload's containers lost references to Secrets in its latest revision, together with an annotation.
    Lost(Finding),
    /// A pod was made lately, and whoever made it was warned: a controller, which passes nothing on.
    Warned(Warned),
}

/// A controller's pod that has its secrets, and of which more has to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warned {
    /// Where.
    pub namespace: String,
    /// What made the pod.
    pub owner: Owner,
    /// What its admission had to say that rests on the pod alone.
    pub warnings: Vec<String>,
}

/// The controller among an object's owner references.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// `apps/v1`, …
    #[serde(default)]
    pub api_version: String,
    /// `ReplicaSet`, …
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    #[serde(default)]
    pub uid: String,
}

/// How far a scan has come. Shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    objects: AtomicU64,
    read: AtomicU64,
    found: AtomicU64,
    ineffective: AtomicU64,
    lost: AtomicU64,
    skipped: AtomicU64,
    service_accounts_hidden: AtomicBool,
    unread: Mutex<Vec<String>>,
    notes: Mutex<BTreeSet<String>>,
}

/// What a scan looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScanStats {
    /// Pods, workloads and revisions of workloads that were listed.
    pub objects: u64,
    /// Objects that were read whole.
    pub read: u64,
    /// Objects that run without what they ask for.
    pub found: u64,
    /// Objects whose annotations or labels have no effect.
    pub ineffective: u64,
    /// Workloads whose containers lost references in the latest revision, together with an annotation.
    pub lost: u64,
    /// Objects that were left out, each of them too large to be read: the scan is not complete without them.
    pub skipped: u64,
}

impl Progress {
    pub(super) fn listed(&self, objects: usize) {
        self.objects.fetch_add(objects as u64, Ordering::Relaxed);
    }

    pub(super) fn read(&self) {
        self.read.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn found(&self) {
        self.found.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ineffective(&self) {
        self.ineffective.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn hide_service_accounts(&self) {
        self.service_accounts_hidden.store(true, Ordering::Relaxed);
    }

    /// Whether `ServiceAccounts` could not be listed: then nothing is known of those whose defaults have no effect.
    #[must_use]
    pub fn hides_service_accounts(&self) -> bool {
        self.service_accounts_hidden.load(Ordering::Relaxed)
    }

    /// An object is too large to be read.
    pub(super) fn skip(&self, object: String) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        if unread.len() < UNREAD {
            unread.push(object);
        }
    }

    /// The first objects that were left out, each too large to be read.
    #[must_use]
    pub fn unread(&self) -> Vec<String> {
        self.unread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Notes what was not looked at, and why.
    pub(super) fn note(&self, sentence: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < MAX_NOTES {
            notes.insert(sentence);
        }
    }

    /// Sentences about what was not looked at, and why.
    #[must_use]
    pub fn notes(&self) -> BTreeSet<String> {
        self.notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The figures so far.
    #[must_use]
    pub fn looked(&self) -> ScanStats {
        let get = |of: &AtomicU64| of.load(Ordering::Relaxed);
        ScanStats {
            objects: get(&self.objects),
            read: get(&self.read),
            found: get(&self.found),
            ineffective: get(&self.ineffective),
            lost: get(&self.lost),
            skipped: get(&self.skipped),
        }
    }
}
