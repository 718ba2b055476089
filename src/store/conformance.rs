//! Conformance suite: the contract of [`AuditStore`] as tests, one function per clause.
//!
//! Every store runs them by [`crate::audit_store_conformance`]. Each clause needs an empty store of its own, and panics
//! where the contract is broken.
#![expect(
    clippy::missing_panics_doc,
    reason = "clauses report a broken contract by a panic"
)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper of a test fails as the test does"
)]

pub mod append;
pub mod attribution;
pub mod deletion;
pub mod imports;
pub mod queries;
pub mod second_passes;

use std::any::Any;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{
    AuditStore, Batch, EventFilter, EventQuery, ExportRange, LinePosition, QueryArguments,
    StoredEvent,
};
use crate::audit::chain::Chain;
use crate::audit::emitter::Emitter;
use crate::audit::link::{ChainId, Tip};
use crate::audit::record::{
    Action, Actor, Class, ObjectFields, Record, RecordOutcome, RequestFields, Service,
};
use crate::audit::signature::SigningKey;
use crate::audit::target::TargetSecret;
use crate::audit::text::Text;

/// Empty store, and what it stands on, such as a folder.
pub struct StoreFixture {
    pub store: Arc<dyn AuditStore>,
    pub guard: Box<dyn Any + Send>,
}

/// Defines a module of tests: every clause. The expression `$fixture` is awaited once per clause.
#[macro_export]
macro_rules! audit_store_conformance {
    ($module:ident, $fixture:expr) => {
        $crate::audit_store_clauses! { $module, $fixture,
            append: [batch_is_stored_verbatim, repeated_lines_are_stored_once, gap_is_refused_with_the_wanted_number,
                second_history_is_refused, lost_lines_are_counted, lines_of_a_newer_program_are_kept,
                concurrent_appends_are_all_durable, chains_have_their_tips,
                moved_chains_are_those_with_new_lines, checkpoints_confirm_lines_of_chains],
            queries: [filters_compare_each_field, range_has_its_start_and_not_its_end, pages_have_each_event_once,
                followers_miss_nothing, export_has_the_lines_of_a_range],
            imports: [missing_range_is_filled, tail_is_kept_as_one_sided, checkpoint_confirms_a_tail,
                range_without_neighbours_is_refused, second_history_is_not_imported,
                deleted_lines_confirm_by_the_last_one_alone, export_has_imported_lines_in_place,
                ranges_in_any_order_are_imported, whole_chain_is_kept_as_one_sided],
            deletion: [old_lines_are_deleted, young_lines_are_never_deleted, deletion_is_announced_by_hash,
                chain_goes_on_after_deletion, last_deleted_lines_are_known],
            attribution: [records_with_other_authors_are_unattributed, admissions_are_found_by_object_and_time,
                result_is_written_until_it_is_final, deleted_lines_have_no_attribution],
            second_passes: [second_pass_is_one_use, second_pass_is_found_in_both_orders,
                other_records_are_uses_of_their_own, use_has_one_second_pass, deleted_pass_leaves_a_use,
                imported_pass_is_found]
        }
    };
}

/// Tests of the clauses, for the macro above.
#[doc(hidden)]
#[macro_export]
macro_rules! audit_store_clauses {
    ($module:ident, $fixture:expr, $($group:ident: [$($clause:ident),+]),+) => {
        mod $module {
            use super::*;
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $clause() {
                    let fixture = $fixture.await;
                    $crate::store::conformance::$group::$clause(fixture.store.as_ref()).await;
                }
            )+)+
        }
    };
}

/// Chain of a pod by its name.
#[must_use]
pub fn chain_id(pod: &str) -> ChainId {
    ChainId::parse(&format!("{pod}/1")).unwrap()
}

/// Time of the first line of a trail.
#[must_use]
pub fn start() -> Timestamp {
    "2026-11-28T12:00:00Z".parse().unwrap()
}

/// Time some seconds after [`start`].
#[must_use]
pub fn second(seconds: i64) -> Timestamp {
    start() + SignedDuration::from_secs(seconds)
}

/// Writer of the lines of one pod, each a second after the one before.
#[derive(Clone, Debug)]
pub struct Trail {
    pod: String,
    chain: Chain,
    seconds: i64,
}

impl Trail {
    #[must_use]
    pub fn new(pod: &str) -> Self {
        Self {
            pod: pod.to_owned(),
            chain: Chain::new(chain_id(pod)),
            seconds: 0,
        }
    }

