//! Locates a field of a wrong type: its path, and the container and the variable that it is in.
//!
//! The value is not kept: `value: 5432` may be a port, and it may be a password.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_path_to_error::{Path, Segment};

use crate::excerpt::excerpt;
use crate::limits::MAX_LOCATED_BYTES;
use crate::view::metadata::MetadataView;
use crate::view::pod::PodView;

/// Type of text in sentences.
const STRING: &str = "a string";

/// A field of a wrong type. `Display` names the field, the container and the variable that it is in, both types, and
/// what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongType {
    /// Path from the document's root: `spec.containers[0].env[1].value`.
    path: String,
    container: Option<String>,
    variable: Option<String>,
    found: &'static str,
    expected: &'static str,
}

impl WrongType {
    /// First field of a wrong type in a JSON document that should be a `T`; `None` if the document is valid, is not
    /// JSON, or is longer than [`MAX_LOCATED_BYTES`].
    #[must_use]
    pub fn find<'a, T: Deserialize<'a>>(json: &'a str) -> Option<Self> {
        if json.len() > MAX_LOCATED_BYTES {
            None
        } else {
            find::<T>(json)
        }
    }

    /// Path of the field, from the document's root.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Replaces the path, for example by that from the root of a surrounding document.
    #[must_use]
    pub fn with_path(mut self, path: impl FnOnce(&str) -> String) -> Self {
        self.path = path(&self.path);
        self
    }
}

impl fmt::Display for WrongType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            container,
            variable,
            found,
            expected,
        } = self;
        f.write_str(path)?;
        match (container, variable) {
            (Some(container), Some(variable)) => {
                write!(f, " (container \"{container}\", variable \"{variable}\")")?;
            }
            (Some(container), None) => write!(f, " (container \"{container}\")")?,
            (None, Some(variable)) => write!(f, " (variable \"{variable}\")")?,
            (None, None) => {}
        }
        write!(f, " is {found}, and Kubernetes takes {expected} there")?;
        if *expected == STRING && matches!(*found, "a number" | "a boolean") {
            f.write_str("; write it in quotes")?;
        }
        Ok(())
    }
}

fn find<'a, T: Deserialize<'a>>(json: &'a str) -> Option<WrongType> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let error = serde_path_to_error::deserialize::<_, T>(&mut deserializer).err()?;
    let steps: Vec<Step> = error.path().iter().map(Step::of).collect::<Option<_>>()?;
    let mut surroundings = Surroundings::default();
    let walk = PathWalk {
        steps: &steps,
        element_of: "",
        surroundings: &mut surroundings,
    };
    walk.deserialize(&mut serde_json::Deserializer::from_str(json))
        .ok()?;
    let value = surroundings.value?.get();
    if let Some(expected) = expected(&error.inner().to_string()) {
        let (found, path) = (kind(value), path(error.path()));
        return Some(WrongType {
            path,
            container: surroundings.container,
            variable: surroundings.variable,
            found,
            expected,
        });
    }
    // Templates and workload metadata are parsed separately: the error of that parser has no path in this document.
    let inner = match steps.last() {
        Some(Step::Key(key)) if key == "template" => find::<PodView<'_>>(value),
        Some(Step::Key(key)) if key == "metadata" => find::<MetadataView<'_>>(value),
        _ => None,
    };
    inner.map(|inner| inner.with_path(|inner| format!("{}.{inner}", path(error.path()))))
}

/// Type that serde expected, by the end of its message: the text before may be the author's.
fn expected(message: &str) -> Option<&'static str> {
    let wanted = message
        .strip_prefix("invalid type: ")?
        .rsplit(", expected ")
        .next()?;
    let known = [
        (STRING, STRING),
        ("a sequence", "a list"),
        ("a map", "an object"),
        ("struct ", "an object"),
    ];
    let known = known
        .into_iter()
        .find(|(start, _)| wanted.starts_with(start));
    Some(known.map_or("another type", |(_, word)| word))
}

/// Type of a JSON value, by its first byte.
fn kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'"') => STRING,
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// One step of a path into a JSON value.
#[derive(Debug)]
enum Step {
    Key(String),
    Index(usize),
}

impl Step {
    fn of(segment: &Segment) -> Option<Self> {
        match segment {
            Segment::Map { key } => Some(Self::Key(key.clone())),
            Segment::Seq { index } => Some(Self::Index(*index)),
            Segment::Enum { .. } | Segment::Unknown => None,
        }
    }
}

/// Writes a path for sentences. Names of annotations are in brackets, because they have dots.
fn path(path: &Path) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Map { key } if key.contains(['.', '/']) => text.extend(["[", key, "]"]),
            Segment::Map { key } if text.is_empty() => text.push_str(key),
            Segment::Map { key } => text.extend([".", key]),
            Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown => {
                text.push_str(&segment.to_string());
            }
        }
    }
    excerpt(&text).into_owned()
}

/// Value at the end of a path, and names along the path.
#[derive(Debug, Default)]
struct Surroundings<'de> {
    value: Option<&'de RawValue>,
    container: Option<String>,
    variable: Option<String>,
}

/// Follows `steps`, and keeps the value at their end and the names along the path, which may come after the value.
struct PathWalk<'w, 'de> {
    steps: &'w [Step],
    /// Field with the list that this value is an element of.
    element_of: &'w str,
    surroundings: &'w mut Surroundings<'de>,
}

