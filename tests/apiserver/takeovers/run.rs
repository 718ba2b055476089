//! Runs cases with tools, and prints the results.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::cases::{Case, End, Step};
use crate::fixture::Fixture;
use crate::state::{LIST, State, group_and_template, ours_on, references};
use crate::tool::Tool;
use testbed::command_output::CommandOutput;

/// One case with one tool.
pub struct Row {
    pub line: String,
    pub problems: Vec<String>,
}

/// Runs all concurrently, prints the table, and fails with every problem.
pub async fn table(fixture: &Fixture, cases: &[Case]) {
    let rows = cases.iter().flat_map(|case| {
        case.tools()
            .into_iter()
            .map(move |tool| one(fixture, case, tool))
    });
    report(&join_all(rows).await);
}

#[track_caller]
pub fn report(rows: &[Row]) {
    for row in rows {
        eprintln!("{}", row.line);
    }
    let problems: Vec<String> = rows
        .iter()
        .filter(|row| !row.problems.is_empty())
        .map(|row| row.line.clone() + "\n  " + &row.problems.join("\n  "))
        .collect();
    assert!(
        problems.is_empty(),
        "{} of {} rows:\n{}",
        problems.len(),
        rows.len(),
        problems.join("\n")
    );
}

/// Warnings that name removed entries, from the output of a program.
pub fn removed(outputs: &[CommandOutput]) -> Vec<String> {
    let lines = outputs.iter().flat_map(|output| output.stderr.lines());
    // Helm 3 writes them as a line of a log, with escaped quotes.
    let text = |line: &str| {
        line.split_once("Warning: ")
            .map_or(line, |(_, text)| text)
            .replace("\\\"", "\"")
    };
    lines
        .filter(|line| line.contains("removed from"))
        .map(text)
        .collect()
}

/// Fields of a manifest that are not in the stored object.
pub fn lost_fields(stated: &Value, stored: &Value, path: &str) -> Vec<String> {
    match (stated, stored) {
        (Value::Object(stated), _) => stated
            .iter()
            .flat_map(|(key, value)| lost_fields(value, &stored[key], &format!("{path}/{key}")))
            .collect(),
        // Injected entries may be before and after an author's entries.
        (Value::Array(stated), Value::Array(stored)) => {
            let there = |value: &Value| {
                stored
                    .iter()
                    .any(|stored| lost_fields(value, stored, "").is_empty())
            };
            stated
                .iter()
                .filter(|value| !there(value))
                .map(|value| format!("{path}: {value} is gone"))
                .collect()
        }
        (Value::String(list), Value::String(there))
            if path.ends_with(LIST) && there.starts_with(list) =>
        {
            Vec::new()
        }
        _ if stated == stored => Vec::new(),
        _ => vec![format!("{path}: {stated} has become {stored}")],
    }
}

struct Run<'s> {
    fixture: &'s Fixture,
    kind: &'static str,
    name: String,
    outputs: Vec<CommandOutput>,
    templates: Vec<Value>,
    problems: Vec<String>,
}

impl Run<'_> {
    fn record_output(&mut self, output: CommandOutput) {
        if output.code != 0 {
            self.problems
                .push(format!("{}{}", output.stdout, output.stderr));
        }
        self.outputs.push(output);
    }

    /// `kubectl rollout undo`, or the equivalent of Argo Rollouts' plugin.
    async fn undo(&mut self) {
        let what = format!("{}/{}", self.kind.to_lowercase(), self.name);
        let output = if self.kind == "Rollout" {
            let before = &self.templates[self.templates.len() - 2];
            let patch =
                json!([{"op": "replace", "path": "/spec/template", "value": before}]).to_string();
            self.fixture
                .kubectl(&["patch", &what, "--type=json", "-p", &patch], "")
                .await
        } else {
            self.fixture.kubectl(&["rollout", "undo", &what], "").await
        };
        self.record_output(output);
    }

    /// Stored object, and the references of a new pod.
    async fn observe(&mut self, expected: &[&str], at: usize) -> (Value, Vec<String>) {
        let stored = self.fixture.observed(self.kind, &self.name).await;
        let (_, pointer) = group_and_template(self.kind);
        let template = stored.pointer(pointer).cloned().unwrap_or_default();
        let pod = self.fixture.new_pod(&template).await;
        if !pod.is_accepted() {
            self.problems
                .push(format!("step {at}: the pod is refused: {}", pod.message()));
        }
        let got = references(&pod.body);
        if got != expected {
            self.problems.push(format!(
                "step {at}: a new pod gets {got:?}, not {expected:?}"
            ));
        }
        self.templates.push(template);
        (stored, got)
    }
}

