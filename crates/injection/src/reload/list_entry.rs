//! Entries of Reloader's named list. Reloader matches each, split at commas and trimmed, as the regular expression
//! `^item$`.

/// Items of a list, trimmed.
pub(crate) fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

/// Go's `regexp.QuoteMeta`. In the name of a Secret, only the dot needs it.
pub(crate) fn quote_regex(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len());
    for character in name.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Entries by hand, from the documented syntax of Go's `regexp`.
    #[rstest::rstest]
    #[case("db-creds", "db-creds")]
    #[case("a.b", r"a\.b")]
    #[case("a..b", r"a\.\.b")]
    #[case("x-1.y-2.z", r"x-1\.y-2\.z")]
    #[case(r"a+b*(c)|[d]{e}^$?\", r"a\+b\*\(c\)\|\[d\]\{e\}\^\$\?\\")]
    fn names_are_quoted_as_in_go(#[case] name: &str, #[case] expected: &str) {
        assert_eq!(quote_regex(name), expected);
    }

    /// Both tables are decisions of the real Reloader: about an entry and a Secret, and for each entry all Secrets of
    /// the first table for which it restarts.
    #[test]
    fn written_entry_matches_only_its_secret_in_reloader() {
        let pairs: Vec<Vec<&str>> =
            table(include_str!("../../tests/testdata/reloader_matching.tsv")).collect();
        let names: BTreeSet<&str> = pairs.iter().map(|row| row[1]).collect();
        let restarts: BTreeMap<&str, Vec<&str>> =
            table(include_str!("../../tests/testdata/reloader_names.tsv"))
                .map(|row| (row[0], row[1].split(' ').collect()))
                .collect();
        assert!(names.len() > 1000, "the tables are complete");
        let mut lookalikes = 0;
        for name in &names {
            let entry = quote_regex(name);
            assert_eq!(restarts.get(entry.as_str()), Some(&vec![*name]), "{entry}");
            lookalikes += usize::from(
                restarts
                    .get(name)
                    .is_some_and(|unescaped| unescaped.len() > 1),
            );
        }
        assert!(
            lookalikes > 100,
            "{lookalikes} names would match others too without escapes"
        );
        let entries: BTreeMap<String, &str> = names
            .iter()
            .map(|name| (quote_regex(name), *name))
            .collect();
        let written = pairs
            .iter()
            .filter_map(|row| Some((row, *entries.get(row[0])?)));
        let wrong: Vec<_> = written
            .filter(|(row, name)| row[2] != (row[1] == *name).to_string())
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    fn table(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
        text.lines().skip(1).map(|line| line.split('\t').collect())
    }

    /// Model of Reloader's matching of an item: `^` before it and `$` after it, without a group. It supports the part
    /// of Go's syntax that the tables use: characters, escaped ones, `.`, `*` and `|`.
    fn matches(item: &str, name: &str) -> bool {
        fn matches_at(pattern: &[char], text: &[char], to_the_end: bool) -> bool {
            let (token, rest) = match pattern {
                [] => return text.is_empty() || !to_the_end,
                ['\\', escaped, rest @ ..] => (Some(escaped), rest),
                ['.', rest @ ..] => (None, rest),
                [literal, rest @ ..] => (Some(literal), rest),
            };
            let is = |text: &[char]| {
                text.first()
                    .is_some_and(|c| token.is_none_or(|token| token == c))
            };
            match rest {
                ['*', rest @ ..] => {
                    matches_at(rest, text, to_the_end)
                        || (is(text)
                            && matches_at(pattern, text.get(1..).unwrap_or(&[]), to_the_end))
                }
                rest => is(text) && matches_at(rest, text.get(1..).unwrap_or(&[]), to_the_end),
            }
        }
        let name: Vec<char> = name.chars().collect();
        let alternatives: Vec<Vec<char>> =
            item.split('|').map(|one| one.chars().collect()).collect();
        alternatives.iter().enumerate().any(|(at, one)| {
            let (first, last) = (at == 0, at + 1 == alternatives.len());
            let starts = if first { 0..=0 } else { 0..=name.len() };
            starts
                .into_iter()
                .any(|start| matches_at(one, name.get(start..).unwrap_or(&[]), last))
        })
    }

    #[rstest::rstest]
    #[case("a.b", "a.b", true)]
    #[case("a.b", "axb", true)]
    #[case(r"a\.b", "a.b", true)]
    #[case(r"a\.b", "axb", false)]
    #[case("a", "ab", false)]
    #[case("a", "ba", false)]
    #[case("db-.*", "db-x", true)]
    #[case("a|b", "ax", true)]
    #[case("a|b", "xb", true)]
    #[case("a|b", "bx", false)]
    #[case("", "", true)]
    #[case("", "a", false)]
    fn model_matches_as_gos_regexp(#[case] item: &str, #[case] name: &str, #[case] expected: bool) {
        assert_eq!(matches(item, name), expected);
    }

    /// Compares every name of up to four characters with every other.
    #[test]
    fn written_entry_matches_no_similar_name() {
        let mut names = vec![String::new()];
        for _ in 0..4 {
            let longer: Vec<String> = names
                .iter()
                .flat_map(|name| ["a", "b", ".", "-"].map(|next| format!("{name}{next}")))
                .collect();
            names.extend(longer);
        }
        names.sort();
        names.dedup();
        for one in &names {
            let entry = quote_regex(one);
            assert!(!entry.contains(','));
            for other in &names {
                assert_eq!(matches(&entry, other), one == other, "{entry} and {other}");
            }
        }
    }
}
