//! Suggestions ("Did you mean"): the most similar name, if it is similar enough to be a typo.

/// Limit of a name that is compared: comparing costs the product of two lengths, and a Secret may have thousands of
/// long keys.
const MAX_TEXT: usize = 64;

/// Comparisons in one review, for all missing names together.
const MAX_COMPARISONS: usize = 128;

/// Suggestions in one review. The comparisons are limited for the review as a whole: hundreds of names may be missing,
/// and each may have hundreds of candidates.
#[derive(Clone, Debug)]
pub struct Suggestions {
    comparisons: usize,
}

impl Default for Suggestions {
    fn default() -> Self {
        Self {
            comparisons: MAX_COMPARISONS,
        }
    }
}

impl Suggestions {
    /// Candidate most similar to `text`, with at most one edit per three characters; the first one in order among
    /// equals. `None` if the limit of comparisons is reached.
    pub fn nearest<'a>(
        &mut self,
        text: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Option<String> {
        let limit = (text.len() / 3).clamp(1, 5);
        if text.len() > MAX_TEXT {
            return None;
        }
        let mut best: Option<(usize, &str)> = None;
        for candidate in candidates
            .into_iter()
            .filter(|candidate| candidate.len().abs_diff(text.len()) <= limit)
        {
            if self.comparisons == 0 {
                break;
            }
            self.comparisons -= 1;
            let distance = strsim::damerau_levenshtein(text, candidate);
            if (1..=limit).contains(&distance)
                && best.is_none_or(|best| (distance, candidate) < best)
            {
                best = Some((distance, candidate));
            }
        }
        best.map(|(_, candidate)| candidate.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestion_is_for_typos_only() {
        let known = ["db-creds", "api-token", "snowflake-creds"];
        let nearest = |text, known: &[&'static str]| {
            Suggestions::default().nearest(text, known.iter().copied())
        };
        assert_eq!(nearest("snowflake-credentials", &known).as_deref(), None);
        assert_eq!(
            nearest("snowflake-cred", &known).as_deref(),
            Some("snowflake-creds")
        );
        assert_eq!(nearest("db-cresd", &known).as_deref(), Some("db-creds"));
        assert_eq!(nearest("a", &["b"]).as_deref(), Some("b"));
        assert_eq!(
            nearest("db-creds", &known),
            None,
            "the name itself is no suggestion"
        );
    }

    #[test]
    fn comparisons_are_limited_over_all_missing_names() {
        let candidates: Vec<String> = (0..100).map(|n| format!("key-{n:03}")).collect();
        let mut suggestions = Suggestions::default();
        let mut nearest =
            |text: &str| suggestions.nearest(text, candidates.iter().map(String::as_str));
        assert_eq!(nearest("key-05x").as_deref(), Some("key-050"));
        assert_eq!(
            nearest("key-01x").as_deref(),
            Some("key-010"),
            "28 comparisons are left, and it is among those"
        );
        assert_eq!(nearest("key-00x"), None);
    }
}
