//! Program that restarts a stored workload when a Secret changes, by the annotations of the workload and of the Secret.

use crate::keys::{INFISICAL, RELOADER_LIST as LIST};
use crate::reload::annotations::{
    AUTO, EXCLUDE, IGNORE, SEARCH, SECRET_AUTO, is_too_long, reload_annotations,
};
use crate::reload::list_entry::items;
use crate::reload::reloader_config::{ABOUT_SECRETS, parse_bool};
use crate::view::annotations::Annotations;

/// Annotation of a Secret by which `search` finds it.
const MATCH: &str = "reloader.stakater.com/match";

/// Limit of an entry of the named list that is compared, in bytes. It is twice the longest name of a Secret, so that
/// every name fits with all of its dots escaped.
const MAX_ENTRY_BYTES: usize = 506;

/// A Secret, and a workload with its template.
#[derive(Clone, Copy, Debug)]
pub struct RestartQuery<'a> {
    /// Name of the Secret.
    pub secret: &'a str,
    /// Annotations of the Secret.
    pub secret_annotations: Option<&'a Annotations<'a>>,
    /// Annotations of the workload's own metadata.
    pub metadata: Option<&'a Annotations<'a>>,
    /// Annotations of its pod template.
    pub template: Option<&'a Annotations<'a>>,
    /// Whether the stored template refers to the Secret.
    pub in_template: bool,
}

