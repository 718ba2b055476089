//! Variables that a target of a dbt profile reads, and literal secrets in its fields.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::report::Report;
use super::request::ProfileRequest;
use super::source::FileSource;
use crate::compile::adapter;
use crate::dbt::{Environment, RenderError, RenderProblem, Rendered, rendered};
use crate::finding::{FindingSeverity, Rule};
use crate::inject::input::Input;
use crate::inject::unreadable::UnreadableInput;
use crate::literals::{Detector, reads_only_variables};
use crate::yaml::{self, Node, NodeValue, Position, YamlLimits};

/// Value of a variable while a profile is rendered: a number, because filters refuse most other texts.
const NUMBER: &str = "1";

/// Value of a variable that a profile reads as a boolean.
const BOOLEAN: &str = "True";

/// Limit of attempts to render a profile. Each finds one variable that is read as a boolean.
pub(super) const MAX_ATTEMPTS: usize = 256;

/// Message about a literal in a field that holds secrets alone.
const LITERAL_IN_SECRET_FIELD: &str = "the field holds a secret and has a literal value, or a literal in or next to an expression. Write {{ env_var('VARIABLE') }} alone instead, and give the variable to the pod by annotation secrets.floe.dev/env.VARIABLE. No mark allows a literal in this field.";

/// A variable without a default that the target reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequiredVariable {
    pub(super) name: String,
    /// File and field of its first use in the profile, for messages. A line would change the fingerprints of findings
    /// when lines are added to the profile.
    pub(super) place: String,
}

/// Variables of one target of a profile.
#[derive(Debug)]
pub(super) struct ProfileVariables {
    pub(super) target: String,
    pub(super) variables: Vec<RequiredVariable>,
}

/// Reads a profile, reports its literal secrets, and returns what its target reads. `None` if it cannot be rendered,
/// which is reported.
pub(super) fn read(
    request: &ProfileRequest,
    stdin: &mut Option<impl Read>,
    detector: &Detector,
    report: &mut Report,
) -> Option<ProfileVariables> {
    let input = match Input::open(Path::new(&request.file), stdin) {
        Ok(input) => input,
        Err(error) => {
            report.unreadable(error);
            return None;
        }
    };
    let node = match yaml::parse(input.text(), YamlLimits::HAND_WRITTEN) {
        Ok(node) => node,
        Err(error) => {
            let position = error.position.map(|at| (at.line, Some(at.column)));
            report.unreadable(UnreadableInput {
                line: position,
                ..UnreadableInput::of_input(input.name.clone(), error.to_string())
            });
            return None;
        }
    };
    let source = FileSource::new(&input);
    let rendered = render_target(request, &node);
    // A profile that cannot be rendered has its literals all the same.
    let known = rendered
        .as_ref()
        .ok()
        .map(|(profile, rendered)| (profile.as_str(), rendered.target.as_str()));
    for (path, output) in outputs(request, &node, known) {
        let fields = ProfileFields {
            source: &source,
            kind: output.get("type").and_then(Node::text).unwrap_or_default(),
            detector,
        };
        fields.check(output, &path, "", report);
    }
    match rendered {
        Ok((_, rendered)) => Some(required(&input.name, rendered)),
        Err(problem) => {
            let position = problem.position.unwrap_or(node.position);
            let (severity, field) = (problem.severity, &problem.field);
            report.push(source.finding_at(
                Rule::Profile,
                severity,
                position,
                field,
                problem.sentence,
            ));
            None
        }
    }
}

/// Outputs whose fields are checked, with their paths: that of the target, or all if the target is not known.
fn outputs<'n>(
    request: &ProfileRequest,
    node: &'n Node,
    rendered: Option<(&str, &str)>,
) -> Vec<(String, &'n Node)> {
    let entries = |node: &'n Node| node.entries().unwrap_or_default().iter();
    let profile = rendered
        .map(|(profile, _)| profile)
        .or(request.profile.as_deref());
    let mut found = Vec::new();
    for entry in entries(node) {
        let is_wanted = profile.map_or(entry.key != "config", |profile| profile == entry.key);
        let Some(outputs) = entry.node.get("outputs").filter(|_| is_wanted) else {
            continue;
        };
        let target = rendered
            .map(|(_, target)| target)
            .or(request.target.as_deref())
            .or_else(|| entry.node.get("target").and_then(Node::text))
            .filter(|target| outputs.get(target).is_some());
        found.extend(
            entries(outputs)
                .filter(|output| target.is_none_or(|target| target == output.key))
                .map(|output| {
                    (
                        format!("{}.outputs.{}", entry.key, output.key),
                        &output.node,
                    )
                }),
        );
    }
    found
}

/// Problem of a profile.
struct ProfileProblem {
    severity: FindingSeverity,
    position: Option<Position>,
    field: String,
    sentence: String,
}

