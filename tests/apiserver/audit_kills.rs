//! Audit trail while its processes are killed: each pod that was admitted with its secrets has exactly one record.
//!
//! An ordinary ServiceAccount creates pods, Deployments and Jobs at a rate, through two replicas of `serve` behind one
//! port. They and `admin` are killed at random moments and started again. A create that is refused meanwhile is tried
//! again, by the author or by the controller. At the end the live pods are compared with the store.

#![expect(clippy::indexing_slicing, reason = "a failing helper fails its test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use kube::Client;
use serde_json::{Value, json};
use testbed::balancer::Balancer;
use testbed::control_plane::ControlPlane;
use testbed::manifests::{container, deployment, job, pod, prefixed};
use testbed::namespace::TestNamespace;
use testbed::objects::{collection, send};
use testbed::trail::{EVENT, ExportedTrail, ReplicaPod, Trail, TrailStore};
use testbed::webhook::{
    Registration, Target, shipped_configuration, webhook_identity, with_max_timeout,
};
use testbed::webhook_process::{Launch, WebhookProcess};
use testbed::{WAIT_TIMEOUT, poll, print_line, wait_for};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Replicas of `serve`.
const REPLICAS: usize = 2;

/// Limit of creates in flight, and of those that are tried again.
const MAX_IN_FLIGHT: usize = 32;

/// One create of so many is that of a Deployment or a Job; the others are pods.
const WORKLOAD_EVERY: usize = 25;

/// Pods of a Deployment.
const DEPLOYED_PODS: usize = 3;

/// Size of a run.
#[derive(Debug, Clone, Copy)]
struct KillPlan {
    /// Creates, of which each is one pod or more. More follow until the last kill.
    creates: usize,
    /// Creates per second, if the machine can.
    rate: u32,
    serve_kills: usize,
    admin_kills: usize,
    /// Longest time between the moment at which a process is ready and its end.
    longest_life: Duration,
}

const QUICK: KillPlan = KillPlan {
    creates: 500,
    rate: 100,
    serve_kills: 10,
    admin_kills: 5,
    longest_life: Duration::from_secs(1),
};

const LONG: KillPlan = KillPlan {
    creates: 5_000,
    rate: 200,
    serve_kills: 100,
    admin_kills: 50,
    longest_life: Duration::from_millis(800),
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pod_lacks_its_record_while_processes_are_killed() {
    run(QUICK).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make audit-kills"]
async fn no_pod_of_thousands_lacks_its_record_while_processes_are_killed() {
    run(LONG).await;
}

async fn run(plan: KillPlan) {
    let cp = ControlPlane::shared().await;
    let namespace = cp.namespace("killed").await;
    cp.secret(&namespace.name, "db", &["user"], "x").await;
    let trail = Trail::start(cp).await;
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        let pod = ReplicaPod::create(cp).await;
        let launch = Launch::serve(cp, &webhook_identity(cp).await);
        let launch = launch.with(&["--shutdown-delay", "0s"]);
        replicas.push(trail.sent_by(launch, &pod).await.start().await);
    }
    let ports: Vec<u16> = replicas.iter().map(|replica| replica.launch.port).collect();
    let balancer = Balancer::start(&ports).await;
    let target = Target::Service {
        port: balancer.port,
    };
    let configuration = target.apply_to(shipped_configuration(), &cp.authority.pem());
    let registration = Registration::exclusive(cp, &with_max_timeout(configuration)).await;

    let started = Instant::now();
    let seed = fastrand::u64(..);
    let kills = Arc::new(AtomicUsize::new(0));
    let Trail { admin, store, .. } = trail;
    let mut killers = JoinSet::new();
    let of_admin = (admin, plan.admin_kills);
    let of_serve = replicas.into_iter().enumerate();
    let of_serve = of_serve.map(|(at, replica)| (replica, share(plan.serve_kills, at)));
    for (at, (process, count)) in [of_admin].into_iter().chain(of_serve).enumerate() {
        let random = fastrand::Rng::with_seed(seed.wrapping_add(at as u64));
        let kills = Arc::clone(&kills);
        killers.spawn(async move {
            let process = kill_repeatedly(process, count, plan.longest_life, random, kills).await;
            (at, process)
        });
    }
    let wanted = plan.serve_kills + plan.admin_kills;
    let author = Author::new(cp, &namespace).await;
    let created = author.create_all(plan, || kills.load(Ordering::Relaxed) < wanted);
    let created = created.await;
    let took = started.elapsed();
    let mut processes: BTreeMap<usize, WebhookProcess> =
        killers.join_all().await.into_iter().collect();
    let live = settled_pods(cp, &namespace, &created).await;
    wait_for_records(&store, &live).await;

    drop(registration);
    let admin = processes.remove(&0).expect("the task of admin");
    for replica in processes.into_values() {
        replica.stop().await;
    }
    let trail = store.export().await;
    admin.stop().await;
    let extra = check(&live, &trail);
    trail.is_intact().await;
    print_line(&format!(
        "seed {seed}: {} creates in {:.1} s ({:.0}/s), {} refused and tried again; serve killed {} times, admin {} times; \
         {} live pods with one record each; {extra} records without a pod; {} chains, {} lines, {} reported as lost",
        created.creates,
        took.as_secs_f64(),
        per_second(created.creates, took),
        created.refused,
        plan.serve_kills,
        plan.admin_kills,
        live.len(),
        trail.chains(),
        trail.records.len(),
        trail.lost(),
    ));
}

/// Kills of one of the replicas.
fn share(kills: usize, replica: usize) -> usize {
    (kills + replica) / REPLICAS
}

#[expect(clippy::cast_precision_loss, reason = "a printed count")]
fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// Kills a process at random moments, and starts it again each time.
async fn kill_repeatedly(
    mut process: WebhookProcess,
    count: usize,
    longest_life: Duration,
    mut random: fastrand::Rng,
    kills: Arc<AtomicUsize>,
) -> WebhookProcess {
    for _ in 0..count {
        // The moment itself is random: there is nothing to wait for.
        tokio::time::sleep(longest_life.mul_f64(random.f64())).await;
        process.kill();
        kills.fetch_add(1, Ordering::Relaxed);
        process = process.restart().await;
    }
    process
}

/// Ordinary user that creates what asks for secrets.
struct Author {
    client: Client,
    namespace: String,
}

/// Accepted creates.
#[derive(Debug, Default)]
struct Created {
    creates: usize,
    /// Pods that these creates lead to.
    pods: usize,
    /// Refused creates, each of which was tried again.
    refused: usize,
}

impl Author {
    async fn new(cp: &ControlPlane, namespace: &TestNamespace) -> Self {
        let rules = json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]},
            {"apiGroups": ["apps", "batch"], "resources": ["deployments", "jobs"], "verbs": ["create"]},
        ]);
        let account = cp.service_account(&namespace.name, "author", &rules).await;
        Self {
            client: account.client(),
            namespace: namespace.name.clone(),
        }
    }

    /// Creates the objects of a plan, and more while `goes_on`.
    async fn create_all(&self, plan: KillPlan, goes_on: impl Fn() -> bool) -> Created {
        let mut tick = tokio::time::interval(Duration::from_secs(1) / plan.rate);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let permits = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        let mut in_flight = JoinSet::new();
        let mut created = Created::default();
        while created.creates < plan.creates || goes_on() {
            tick.tick().await;
            let permit = permits.clone().acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            let (object, pods) = self.object(created.creates);
            created.creates += 1;
            created.pods += pods;
            let client = self.client.clone();
            in_flight.spawn(async move {
                let refused = create_until_accepted(&client, &object).await;
                drop(permit);
                refused
            });
        }
        created.refused = in_flight.join_all().await.into_iter().sum();
        created
    }

    /// Object of a create, and the number of its pods.
    fn object(&self, at: usize) -> (Value, usize) {
        let asks = prefixed(&json!({"env-from": "db"}));
        let (name, containers) = (format!("asks-{at}"), json!([container()]));
        let (mut object, pods) = match at % (2 * WORKLOAD_EVERY) {
            0 => (deployment(&name, &asks, &containers), DEPLOYED_PODS),
            WORKLOAD_EVERY => (job(&name, &asks, &containers), 1),
            _ => (pod(&self.namespace, &name, &asks), 1),
        };
        object["metadata"]["namespace"] = self.namespace.clone().into();
        if pods == DEPLOYED_PODS {
            object["spec"]["replicas"] = DEPLOYED_PODS.into();
        }
        (object, pods)
    }
}

