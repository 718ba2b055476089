//! The annotation by which a pod template inherits from the metadata around it.
//!
//! Pods do not inherit a workload's metadata, and secrets are injected at the pods. So the webhook writes the
//! annotations of the metadata into one annotation of the template that it owns, and rewrites it whenever the metadata
//! or the template change. Annotations that an author wrote on the template are never taken for copies, nor copies for
//! an author's.

use std::collections::BTreeMap;

use crate::keys::{INHERITED, INHERITED_KEY, RECORD_KEY};
use crate::limits::MAX_VALUE_BYTES;
use crate::view::annotations::Annotations;

/// Annotations by the part of the name after the prefix.
pub(crate) type Keys<'a> = BTreeMap<&'a str, &'a str>;

/// Whether authors write annotations of this key: all but the record and the inherited annotation itself.
pub(crate) fn is_author_key(key: &str) -> bool {
    key != RECORD_KEY && key != INHERITED_KEY
}

/// Merges the annotations of the contract, those nearest to the pods first.
pub(crate) fn nearest<'a>(layers: [Option<&'a Annotations<'_>>; 2]) -> Keys<'a> {
    let farthest_first = layers.into_iter().rev().flatten();
    farthest_first
        .flat_map(Annotations::ours)
        .filter(|(key, _)| is_author_key(key))
        .collect()
}

/// Writes the annotation's value: a JSON object with its keys in order, and without white space; `None` if there is
/// nothing to inherit.
///
/// # Panics
/// Never: a map of strings always serialises.
pub(crate) fn write(keys: &Keys<'_>) -> Option<String> {
    (!keys.is_empty()).then(|| serde_json::to_string(keys).expect("a map of strings serialises"))
}

/// Reads the annotation's value.
///
/// # Errors
/// The problem, to follow the annotation's name: authors can write the annotation too.
pub(crate) fn read(value: &str) -> Result<Annotations<'static>, String> {
    let wrong = |what: &str| {
        format!(
            "{what}; the webhook writes it, so apply the workload again, or remove the annotation"
        )
    };
    if value.len() > MAX_VALUE_BYTES {
        return Err(wrong(&format!(
            "is {} bytes long; at most {MAX_VALUE_BYTES} are read",
            value.len()
        )));
    }
    let keys: BTreeMap<String, String> = serde_json::from_str(value)
        .map_err(|_| wrong("is not a JSON object whose values are all strings"))?;
    if let Some(key) = keys.keys().find(|key| !is_author_key(key)) {
        return Err(wrong(&format!(
            "contains the key {key:?}, which is never inherited"
        )));
    }
    Ok(Annotations::ours_from(keys))
}

/// Value of the template's annotation, unparsed.
pub(crate) fn inherited_value<'a>(template: Option<&'a Annotations<'_>>) -> Option<&'a str> {
    template.and_then(|template| template.value(INHERITED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case::nothing("", "is not a JSON object")]
    #[case::a_list("[]", "is not a JSON object")]
    #[case::cut(r#"{"env-from":"d"#, "is not a JSON object")]
    #[case::of_another_version(r#"{"v":2,"keys":{}}"#, "is not a JSON object")]
    #[case::the_record(r#"{"injected":"{}"}"#, r#"contains the key "injected""#)]
    #[case::itself(r#"{"inherited":"{}"}"#, r#"contains the key "inherited""#)]
    fn inherited_value_by_others_is_rejected(#[case] value: &str, #[case] problem: &str) {
        let error = read(value).unwrap_err();
        assert!(error.starts_with(problem), "{error}");
        assert!(
            error.ends_with("apply the workload again, or remove the annotation"),
            "{error}"
        );
    }

    #[test]
    fn inherited_value_beyond_the_limit_is_rejected_unparsed() {
        let value = |bytes: usize| format!(r#"{{"refs":"{}"}}"#, "a".repeat(bytes));
        assert!(read(&value(MAX_VALUE_BYTES - 11)).is_ok());
        assert!(
            read(&value(MAX_VALUE_BYTES))
                .unwrap_err()
                .starts_with("is 65547 bytes long")
        );
    }

    #[test]
    fn inherited_keys_round_trip_in_order() {
        let keys = BTreeMap::from([("refs", "a/b"), ("env-from", "\"x\"\n")]);
        let written = write(&keys).unwrap();
        assert_eq!(written, r#"{"env-from":"\"x\"\n","refs":"a/b"}"#);
        assert_eq!(
            read(&written).unwrap().ours().collect::<BTreeMap<_, _>>(),
            keys
        );
        assert_eq!(write(&BTreeMap::new()), None);
    }

    #[test]
    fn nearest_layer_wins_and_annotations_of_the_webhook_are_not_inherited() {
        let near = Annotations::from_pairs([
            ("secrets.floe.dev/refs", "near"),
            ("secrets.floe.dev/injected", "{}"),
        ]);
        let far = Annotations::from_pairs([
            ("secrets.floe.dev/refs", "far"),
            ("secrets.floe.dev/reload", "off"),
            ("secrets.floe.dev/inherited", "{}"),
        ]);
        assert_eq!(
            nearest([Some(&near), Some(&far)]),
            BTreeMap::from([("refs", "near"), ("reload", "off")])
        );
    }
}
