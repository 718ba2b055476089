//! "Did you mean": the nearest of some names, when one is near enough to be a slip.

/// Comparing costs the product of two lengths, and a Secret may have thousands of long keys: beyond these
/// bounds nobody gets a suggestion.
const MAX_TEXT: usize = 64;
const MAX_CANDIDATES: usize = 256;

/// The candidate nearest to `text`, at most one edit in three characters away; the first in order among equals.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let limit = (text.len() / 3).clamp(1, 5);
    if text.len() > MAX_TEXT {
        return None;
    }
    candidates
        .into_iter()
        .take(MAX_CANDIDATES)
        .filter(|candidate| candidate.len().abs_diff(text.len()) <= limit)
        .map(|candidate| (strsim::damerau_levenshtein(text, candidate), candidate))
        .filter(|(distance, _)| (1..=limit).contains(distance))
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let known = ["db-creds", "api-token", "snowflake-creds"];
        assert_eq!(nearest("snowflake-credentials", known).as_deref(), None);
        assert_eq!(nearest("snowflake-cred", known).as_deref(), Some("snowflake-creds"));
        assert_eq!(nearest("db-cresd", known).as_deref(), Some("db-creds"));
        assert_eq!(nearest("a", ["b"]).as_deref(), Some("b"));
        assert_eq!(nearest("db-creds", known), None, "the name itself is no suggestion");
    }
}
