//! Store of a run: filled through its own append, with attributions, as the collector and `admin` do.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use floe_secrets_webhook::store::sqlite::{SqliteSettings, SqliteStore};
use floe_secrets_webhook::store::{
    AskedBy, AttributedRecord, AttributionStore as _, AuditStore as _, LinePosition,
    TargetAttribution, UnattributedEvent,
};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::sync::Mutex;

use super::print_line;
use super::records::{Admin, Cluster, author_of};
use super::report::{Sizes, cpu_time};

/// Time that the records of a store cover: somewhat less than retention keeps by default.
const COVERED: Duration = Duration::from_hours(80 * 24);

/// Lines of an append while the store is filled: a full batch of a recorder.
const FILL_BATCH: u64 = 200;

/// Appends under way while the store is filled.
const FILL_APPENDS: usize = 5;

/// Bytes of the default store.
const DEFAULT_BYTES: u64 = 4 << 30;

/// Bytes of a row in percent of its line: a line of 1,300 bytes has 1,850, and 4 GiB have 2.3 million of them.
const MAX_ROW_PERCENT: u64 = 145;

/// Store with its rows.
pub struct FilledStore {
    pub store: Arc<SqliteStore>,
    pub path: PathBuf,
    pub cluster: Cluster,
    pub admin: Arc<Mutex<Admin>>,
    pub rows: u64,
}

fn open(path: &Path) -> SqliteStore {
    let settings = SqliteSettings {
        create: true,
        max_bytes: Some(4 * DEFAULT_BYTES),
        ..SqliteSettings::new(path)
    };
    SqliteStore::open(&settings).expect("the store")
}

impl FilledStore {
    /// Fills a store, or takes the one of an earlier run, if it has the rows.
    pub async fn fill(path: PathBuf, rows: u64) -> Self {
        let step = u32::try_from(rows).map_or(Duration::ZERO, |rows| COVERED / rows);
        let step = SignedDuration::try_from(step).expect("a short time");
        let covered = SignedDuration::try_from(COVERED).expect("some days");
        let now = Timestamp::now();
        let store = Arc::new(open(&path));
        let stored = store.counts().await.expect("counts").lines;
        let mut filled = Self {
            store,
            path,
            cluster: Cluster::new(now - covered, step),
            admin: Arc::new(Mutex::new(Admin::new(now))),
            rows: stored,
        };
        if stored > 0 {
            filled.cluster.skip_to(now, step);
            print_line(&format!("fill: {stored} rows of an earlier run"));
            return filled;
        }
        let (began, cpu) = (Instant::now(), cpu_time());
        let mut attributed = LinePosition::default();
        while filled.rows < rows {
            filled.append_group().await;
            attributed = filled.attribute(attributed).await;
        }
        let (took, cpu) = (began.elapsed().as_millis(), cpu_time().saturating_sub(cpu));
        print_line(&format!(
            "fill: {} rows, {} rows/s, {} us of CPU a row, with their making",
            filled.rows,
            u128::from(filled.rows) * 1_000 / took.max(1),
            cpu.as_micros() / u128::from(filled.rows.max(1)),
        ));
        filled
    }

    async fn append_group(&mut self) {
        let mut appends = Vec::new();
        for _ in 0..FILL_APPENDS {
            let batch = self.cluster.batch(FILL_BATCH);
            self.rows += batch.lines;
            appends.push(self.store.append(batch.batch));
        }
        if let Some(tips) = self.cluster.unconfirmed() {
            let mut admin = self.admin.lock().await;
            let batch = admin.checkpoint(&tips, self.cluster.time());
            appends.push(self.store.append(batch));
        }
        for appended in join_all(appends).await {
            appended.expect("durable lines");
        }
    }

    /// Attributes the pods of controllers to the authors of their workloads.
    async fn attribute(&self, mut after: LinePosition) -> LinePosition {
        loop {
            let events = self.store.unattributed(after).await.expect("a query");
            let Some(last) = events.last() else {
                return after;
            };
            after = last.position;
            let records = events.iter().map(attributed).collect();
            let written = self.store.attribute(records, Timestamp::now()).await;
            written.expect("written attributions");
        }
    }

    /// Prints the bytes of a row. Returns the promise of its size if it is not kept.
    pub async fn report_sizes(&self) -> Vec<String> {
        let counts = self.store.counts().await.expect("counts");
        let per_row = |bytes: u64| bytes / self.rows.max(1);
        let sizes = Sizes::of(&self.path);
        for (name, bytes, unused) in sizes.tables {
            if per_row(bytes) > 0 {
                let percent = unused * 100 / bytes.max(1);
                let bytes = per_row(bytes);
                print_line(&format!(
                    "size: {name:<24} {bytes:>5} B/row, {percent} % of it unused"
                ));
            }
        }
        let (row, line) = (per_row(counts.bytes), sizes.line);
        let held = DEFAULT_BYTES / row.max(1);
        print_line(&format!(
            "size: {row} B/row with a line of {line} B: 1 GiB holds {} rows, 4 GiB {held}",
            held / 4,
        ));
        let is_kept = row * 100 <= line * MAX_ROW_PERCENT;
        (!is_kept)
            .then(|| format!("{row} B for a line of {line} B"))
            .into_iter()
            .collect()
    }
}

/// Result of attribution for a record of a controller: the author of the workload, in a record a little earlier.
fn attributed(event: &UnattributedEvent) -> AttributedRecord {
    let record: Value = serde_json::from_str(&event.line).expect("JSON");
    let targets = record.pointer("/targets").and_then(Value::as_array);
    let targets = 0..targets.map_or(0, Vec::len);
    let asked_by = AskedBy::Requester {
        requester: author_of(&record),
        source: LinePosition(event.position.0.saturating_sub(10_000).max(1)),
    };
    let target = |target: usize| TargetAttribution {
        target: u32::try_from(target).unwrap_or_default(),
        asked_by: asked_by.clone(),
    };
    AttributedRecord {
        position: event.position,
        targets: targets.map(target).collect(),
        is_final: true,
    }
}