async fn one(fixture: &Fixture, case: &Case, tool: Tool) -> Row {
    let name = format!("{}-{}", case.name, tool.stem());
    let mut run = Run {
        fixture,
        kind: case.kind(),
        name,
        outputs: Vec::new(),
        templates: Vec::new(),
        problems: Vec::new(),
    };
    let taken = case.taken.as_ref().filter(|_| !tool.records_statements());
    let manifest = |state: &State| state.manifest(&run.name.clone());
    let last = case.last().map(manifest).unwrap_or_default();
    let mut before = Value::Null;
    let (mut stored, mut got) = (Value::Null, Vec::new());
    for (at, (step, references)) in case.steps.iter().enumerate() {
        let is_last = at + 1 == case.steps.len();
        match step {
            Step::Write(state) => {
                let next = state.manifest(&run.name);
                if before.is_null() {
                    for output in tool.create(fixture, &next, &last).await {
                        run.record_output(output);
                    }
                } else {
                    let output = tool.change(fixture, &before, &next, is_last).await;
                    run.record_output(output);
                }
                before = next;
            }
            Step::Undo => run.undo().await,
        }
        let expected = taken
            .filter(|_| is_last)
            .map_or(*references, |taken| taken.references);
        (stored, got) = run.observe(expected, at).await;
    }
    let end = taken.unwrap_or(&case.end);
    let stands = taken.is_none() && case.last().is_some();
    conclude(
        run,
        case,
        tool,
        end,
        (&stored, got),
        stands.then_some(&before),
    )
}

fn conclude(
    mut run: Run<'_>,
    case: &Case,
    tool: Tool,
    end: &End,
    (stored, got): (&Value, Vec<String>),
    stated: Option<&Value>,
) -> Row {
    let template = run.templates.last().cloned().unwrap_or_default();
    let (own, inherited) = ours_on(&template);
    let list = stored["metadata"]["annotations"][LIST].clone();
    if (&own, &inherited) != (&end.own, &end.inherited) {
        run.problems.push(format!(
            "the template has {own} and inherits {inherited}, not {} and {}",
            end.own, end.inherited
        ));
    }
    if list != end.list {
        run.problems
            .push(format!("the list is {list}, not {}", end.list));
    }
    run.problems.extend(
        stated
            .into_iter()
            .flat_map(|stated| lost_fields(stated, stored, "")),
    );
    let warnings = removed(&run.outputs);
    if tool.records_statements() && end.removed.is_empty() && !warnings.is_empty() {
        run.problems.push(format!("unexpected: {warnings:?}"));
    }
    let named = |what: &&&str| warnings.iter().any(|line| line.contains(**what));
    let silent: Vec<_> = end.removed.iter().filter(|what| !named(what)).collect();
    if !silent.is_empty() {
        run.problems
            .push(format!("no warning names {silent:?}: {warnings:?}"));
    }
    let line = row(case.name, tool, (&own, &inherited), &got, &list, &warnings);
    Row {
        line,
        problems: run.problems,
    }
}

/// Line of the table.
pub fn row(
    case: &str,
    tool: impl std::fmt::Display,
    (own, inherited): (&Value, &Value),
    got: &[String],
    list: &Value,
    warnings: &[String],
) -> String {
    let or_none = |text: String| {
        if text.is_empty() || text == "null" || text == "{}" {
            "-".to_owned()
        } else {
            text
        }
    };
    let removed = warnings
        .iter()
        .filter_map(|line| line.split(": no annotation").next());
    let removed = removed.collect::<Vec<_>>().join("; ");
    format!(
        "{case:<22} | {tool:<20} | own {:<34} | inherited {:<34} | pod {:<12} | list {:<10} | {}",
        or_none(own.to_string()),
        or_none(inherited.to_string()),
        or_none(got.join(",")),
        or_none(list.as_str().unwrap_or_default().to_owned()),
        or_none(removed),
    )
}