/// Program that restarts a workload, with the annotation that makes it do so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartMechanism {
    /// Stakater Reloader.
    Reloader(&'static str),
    /// Stakater Reloader, if an entry of the named list matches that is a regular expression beyond those compared here.
    PossiblyReloader(&'static str),
    /// The Infisical operator, if it keeps the Secret.
    Infisical(&'static str),
    /// None.
    None,
}

/// Finds the program that restarts a workload when the Secret changes. It is not known here whether the program is
/// installed.
#[must_use]
pub fn restart_mechanism(query: &RestartQuery<'_>) -> RestartMechanism {
    match by_reloader(query) {
        RestartMechanism::None if is_infisical(query) => RestartMechanism::Infisical(INFISICAL),
        mechanism => mechanism,
    }
}

fn is_infisical(query: &RestartQuery<'_>) -> bool {
    let value = query
        .metadata
        .and_then(|metadata| metadata.value(INFISICAL));
    query.in_template && value == Some("true")
}

fn by_reloader(query: &RestartQuery<'_>) -> RestartMechanism {
    if [query.metadata, query.template]
        .into_iter()
        .any(is_too_long)
    {
        return RestartMechanism::PossiblyReloader(LIST);
    }
    let secret = reload_annotations(query.secret_annotations);
    let metadata = reload_annotations(query.metadata);
    let template = reload_annotations(query.template);
    let is_excluded = metadata
        .get(EXCLUDE)
        .is_some_and(|list| items(list).any(|name| name == query.secret));
    if is_excluded || secret.get(IGNORE).is_some_and(|value| value == "true") {
        return RestartMechanism::None;
    }
    // If the metadata has an annotation about Secrets, Reloader ignores all of the template's.
    let decides = ABOUT_SECRETS
        .into_iter()
        .any(|key| metadata.contains_key(key));
    let deciding = if decides { &metadata } else { &template };
    let value = |key: &str| deciding.get(key).map(String::as_str).unwrap_or_default();
    let mut named: Vec<Option<bool>> = items(value(LIST))
        .map(|entry| entry_matches(entry, query.secret))
        .collect();
    named.dedup();
    if named.contains(&Some(true)) {
        return RestartMechanism::Reloader(LIST);
    }
    let is_searched =
        value(SEARCH) == "true" && secret.get(MATCH).is_some_and(|value| value == "true");
    let watching = [
        (is_searched, SEARCH),
        (parse_bool(value(AUTO)) == Some(true), AUTO),
        (parse_bool(value(SECRET_AUTO)) == Some(true), SECRET_AUTO),
    ];
    match watching.into_iter().find(|(watches, _)| *watches) {
        Some((_, key)) if query.in_template => RestartMechanism::Reloader(key),
        _ if named.contains(&None) => RestartMechanism::PossiblyReloader(LIST),
        _ => RestartMechanism::None,
    }
}

/// One character of an entry, or any, and whether it may be repeated.
struct Token {
    /// `None` for the dot.
    character: Option<char>,
    repeated: bool,
}

/// Whether an entry of the named list matches a name: characters, escaped ones, `.`, `*` and `|`, without a group as
/// Reloader writes them. `None` for any other regular expression.
fn entry_matches(entry: &str, name: &str) -> Option<bool> {
    if entry == name {
        return Some(true);
    }
    if entry.len() > MAX_ENTRY_BYTES {
        return None;
    }
    let alternatives: Vec<Vec<Token>> = split_alternatives(entry)
        .map(tokens)
        .collect::<Option<_>>()?;
    let name: Vec<char> = name.chars().collect();
    let last = alternatives.len().saturating_sub(1);
    let is_match =
        |(at, tokens): (usize, &Vec<Token>)| matches_tokens(tokens, &name, at == 0, at == last);
    Some(alternatives.iter().enumerate().any(is_match))
}

/// Splits an entry at each `|` that is not escaped.
fn split_alternatives(entry: &str) -> impl Iterator<Item = &str> {
    let mut is_escaped = false;
    entry.split(move |character| {
        let splits = character == '|' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        splits
    })
}

fn tokens(alternative: &str) -> Option<Vec<Token>> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut characters = alternative.chars();
    while let Some(character) = characters.next() {
        let character = match character {
            '*' => {
                let last = tokens.last_mut().filter(|token| !token.repeated)?;
                last.repeated = true;
                continue;
            }
            '\\' => Some(characters.next().filter(char::is_ascii_punctuation)?),
            '.' => None,
            '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' => return None,
            literal => Some(literal),
        };
        tokens.push(Token {
            character,
            repeated: false,
        });
    }
    Some(tokens)
}

/// Whether the tokens match a part of the text, or all of it. Takes the product of both lengths, whatever the tokens.
fn matches_tokens(tokens: &[Token], text: &[char], from_start: bool, to_end: bool) -> bool {
    // Positions in `tokens` that are reached before each character.
    let mut reached = vec![false; tokens.len() + 1];
    for at in 0..=text.len() {
        if at == 0 || !from_start {
            mark(&mut reached, 0);
        }
        for (position, token) in tokens.iter().enumerate() {
            if token.repeated && reached.get(position) == Some(&true) {
                mark(&mut reached, position + 1);
            }
        }
        let is_complete = reached.last() == Some(&true);
        if is_complete && (at == text.len() || !to_end) {
            return true;
        }
        let Some(character) = text.get(at) else {
            return false;
        };
        let mut next = vec![false; tokens.len() + 1];
        for (position, token) in tokens.iter().enumerate() {
            let fits = token
                .character
                .is_none_or(|expected| expected == *character);
            if fits && reached.get(position) == Some(&true) {
                mark(
                    &mut next,
                    if token.repeated {
                        position
                    } else {
                        position + 1
                    },
                );
            }
        }
        reached = next;
    }
    false
}

fn mark(reached: &mut [bool], position: usize) {
    if let Some(place) = reached.get_mut(position) {
        *place = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table has the decisions of the real Reloader.
    #[test]
    fn entry_never_contradicts_reloader() {
        let table = include_str!("../../tests/testdata/reloader_matching.tsv");
        let mut decided = 0;
        for row in table.lines().skip(1) {
            let cells: Vec<&str> = row.split('\t').collect();
            if let Some(matches) = entry_matches(cells[0].trim(), cells[1]) {
                assert_eq!(matches.to_string(), cells[2], "{row}");
                decided += 1;
            }
        }
        // The other rows have expressions that nobody writes.
        assert!(decided > 2_000, "{decided} decided");
    }

    #[rstest::rstest]
    #[case("db-.*", Some(true))]
    #[case("d.*-x", Some(false))]
    #[case("a|prod", Some(true))]
    #[case("db|a", Some(true))]
    #[case(r"db\|a", Some(false))]
    #[case("db-(prod)", None)]
    #[case("", Some(false))]
    fn entry_is_compared(#[case] entry: &str, #[case] expected: Option<bool>) {
        assert_eq!(entry_matches(entry, "db-prod"), expected);
    }

    #[test]
    fn entry_beyond_the_limit_is_not_compared() {
        let entry = |length: usize| format!("{}.*", "a".repeat(length - 2));
        assert_eq!(entry_matches(&entry(MAX_ENTRY_BYTES), "a"), Some(false));
        assert_eq!(entry_matches(&entry(MAX_ENTRY_BYTES + 1), "a"), None);
    }

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    #[rstest::rstest]
    #[case::nothing(&[], &[], &[], true, RestartMechanism::None)]
    #[case::named(&[(LIST, "a,db")], &[], &[], false, RestartMechanism::Reloader(LIST))]
    #[case::named_in_template(&[], &[(LIST, "db")], &[], false, RestartMechanism::Reloader(LIST))]
    #[case::template_is_hidden(&[(LIST, "a")], &[(LIST, "db")], &[], true, RestartMechanism::None)]
    #[case::expression(&[(LIST, "(db)")], &[], &[], true, RestartMechanism::PossiblyReloader(LIST))]
    #[case::excluded(&[(LIST, "db"), (EXCLUDE, "db")], &[], &[], true, RestartMechanism::None)]
    #[case::ignored(&[(LIST, "db")], &[], &[(IGNORE, "true")], true, RestartMechanism::None)]
    #[case::auto(&[(AUTO, "true")], &[], &[], true, RestartMechanism::Reloader(AUTO))]
    #[case::auto_does_not_see_pods(&[(AUTO, "true")], &[], &[], false, RestartMechanism::None)]
    #[case::search(&[(SEARCH, "true")], &[], &[(MATCH, "true")], true, RestartMechanism::Reloader(SEARCH))]
    #[case::search_without_match(&[(SEARCH, "true")], &[], &[], true, RestartMechanism::None)]
    #[case::infisical(&[(INFISICAL, "true")], &[], &[], true, RestartMechanism::Infisical(INFISICAL))]
    #[case::infisical_sees_templates_only(&[(INFISICAL, "true")], &[], &[], false, RestartMechanism::None)]
    #[case::infisical_in_template(&[], &[(INFISICAL, "true")], &[], true, RestartMechanism::None)]
    fn mechanism_is_found_by_annotations(
        #[case] metadata: Pairs<'_>,
        #[case] template: Pairs<'_>,
        #[case] secret: Pairs<'_>,
        #[case] in_template: bool,
        #[case] expected: RestartMechanism,
    ) {
        let [metadata, template, secret] = [metadata, template, secret]
            .map(|pairs| Annotations::from_pairs(pairs.iter().copied()));
        let query = RestartQuery {
            secret: "db",
            secret_annotations: Some(&secret),
            metadata: Some(&metadata),
            template: Some(&template),
            in_template,
        };
        assert_eq!(restart_mechanism(&query), expected);
    }
}
