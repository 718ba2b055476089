//! Changes by users, step by step, and their expected results.

use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::run::table;
use crate::state::{LIST, State};
use crate::tool::Tool;
use testbed::control_plane::ControlPlane;

const INFISICAL: &str = "secrets.infisical.com/auto-reload";

pub enum Step {
    Write(Box<State>),
    Undo,
}

/// Expected final state.
pub struct End {
    /// Annotations of the webhook that the template has itself, and those that it inherits.
    pub own: Value,
    pub inherited: Value,
    /// List for Reloader on the workload.
    pub list: Value,
    /// References of a new pod, where they depend on the tool.
    pub references: &'static [&'static str],
    /// Names in warnings.
    pub removed: &'static [&'static str],
}

pub struct Case {
    pub name: &'static str,
    /// Each step with the references of a new pod afterwards.
    pub steps: Vec<(Step, &'static [&'static str])>,
    pub end: End,
    /// Final state with a tool that does not record what the author states.
    pub taken: Option<End>,
}

impl Case {
    pub fn kind(&self) -> &'static str {
        match &self.steps[0].0 {
            Step::Write(state) => state.kind,
            Step::Undo => panic!("nothing to undo"),
        }
    }

    /// State that a rollback restores.
    pub fn last(&self) -> Option<&State> {
        match &self.steps.last()?.0 {
            Step::Write(state) => Some(state),
            Step::Undo => None,
        }
    }

    /// By Helm only the first kind is undone: Helm is not involved in an undo. A rollback of Helm is one already.
    pub fn tools(&self) -> Vec<Tool> {
        let undoes = self
            .steps
            .iter()
            .any(|(step, _)| matches!(step, Step::Undo));
        let leaves_out = |tool: &Tool| match tool {
            Tool::Rollback(_) => undoes,
            Tool::Upgrade(_) => undoes && matches!(self.kind(), "DaemonSet" | "Rollout"),
            _ => false,
        };
        Tool::ALL
            .into_iter()
            .filter(|tool| !leaves_out(tool))
            .collect()
    }
}

fn write(state: State) -> Step {
    Step::Write(Box::new(state))
}

fn end(own: Value, inherited: Value, list: Value) -> End {
    End {
        own,
        inherited,
        list,
        references: &[],
        removed: &[],
    }
}

fn taken(list: Value, removed: &'static [&'static str]) -> End {
    End {
        own: json!({}),
        inherited: Value::Null,
        list,
        references: &[],
        removed,
    }
}

fn asks_db() -> State {
    State::of("Deployment").on_metadata(&[("env-from", "db")])
}

/// References that a rollback of the template alone must not restore.
fn undone(name: &'static str, kind: &'static str) -> Case {
    let asks = |secret: &str, image| {
        write(
            State::of(kind)
                .image(image)
                .on_metadata(&[("env-from", secret)]),
        )
    };
    Case {
        name,
        steps: vec![
            (asks("db", "one"), &["db"]),
            (asks("s3", "two"), &["s3"]),
            (Step::Undo, &["s3"]),
            (asks("s3", "three"), &["s3"]),
            (write(State::of(kind).image("three")), &[]),
        ],
        end: end(json!({}), Value::Null, Value::Null),
        taken: None,
    }
}

fn moves() -> Vec<Case> {
    let on_template = || State::of("Deployment").on_template(&[("env-from", "db")]);
    let both = asks_db().on_template(&[("env-from", "db")]);
    let off = [("env-from", "db"), ("reload", "off")];
    let words = || json!({"env-from": "db"});
    let db: &'static [&'static str] = &["db"];
    vec![
        Case {
            name: "move-down",
            steps: vec![(write(asks_db()), db), (write(on_template()), db)],
            end: end(words(), Value::Null, json!("db")),
            taken: None,
        },
        Case {
            name: "move-down-in-two",
            steps: vec![
                (write(asks_db()), db),
                (write(both), db),
                (write(on_template()), db),
            ],
            end: end(words(), Value::Null, json!("db")),
            taken: None,
        },
        Case {
            name: "move-up",
            steps: vec![(write(on_template()), db), (write(asks_db()), db)],
            end: end(json!({}), words(), json!("db")),
            taken: None,
        },
        Case {
            name: "undo-across-a-move",
            steps: vec![
                (write(State::of("Deployment").on_metadata(&off)), db),
                (
                    write(State::of("Deployment").image("two").on_template(&off)),
                    db,
                ),
                (Step::Undo, db),
                (Step::Undo, db),
            ],
            end: end(
                json!({"env-from": "db", "reload": "off"}),
                Value::Null,
                Value::Null,
            ),
            taken: None,
        },
    ]
}