impl<'de> DeserializeSeed<'de> for PathWalk<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.steps.is_empty() {
            self.surroundings.value = Some(<&RawValue>::deserialize(deserializer)?);
            Ok(())
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for PathWalk<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self {
            steps,
            element_of,
            surroundings,
        } = self;
        while let Some(key) = map.next_key::<String>()? {
            match steps.split_first() {
                Some((Step::Key(step), rest)) if *step == key => {
                    map.next_value_seed(PathWalk {
                        steps: rest,
                        element_of: step,
                        surroundings: &mut *surroundings,
                    })?;
                }
                _ if key == "name" => {
                    let name: &RawValue = map.next_value()?;
                    let name = serde_json::from_str::<String>(name.get()).ok();
                    let name = name.map(|name| excerpt(&name).into_owned());
                    match element_of {
                        "containers" | "initContainers" => surroundings.container = name,
                        "env" => surroundings.variable = name,
                        _ => {}
                    }
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self {
            steps,
            element_of,
            surroundings,
        } = self;
        let Some((Step::Index(wanted), rest)) = steps.split_first() else {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        for _ in 0..*wanted {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(PathWalk {
            steps: rest,
            element_of,
            surroundings,
        })?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::WorkloadView;

    /// # Panics
    /// If no field has a wrong type.
    fn sentence<'a, T: Deserialize<'a>>(json: &'a str) -> String {
        WrongType::find::<T>(json)
            .expect("a field of another type")
            .to_string()
    }

    #[rstest]
    #[case::number(
        r#"{"spec":{"containers":[{"name":"a"},{"name":"c","env":[{"name":"A"},{"name":"PORT","value":54327}]}]}}"#,
        r#"spec.containers[1].env[1].value (container "c", variable "PORT") is a number, and Kubernetes takes a string there; write it in quotes"#
    )]
    #[case::names_behind_it(
        r#"{"spec":{"initContainers":[{"env":[{"value":true,"name":"PORT"}],"name":"c"}]}}"#,
        r#"spec.initContainers[0].env[0].value (container "c", variable "PORT") is a boolean, and Kubernetes takes a string there; write it in quotes"#
    )]
    #[case::no_names(
        r#"{"spec":{"containers":[{"env":[{"value":{"a":54327}}]}]}}"#,
        "spec.containers[0].env[0].value is an object, and Kubernetes takes a string there"
    )]
    #[case::a_name(
        r#"{"spec":{"containers":[{"name":"c","env":[{"name":54327}]}]}}"#,
        r#"spec.containers[0].env[0].name (container "c") is a number, and Kubernetes takes a string there; write it in quotes"#
    )]
    #[case::a_map_of_variables(
        r#"{"spec":{"containers":[{"name":"c","env":{"PORT":"54327"}}]}}"#,
        r#"spec.containers[0].env (container "c") is an object, and Kubernetes takes a list there"#
    )]
    #[case::a_list_of_containers(
        r#"{"spec":{"containers":"c, expected a string"}}"#,
        "spec.containers is a string, and Kubernetes takes a list there"
    )]
    #[case::reference(
        r#"{"spec":{"containers":[{"name":"c","env":[{"name":"P","valueFrom":{"secretKeyRef":"db"}}]}]}}"#,
        r#"spec.containers[0].env[0].valueFrom.secretKeyRef (container "c", variable "P") is a string, and Kubernetes takes an object there"#
    )]
    #[case::annotation(
        r#"{"metadata":{"annotations":{"secrets.floe.dev/inject":false}}}"#,
        "metadata.annotations[secrets.floe.dev/inject] is a boolean, and Kubernetes takes a string there; write it in quotes"
    )]
    #[case::null(
        r#"{"spec":{"containers":[{"name":null}]}}"#,
        "spec.containers[0].name is null, and Kubernetes takes a string there"
    )]
    fn field_of_a_pod_is_named_without_its_value(#[case] json: &str, #[case] expected: &str) {
        assert_eq!(sentence::<PodView<'_>>(json), expected);
        assert!(!expected.contains("54327"), "{expected}");
    }

    #[test]
    fn field_of_a_template_is_named_from_the_workload() {
        let pod = r#"{"spec":{"containers":[{"name":"c","env":[{"name":"PORT","value":5432}]}]}}"#;
        let job = format!(r#"{{"spec":{{"jobTemplate":{{"spec":{{"template":{pod}}}}}}}}}"#);
        let expected = r#"spec.jobTemplate.spec.template.spec.containers[0].env[0].value (container "c", variable "PORT") is a number, and Kubernetes takes a string there; write it in quotes"#;
        assert_eq!(sentence::<WorkloadView<'_>>(&job), expected);
        let metadata = r#"{"metadata":{"annotations":7},"spec":{"template":{}}}"#;
        assert!(
            sentence::<WorkloadView<'_>>(metadata).starts_with("metadata.annotations is a number")
        );
    }

    #[rstest]
    #[case::right(r#"{"spec":{"containers":[{"name":"c"}]}}"#)]
    #[case::cut_off(r#"{"spec":{"containers":[{"name":5}"#)]
    #[case::twice(r#"{"spec":{},"spec":{}}"#)]
    fn other_errors_are_not_reported_as_wrong_types(#[case] json: &str) {
        assert_eq!(WrongType::find::<PodView<'_>>(json), None);
    }

    #[test]
    fn document_is_limited_and_a_long_name_is_shortened() {
        let json = |filling: usize| {
            format!(
                r#"{{"spec":{{"containers":[{{"name":"{}","env":5}}]}}}}"#,
                "n".repeat(filling)
            )
        };
        let rest = json(0).len();
        let longest = json(MAX_LOCATED_BYTES - rest);
        assert!(sentence::<PodView<'_>>(&longest).len() < 500);
        assert_eq!(
            WrongType::find::<PodView<'_>>(&json(MAX_LOCATED_BYTES - rest + 1)),
            None
        );
    }
}
