//! Expressions of both policies in CEL, the language of `matchConditions`, `variables` and `validations`.
//!
//! The API server limits the cost of an expression; what exceeds it is refused, because both policies fail closed.

use std::collections::BTreeMap;

use injection::{PREFIX, Sidecar};

use super::MAX_ITEMS;

/// Writes text as a literal of CEL, whose escapes include those of JSON.
pub(super) fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Indices that an expression may go through.
fn indices() -> String {
    let numbers: Vec<String> = (0..MAX_ITEMS).map(|n| n.to_string()).collect();
    format!("[{}]", numbers.join(", "))
}

/// Annotations of the pod, none instead of an absent map.
pub(super) fn annotations() -> String {
    "object.metadata.?annotations.orValue({})".to_owned()
}

/// Condition: the pod has an annotation of the prefix and does not opt out.
pub(super) fn has_annotations() -> String {
    format!(
        "{}.exists(key, key.startsWith({})) && {}",
        annotations(),
        literal(PREFIX),
        is_not_opted_out()
    )
}

/// Condition: the pod asks for Secrets by `env-from` and does not opt out.
pub(super) fn has_env_from() -> String {
    format!(
        "{} in {} && {}",
        literal(&format!("{PREFIX}env-from")),
        annotations(),
        is_not_opted_out()
    )
}

fn is_not_opted_out() -> String {
    format!(
        "{}[?{}].orValue(\"\").trim() != \"false\"",
        annotations(),
        literal(&format!("{PREFIX}inject"))
    )
}

/// Names in `env-from`, as they are written, in their order.
pub(super) fn written_names() -> String {
    let spaced = [",", "\n", "\r", "\t"].map(|sep| format!(".replace({}, \" \")", literal(sep)));
    format!(
        "{}[?{}].orValue(\"\"){}.split(\" \").filter(word, word != \"\" && word != \"-\")\
         .map(word, word.startsWith(\"kubernetes:\") ? word.substring(11) : word)",
        annotations(),
        literal(&format!("{PREFIX}env-from")),
        spaced.concat()
    )
}

/// Names in the variable `written` that can be injected, none twice. The other policy refuses pods with others, and
/// would not get to that if they were injected: the API server refuses such a pod first, with a sentence about `envFrom`.
pub(super) fn distinct_names() -> String {
    format!(
        "{}.filter(i, i < size(variables.written) && variables.written.indexOf(variables.written[i]) == i && {})\
         .map(i, variables.written[i])",
        indices(),
        is_secret_name("variables.written[i]")
    )
}

/// Condition: the text is a name of a Secret, a DNS subdomain.
pub(super) fn is_secret_name(text: &str) -> String {
    format!(
        "(size({text}) <= 253 && {text}.matches({}))",
        literal("^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )
}

/// Indices of the containers that are not sidecars.
pub(super) fn target_indices(sidecars: &[Sidecar]) -> String {
    let is_sidecar = is_sidecar("object.spec.containers[i].name", sidecars);
    format!(
        "{}.filter(i, i < size(object.spec.containers) && !({is_sidecar}))",
        indices()
    )
}

/// Condition: a container's name is on the list of sidecars. Entries with a label count only in pods that have it.
fn is_sidecar(name: &str, sidecars: &[Sidecar]) -> String {
    let mut by_label: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for sidecar in sidecars {
        let text = sidecar.to_string();
        let (pattern, label) = text.split_once('@').unwrap_or((&text, ""));
        let patterns = by_label.entry(label.to_owned()).or_default();
        patterns.push(regex_of(pattern));
    }
    let conditions = by_label.iter().map(|(label, patterns)| {
        let pattern = literal(&format!("^({})$", patterns.join("|")));
        let matches = format!("{name}.matches({pattern})");
        if label.is_empty() {
            matches
        } else {
            let label = literal(label);
            format!("({label} in object.metadata.?labels.orValue({{}}) && {matches})")
        }
    });
    let conditions: Vec<String> = conditions.collect();
    if conditions.is_empty() {
        "false".to_owned()
    } else {
        conditions.join(" || ")
    }
}

/// Regular expression of a glob of container names.
fn regex_of(glob: &str) -> String {
    let mut regex = String::with_capacity(glob.len());
    for c in glob.chars() {
        match c {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            c if c.is_ascii_alphanumeric() || c == '-' => regex.push(c),
            c => regex.extend(['\\', c]),
        }
    }
    regex
}

/// Patch: the pod's Secrets before the sources that its author wrote. A whole list replaces an absent one, because an
/// empty list that a first patch adds is lost before the second.
pub(super) fn patch() -> String {
    let (own, missing) = (sources(), missing_names());
    format!(
        "variables.targets.map(i, JSONPatch{{op: \"add\", path: \"/spec/containers/\" + string(i) + \"/envFrom\", \
         value: {missing}.map(name, {{\"secretRef\": {{\"name\": name}}}}) + {own}}})"
    )
}

/// Sources of the container with the index `i`.
fn sources() -> String {
    "object.spec.containers[i].?envFrom.orValue([])".to_owned()
}

/// Names that the container with the index `i` has no source for. A source with a prefix gives other variables.
fn missing_names() -> String {
    format!(
        "variables.names.filter(name, !{}.exists(source, source.?secretRef.?name.orValue(\"\") == name \
         && source.?prefix.orValue(\"\") == \"\"))",
        sources()
    )
}

/// Names of the containers that lack a source.
pub(super) fn incomplete_containers() -> String {
    format!(
        "variables.targets.filter(i, size({}) > 0).map(i, object.spec.containers[i].name)",
        missing_names()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_is_escaped() {
        assert_eq!(literal("a\"\\\n"), r#""a\"\\\n""#);
    }

    #[rstest::rstest]
    #[case("istio-proxy", "istio-proxy")]
    #[case("svc-*", "svc-.*")]
    #[case("a?c", "a.c")]
    #[case("a.b", "a\\.b")]
    fn glob_becomes_a_regular_expression(#[case] glob: &str, #[case] regex: &str) {
        assert_eq!(regex_of(glob), regex);
    }

    #[test]
    fn sidecars_are_grouped_by_label() {
        let sidecars: Vec<Sidecar> = ["envoy", "wait@a.io/b", "istio-*", "init@a.io/b"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        assert_eq!(
            is_sidecar("c", &sidecars),
            r#"c.matches("^(envoy|istio-.*)$") || ("a.io/b" in object.metadata.?labels.orValue({}) && c.matches("^(wait|init)$"))"#
        );
        assert_eq!(is_sidecar("c", &[]), "false");
    }
}
