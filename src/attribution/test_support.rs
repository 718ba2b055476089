//! Scripted API server of tests, and a store with a trail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::owners::OwnerReference;
use crate::audit::record::{Action, Actor, ObjectFields, OwnerFields, Record};
use crate::audit::text::Text;
use crate::store::conformance::{Trail, second, target};
use crate::store::sqlite::{SqliteSettings, SqliteStore};
use crate::store::{AttributionStore as _, AuditStore as _, LinePosition, UnattributedEvent};

/// Objects by their paths, or one failure for all.
#[derive(Clone, Default)]
pub(super) struct Script(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    status: Option<u16>,
    hangs: bool,
    calls: usize,
}

impl Script {
    pub(super) fn set(&self, path: &str, object: Value) {
        self.change(|state| state.objects.insert(path.to_owned(), object));
    }

    /// Deletes all objects, and ends a failure.
    pub(super) fn clear(&self) {
        self.change(|state| {
            state.objects.clear();
            state.status = None;
        });
    }

    pub(super) fn fail(&self, status: u16) {
        self.change(|state| state.status = Some(status));
    }

    /// Ends a failure.
    pub(super) fn recover(&self) {
        self.change(|state| state.status = None);
    }

    pub(super) fn hang(&self) {
        self.change(|state| state.hangs = true);
    }

    pub(super) fn calls(&self) -> usize {
        self.change(|state| state.calls)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    fn respond(&self, path: &str) -> Option<(u16, Value)> {
        self.change(|state| {
            state.calls += 1;
            if state.hangs {
                return None;
            }
            let failure = state
                .status
                .map(|status| (status, json!({"kind": "Status"})));
            let object = state.objects.get(path).cloned();
            let object = object.map(|object| (200, object));
            failure
                .or(object)
                .or(Some((404, json!({"kind": "Status"}))))
        })
    }

    pub(super) fn client(&self) -> Client {
        let script = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let response = script.respond(request.uri().path());
            async move {
                let Some((status, body)) = response else {
                    return std::future::pending().await;
                };
                let body = Body::from(body.to_string().into_bytes());
                let response = http::Response::builder().status(status).body(body);
                Ok::<_, tower::BoxError>(response.unwrap())
            }
        });
        Client::new(service, "default")
    }
}

/// Object without an owner.
pub(super) fn object(uid: &str) -> Value {
    json!({"metadata": {"name": "x", "uid": uid, "creationTimestamp": "2026-11-28T12:00:00Z"}})
}

/// Object with a controller as its owner, and another owner before it.
pub(super) fn owned(uid: &str, api_version: &str, kind: &str, name: &str, owner: &str) -> Value {
    let mut value = object(uid);
    value["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "other"},
        {"apiVersion": api_version, "kind": kind, "name": name, "uid": owner, "controller": true},
    ]);
    value
}

/// Controller of `ReplicaSets`, Jobs and so on.
pub(super) fn controller(name: &str) -> String {
    format!("system:serviceaccount:kube-system:{name}-controller")
}

/// Store with the trail of one process.
pub(super) struct StoredTrail {
    pub store: Arc<SqliteStore>,
    pub trail: Trail,
    _folder: TempDir,
}

impl StoredTrail {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = SqliteSettings {
            create: true,
            ..SqliteSettings::new(folder.path().join("audit.db"))
        };
        Self {
            store: Arc::new(SqliteStore::open(&settings).unwrap()),
            trail: Trail::new("a"),
            _folder: folder,
        }
    }

    /// Stores the record of an admission, some seconds after noon.
    pub(super) async fn admit(
        &mut self,
        seconds: i64,
        requester: &str,
        object: &Admitted<'_>,
        secrets: &[&str],
    ) -> LinePosition {
        let line = self.line(seconds, requester, object, secrets);
        self.append(&[line]).await
    }

    /// Stores the next lines. Returns the position of the last one.
    pub(super) async fn append(&self, lines: &[String]) -> LinePosition {
        self.store.append(self.trail.batch(lines)).await.unwrap();
        *self.store.committed().borrow()
    }

    /// Next line.
    pub(super) fn line(
        &mut self,
        seconds: i64,
        requester: &str,
        object: &Admitted<'_>,
        secrets: &[&str],
    ) -> String {
        let mut record = self.trail.record();
        record.time = second(seconds);
        record.actor = Some(Actor {
            kind: "kubernetes",
            uid: Text::new(&format!("uid-{requester}")),
            username: Text::new(requester),
            ..Actor::default()
        });
        object.fill(&mut record);
        let mut named = Vec::new();
        for secret in secrets {
            let (name, origin) = secret.split_once('@').unwrap_or((secret, "template"));
            let mut target = target(name);
            target.origin = match origin {
                "namespace" => "namespace",
                "serviceaccount" => "serviceaccount",
                _ => "template",
            };
            named.push(target);
        }
        record.targets = named;
        self.trail.line_of(record)
    }

    /// Newest unattributed event.
    pub(super) async fn newest(&self) -> UnattributedEvent {
        let events = self.store.unattributed(LinePosition::default()).await;
        events.unwrap().pop().expect("an unattributed event")
    }
}

/// Object of an admission.
pub(super) struct Admitted<'a> {
    pub kind: &'a str,
    /// Name; with an asterisk, the prefix of one that is generated.
    pub name: &'a str,
    /// Whether it is created, and not changed.
    pub is_create: bool,
    pub owner: Option<OwnerReference>,
}

impl<'a> Admitted<'a> {
    pub(super) fn new(kind: &'a str, name: &'a str) -> Self {
        Self {
            kind,
            name,
            is_create: true,
            owner: None,
        }
    }

    pub(super) fn changed(kind: &'a str, name: &'a str) -> Self {
        Self {
            is_create: false,
            ..Self::new(kind, name)
        }
    }

    pub(super) fn pod_of(owner: OwnerReference) -> Self {
        Self::new("Pod", "x-*").owned_by(owner)
    }

    pub(super) fn owned_by(self, owner: OwnerReference) -> Self {
        Self {
            owner: Some(owner),
            ..self
        }
    }

    fn fill(&self, record: &mut Record) {
        record.action = match self.kind {
            "Pod" => Action::AdmitPod,
            "Namespace" | "ServiceAccount" => Action::AdmitDefaults,
            _ => Action::AdmitWorkload,
        };
        let request = record.request.as_mut().unwrap();
        request.method = if self.is_create { "CREATE" } else { "UPDATE" };
        let prefix = self.name.strip_suffix('*');
        let owner = self.owner.as_ref().map(|owner| OwnerFields {
            kind: Text::new(owner.kind.map_or("Other", |kind| kind.as_str())),
            name: Text::new(&owner.name),
            uid: Text::new(&owner.uid),
        });
        record.object = Some(ObjectFields {
            generate_name: Text::new(prefix.unwrap_or_default()),
            kind: Text::new(self.kind),
            name: Text::new(if prefix.is_some() { "" } else { self.name }),
            namespace: Text::new(if self.kind == "Namespace" { "" } else { "jobs" }),
            owner,
            service_account: Text::new("dbt"),
        });
    }
}
