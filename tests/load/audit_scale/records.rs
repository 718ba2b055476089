//! Records of a cluster with many namespaces, as `serve` writes them, and batches of their lines.

use fastrand::Rng;
use floe_secrets_webhook::audit::asked_by::Requester;
use floe_secrets_webhook::audit::chain::Chain;
use floe_secrets_webhook::audit::emitter::{Emitter, MAX_TIPS};
use floe_secrets_webhook::audit::link::{ChainId, Tip};
use floe_secrets_webhook::audit::record::{
    Action, Actor, Class, ObjectFields, OwnerFields, Record, RecordOutcome, RequestFields, Service,
    SourceFields,
};
use floe_secrets_webhook::audit::signature::SigningKey;
use floe_secrets_webhook::audit::target::TargetSecret;
use floe_secrets_webhook::audit::text::Text;
use floe_secrets_webhook::store::Batch;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Builder;

pub const NAMESPACES: usize = 200;
pub const SECRETS_OF_NAMESPACE: usize = 5;
const WORKLOADS_OF_NAMESPACE: usize = 12;
const USERS: usize = 400;

/// Lines of a chain, after which its replica is replaced.
const CHAIN_LINES: u64 = 100_000;

/// Lines between checkpoints.
const CHECKPOINT_LINES: u64 = 2_000;

/// Name of a namespace. Small numbers have most of the records.
pub fn namespace(number: usize) -> String {
    format!("data-platform-{number:03}")
}

pub fn secret(number: usize) -> String {
    format!("warehouse-credentials-{number}")
}

pub fn user(number: usize) -> String {
    format!("firstname.lastname-{number:03}@example.com")
}

/// Controllers that create pods.
pub const CONTROLLERS: &[&str] = &[
    "system:serviceaccount:kube-system:replicaset-controller",
    "system:serviceaccount:kube-system:job-controller",
    "system:serviceaccount:kube-system:statefulset-controller",
];

/// Replicas of `serve` in a cluster.
pub struct Cluster {
    random: Rng,
    replicas: Vec<Replica>,
    next: usize,
    time: Timestamp,
    /// Time between two records.
    step: SignedDuration,
    unconfirmed: u64,
}

/// `admin`, which signs checkpoints and announcements of deletions.
pub struct Admin {
    random: Rng,
    replica: Replica,
    key: SigningKey,
}

/// Batch, and the text that it was read from.
pub struct MadeBatch {
    pub batch: Batch,
    pub text: String,
    pub lines: u64,
}

/// Writer of one chain at a time.
struct Replica {
    name: &'static str,
    pod: String,
    chain: Chain,
}

impl Cluster {
    /// Cluster whose first record has this time. The same time makes the same records.
    pub fn new(time: Timestamp, step: SignedDuration) -> Self {
        let mut random = Rng::with_seed(seed_of(time));
        let pods = (0..3).map(|_| (pod_name(&mut random), uuid(&mut random)));
        let pods = pods.collect();
        Self::of_pods(pods, time, step)
    }

    /// Cluster whose replicas are these pods, by name and uid.
    pub fn of_pods(pods: Vec<(String, String)>, time: Timestamp, step: SignedDuration) -> Self {
        let replicas = pods.into_iter();
        let replicas = replicas.map(|(name, uid)| Replica::of_pod("serve", name, &uid));
        Self {
            replicas: replicas.collect(),
            random: Rng::with_seed(seed_of(time)),
            next: 0,
            time,
            step,
            unconfirmed: 0,
        }
    }

    /// Time of the last record.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Lets the next record have this time.
    pub fn skip_to(&mut self, time: Timestamp, step: SignedDuration) {
        (self.time, self.step) = (time, step);
    }

    /// Next lines of one replica.
    pub fn batch(&mut self, lines: u64) -> MadeBatch {
        self.next = (self.next + 1) % self.replicas.len();
        let Some(replica) = self.replicas.get_mut(self.next) else {
            unreachable!("there are replicas")
        };
        if replica.chain.tip().seq >= CHAIN_LINES {
            *replica = Replica::new("serve", &mut self.random);
        }
        let mut text = String::new();
        for _ in 0..lines {
            self.time += self.step;
            let record = admission(replica, &mut self.random, self.time);
            text.push_str(&replica.chain.append(record).json);
            text.push('\n');
        }
        self.unconfirmed += lines;
        let chain = replica.chain.tip().chain.clone();
        let batch = Batch::parse(chain, text.as_bytes());
        MadeBatch {
            batch: batch.expect("lines that follow each other"),
            text,
            lines,
        }
    }

