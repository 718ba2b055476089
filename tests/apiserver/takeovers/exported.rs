//! Objects that are created from an exported one: with the webhook's record, in the form of this version or of the one
//! before.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::run::{Row, removed, report, row};
use crate::state::{LIST, RECORD, State, ours_on, references};
use crate::tool::Tool;
use testbed::helm::Helm;

/// Record that the version before wrote for an annotation that it copied.
pub fn older_record() -> String {
    json!({"copied": {"env-from": "db"}, "restart": {"list": ["db"]}}).to_string()
}

/// Object that was read from a cluster, without the fields that only a cluster writes.
fn exported(stored: &Value, name: &str) -> Value {
    let mut object = json!({"apiVersion": stored["apiVersion"], "kind": stored["kind"],
        "metadata": {"name": name, "annotations": stored["metadata"]["annotations"]}, "spec": stored["spec"]});
    let annotations = object["metadata"]["annotations"]
        .as_object_mut()
        .expect("annotations");
    annotations.remove("deployment.kubernetes.io/revision");
    object
}

/// Changes an exported object as its case requires.
fn edit(case: &str, object: &mut Value) {
    let metadata = object["metadata"]["annotations"]
        .as_object_mut()
        .expect("annotations");
    if case.contains("older") {
        metadata.insert(RECORD.to_owned(), json!(older_record()));
    }
    if case.ends_with("moved") {
        metadata.remove("secrets.floe.dev/env-from");
    }
    let template = object["spec"]["template"]["metadata"]["annotations"]
        .as_object_mut()
        .expect("annotations");
    if case.contains("older") {
        template.remove("secrets.floe.dev/inherited");
    }
    if case.contains("older") || case.ends_with("moved") {
        template.insert("secrets.floe.dev/env-from".to_owned(), json!("db"));
    }
}

async fn one(fixture: &Fixture, case: &str, stored: &Value, tool: Tool) -> Row {
    let name = format!("{case}-{}", tool.stem());
    let mut object = exported(stored, &name);
    edit(case, &mut object);
    let outputs = tool.create(fixture, &object, &object).await;
    let mut problems: Vec<String> = outputs
        .iter()
        .filter(|output| output.code != 0)
        .map(|output| output.stderr.clone())
        .collect();
    let created = fixture.stored("Deployment", &name).await;
    let template = &created["spec"]["template"];
    let got = references(&fixture.new_pod(template).await.object());
    let (own, inherited) = ours_on(template);
    let words = json!({"env-from": "db"});
    // An apply states all of the manifest: a copy in the exported object has become its author's.
    let stated = case == "export-older"
        && matches!(
            tool,
            Tool::Apply | Tool::ServerSide | Tool::Upgrade(Helm::V4)
        );
    let is_own = stated || case.ends_with("moved");
    let expected = if is_own {
        (words, Value::Null)
    } else {
        (json!({}), words)
    };
    if (&own, &inherited) != (&expected.0, &expected.1) {
        problems.push(format!("the template has {own} and inherits {inherited}"));
    }
    if got != ["db"] {
        problems.push(format!("a new pod gets {got:?}"));
    }
    let copied = created["metadata"]["annotations"][RECORD]
        .as_str()
        .is_some_and(|record| record.contains("copied"));
    if copied {
        problems.push("the record still names copies".to_owned());
    }
    let list = &created["metadata"]["annotations"][LIST];
    if list != "db" {
        problems.push(format!("the list is {list}"));
    }
    let warnings = removed(&outputs);
    if !warnings.is_empty() {
        problems.push(format!("unexpected: {warnings:?}"));
    }
    Row {
        line: row(case, tool, (&own, &inherited), &got, list, &warnings),
        problems,
    }
}

#[tokio::test]
async fn exported_object_keeps_author_fields() {
    let fixture = Fixture::new("exported", &[]).await;
    let asks = State::of("Deployment").on_metadata(&[("env-from", "db")]);
    let stored = fixture.create(asks.manifest("source")).await;
    let cases = [
        "export",
        "export-moved",
        "export-older",
        "export-older-moved",
    ];
    let tools = [
        Tool::Apply,
        Tool::ServerSide,
        Tool::Replace,
        Tool::Upgrade(Helm::V4),
        Tool::Upgrade(Helm::V3),
    ];
    let rows = cases
        .iter()
        .flat_map(|case| tools.map(|tool| one(&fixture, case, &stored, tool)));
    report(&join_all(rows).await);
}
