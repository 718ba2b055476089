//! Rules: their identifiers are stable, because editors, baselines and code scanners store them.

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FindingSeverity {
    /// The command fails.
    Error,
    /// Reported; the command goes on.
    Warning,
}

/// Declares the rules once: variant, identifier, section of docs/LINT.md, one line of description.
macro_rules! rules {
    ($($variant:ident, $id:literal, $section:literal, $summary:literal;)*) => {
        /// Rule that a finding is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Rule { $(#[doc = $summary] $variant,)* }

        impl Rule {
            /// Every rule, in the order of the documentation.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Stable identifier.
            pub(crate) fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// Heading of docs/LINT.md under which the rule is described.
            pub(crate) fn section(self) -> &'static str {
                match self { $(Self::$variant => $section,)* }
            }

            /// One line for lists of rules.
            pub(crate) fn summary(self) -> &'static str {
                match self { $(Self::$variant => $summary,)* }
            }
        }
    };
}

rules! {
    Unreadable, "unreadable", "Files", "A file cannot be read, or is not valid YAML.";
    ManifestField, "manifest-field", "Manifest", "A field of the manifest has a wrong value or is not known.";
    ManifestUnknownField, "manifest-unknown-field", "Manifest", "A field at the root of the manifest is not known.";
    ManifestEnvironment, "manifest-environment", "Manifest", "A field at the root of the manifest names an environment.";
    Reference, "reference", "Manifest", "A secret reference is not valid, or its source is not supported.";
    ReferenceAsText, "reference-as-text", "Manifest", "A field names a secret as text, in a form that is not read.";
    Template, "template", "Manifest", "A config string has Jinja other than `env_var`, which dbt would run.";
    AdapterField, "adapter-field", "Adapters", "A field that the adapter requires is missing, or has a value that dbt refuses.";
    SecretPrinted, "secret-printed", "Adapters", "A secret stands in a field that dbt debug prints.";
    VariableConflict, "variable-conflict", "Adapters", "Two references result in the same variable.";
    LiteralSecret, "literal-secret", "Literal secrets", "A value looks like a secret.";
    SecretNameConvention, "secret-name-convention", "Naming convention", "The name of a secret does not follow the convention.";
    Annotation, "annotation", "Annotations", "An annotation is not valid.";
    InvalidField, "invalid-field", "Annotations", "A field of a pod or of metadata has a type that Kubernetes does not take there.";
    AnnotationIneffective, "annotation-ineffective", "Annotations", "An annotation has no effect where it stands.";
    UnknownContainer, "unknown-container", "Annotations", "An annotation names a container that the pod does not have.";
    Collision, "collision", "Annotations", "An injected variable collides with another.";
    SecretMissing, "secret-missing", "Secrets", "A secret or one of its keys does not exist.";
    Profile, "profile", "Profiles", "The profile cannot be rendered as dbt would.";
    ProfileVariable, "profile-variable", "Profiles", "The profile asks for a variable that the pod does not get.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_unique_and_kebab_case() {
        let mut ids: Vec<_> = Rule::ALL.iter().map(|rule| rule.id()).collect();
        let kebab = |id: &&str| id.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        assert!(ids.iter().all(kebab), "{ids:?}");
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), Rule::ALL.len());
    }
}
