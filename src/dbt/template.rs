//! One text of a profile, rendered by minijinja with dbt's function `env_var`, within limits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment as Jinja, Error, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Number, Value as Json};

use super::error::RenderProblem;
use super::filters::{self, Marker, MarkerKind, text_of};
use super::python;

/// Values of variables: the environment that dbt would run in.
pub(crate) type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Bytes of a text with Jinja. Every second byte may be an operator, and a parser goes one call deeper for each.
pub(crate) const MAX_TEMPLATE: usize = 4 * 1024;

/// Instructions that one text may take. Without loops, it is a second limit behind the length.
const MAX_FUEL: u64 = 50_000;

/// Levels of lists and maps in a value that an expression results in.
const MAX_DEPTH: usize = 64;

/// Prefix of variables that dbt hides.
const SECRET_PREFIX: &str = "DBT_ENV_SECRET";

/// Text that stands for a hidden variable until Jinja is done.
const SECRET_START: &str = "$$$DBT_SECRET_START$$$";
const SECRET_END: &str = "$$$DBT_SECRET_END$$$";

/// A call of `env_var`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub name: String,
    pub has_default: bool,
    pub is_set: bool,
}

#[derive(Default)]
struct Calls {
    of_env_var: Vec<Call>,
    missing: Option<String>,
    unsupported: Option<&'static str>,
}

pub(super) struct Renderer {
    jinja: Jinja<'static>,
    environment: Environment,
    calls: Arc<Mutex<Calls>>,
}

