//! Findings and statistics of a scan.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Limit of named objects that are too large to be read. Others are only counted.
const MAX_UNREAD_NAMED: usize = 10;

/// Limit of notes; further ones are dropped.
const MAX_NOTES: usize = 20;

/// An object that runs without the secrets of its annotations, whose annotations or labels have no effect, or whose
/// containers lost references.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub namespace: String,
    /// For example `v1` or `apps/v1`.
    pub api_version: &'static str,
    /// For example `Pod` or `Deployment`.
    pub kind: &'static str,
    pub name: String,
    pub uid: String,
    /// `Kind/name` of the object's controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Sentences about missing secrets, annotations without effect, or lost references.
    pub problems: Vec<String>,
}

/// One finding of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanFinding {
    /// An object runs without its secrets.
    Drifted(Finding),
    /// An object has annotations or labels without effect, with the webhook's prefix or one that resembles it.
    Ineffective(Finding),
    /// A workload's containers lost references to Secrets in its latest revision, together with an annotation.
    Lost(Finding),
    /// A new pod was admitted with warnings, and they were returned to a controller, which drops them.
    Warned(Warned),
}

/// A pod that has its secrets and was admitted with warnings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warned {
    pub namespace: String,
    /// Controller of the pod.
    pub owner: FindingOwner,
    /// Warnings of the admission that depend only on the pod.
    pub warnings: Vec<String>,
}

/// The controller among an object's owner references.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingOwner {
    /// For example `apps/v1`.
    #[serde(default)]
    pub api_version: String,
    /// For example `ReplicaSet`.
    pub kind: String,
    pub name: String,
    #[serde(default)]
    pub uid: String,
}

/// Counters and notes of a running scan, shared with the code that prints them.
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

/// Statistics of a scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScanStats {
    /// Pods, workloads and revisions of workloads that were listed.
    pub objects: u64,
    /// Objects that were read in full.
    pub read: u64,
    /// Objects that run without their secrets.
    pub found: u64,
    /// Objects whose annotations or labels have no effect.
    pub ineffective: u64,
    /// Workloads whose containers lost references in the latest revision, together with an annotation.
    pub lost: u64,
    /// Objects that were skipped because each is too large to be read. The scan is incomplete then.
    pub skipped: u64,
}

impl Progress {
    pub(super) fn count_listed(&self, objects: usize) {
        self.objects.fetch_add(objects as u64, Ordering::Relaxed);
    }

    pub(super) fn count_read(&self) {
        self.read.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_found(&self) {
        self.found.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_ineffective(&self) {
        self.ineffective.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn hide_service_accounts(&self) {
        self.service_accounts_hidden.store(true, Ordering::Relaxed);
    }

    /// Whether `ServiceAccounts` could not be listed. Their defaults without effect are unknown then.
    #[must_use]
    pub fn hides_service_accounts(&self) -> bool {
        self.service_accounts_hidden.load(Ordering::Relaxed)
    }

    /// Counts an object that is too large to be read.
    pub(super) fn skip(&self, object: String) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        if unread.len() < MAX_UNREAD_NAMED {
            unread.push(object);
        }
    }

    /// The first objects that were skipped, each too large to be read.
    #[must_use]
    pub fn unread(&self) -> Vec<String> {
        self.unread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Records a sentence about objects that were not scanned, and why.
    pub(super) fn note(&self, sentence: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < MAX_NOTES {
            notes.insert(sentence);
        }
    }

    /// Sentences about objects that were not scanned, and why.
    #[must_use]
    pub fn notes(&self) -> BTreeSet<String> {
        self.notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Statistics so far.
    #[must_use]
    pub fn stats(&self) -> ScanStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
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