/// The author adopts Reloader's list.
fn lists() -> Vec<Case> {
    let listed = |list: &str| write(State::of("Deployment").on_metadata(&[(LIST, list)]));
    let beside = |list: &str| {
        write(State::of("Deployment").on_metadata(&[("env-from", "db"), (LIST, list)]))
    };
    let list = |list: &str| end(json!({}), Value::Null, json!(list));
    let names: &'static [&'static str] = &["\"db\" was removed from"];
    vec![
        Case {
            name: "own-list",
            steps: vec![(write(asks_db()), &["db"]), (listed("db"), &[])],
            end: list("db"),
            taken: Some(taken(Value::Null, names)),
        },
        Case {
            name: "own-list-was-there",
            steps: vec![(beside("db"), &["db"]), (listed("db"), &[])],
            end: list("db"),
            taken: None,
        },
        Case {
            name: "own-list-beside",
            steps: vec![(beside("other"), &["db"]), (listed("other,db"), &[])],
            end: list("other,db"),
            taken: Some(taken(json!("other"), names)),
        },
    ]
}

fn sources() -> Value {
    json!({"envFrom": [{"secretRef": {"name": "db"}}]})
}

fn variables() -> Value {
    json!({"env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "k"}}}]})
}

/// The author adopts what the webhook writes for the Infisical operator.
fn infisical() -> Vec<Case> {
    let own = |container: &Value| {
        State::of("Deployment")
            .on_metadata(&[(INFISICAL, "true")])
            .container(container)
    };
    let asks = |key: &str, value: &str| {
        State::of("Deployment").on_metadata(&[(key, value), ("reload", "infisical")])
    };
    let nothing = || end(json!({}), Value::Null, Value::Null);
    vec![
        Case {
            name: "infisical-sources",
            steps: vec![
                (write(asks("env-from", "db")), &["db"]),
                (write(own(&sources())), &["db"]),
            ],
            end: nothing(),
            taken: Some(taken(Value::Null, &["\"db\" was removed from", INFISICAL])),
        },
        Case {
            name: "infisical-variable",
            steps: vec![
                (write(asks("env.PASSWORD", "db/k")), &["PASSWORD"]),
                (write(own(&variables())), &["PASSWORD"]),
            ],
            end: nothing(),
            taken: Some(taken(
                Value::Null,
                &["\"PASSWORD\" was removed from", INFISICAL],
            )),
        },
    ]
}

/// The author adopts what the webhook injects into the template.
fn injected() -> Vec<Case> {
    let own = |container: &Value| write(State::of("Deployment").container(container));
    let alias = State::of("Deployment").on_metadata(&[("env.PASSWORD", "db/k")]);
    let nothing = || end(json!({}), Value::Null, Value::Null);
    vec![
        Case {
            name: "template-sources",
            steps: vec![(write(asks_db()), &["db"]), (own(&sources()), &["db"])],
            end: nothing(),
            taken: Some(taken(Value::Null, &["\"db\" was removed from"])),
        },
        Case {
            name: "template-variable",
            steps: vec![
                (write(alias), &["PASSWORD"]),
                (own(&variables()), &["PASSWORD"]),
            ],
            end: nothing(),
            taken: Some(taken(Value::Null, &["\"PASSWORD\" was removed from"])),
        },
    ]
}

#[tokio::test]
async fn annotations_move_between_metadata_and_template() {
    table(&Fixture::new("moves", &[]).await, &moves()).await;
}

#[tokio::test]
async fn undone_template_restores_no_secret() {
    ControlPlane::shared().await.install_rollouts().await;
    let fixture = Fixture::new("undo", &[]).await;
    let kinds = [
        ("undo-statefulset", "StatefulSet"),
        ("undo-daemonset", "DaemonSet"),
        ("undo-rollout", "Rollout"),
    ];
    table(&fixture, &kinds.map(|(name, kind)| undone(name, kind))).await;
}

#[tokio::test]
async fn entries_adopted_by_author_stay() {
    table(
        &Fixture::new("takeover", &[]).await,
        &[lists(), infisical()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>(),
    )
    .await;
}

#[tokio::test]
async fn template_entries_adopted_by_author_stay() {
    table(
        &Fixture::new("injected", &["--workloads-inject-template"]).await,
        &injected(),
    )
    .await;
}