fn locked(calls: &Mutex<Calls>) -> MutexGuard<'_, Calls> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Renderer {
    pub(super) fn new(environment: &Environment) -> Self {
        let calls = Arc::new(Mutex::new(Calls::default()));
        let mut jinja = Jinja::empty();
        jinja.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        jinja.set_fuel(Some(MAX_FUEL));
        jinja.set_formatter(|output, _, value| {
            output.write_str(&text_of(value)).map_err(Error::from)
        });
        filters::add_to(&mut jinja);
        let (of_env_var, read) = (Arc::clone(&calls), Arc::clone(environment));
        jinja.add_function("env_var", move |args: Rest<ValueOrKwargs>| {
            env_var(&read, &of_env_var, &args.into_values())
        });
        let of_var = Arc::clone(&calls);
        jinja.add_function("var", move |args: Rest<ValueOrKwargs>| {
            default_of(&args.into_values()).ok_or_else(|| {
                locked(&of_var).unsupported = Some("var without a default");
                Error::from(ErrorKind::InvalidOperation)
            })
        });
        Self {
            jinja,
            environment: Arc::clone(environment),
            calls,
        }
    }

    /// Renders a text as dbt does. Returns the calls of `env_var` also when it fails.
    pub(super) fn render(&self, text: &str) -> (Result<Json, RenderProblem>, Vec<Call>) {
        *locked(&self.calls) = Calls::default();
        let result = self
            .rendered(text)
            .and_then(|value| self.with_secrets(value));
        let calls = std::mem::take(&mut *locked(&self.calls));
        (result, calls.of_env_var)
    }

    fn rendered(&self, text: &str) -> Result<Json, RenderProblem> {
        // Jinja reads every line break as \n, and drops one at the end.
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let text = text.strip_suffix('\n').unwrap_or(&text);
        if !has_jinja(text) {
            return Ok(Json::String(text.to_owned()));
        }
        if text.len() > MAX_TEMPLATE {
            return Err(RenderProblem::TooLong(MAX_TEMPLATE));
        }
        check_supported(text)?;
        let expression = single_expression(without_comments(text));
        let compiled =
            expression.and_then(|text| self.jinja.compile_expression_owned(text.to_owned()).ok());
        let Some(expression) = compiled else {
            let rendered = self.jinja.render_str(text, ());
            return rendered
                .map(Json::String)
                .map_err(|error| self.problem(&error));
        };
        let value = native(&expression.eval(()).map_err(|error| self.problem(&error))?)?;
        // Jinja writes an expression without names as text when it compiles the template. Markers are left out.
        let is_constant = expression.undeclared_variables(false).is_empty();
        let is_marked =
            text.contains("as_native") || text.contains("as_number") || text.contains("as_bool");
        Ok(if is_constant && !is_marked {
            Json::String(python::text(&value))
        } else {
            value
        })
    }

    /// Problem of an error, without its details: they quote the template.
    fn problem(&self, error: &Error) -> RenderProblem {
        let calls = locked(&self.calls);
        if let Some(name) = &calls.missing {
            return RenderProblem::MissingVariable(name.clone());
        }
        if let Some(feature) = calls.unsupported {
            return RenderProblem::Unsupported(feature);
        }
        match error.kind() {
            ErrorKind::SyntaxError => RenderProblem::Jinja("it is not valid"),
            ErrorKind::UnknownFilter => {
                RenderProblem::Unsupported("a filter other than the usual ones")
            }
            ErrorKind::UnknownFunction => {
                RenderProblem::Unsupported("a function other than env_var")
            }
            ErrorKind::UnknownMethod => {
                RenderProblem::Unsupported("a method other than the usual ones")
            }
            ErrorKind::UnknownTest => {
                RenderProblem::Unsupported("a test other than the usual ones")
            }
            ErrorKind::UndefinedError => RenderProblem::Jinja("a name is not defined"),
            ErrorKind::OutOfFuel => RenderProblem::Unsupported("so long a program"),
            _ => RenderProblem::Jinja("it fails"),
        }
    }

    /// Puts hidden variables in. dbt replaces one, and searches for its name up to the last mark of the line.
    fn with_secrets(&self, value: Json) -> Result<Json, RenderProblem> {
        let Json::String(text) = &value else {
            return Ok(value);
        };
        if !text.contains(SECRET_PREFIX) {
            return Ok(value);
        }
        for line in text.split('\n') {
            let mut rest = line;
            while let Some((_, after)) = rest.split_once(SECRET_START) {
                rest = after;
                let Some((name, _)) = after.rsplit_once(SECRET_END) else {
                    continue;
                };
                if !name.starts_with(SECRET_PREFIX) {
                    continue;
                }
                let secret = (self.environment)(name).ok_or(RenderProblem::TwoSecrets)?;
                let mark = format!("{SECRET_START}{name}{SECRET_END}");
                return Ok(Json::String(text.replace(&mark, &secret)));
            }
        }
        Ok(Json::Null)
    }
}

fn env_var(read: &Environment, calls: &Mutex<Calls>, args: &[Value]) -> Result<Value, Error> {
    let invalid = || Error::from(ErrorKind::InvalidOperation);
    let name = args.first().and_then(Value::as_str).ok_or_else(invalid)?;
    let default = default_of(args).filter(|default| default.kind() != ValueKind::None);
    let value = read(name);
    let mut calls = locked(calls);
    calls.of_env_var.push(Call {
        name: name.to_owned(),
        has_default: default.is_some(),
        is_set: value.is_some(),
    });
    match (value, default) {
        (Some(_), _) if name.starts_with(SECRET_PREFIX) => {
            Ok(format!("{SECRET_START}{name}{SECRET_END}").into())
        }
        (Some(value), _) => Ok(value.into()),
        (None, Some(default)) => Ok(default),
        (None, None) => {
            calls.missing.get_or_insert_with(|| name.to_owned());
            Err(invalid())
        }
    }
}

/// Second argument, by position or by name.
fn default_of(args: &[Value]) -> Option<Value> {
    let second = args.get(1)?;
    if !second.is_kwargs() {
        return Some(second.clone());
    }
    Kwargs::try_from(second.clone())
        .ok()?
        .get::<Value>("default")
        .ok()
}

/// Whether a text has anything for Jinja.
pub(super) fn has_jinja(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|begin| text.contains(begin))
}