/// Renders the requested target. Returns it with the name of its profile.
fn render_target(
    request: &ProfileRequest,
    node: &Node,
) -> Result<(String, Rendered), ProfileProblem> {
    let profile = profile_name(request, node).map_err(|sentence| ProfileProblem {
        severity: FindingSeverity::Error,
        position: None,
        field: String::new(),
        sentence,
    })?;
    match render(node, &profile, request.target.as_deref()) {
        Ok(rendered) => Ok((profile, rendered)),
        Err(error) => Err(ProfileProblem {
            severity: match error.problem {
                RenderProblem::Unsupported(_) => FindingSeverity::Warning,
                _ => FindingSeverity::Error,
            },
            position: error.position,
            field: error.path,
            sentence: error.problem.to_string(),
        }),
    }
}

/// Name of the profile: the requested one, or the only one in the file. `config` is dbt's own section.
fn profile_name(request: &ProfileRequest, node: &Node) -> Result<String, String> {
    if let Some(name) = &request.profile {
        return Ok(name.clone());
    }
    let entries = node.entries().unwrap_or_default();
    let names: Vec<&str> = entries
        .iter()
        .map(|entry| entry.key.as_str())
        .filter(|key| *key != "config")
        .collect();
    match names.as_slice() {
        [name] => Ok((*name).to_owned()),
        [] => Err("the file has no profile. Write one, or correct --profiles.".to_owned()),
        [first, ..] => Err(format!(
            "the file has {} profiles, the first of which is \"{first}\". Name one by --profile.",
            names.len()
        )),
    }
}

/// Renders the target as dbt does, with a number as the value of each variable, or with a boolean where the profile
/// reads one.
fn render(node: &Node, profile: &str, target: Option<&str>) -> Result<Rendered, RenderError> {
    let state = Arc::new(Mutex::new((String::new(), BTreeSet::<String>::new())));
    let locked = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let shared = Arc::clone(&state);
    let environment: Environment = Arc::new(move |name: &str| {
        let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
        name.clone_into(&mut state.0);
        let is_boolean = state.1.contains(name);
        Some(if is_boolean { BOOLEAN } else { NUMBER }.to_owned())
    });
    let mut attempt = 1;
    loop {
        let result = rendered(node, profile, target, &environment);
        let last_read = locked().0.clone();
        let is_boolean = matches!(
            &result,
            Err(RenderError {
                problem: RenderProblem::NotABoolean,
                ..
            })
        );
        if !is_boolean || attempt == MAX_ATTEMPTS || locked().1.contains(&last_read) {
            return result;
        }
        locked().1.insert(last_read);
        attempt += 1;
    }
}

/// Variables without a default, each once.
fn required(file: &str, rendered: Rendered) -> ProfileVariables {
    let mut variables = Vec::new();
    let mut known = BTreeSet::new();
    for used in rendered.variables {
        if !used.has_default && known.insert(used.name.clone()) {
            variables.push(RequiredVariable {
                place: format!("{file}, {}", used.path),
                name: used.name,
            });
        }
    }
    ProfileVariables {
        target: rendered.target,
        variables,
    }
}

/// Search for literal secrets in the fields of an output.
struct ProfileFields<'a> {
    source: &'a FileSource<'a>,
    /// Type of the adapter.
    kind: &'a str,
    detector: &'a Detector,
}

impl ProfileFields<'_> {
    /// Checks a value at `path` in the output, which is at `prefix` in the file.
    fn check(&self, node: &Node, prefix: &str, path: &str, report: &mut Report) {
        match &node.value {
            NodeValue::Map(entries) => {
                for entry in entries {
                    let path = match path {
                        "" => entry.key.clone(),
                        path => format!("{path}.{}", entry.key),
                    };
                    self.check(&entry.node, prefix, &path, report);
                }
            }
            NodeValue::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.check(item, prefix, &format!("{path}[{index}]"), report);
                }
            }
            NodeValue::Text(text) if text.is_empty() => {}
            NodeValue::Text(text) => self.literal(node.position, Some(text), prefix, path, report),
            NodeValue::Integer(_) | NodeValue::Unsigned(_) | NodeValue::Float(_) => {
                self.literal(node.position, None, prefix, path, report);
            }
            NodeValue::Null | NodeValue::Bool(_) => {}
        }
    }

    fn literal(
        &self,
        position: Position,
        text: Option<&str>,
        prefix: &str,
        path: &str,
        report: &mut Report,
    ) {
        let name = path.rsplit('.').next().unwrap_or_default();
        let (severity, message) = if adapter::is_secret_field(self.kind, path) {
            if text.is_some_and(reads_only_variables) {
                return;
            }
            (FindingSeverity::Error, LITERAL_IN_SECRET_FIELD.to_owned())
        } else {
            let detected = text.and_then(|text| self.detector.detect(name, text));
            let Some(detected) = detected.filter(|_| !self.source.is_marked(position.line)) else {
                return;
            };
            let sentence = format!(
                "the value looks like a secret ({}). Write {{{{ env_var('VARIABLE') }}}} in its place; a line with \"# pragma: allowlist secret\" is not checked.",
                detected.rule
            );
            (detected.severity, sentence)
        };
        let field = format!("{prefix}.{path}");
        report.push(self.source.finding_at(
            Rule::LiteralSecret,
            severity,
            position,
            &field,
            message,
        ));
    }
}
