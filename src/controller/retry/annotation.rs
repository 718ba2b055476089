//! Annotation that triggers a retry, and its next value.

/// Annotation that triggers the retry. It is outside of the prefix `secrets.floe.dev/`, where unknown annotations are
/// refused.
pub(super) const ANNOTATION: &str = "retry.floe.dev/requested-for";

/// Condition under which the value changes although it names the same secrets already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    Never,
    /// The version of a secret differs. A `StatefulSet` keeps its annotation when its template changes. If it then
    /// waits for another key of the same secret, only the secret's version shows that the key was added.
    NewVersion,
    /// The last retry was refused: always a new value.
    Always,
}

/// Builds the new value from the secrets' uids and versions; `None` if the retry was triggered already.
pub(super) fn next_value(
    current: Option<&str>,
    secrets: &[(String, String)],
    repeat: Repeat,
) -> Option<String> {
    let join = |parts: Vec<String>| parts.join(",");
    let uids = join(secrets.iter().map(|(uid, _)| uid.clone()).collect());
    let current_uids = current.map(|current| {
        join(
            current
                .split(',')
                .map(|part| part.split('/').take(1).collect())
                .collect(),
        )
    });
    if current_uids.as_ref() != Some(&uids) {
        return Some(uids);
    }
    let versions = join(
        secrets
            .iter()
            .map(|(uid, version)| format!("{uid}/{version}"))
            .collect(),
    );
    let is_current = current == Some(versions.as_str());
    match repeat {
        Repeat::NewVersion | Repeat::Always if !is_current => Some(versions),
        Repeat::Always => Some(uids),
        Repeat::Never | Repeat::NewVersion => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case(None, Repeat::Never, Some("a,b"))]
    #[case(Some("a"), Repeat::Never, Some("a,b"))]
    #[case(Some("a,b"), Repeat::Never, None)]
    #[case(Some("a/1,b/1"), Repeat::Never, None)]
    #[case(Some("a,b"), Repeat::NewVersion, Some("a/1,b/2"))]
    #[case(Some("a/1,b/1"), Repeat::NewVersion, Some("a/1,b/2"))]
    #[case(Some("a/1,b/2"), Repeat::NewVersion, None)]
    #[case(Some("a"), Repeat::Always, Some("a,b"))]
    #[case(Some("a,b"), Repeat::Always, Some("a/1,b/2"))]
    #[case(Some("a/1,b/1"), Repeat::Always, Some("a/1,b/2"))]
    #[case(Some("a/1,b/2"), Repeat::Always, Some("a,b"))]
    fn value_changes_only_for_other_secrets_or_on_repeat(
        #[case] current: Option<&str>,
        #[case] repeat: Repeat,
        #[case] expected: Option<&str>,
    ) {
        let secrets =
            [("a", "1"), ("b", "2")].map(|(uid, version)| (uid.to_owned(), version.to_owned()));
        assert_eq!(next_value(current, &secrets, repeat).as_deref(), expected);
    }
}
