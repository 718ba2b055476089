//! Filters, tests and methods that profiles use, with the results of Jinja and dbt.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, filters, tests};

use super::python;

/// Bytes that `replace` may write.
const MAX_REPLACED: usize = 64 * 1024;

/// Filter of dbt that decides how a value is read when it is the whole text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkerKind {
    Text,
    Native,
    Boolean,
    Number,
}

/// Text with a marker. In a longer text it is plain text. `Debug` has no text.
pub(super) struct Marker {
    pub kind: MarkerKind,
    pub text: String,
}

impl fmt::Debug for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl Object for Marker {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `str()` of a value.
pub(super) fn text_of(value: &Value) -> String {
    match value.kind() {
        ValueKind::Bool if value.is_true() => "True".to_owned(),
        ValueKind::Bool => "False".to_owned(),
        ValueKind::None => "None".to_owned(),
        _ => value.to_string(),
    }
}

fn marker(kind: MarkerKind) -> impl Fn(&Value) -> Value {
    move |value| {
        Value::from_object(Marker {
            kind,
            text: text_of(value),
        })
    }
}

/// Adds the filters and tests to an environment that has none.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.add_filter("as_text", marker(MarkerKind::Text));
    environment.add_filter("as_native", marker(MarkerKind::Native));
    environment.add_filter("as_bool", marker(MarkerKind::Boolean));
    environment.add_filter("as_number", marker(MarkerKind::Number));
    environment.add_filter("lower", |value: &Value| text_of(value).to_lowercase());
    environment.add_filter("upper", |value: &Value| text_of(value).to_uppercase());
    environment.add_filter("trim", |value: &Value| text_of(value).trim().to_owned());
    environment.add_filter("string", text_of);
    environment.add_filter("int", |value: &Value, default: Option<i64>| {
        python::integer(&number_text(value)).unwrap_or_else(|| default.unwrap_or_default())
    });
    environment.add_filter("float", |value: &Value, default: Option<f64>| {
        let number = number_text(value).trim().parse::<f64>().ok();
        number.unwrap_or_else(|| default.unwrap_or_default())
    });
    environment.add_filter("replace", |value: &Value, from: &str, to: &str| {
        replaced(&text_of(value), from, to)
    });
    environment.add_filter("default", filters::default);
    environment.add_filter("d", filters::default);
    environment.add_filter("length", filters::length);
    environment.add_filter("first", filters::first);
    environment.add_filter("last", filters::last);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("undefined", tests::is_undefined);
    environment.add_test("none", tests::is_none);
    environment.add_test("string", tests::is_string);
    environment.add_test("number", tests::is_number);
    environment.add_test("boolean", |value: &Value| value.kind() == ValueKind::Bool);
    environment.add_test("true", tests::is_true);
    environment.add_test("false", tests::is_false);
    environment.set_unknown_method_callback(method);
}

/// Text that a conversion to a number reads: true counts as 1.
fn number_text(value: &Value) -> String {
    match value.kind() {
        ValueKind::Bool => i32::from(value.is_true()).to_string(),
        _ => value.to_string(),
    }
}

fn replaced(text: &str, from: &str, to: &str) -> Result<String, Error> {
    let found = if from.is_empty() {
        text.chars().count() + 1
    } else {
        text.matches(from).count()
    };
    let added = found.saturating_mul(to.len());
    if text.len().saturating_add(added) > MAX_REPLACED {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "replace writes too much",
        ));
    }
    Ok(text.replace(from, to))
}

/// Methods of Python's strings.
fn method(
    _: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let unknown = || Error::from(ErrorKind::UnknownMethod);
    let is_text = value.as_str().is_some() || value.downcast_object_ref::<Marker>().is_some();
    if !is_text {
        return Err(unknown());
    }
    let text = text_of(value);
    let argument = |index: usize| args.get(index).map(text_of);
    Ok(match (name, args.len()) {
        ("lower", 0) => text.to_lowercase().into(),
        ("upper", 0) => text.to_uppercase().into(),
        ("strip", 0) => text.trim().into(),
        ("lstrip", 0) => text.trim_start().into(),
        ("rstrip", 0) => text.trim_end().into(),
        ("startswith", 1) => argument(0)
            .is_some_and(|start| text.starts_with(&*start))
            .into(),
        ("endswith", 1) => argument(0).is_some_and(|end| text.ends_with(&*end)).into(),
        ("replace", 2) => {
            let (from, to) = (
                argument(0).unwrap_or_default(),
                argument(1).unwrap_or_default(),
            );
            replaced(&text, &from, &to)?.into()
        }
        ("split", 1) => {
            let separator = argument(0)
                .filter(|text| !text.is_empty())
                .ok_or_else(unknown)?;
            text.split(&*separator).map(Value::from).collect()
        }
        _ => return Err(unknown()),
    })
}