    /// Last lines of all chains, if a checkpoint is due.
    pub fn unconfirmed(&mut self) -> Option<Vec<Tip>> {
        if self.unconfirmed < CHECKPOINT_LINES {
            return None;
        }
        self.unconfirmed = 0;
        let replicas = self.replicas.iter();
        Some(
            replicas
                .map(|replica| replica.chain.tip().clone())
                .collect(),
        )
    }
}

impl Admin {
    pub fn new(time: Timestamp) -> Self {
        let mut random = Rng::with_seed(seed_of(time));
        Self {
            replica: Replica::new("admin", &mut random),
            random,
            key: SigningKey::from_seed(&[7; 32]).expect("a key"),
        }
    }

    pub fn checkpoint(&mut self, tips: &[Tip], time: Timestamp) -> Batch {
        let emitter = self.replica.emitter(&mut self.random, time);
        self.signed(emitter.checkpoints(tips))
    }

    /// Announcement of a deletion.
    pub fn retention(&mut self, tips: &[Tip], time: Timestamp) -> Batch {
        let emitter = self.replica.emitter(&mut self.random, time);
        let records = tips.chunks(MAX_TIPS);
        let records = records.flat_map(|tips| emitter.retention(tips)).collect();
        self.signed(records).reserved()
    }

    fn signed(&mut self, records: Vec<Record>) -> Batch {
        let chain = &mut self.replica.chain;
        let mut text = String::new();
        for record in records {
            text.push_str(&chain.append_signed(record, &self.key).json);
            text.push('\n');
        }
        let batch = Batch::parse(chain.tip().chain.clone(), text.as_bytes());
        batch.expect("lines that follow each other")
    }
}

impl Replica {
    fn new(name: &'static str, random: &mut Rng) -> Self {
        let pod = pod_name(random);
        Self::of_pod(name, pod, &uuid(random))
    }

    fn of_pod(name: &'static str, pod: String, uid: &str) -> Self {
        let id = ChainId::parse(&format!("{uid}/1")).expect("an id");
        let chain = Chain::new(id);
        Self { name, pod, chain }
    }

    fn emitter(&self, random: &mut Rng, time: Timestamp) -> Emitter {
        let milliseconds = u64::try_from(time.as_millisecond()).unwrap_or_default();
        let mut bytes = [0; 10];
        random.fill(&mut bytes);
        let id = Builder::from_unix_timestamp_millis(milliseconds, &bytes).into_uuid();
        Emitter {
            cluster: Text::new("6f1c2d34-8a1b-4c6d-9e2f-0b1d5a7c9e31"),
            service: Service {
                name: self.name,
                replica: Text::new(&self.pod),
                version: "0.1.0",
            },
            time,
            id: Text::new(&id.to_string()),
        }
    }
}

fn seed_of(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or_default()
}

fn uuid(random: &mut Rng) -> String {
    Builder::from_random_bytes(random.u128(..).to_be_bytes())
        .into_uuid()
        .to_string()
}

fn pod_name(random: &mut Rng) -> String {
    let (set, pod) = (hex(random, 10), hex(random, 5));
    format!("floe-secrets-webhook-{set}-{pod}")
}

fn hex(random: &mut Rng, length: usize) -> String {
    (0..length).map(|_| random.digit(16)).collect()
}

/// Uid that a name always has.
fn uid_of(kind: u64, number: usize) -> String {
    uuid(&mut Rng::with_seed((kind << 32) | number as u64))
}

/// Number below a limit. Half of all records have one in the first quarter.
pub fn skewed(random: &mut Rng, limit: usize) -> usize {
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    let (first, second) = (random.u32(0..limit), random.u32(0..limit));
    usize::try_from(u64::from(first) * u64::from(second) / u64::from(limit)).unwrap_or_default()
}

/// Author of a workload.
fn author(namespace: usize, workload: usize) -> Requester {
    let number = (namespace * 7 + workload * 31) % USERS;
    Requester {
        username: user(number),
        uid: uid_of(1, number),
    }
}

