//! Records, ids and keys of tests.

use jiff::Timestamp;

use super::digest::Digest;
use super::emitter::Emitter;
use super::link::{ChainId, Tip};
use super::record::{
    Action, Actor, Authorization, Class, Interval, ObjectFields, OwnerFields, Phase, Record,
    RecordOutcome, RequestFields, Service, SourceFields,
};
use super::signature::SigningKey;
use super::target::TargetSecret;
use super::text::{Text, TextList};

pub(super) fn id(pod: &str) -> ChainId {
    ChainId::parse(&format!("{pod}/1")).unwrap()
}

pub(super) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

pub(super) fn emitter() -> Emitter {
    Emitter {
        cluster: Text::new("prod"),
        service: Service {
            name: "serve",
            replica: Text::new("floe-secrets-webhook-5b9c-x2x7d"),
            version: "0.1.0",
        },
        time: "2026-11-28T12:00:00.25Z".parse::<Timestamp>().unwrap(),
        id: Text::new("019acb1e-7d30-7000-8000-000000000001"),
    }
}

/// Admission of a controller's pod that asks for secrets of this name.
pub(super) fn admission(name: &str, targets: usize) -> Record {
    let target = |n: usize| TargetSecret {
        backend: Text::new("kubernetes"),
        name: Text::new(&if n == 0 {
            name.to_owned()
        } else {
            format!("{name}-{n}")
        }),
        namespace: Text::new("jobs"),
        origin: "template",
    };
    Record {
        actor: Some(Actor {
            credential_id: Text::new("JTI=6f1c"),
            kind: "kubernetes",
            uid: Text::new("0b1d"),
            username: Text::new("system:serviceaccount:kube-system:replicaset-controller"),
            ..Actor::default()
        }),
        decision: "injected",
        duration_us: Some(740),
        object: Some(ObjectFields {
            generate_name: Text::new("dbt-7c5f-"),
            kind: Text::new("Pod"),
            namespace: Text::new("jobs"),
            owner: Some(OwnerFields {
                kind: Text::new("ReplicaSet"),
                name: Text::new("dbt-7c5f"),
                uid: Text::new("9e31"),
            }),
            ..ObjectFields::default()
        }),
        reason: "ok",
        request: Some(RequestFields {
            admission_uid: Text::new("705ab4f5-6393-11e8-b7cc-42010a800002"),
            method: "CREATE",
            route: "pods",
            ..RequestFields::default()
        }),
        source: Some(SourceFields {
            channel: "verified",
            ip: Text::new("10.0.0.2"),
            kind: "apiserver",
            ..SourceFields::default()
        }),
        targets: (0..targets).map(target).collect(),
        ..emitter().record(Class::Injection, Action::AdmitPod, RecordOutcome::Success)
    }
}

/// Text that is cut to the limit of any field, and has the most bytes for it.
pub(super) fn longest() -> String {
    "\"".repeat(2_000)
}

fn text<const N: usize>() -> Text<N> {
    Text::new(&longest())
}

fn list<const N: usize>() -> TextList<N> {
    TextList::new(vec![longest().as_str(); 99])
}

/// Record with every field, each as long as it can be.
pub(super) fn fullest() -> Record {
    let interval = Interval {
        count: u64::MAX,
        from: Timestamp::MIN,
        to: Timestamp::MIN,
    };
    let mut emitter = emitter();
    emitter.cluster = text();
    emitter.id = text();
    emitter.service.replica = text();
    Record {
        actor: Some(Actor {
            auth_method: text(),
            azp: text(),
            credential_id: text(),
            groups: list(),
            issuer: text(),
            realm: text(),
            roles: list(),
            subject: text(),
            kind: "kubernetes",
            uid: text(),
            username: text(),
        }),
        authorization: Some(Authorization {
            allowed: false,
            engine: "subject-access-review",
            reason: "permission_denied",
        }),
        decision: "validated",
        duration_us: Some(u64::MAX),
        object: Some(ObjectFields {
            generate_name: text(),
            kind: text(),
            name: text(),
            namespace: text(),
            owner: Some(OwnerFields {
                kind: text(),
                name: text(),
                uid: text(),
            }),
            service_account: text(),
        }),
        phase: Some(Phase::Complete),
        predecessor: Some(Tip {
            chain: ChainId::parse(&format!("{}/1", "p".repeat(94))).unwrap(),
            hash: Digest::of(b""),
            seq: u64::MAX >> 11,
        }),
        reason: "permission_denied",
        repeat: Some(interval),
        gap: Some(interval),
        key: Some(key(1).public_key()),
        request: Some(RequestFields {
            admission_uid: text(),
            found_event: text(),
            id: text(),
            method: "OPTIONS",
            route: "/v1/namespaces/{namespace}/secrets/{name}/values/{key}",
        }),
        source: Some(SourceFields {
            channel: "unverified",
            ip: text(),
            kind: "apiserver",
            proxy_chain: list(),
            user_agent: text(),
        }),
        span_id: text(),
        status: Some(u16::MAX),
        trace_id: text(),
        ..emitter.record(
            Class::Injection,
            Action::AdmitWorkload,
            RecordOutcome::Success,
        )
    }
}
