//! The operator's list of sidecars: containers that receive nothing unless an annotation names them.

use std::fmt;
use std::str::FromStr;

use crate::contract::selector::{Pattern, PatternError};
use crate::excerpt::excerpt;
use crate::limits::MAX_LABEL_KEY;
use crate::view::pod::PodView;

/// An entry of the operator's list: a container's name or glob and, after an `@`, a label that the pod must have.
/// Common words such as `wait` are sidecars only in the pods of the tool that adds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    pattern: Pattern,
    label: Option<String>,
}

/// An invalid entry of the list of sidecars.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SidecarError {
    /// The part before the `@` is invalid.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The part after the `@` is invalid.
    #[error(
        "{0:?} is not a label's name: [domain/]name of letters, digits, '-', '_' and '.', as in wait@workflows.argoproj.io/workflow"
    )]
    Label(String),
}

impl FromStr for Sidecar {
    type Err = SidecarError;

    fn from_str(text: &str) -> Result<Self, SidecarError> {
        let (pattern, label) = match text.split_once('@') {
            Some((pattern, label)) => (pattern, Some(label)),
            None => (text, None),
        };
        match label {
            Some(label) if !is_label_key(label) => {
                Err(SidecarError::Label(excerpt(label).into_owned()))
            }
            label => Ok(Self {
                pattern: pattern.parse()?,
                label: label.map(str::to_owned),
            }),
        }
    }
}

impl fmt::Display for Sidecar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pattern.fmt(f)?;
        self.label
            .as_ref()
            .map_or(Ok(()), |label| write!(f, "@{label}"))
    }
}

fn is_label_key(text: &str) -> bool {
    let name = |name: &str| {
        let bytes = name.as_bytes();
        let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        bytes.iter().all(inner) && edge(bytes.first()) && edge(bytes.last())
    };
    text.len() <= MAX_LABEL_KEY
        && match text.split_once('/') {
            Some((domain, rest)) => name(domain) && name(rest),
            None => name(text),
        }
}

/// Entries of the list that apply to one pod.
#[derive(Debug)]
pub struct Sidecars<'s>(Vec<&'s Pattern>);

impl<'s> Sidecars<'s> {
    /// Entries of `list` without a label, and those whose label the pod has.
    #[must_use]
    pub fn of(list: &'s [Sidecar], pod: &PodView<'_>) -> Self {
        let labels = pod
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.labels.as_ref());
        let carried =
            |label: &String| labels.is_some_and(|labels| labels.names().any(|name| name == label));
        let counts = |sidecar: &&Sidecar| sidecar.label.as_ref().is_none_or(carried);
        Self(
            list.iter()
                .filter(counts)
                .map(|sidecar| &sidecar.pattern)
                .collect(),
        )
    }

    /// Whether a container of the pod is a sidecar.
    #[must_use]
    pub fn contains_container(&self, container: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(container))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("istio-proxy")]
    #[case("svc-*@job.runner.gitlab.com/pod")]
    #[case("wait@app")]
    fn sidecar_entry_round_trips(#[case] text: &str) {
        assert_eq!(text.parse::<Sidecar>().unwrap().to_string(), text);
    }

    #[rstest]
    #[case("istio proxy", "is neither a container's name nor a glob")]
    #[case("@app", "is neither a container's name nor a glob")]
    #[case("wait@", "\"\" is not a label's name")]
    #[case("wait@a@b", "\"a@b\" is not a label's name")]
    #[case("wait@a/b/c", "\"a/b/c\" is not a label's name")]
    #[case("wait@app=x", "\"app=x\" is not a label's name")]
    #[case("wait@-a/b", "\"-a/b\" is not a label's name")]
    fn invalid_sidecar_entry_is_rejected(#[case] text: &str, #[case] expected: &str) {
        let error = text.parse::<Sidecar>().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn sidecar_entry_applies_only_to_pods_with_its_label() {
        let list: Vec<Sidecar> = ["envoy", "wait@workflows.argoproj.io/workflow"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let sidecars = |labels: &str, name: &str| {
            let json = format!(r#"{{"metadata":{{"labels":{labels}}}}}"#);
            Sidecars::of(&list, &serde_json::from_str(&json).unwrap()).contains_container(name)
        };
        assert!(sidecars(
            r#"{"workflows.argoproj.io/workflow":"etl"}"#,
            "wait"
        ));
        assert!(sidecars(
            r#"{"workflows.argoproj.io/workflow":""}"#,
            "envoy"
        ));
        for other in ["null", "{}", r#"{"app":"workflows.argoproj.io/workflow"}"#] {
            assert!(
                !sidecars(other, "wait") && sidecars(other, "envoy"),
                "{other}"
            );
        }
    }
}
