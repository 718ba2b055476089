//! Selects a target's output from a file of profiles, and renders it.

use serde_json::{Map, Number, Value as Json};

use super::error::{RenderError, RenderProblem};
use super::template::{Environment, Renderer};
use crate::stack::on_large_stack;
use crate::yaml::{Node, NodeValue, Position};

/// Bytes of the renderer's stack: ten times what the deepest expression within the limits takes without optimization.
pub(super) const STACK_BYTES: usize = 32 * 1024 * 1024;

/// An output of a profile, as dbt gets it. It may have secrets, so it has no `Debug`.
pub(crate) struct Rendered {
    /// Name of the target.
    pub target: String,
    /// Fields of the output.
    pub value: Json,
    /// Calls of `env_var`, in the order of the file.
    pub variables: Vec<VariableUse>,
}

/// A call of `env_var`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VariableUse {
    pub name: String,
    pub has_default: bool,
    /// Whether the environment has the variable.
    pub is_set: bool,
    /// Path in the profile, as in `outputs.dev.password`.
    pub path: String,
    pub position: Position,
}

/// Renders the output of one target; without `target`, of the profile's own. Other outputs are not rendered, so their
/// variables need not be set.
///
/// # Errors
/// The first value that dbt would refuse. A value below `password` is never refused: dbt then takes the text as it is.
pub(crate) fn rendered(
    profiles: &Node,
    profile_name: &str,
    target: Option<&str>,
    environment: &Environment,
) -> Result<Rendered, RenderError> {
    let render = || render_target(profiles, profile_name, target, environment);
    on_large_stack(STACK_BYTES, render).unwrap_or_else(|| {
        Err(RenderError {
            path: String::new(),
            position: None,
            problem: RenderProblem::NoThread,
        })
    })
}

fn render_target(
    profiles: &Node,
    profile_name: &str,
    target: Option<&str>,
    environment: &Environment,
) -> Result<Rendered, RenderError> {
    let fail = |path: &str, node: &Node, problem| RenderError {
        path: path.to_owned(),
        position: Some(node.position),
        problem,
    };
    let profile = profiles.get(profile_name).ok_or_else(|| {
        fail(
            "",
            profiles,
            RenderProblem::NoProfile(profile_name.to_owned()),
        )
    })?;
    let mut walk = Walk {
        renderer: Renderer::new(environment),
        variables: Vec::new(),
    };
    let target = match (target, profile.get("target")) {
        (Some(target), _) => target.to_owned(),
        (None, None) => "default".to_owned(),
        (None, Some(node)) => match walk.value("target", node, false)? {
            Json::String(target) => target,
            _ => return Err(fail("target", node, RenderProblem::NoTarget)),
        },
    };
    let outputs = profile
        .get("outputs")
        .filter(|node| node.entries().is_some());
    let outputs = outputs.ok_or_else(|| fail("outputs", profile, RenderProblem::NoOutputs))?;
    let output = outputs.get(&target);
    let output = output.ok_or_else(|| fail("outputs", outputs, RenderProblem::NoTarget))?;
    let path = format!("outputs.{target}");
    if output.entries().is_none() {
        return Err(fail(&path, output, RenderProblem::NotAMap));
    }
    let value = walk.value(&path, output, false)?;
    Ok(Rendered {
        target,
        value,
        variables: walk.variables,
    })
}

struct Walk {
    renderer: Renderer,
    variables: Vec<VariableUse>,
}

impl Walk {
    /// Renders a value and all below it. `in_password` is whether a key named `password` is above it.
    fn value(&mut self, path: &str, node: &Node, in_password: bool) -> Result<Json, RenderError> {
        Ok(match &node.value {
            NodeValue::Null => Json::Null,
            NodeValue::Bool(value) => Json::Bool(*value),
            NodeValue::Integer(value) => Json::from(*value),
            NodeValue::Unsigned(value) => Json::from(*value),
            NodeValue::Float(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
            NodeValue::Text(text) => self.text(path, node.position, text, in_password)?,
            NodeValue::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    list.push(self.value(&format!("{path}[{index}]"), item, in_password)?);
                }
                Json::Array(list)
            }
            NodeValue::Map(entries) => {
                let mut map = Map::new();
                for entry in entries {
                    let in_password = in_password || entry.key == "password";
                    let path = format!("{path}.{}", entry.key);
                    map.insert(
                        entry.key.clone(),
                        self.value(&path, &entry.node, in_password)?,
                    );
                }
                Json::Object(map)
            }
        })
    }

    fn text(
        &mut self,
        path: &str,
        position: Position,
        text: &str,
        in_password: bool,
    ) -> Result<Json, RenderError> {
        let (result, calls) = self.renderer.render(text);
        self.variables
            .extend(calls.into_iter().map(|call| VariableUse {
                name: call.name,
                has_default: call.has_default,
                is_set: call.is_set,
                path: path.to_owned(),
                position,
            }));
        match result {
            Err(problem) if !in_password => Err(RenderError {
                path: path.to_owned(),
                position: Some(position),
                problem,
            }),
            Err(_) => Ok(Json::String(text.to_owned())),
            Ok(value) => Ok(value),
        }
    }
}

#[cfg(test)]
mod tests;
