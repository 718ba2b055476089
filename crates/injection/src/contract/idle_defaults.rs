//! Defaults without effect, because their namespace lacks the label that lets defaults apply.

use std::fmt;

use crate::excerpt::excerpt;
use crate::keys::{ENABLED_LABEL, PREFIX};

/// Annotations of a Namespace or ServiceAccount that apply to no pod. `Display` is a sentence: the annotations without
/// effect, the reason, and the command that sets the label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleDefaults {
    /// Name of the ServiceAccount; `None` for annotations of the Namespace itself.
    service_account: Option<String>,
    namespace: String,
    /// Current value of the label.
    label: Option<String>,
}

impl IdleDefaults {
    /// Annotations of a Namespace with this value of the label; `None` if they apply.
    #[must_use]
    pub fn of_namespace(namespace: &str, label: Option<&str>) -> Option<Self> {
        Self::new(None, namespace, label)
    }

    /// Annotations of a ServiceAccount in a namespace with this value of the label; `None` if they apply.
    #[must_use]
    pub fn of_service_account(name: &str, namespace: &str, label: Option<&str>) -> Option<Self> {
        Self::new(Some(name), namespace, label)
    }

    fn new(service_account: Option<&str>, namespace: &str, label: Option<&str>) -> Option<Self> {
        let own = |text: &str| excerpt(text).into_owned();
        let idle = || Self {
            service_account: service_account.map(own),
            namespace: own(namespace),
            label: label.map(own),
        };
        (label != Some(ENABLED_LABEL.1)).then(idle)
    }
}

impl fmt::Display for IdleDefaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            service_account,
            namespace,
            label,
        } = self;
        let (key, value) = ENABLED_LABEL;
        match service_account {
            Some(name) => write!(
                f,
                "the {PREFIX} annotations of service account \"{name}\" have no effect"
            )?,
            None => write!(
                f,
                "the {PREFIX} annotations of namespace \"{namespace}\" have no effect"
            )?,
        }
        // The API server truncates longer warnings.
        let overwrite = if let Some(label) = label {
            write!(f, ", because the label says \"{label}\"")?;
            "--overwrite "
        } else {
            write!(f, " without the label {key}={value}")?;
            ""
        };
        write!(
            f,
            ": kubectl label {overwrite}namespace {namespace} {key}={value}"
        )
    }
}

/// Whether a value is probably meant for the label: `enabled`, or a typo of it. `true` and `yes` are not: they are
/// meant for the annotation.
pub(crate) fn is_meant_for_the_label(word: &str) -> bool {
    const LONGEST: usize = 16;
    let word = word.trim().to_ascii_lowercase();
    word.len() <= LONGEST && strsim::damerau_levenshtein(&word, ENABLED_LABEL.1) <= 2
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn idle_defaults_are_named_with_the_command_that_lets_them_apply() {
        let sentence = |idle: Option<IdleDefaults>| idle.map(|idle| idle.to_string());
        assert_eq!(
            sentence(IdleDefaults::of_namespace("jobs", Some("enabled"))),
            None
        );
        assert_eq!(
            sentence(IdleDefaults::of_service_account(
                "etl",
                "jobs",
                Some("enabled")
            )),
            None
        );
        let expected = "the secrets.floe.dev/ annotations of namespace \"jobs\" have no effect without the label secrets.floe.dev/inject=enabled: kubectl label namespace jobs secrets.floe.dev/inject=enabled";
        assert_eq!(
            sentence(IdleDefaults::of_namespace("jobs", None)).as_deref(),
            Some(expected)
        );
        let expected = "the secrets.floe.dev/ annotations of service account \"etl\" have no effect, because the label says \"Enabled\": kubectl label --overwrite namespace jobs secrets.floe.dev/inject=enabled";
        let near = sentence(IdleDefaults::of_service_account(
            "etl",
            "jobs",
            Some("Enabled"),
        ));
        assert_eq!(near.as_deref(), Some(expected));
        // Longer warnings are truncated.
        let longest =
            IdleDefaults::of_service_account(&"a".repeat(20), &"n".repeat(40), Some("Enabled"));
        assert!(sentence(longest).is_some_and(|sentence| sentence.len() < 250));
    }

    #[rstest]
    #[case("enabled", true)]
    #[case("Enabled ", true)]
    #[case("enable", true)]
    #[case("enabeld", true)]
    #[case("yes", false)]
    #[case("true", false)]
    #[case("False", false)]
    #[case("disabled", false)]
    #[case("", false)]
    fn values_for_the_label_are_recognised(#[case] word: &str, #[case] expected: bool) {
        assert_eq!(is_meant_for_the_label(word), expected);
    }
}