/// Author of the workload of a pod's record.
pub fn author_of(record: &Value) -> Requester {
    let number = |pointer: &str| {
        let name = record.pointer(pointer).and_then(Value::as_str);
        let digits = name.map(|name| name.trim_end_matches("-7d9c6f5b4"));
        let digits = digits.and_then(|name| name.rsplit_once('-')?.1.parse().ok());
        digits.expect("a name with a number")
    };
    author(number("/object/namespace"), number("/object/owner/name"))
}

/// Admission: of 100, 88 of a controller's pod, 5 of a user's pod, 4 of a workload and 3 that are refused.
fn admission(replica: &Replica, random: &mut Rng, time: Timestamp) -> Record {
    let share = random.u32(0..100);
    let of = (
        skewed(random, NAMESPACES),
        random.usize(0..WORKLOADS_OF_NAMESPACE),
    );
    let is_workload = (93..97).contains(&share);
    let outcome = if share < 97 {
        RecordOutcome::Success
    } else {
        RecordOutcome::Denied
    };
    let action = if is_workload {
        Action::AdmitWorkload
    } else {
        Action::AdmitPod
    };
    let emitter = replica.emitter(random, time);
    let mut record = emitter.into_record(Class::Injection, action, outcome);
    let is_owned = share < 88;
    record.actor = Some(actor(of, is_owned.then(|| of.1 % CONTROLLERS.len())));
    (record.decision, record.reason) = if outcome == RecordOutcome::Denied {
        record.status = Some(403);
        ("refused", "secret_not_found")
    } else {
        ("injected", "ok")
    };
    record.duration_us = Some(random.u64(200..4_000));
    record.object = Some(object(of, is_workload, is_owned));
    record.request = Some(RequestFields {
        admission_uid: Text::new(&uuid(random)),
        method: "CREATE",
        route: if is_workload { "workloads" } else { "pods" },
        ..RequestFields::default()
    });
    record.source = Some(SourceFields {
        channel: "verified",
        ip: Text::new("10.17.203.12"),
        kind: "apiserver",
        ..SourceFields::default()
    });
    record.targets = targets(of);
    record
}

fn actor((namespace, workload): (usize, usize), controller: Option<usize>) -> Actor {
    let author = author(namespace, workload);
    let (username, uid) = match controller {
        Some(number) => {
            let name = CONTROLLERS.get(number).copied().unwrap_or_default();
            (name.to_owned(), uid_of(2, number))
        }
        None => (author.username, author.uid),
    };
    Actor {
        credential_id: Text::new(&format!("JTI={}", uid_of(3, controller.unwrap_or(99)))),
        kind: "kubernetes",
        uid: Text::new(&uid),
        username: Text::new(&username),
        ..Actor::default()
    }
}

fn object(
    (namespace, workload): (usize, usize),
    is_workload: bool,
    is_owned: bool,
) -> ObjectFields {
    let name = format!("transform-orders-{workload}");
    let revision = format!("{name}-7d9c6f5b4");
    let fields = ObjectFields {
        namespace: Text::new(&self::namespace(namespace)),
        ..ObjectFields::default()
    };
    if is_workload {
        return ObjectFields {
            kind: Text::new("Deployment"),
            name: Text::new(&name),
            ..fields
        };
    }
    ObjectFields {
        kind: Text::new("Pod"),
        generate_name: Text::new(&format!("{revision}-")),
        owner: is_owned.then(|| OwnerFields {
            kind: Text::new("ReplicaSet"),
            name: Text::new(&revision),
            uid: Text::new(&uid_of(4, namespace * WORKLOADS_OF_NAMESPACE + workload)),
        }),
        ..fields
    }
}

/// Secrets of a workload: of twelve workloads, seven have one, four have two and one has three.
fn targets((namespace, workload): (usize, usize)) -> Vec<TargetSecret> {
    let target = |n: usize| TargetSecret {
        backend: Text::new("kubernetes"),
        name: Text::new(&secret((workload + n) % SECRETS_OF_NAMESPACE)),
        namespace: Text::new(&self::namespace(namespace)),
        origin: "template",
    };
    let count = match workload {
        0..7 => 1,
        7..11 => 2,
        _ => 3,
    };
    (0..count).map(target).collect()
}
