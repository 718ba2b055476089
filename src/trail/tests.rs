//! Tests of the own chain, of checkpoints and of retention on a store in a file.

mod faulty_store;
mod own_chain;
mod proof;
mod upkeep;

use std::io::{BufRead as _, BufReader, PipeReader, pipe};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::faulty_store::FaultyStore;
use super::keys::{KeySecret, PUBLIC_ENTRY, ROTATE_ANNOTATION};
use super::metrics::UpkeepMetrics;
use super::*;
use crate::audit::link::ChainId;
use crate::audit::record::{Action, Class, Record, RecordOutcome, Service};
use crate::audit::text::Text;
use crate::audit::verify::{TrailFinding, TrailFindingKind, TrailReport, Verifier, VerifyOptions};
use crate::backend::kubernetes::fake_api::FakeApi;
use crate::clock::Clock;
use crate::kubernetes::ObjectApi;
use crate::recorder::RecorderSettings;
use crate::store::conformance::{Trail, exported, start};
use crate::store::sqlite::{SqliteSettings, SqliteStore};
use crate::telemetry::metrics::registry;

const DAY: Duration = Duration::from_hours(24);

/// Store in a file, API server with an empty Secret for the key, and a clock that is set.
struct Fixture {
    _folder: TempDir,
    store: Arc<FaultyStore>,
    api: FakeApi,
    now: Arc<Mutex<Timestamp>>,
}

/// One `admin`.
struct Process {
    trail: OwnTrail,
    signer: Arc<Signer>,
    metrics: UpkeepMetrics,
    store: Arc<dyn AuditStore>,
    out: PipeReader,
}

impl Fixture {
    async fn new() -> Self {
        Self::with_size(None).await
    }

    async fn with_size(max_bytes: Option<u64>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = SqliteSettings {
            create: true,
            max_bytes,
            ..SqliteSettings::new(folder.path().join("audit.db"))
        };
        let api = FakeApi::start(&["floe"]).await;
        api.put("floe", "audit-key", &[]);
        Self {
            _folder: folder,
            store: Arc::new(FaultyStore::new(SqliteStore::open(&settings).unwrap())),
            api,
            now: Arc::new(Mutex::new(start())),
        }
    }

    fn clock(&self) -> Clock {
        let now = Arc::clone(&self.now);
        Clock::new(move || *now.lock().unwrap())
    }

    /// Sets the clock to a time after the first line of a trail.
    fn set_time(&self, after_start: Duration) {
        *self.now.lock().unwrap() = start() + SignedDuration::try_from(after_start).unwrap();
    }

    fn secret(&self) -> KeySecret {
        KeySecret::new(ObjectApi::new(self.api.client()), "floe", "audit-key")
    }

    /// Public key in the Secret, as a file of trusted keys has it.
    fn public_key(&self) -> crate::audit::signature::PublicKey {
        use base64::Engine as _;
        let secret = self.api.stored("floe", "audit-key").unwrap();
        let entry = secret["data"][PUBLIC_ENTRY].as_str().unwrap();
        let text = base64::prelude::BASE64_STANDARD.decode(entry).unwrap();
        let text = String::from_utf8(text).unwrap();
        crate::audit::signature::PublicKey::parse(text.trim_end()).unwrap()
    }

    async fn ask_for_a_new_key(&self) {
        let change = json!({"metadata": {"annotations": {ROTATE_ANNOTATION: "true"}}});
        let path = "/api/v1/namespaces/floe/secrets/audit-key";
        let api = ObjectApi::new(self.api.client());
        api.merge(path, &change).await.unwrap();
    }

    async fn process(&self, chain: &str) -> Process {
        self.process_with(chain, Some(self.secret())).await
    }

    async fn process_with(&self, chain: &str, key: Option<KeySecret>) -> Process {
        let store: Arc<dyn AuditStore> = Arc::clone(&self.store) as Arc<dyn AuditStore>;
        let (out, stdout) = pipe().unwrap();
        let mut registry = registry();
        let output = TrailOutput::start(stdout, &mut registry).unwrap();
        let trail = OwnTrail::start(&store, names(chain), self.clock(), output).await;
        Process {
            signer: Arc::new(Signer::new(key, trail.clone())),
            metrics: UpkeepMetrics::register(&mut registry),
            trail,
            store,
            out,
        }
    }

    /// Stores the next lines of a chain.
    async fn fill(&self, trail: &mut Trail, count: usize) {
        crate::store::conformance::fill(&*self.store, trail, count).await;
    }

    /// All lines, as `audit export` prints them.
    async fn export(&self) -> Vec<String> {
        exported(&*self.store, Timestamp::MIN, Timestamp::MAX).await
    }
}

impl Process {
    fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(&self.store, &self.trail, &self.signer, &self.metrics)
    }

    fn retention(&self, max_age: Duration, min_age: Duration) -> Retention {
        let settings = RetentionSettings { max_age, min_age };
        let metrics = self.metrics.clone();
        Retention::new(&self.store, &self.trail, &self.signer, settings, metrics).without_pauses()
    }

    /// Record of a call, to be appended.
    fn record(&self) -> Record {
        let emitter = self.trail.emitter();
        emitter.record(Class::Admin, Action::AdmitPod, RecordOutcome::Success)
    }

    /// Ends the process. Returns its standard output.
    async fn stop(self) -> Vec<String> {
        self.trail.stop().await;
        let late = self.trail.append(self.record()).await;
        assert_eq!(late, Err(OwnTrailError::Ended));
        let Self {
            trail, signer, out, ..
        } = self;
        drop((trail, signer));
        let read = move || BufReader::new(out).lines().map(Result::unwrap).collect();
        tokio::task::spawn_blocking(read).await.unwrap()
    }
}

fn names(chain: &str) -> RecorderSettings {
    RecorderSettings {
        cluster: Text::new("prod"),
        service: Service {
            name: "admin",
            replica: Text::new("floe-admin-0"),
            version: "0.1.0",
        },
        chain: ChainId::parse(chain).unwrap(),
    }
}

fn options(key: crate::audit::signature::PublicKey) -> VerifyOptions {
    VerifyOptions {
        keys: vec![key],
        partial: false,
    }
}

fn verified(lines: &[String], options: VerifyOptions) -> TrailReport {
    crate::audit::verify::verify(lines, options)
}

/// Findings of damage, and their chains.
fn damage(report: &TrailReport) -> Vec<(TrailFindingKind, String)> {
    let findings = report.findings.iter();
    let damage = findings.filter(|finding| finding.kind.is_damage());
    let chain = |finding: &TrailFinding| finding.chain.as_ref().map(ToString::to_string);
    damage
        .map(|finding| (finding.kind, chain(finding).unwrap_or_default()))
        .collect()
}

/// Records of an action, as JSON.
fn of_action(lines: &[String], action: Action) -> Vec<Value> {
    let records = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    records
        .filter(|record| record["action"] == action.as_str())
        .collect()
}

/// Chains and numbers in the tips of a record.
fn tips(record: &Value) -> Vec<(String, u64)> {
    let tips = record["tips"].as_array().unwrap().iter();
    tips.map(|tip| {
        let chain = tip["chain"].as_str().unwrap().to_owned();
        (chain, tip["seq"].as_u64().unwrap())
    })
    .collect()
}
