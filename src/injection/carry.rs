//! A workload's own annotations, brought to its template: pods never inherit a workload's metadata, and at the pods
//! everything is decided.

use std::collections::BTreeMap;

use super::keys::RECORD_KEY;
use super::pod::Annotations;

/// What a template's annotations lack, and what earlier copies are no longer wanted; names are the part after the
/// prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carry {
    /// To write; `None` takes the earlier copy away.
    pub changes: BTreeMap<String, Option<String>>,
    /// All copies in the template, with what was there before.
    pub copied: BTreeMap<String, String>,
}

/// Copies the annotations of ours in `from`, nearest to the pods first, to a template that has `template`, and of
/// which the copies `recorded` were made earlier.
///
/// A template's own annotation wins; one that differs from what was copied has become the author's.
#[must_use]
pub fn carry(
    from: [Option<&Annotations<'_>>; 2],
    template: Option<&Annotations<'_>>,
    recorded: &BTreeMap<String, String>,
) -> Carry {
    let there = |key: &str| template.and_then(|template| template.get(key));
    let is_copy = |key: &str| recorded.get(key).is_some_and(|copied| there(key) == Some(copied));
    let mut carry = Carry::default();
    for (key, value) in nearest(from) {
        if there(key).is_none_or(|_| is_copy(key)) {
            carry.copied.insert(key.to_owned(), value.to_owned());
            if there(key) != Some(value) {
                carry.changes.insert(key.to_owned(), Some(value.to_owned()));
            }
        }
    }
    for key in recorded.keys().filter(|key| is_copy(key)) {
        if !carry.copied.contains_key(key) {
            carry.changes.insert(key.clone(), None);
        }
    }
    carry
}

/// Copies that were made earlier and have been lost, and nothing else.
pub(super) fn restore(template: Option<&Annotations<'_>>, recorded: &BTreeMap<String, String>) -> Carry {
    let lost = recorded.iter().filter(|(key, _)| template.is_none_or(|template| template.get(key).is_none()));
    Carry { changes: lost.map(|(key, value)| (key.clone(), Some(value.clone()))).collect(), copied: recorded.clone() }
}

/// What authors wrote, key by key the nearest to the pods: copies of ours are not theirs.
pub(super) fn authored<'a>(
    from: [Option<&'a Annotations<'_>>; 2],
    template: Option<&'a Annotations<'_>>,
    recorded: &BTreeMap<String, String>,
) -> BTreeMap<&'a str, &'a str> {
    let mut authored = nearest(from);
    let theirs = template.into_iter().flat_map(Annotations::ours);
    authored.extend(
        theirs.filter(|(key, value)| *key != RECORD_KEY && recorded.get(*key).is_none_or(|copied| copied != value)),
    );
    authored
}

fn nearest<'a>(from: [Option<&'a Annotations<'_>>; 2]) -> BTreeMap<&'a str, &'a str> {
    let farthest_first = from.into_iter().rev().flatten();
    farthest_first.flat_map(Annotations::ours).filter(|(key, _)| *key != RECORD_KEY).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> Annotations<'static> {
        Annotations::from_pairs(
            pairs.iter().map(|(key, value)| (format!("secrets.floe.dev/{key}"), (*value).to_owned())),
        )
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    type Pairs = &'static [(&'static str, &'static str)];

    #[rstest::rstest]
    #[case::nothing(&[], &[], &[], &[], &[], &[])]
    #[case::copied(&[], &[("refs", "a")], &[], &[], &[("refs", Some("a"))], &[("refs", "a")])]
    #[case::a_second_pass_is_empty(&[], &[("refs", "a")], &[("refs", "a")], &[("refs", "a")], &[], &[("refs", "a")])]
    #[case::the_templates_own_wins(&[], &[("refs", "a")], &[("refs", "b")], &[], &[], &[])]
    #[case::the_templates_own_of_the_same_value_is_no_copy(&[], &[("refs", "a")], &[("refs", "a")], &[], &[], &[])]
    #[case::the_job_template_is_nearer(&[("refs", "j")], &[("refs", "a"), ("reload", "off")], &[], &[],
        &[("refs", Some("j")), ("reload", Some("off"))], &[("refs", "j"), ("reload", "off")])]
    #[case::changed(&[], &[("refs", "b")], &[("refs", "a")], &[("refs", "a")], &[("refs", Some("b"))], &[("refs", "b")])]
    #[case::gone(&[], &[], &[("refs", "a")], &[("refs", "a")], &[("refs", None)], &[])]
    #[case::gone_and_changed_by_the_author(&[], &[], &[("refs", "x")], &[("refs", "a")], &[], &[])]
    #[case::changed_by_the_author(&[], &[("refs", "b")], &[("refs", "x")], &[("refs", "a")], &[], &[])]
    #[case::lost(&[], &[("refs", "a")], &[], &[("refs", "a")], &[("refs", Some("a"))], &[("refs", "a")])]
    #[case::the_record_is_never_copied(&[], &[("injected", "{}")], &[], &[], &[], &[])]
    fn keys_are_carried(
        #[case] job: Pairs,
        #[case] own: Pairs,
        #[case] template: Pairs,
        #[case] recorded: Pairs,
        #[case] changes: &[(&str, Option<&str>)],
        #[case] copied: Pairs,
    ) {
        let carried =
            carry([Some(&annotations(job)), Some(&annotations(own))], Some(&annotations(template)), &map(recorded));
        let changes = changes.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect();
        assert_eq!(carried, Carry { changes, copied: map(copied) });
    }

    #[test]
    fn what_authors_wrote_leaves_out_our_copies() {
        let (own, template) = (annotations(&[("refs", "a")]), annotations(&[("refs", "a"), ("env-from", "t")]));
        let read = |own: &Annotations<'static>, recorded: &[(&str, &str)]| {
            authored([None, Some(own)], Some(&template), &map(recorded))
                .into_iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(read(&own, &[("refs", "a")]), "env-from=t refs=a");
        assert_eq!(read(&Annotations::default(), &[("refs", "a")]), "env-from=t", "the copy alone is nobody's wish");
        assert_eq!(read(&Annotations::default(), &[]), "env-from=t refs=a");
    }
}
