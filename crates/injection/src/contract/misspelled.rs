//! Misspelled names of annotations and labels: a typo in the prefix makes them ineffective without an error.

use crate::excerpt::excerpt;
use crate::keys::{ENABLED_LABEL, INJECTED, PREFIX};
use crate::limits::MAX_LISTED;

/// Limit of a domain that is compared: comparing costs the product of two lengths.
const MAX_DOMAIN: usize = 64;

/// Edits by which the whole domain may differ from the prefix.
const MAX_DOMAIN_EDITS: usize = 2;

/// Edits by which the first label of the domain may differ from `secrets`, if the second one is `floe`.
const MAX_PART_EDITS: usize = 2;

/// Annotation or label that the author of `name` probably meant, if its prefix is similar: another spelling
/// (`secret.floe.dev/refs`), another ending (`secrets.floe.io/refs`), or no slash (`secrets.floe.dev.refs`).
#[must_use]
pub fn suggested_name(name: &str) -> Option<String> {
    let ours = PREFIX.trim_end_matches('/');
    if name.starts_with(PREFIX) {
        return None;
    }
    let meant = |key: &str| Some(format!("{PREFIX}{}", excerpt(key)));
    let Some((domain, key)) = name.split_once('/') else {
        let key = name.strip_prefix(ours)?;
        return meant(key.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()));
    };
    if domain.len() > MAX_DOMAIN {
        return None;
    }
    let domain = domain.to_ascii_lowercase();
    let is_near = strsim::damerau_levenshtein(&domain, ours) <= MAX_DOMAIN_EDITS
        || is_other_ending(&domain, ours);
    is_near.then(|| meant(key)).flatten()
}

/// Whether a domain has a different ending only: `secrets.floe.io`, `secret.floe.com`, `secrets.floe`.
fn is_other_ending(domain: &str, ours: &str) -> bool {
    let (mut parts, mut expected) = (domain.split('.'), ours.split('.'));
    let (Some(first), Some(ours)) = (parts.next(), expected.next()) else {
        return false;
    };
    parts.next() == expected.next() && strsim::damerau_levenshtein(first, ours) <= MAX_PART_EDITS
}

/// Whether a label has the name of an annotation of the contract, so that it has no effect. `allowed` are labels with a
/// meaning on this object, besides the label of injected objects.
#[must_use]
pub fn is_annotation_as_label(name: &str, allowed: &[&str]) -> bool {
    name.starts_with(PREFIX) && name != INJECTED && !allowed.contains(&name)
}

/// Sentences about an object's ineffective names, at most [`MAX_LISTED`]. On a Namespace, the label for defaults is
/// effective.
pub fn ineffective_names<'n>(
    is_namespace: bool,
    annotations: impl Iterator<Item = &'n str>,
    labels: impl Iterator<Item = &'n str>,
) -> Vec<String> {
    let annotations = annotations.filter_map(|name| {
        suggested_name(name).map(|ours| {
            format!(
                "annotation \"{}\" is read by nobody; did you mean {ours}?",
                excerpt(name)
            )
        })
    });
    let labels = labels.filter_map(|name| label(is_namespace, name));
    annotations.chain(labels).take(MAX_LISTED).collect()
}

