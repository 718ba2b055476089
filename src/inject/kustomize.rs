//! Names that kustomize generates: the Secret `db` of a `secretGenerator` is `db-5h2f8k9t7m` in its output.
//!
//! kustomize rewrites the references that it knows. Annotations are not among them.

/// Length of the hash of the contents.
const HASH_LENGTH: usize = 10;

/// Characters of the hash: hexadecimal digits, of which those that could spell words are replaced.
const HASH_ALPHABET: &str = "2456789bcdfghkmt";

/// Name that authors write for a generated name; `None` if the name does not end in a hash.
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
    fn original_name_is_found_before_the_hash(#[case] name: &str, #[case] expected: Option<&str>) {
        assert_eq!(original(name), expected);
    }
}