/// Expression of a text that is nothing else.
fn single_expression(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    Some(inner.strip_suffix(['-', '+']).unwrap_or(inner))
}

/// Text without the comments around it.
fn without_comments(text: &str) -> &str {
    let mut text = text;
    while let Some((_, after)) = text
        .strip_prefix("{#")
        .and_then(|rest| rest.split_once("#}"))
    {
        text = after;
    }
    text
}

/// Refuses what could do more work than its length: loops, assignments, and multiplication.
fn check_supported(text: &str) -> Result<(), RenderProblem> {
    for block in text.split("{%").skip(1) {
        let block = block.trim_start_matches(['-', '+']).trim_start();
        let keyword = block
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .next();
        if !matches!(keyword, Some("if" | "elif" | "else" | "endif")) {
            return Err(RenderProblem::Unsupported("a statement other than if"));
        }
    }
    if has_multiplication(text) {
        return Err(RenderProblem::Unsupported("multiplication"));
    }
    Ok(())
}

/// Whether an expression has a `*` outside of strings. Ends of expressions are found as the parser finds them: not
/// within brackets.
fn has_multiplication(text: &str) -> bool {
    let (mut rest, mut is_inside, mut brackets) = (text, false, 0_i64);
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        if !is_inside {
            if rest.starts_with("{#") {
                length = rest.find("#}").map_or(rest.len(), |end| end + 2);
            } else if rest.starts_with("{{") || rest.starts_with("{%") {
                (is_inside, brackets, length) = (true, 0, 2);
            }
        } else if brackets == 0 && (rest.starts_with("}}") || rest.starts_with("%}")) {
            (is_inside, length) = (false, 2);
        } else {
            match c {
                '*' => return true,
                '\'' | '"' => length = string_length(rest, c),
                '(' | '[' | '{' => brackets += 1,
                ')' | ']' | '}' => brackets -= 1,
                _ => {}
            }
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    false
}

/// Bytes of the string that `text` begins with, its quotes included.
fn string_length(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Value of a single expression, as dbt's native environment returns it.
fn native(value: &Value) -> Result<Json, RenderProblem> {
    let Some(Marker { kind, text }) = value.downcast_object_ref::<Marker>() else {
        return json(value, 0).ok_or(RenderProblem::Jinja("its result is not a value of YAML"));
    };
    let read = (*kind != MarkerKind::Text)
        .then(|| python::literal(text))
        .flatten();
    let read = read.unwrap_or_else(|| Json::String(text.clone()));
    match kind {
        MarkerKind::Number if !read.is_number() => Err(RenderProblem::NotANumber),
        MarkerKind::Boolean if !read.is_boolean() => Err(RenderProblem::NotABoolean),
        _ => Ok(read),
    }
}

/// A value as data.
fn json(value: &Value, depth: usize) -> Option<Json> {
    if depth > MAX_DEPTH {
        return None;
    }
    if let Some(marker) = value.downcast_object_ref::<Marker>() {
        return Some(Json::String(marker.text.clone()));
    }
    Some(match value.kind() {
        ValueKind::None => Json::Null,
        ValueKind::Bool => Json::Bool(value.is_true()),
        ValueKind::Number => match i64::try_from(value.clone()) {
            Ok(number) if value.is_integer() => Json::from(number),
            _ => Json::Number(Number::from_f64(f64::try_from(value.clone()).ok()?)?),
        },
        ValueKind::String => Json::String(value.as_str()?.to_owned()),
        ValueKind::Seq => {
            let items = value.try_iter().ok()?.take(MAX_TEMPLATE);
            let items = items.map(|item| json(&item, depth + 1));
            Json::Array(items.collect::<Option<_>>()?)
        }
        ValueKind::Map => {
            let mut map = Map::new();
            for key in value.try_iter().ok()? {
                map.insert(text_of(&key), json(&value.get_item(&key).ok()?, depth + 1)?);
            }
            Json::Object(map)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