fn label(is_namespace: bool, name: &str) -> Option<String> {
    let excerpted = excerpt(name);
    if let Some(ours) = suggested_name(name) {
        let annotation = if ours == ENABLED_LABEL.0 && is_namespace {
            "the label"
        } else {
            "the annotation"
        };
        return Some(format!(
            "label \"{excerpted}\" is read by nobody; did you mean {annotation} {ours}?"
        ));
    }
    if !name.starts_with(PREFIX) || name == INJECTED {
        return None;
    }
    match (name == ENABLED_LABEL.0, is_namespace) {
        (true, true) => None,
        (true, false) => Some(format!(
            "label \"{excerpted}\" has an effect on a Namespace alone; as an annotation it takes \"true\" or \"false\""
        )),
        (false, _) => Some(format!(
            "label \"{excerpted}\" has no effect; make it an annotation"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case::singular("secret.floe.dev/refs", "refs")]
    #[case::another_ending("secrets.floe.io/env-from", "env-from")]
    #[case::both("secret.floe.com/env-from", "env-from")]
    #[case::no_ending("secrets.floe/env-from", "env-from")]
    #[case::transposed("secerts.floe.dev/refs", "refs")]
    #[case::a_letter_less("secrets.flo.dev/refs", "refs")]
    #[case::a_hyphen("secrets-floe.dev/refs", "refs")]
    #[case::upper_case("Secrets.Floe.dev/refs", "refs")]
    #[case::a_dot_for_the_slash("secrets.floe.dev.refs", "refs")]
    #[case::an_underscore_for_the_slash("secrets.floe.dev_env.TOKEN", "env.TOKEN")]
    #[case::the_domain_alone("secrets.floe.dev", "")]
    fn typo_is_recognised(#[case] name: &str, #[case] key: &str) {
        assert_eq!(
            suggested_name(name),
            Some(format!("secrets.floe.dev/{key}"))
        );
    }

    #[rstest::rstest]
    #[case::ours("secrets.floe.dev/refs")]
    #[case::unknown_key_of_ours("secrets.floe.dev/ref")]
    #[case::the_controllers("retry.floe.dev/requested-for")]
    #[case::the_audits("audit.floe.dev/event")]
    #[case::another_product("jobs.floe.dev/run")]
    #[case::the_domain_of_the_project("floe.dev/refs")]
    #[case::infisical("secrets.infisical.com/auto-reload")]
    #[case::reloader("secret.reloader.stakater.com/reload")]
    #[case::kubernetes("kubernetes.io/refs")]
    #[case::no_prefix("refs")]
    #[case::nothing("")]
    fn unrelated_name_is_not_recognised(#[case] name: &str) {
        assert_eq!(suggested_name(name), None);
    }

    #[test]
    fn long_domains_are_not_compared_and_long_keys_are_cut() {
        let padded = |length: usize| {
            format!(
                "secrets.floe.{}/refs",
                "x".repeat(length - "secrets.floe.".len())
            )
        };
        assert!(suggested_name(&padded(MAX_DOMAIN)).is_some());
        assert_eq!(suggested_name(&padded(MAX_DOMAIN + 1)), None);
        let meant = suggested_name(&format!("secret.floe.dev/{}", "k".repeat(10_000))).unwrap();
        assert!(meant.len() < 1_000, "{} bytes", meant.len());
    }

    #[rstest::rstest]
    #[case("secrets.floe.dev/env-from", &[], true)]
    #[case("secrets.floe.dev/injected", &[], false)]
    #[case("secrets.floe.dev/inject", &[], true)]
    #[case("secrets.floe.dev/inject", &["secrets.floe.dev/inject"], false)]
    #[case("secret.floe.dev/env-from", &[], false)]
    #[case("app", &[], false)]
    fn annotation_as_label_is_recognised(
        #[case] name: &str,
        #[case] allowed: &[&str],
        #[case] expected: bool,
    ) {
        assert_eq!(is_annotation_as_label(name, allowed), expected);
    }

    #[test]
    fn ineffective_names_are_limited_in_number_and_length() {
        let names: Vec<String> = (0..1_000)
            .map(|n| format!("secret.floe.dev/{n}{}", "x".repeat(10_000)))
            .collect();
        let sentences = ineffective_names(
            false,
            names.iter().map(String::as_str),
            names.iter().map(String::as_str),
        );
        assert!(
            sentences.len() == MAX_LISTED
                && sentences.iter().all(|sentence| sentence.len() < 1_000),
            "{sentences:?}"
        );
        assert_eq!(
            suggested_name(&format!("{}/x", "s".repeat(1_000_000))),
            None
        );
    }

    #[test]
    fn annotation_names_as_labels_are_reported_but_for_two() {
        let labels = [
            "secrets.floe.dev/env-from",
            INJECTED,
            ENABLED_LABEL.0,
            "secret.floe.dev/inject",
            "app",
        ];
        let sentences =
            |is_namespace| ineffective_names(is_namespace, std::iter::empty(), labels.into_iter());
        let no_effect = "label \"secrets.floe.dev/env-from\" has no effect; make it an annotation";
        let near = |what: &str| {
            format!(
                "label \"secret.floe.dev/inject\" is read by nobody; did you mean the {what} secrets.floe.dev/inject?"
            )
        };
        assert_eq!(sentences(true), [no_effect.to_owned(), near("label")]);
        let elsewhere = "label \"secrets.floe.dev/inject\" has an effect on a Namespace alone; as an annotation it takes \"true\" or \"false\"";
        assert_eq!(
            sentences(false),
            [
                no_effect.to_owned(),
                elsewhere.to_owned(),
                near("annotation")
            ]
        );
        let annotations = ineffective_names(
            true,
            ["secrets.floe.io/refs", "a/b"].into_iter(),
            std::iter::empty(),
        );
        assert_eq!(
            annotations,
            [
                "annotation \"secrets.floe.io/refs\" is read by nobody; did you mean secrets.floe.dev/refs?"
            ]
        );
    }
}