    fn emitter(&self) -> Emitter {
        Emitter {
            cluster: Text::new("prod"),
            service: Service {
                name: "serve",
                replica: Text::new(&self.pod),
                version: "0.1.0",
            },
            time: second(self.seconds),
            id: Text::new(&format!("{}-{}", self.pod, self.chain.tip().seq + 1)),
        }
    }

    /// Admission of a pod, to be changed by a test.
    #[must_use]
    pub fn record(&self) -> Record {
        let emitter = self.emitter();
        let number = self.chain.tip().seq + 1;
        let mut record = emitter.record(Class::Injection, Action::AdmitPod, RecordOutcome::Success);
        record.actor = Some(Actor {
            kind: "kubernetes",
            uid: Text::new("uid-alice"),
            username: Text::new("alice"),
            ..Actor::default()
        });
        record.object = Some(ObjectFields {
            kind: Text::new("Pod"),
            namespace: Text::new("jobs"),
            ..ObjectFields::default()
        });
        (record.decision, record.reason) = ("injected", "ok");
        record.request = Some(RequestFields {
            admission_uid: Text::new(&format!("request-{}-{number}", self.pod)),
            method: "CREATE",
            route: "pods",
            ..RequestFields::default()
        });
        record.targets = vec![target("db")];
        record
    }

    /// Line of a record.
    pub fn line_of(&mut self, record: Record) -> String {
        self.seconds += 1;
        self.chain.append(record).json
    }

    /// Next admissions.
    pub fn lines(&mut self, count: usize) -> Vec<String> {
        let next = |_| {
            let record = self.record();
            self.line_of(record)
        };
        (0..count).map(next).collect()
    }

    /// Last record of the chain.
    pub fn stop(&mut self) -> String {
        let record = self.emitter().stop();
        self.line_of(record)
    }

    /// Signed checkpoint of some lines.
    pub fn checkpoint(&mut self, tips: &[Tip]) -> String {
        let record = self.emitter().checkpoints(tips).remove(0);
        self.seconds += 1;
        let key = SigningKey::from_seed(&[1; 32]).unwrap();
        self.chain.append_signed(record, &key).json
    }

    /// First record of a process that knows the last line of the one before.
    pub fn start_after(&mut self, predecessor: Tip) -> String {
        let record = self.emitter().start(Some(predecessor));
        self.line_of(record)
    }

    #[must_use]
    pub fn tip(&self) -> Tip {
        self.chain.tip().clone()
    }

    #[must_use]
    pub fn id(&self) -> ChainId {
        self.chain.tip().chain.clone()
    }

    /// Batch of lines of this chain.
    #[must_use]
    pub fn batch(&self, lines: &[String]) -> Batch {
        Batch::parse(self.id(), lines.join("\n").as_bytes()).unwrap()
    }
}

/// Secret of a record.
#[must_use]
pub fn target(name: &str) -> TargetSecret {
    TargetSecret {
        backend: Text::new("kubernetes"),
        name: Text::new(name),
        namespace: Text::new("jobs"),
        origin: "pod",
    }
}

/// Stores the next lines of a trail, and returns them.
pub(crate) async fn fill(store: &dyn AuditStore, trail: &mut Trail, count: usize) -> Vec<String> {
    let lines = trail.lines(count);
    store.append(trail.batch(&lines)).await.unwrap();
    lines
}

pub(super) fn query(filter: EventFilter) -> EventQuery {
    let arguments = QueryArguments {
        filter,
        from: Some(start()),
        limit: Some(super::MAX_PAGE),
        ..QueryArguments::default()
    };
    EventQuery::new(arguments, second(3_600)).unwrap()
}

/// All lines of the store, newest first.
pub(super) async fn stored(store: &dyn AuditStore) -> Vec<StoredEvent> {
    let page = store.query(&query(EventFilter::default())).await.unwrap();
    assert_eq!(page.next, None);
    page.events
}

/// All lines of a range as an export has them.
pub(crate) async fn exported(
    store: &dyn AuditStore,
    from: Timestamp,
    to: Timestamp,
) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), LinePosition::default());
    loop {
        let (lines, next) = store.export(ExportRange { from, to }, after).await.unwrap();
        all.extend(lines);
        match next {
            Some(next) => after = next,
            None => return all,
        }
    }
}
