//! Names that kustomize generates: a Secret `db` of its `secretGenerator` stands in its output as `db-5h2f8k9t7m`.
//!
//! kustomize rewrites the references that it knows to that name, and annotations are not among them.

/// Characters of the hash of the contents.
const HASH_LENGTH: usize = 10;

/// What they are made of: hexadecimal digits, of which those that might spell words are replaced.
const HASH_ALPHABET: &str = "2456789bcdfghkmt";

/// The name that authors write for a generated one; `None` when it has no such ending.
pub(super) fn original(name: &str) -> Option<&str> {
    let (base, hash) = name.rsplit_once('-')?;
    let is_hash = hash.len() == HASH_LENGTH && hash.chars().all(|c| HASH_ALPHABET.contains(c));
    (is_hash && !base.is_empty()).then_some(base)
}

#[cfg(test)]
mod tests {
    use super::original;

    #[rstest::rstest]
    #[case("db-5h2f8k9t7m", Some("db"))]
    #[case("my-db.prod-5h2f8k9t7m", Some("my-db.prod"))]
    #[case::nine("db-5h2f8k9t7", None)]
    #[case::eleven("db-5h2f8k9t7mm", None)]
    #[case::a_character_that_is_replaced("db-5h2f8k9t7a", None)]
    #[case::a_digit_that_is_replaced("db-0h2f8k9t7m", None)]
    #[case::no_name("-5h2f8k9t7m", None)]
    #[case::no_hash("db", None)]
    #[case::upper_case("db-5H2F8K9T7M", None)]
    fn original_name_is_found_behind_a_hash(#[case] name: &str, #[case] expected: Option<&str>) {
        assert_eq!(original(name), expected);
    }
}