/// Creates an object, again and again until it is accepted. Returns the number of refusals.
async fn create_until_accepted(client: &Client, object: &Value) -> usize {
    let path = collection(object);
    let tries = AtomicUsize::new(0);
    wait_for("a create is accepted", || async {
        tries.fetch_add(1, Ordering::Relaxed);
        let response = send(client, Method::POST, &path, Some(object)).await;
        if response.is_accepted() {
            return Some(());
        }
        // An outage of both replicas, or the API server's own limit of a user's requests.
        let is_outage = response.message().contains("failed calling webhook");
        let is_throttled = response.status == 429;
        assert!(
            is_outage || is_throttled,
            "{}: {}",
            response.status,
            response.body
        );
        None
    })
    .await;
    tries.into_inner() - 1
}

/// Live pods, by name, with their events, once the controllers have created all of theirs.
async fn settled_pods(
    cp: &ControlPlane,
    namespace: &TestNamespace,
    created: &Created,
) -> BTreeMap<String, String> {
    let path = format!("/api/v1/namespaces/{}/pods", namespace.name);
    let list = wait_for("the pods of all Deployments and Jobs", || async {
        let list = cp.request(Method::GET, &path, None).await.object();
        let count = list["items"].as_array().map_or(0, Vec::len);
        (count == created.pods).then_some(list)
    })
    .await;
    let event = |pod: &Value| {
        let name = pod["metadata"]["name"].as_str().expect("a name");
        let event = pod["metadata"]["annotations"][EVENT].as_str();
        let event = event.unwrap_or_else(|| panic!("{name} has no event"));
        (name.to_owned(), event.to_owned())
    };
    let pods = list["items"].as_array().expect("a list");
    pods.iter().map(event).collect()
}

/// Waits until the store has what the spools have. What is missing after that is reported by [`check`].
async fn wait_for_records(store: &TrailStore, live: &BTreeMap<String, String>) {
    poll(WAIT_TIMEOUT, || async {
        let trail = store.export().await;
        let uses = trail.uses();
        let is_stored = |event: &String| uses.contains_key(event.as_str());
        live.values().all(is_stored).then_some(())
    })
    .await;
}

/// Panics unless each live pod has exactly one record. Returns the number of records without a pod: their answers were
/// lost with the process.
#[track_caller]
fn check(live: &BTreeMap<String, String>, trail: &ExportedTrail) -> usize {
    let mut uses = trail.uses();
    let mut wrong = Vec::new();
    for (pod, event) in live {
        match uses.remove(event.as_str()) {
            Some(1) => {}
            count => wrong.push(format!(
                "{pod}, event {event}: {} records",
                count.unwrap_or(0)
            )),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} pods, {} records reported as lost:\n{}",
        wrong.len(),
        live.len(),
        trail.lost(),
        wrong.join("\n")
    );
    uses.values().sum()
}
