//! Label selectors in Kubernetes' syntax: `team in (a,b),!legacy,tier=web`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Limit of a selector's length in bytes, because it is part of URLs.
const MAX_LENGTH: usize = 4096;

/// Requirements on labels, all of which must hold. The empty selector matches every object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    text: String,
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    Exists,
    Absent,
    In(Vec<String>),
    /// Holds for an absent label too.
    NotIn(Vec<String>),
}

/// Error for a text that is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a label selector such as: team in (a,b),!legacy,tier=web")]
pub struct InvalidSelector(String);

impl Selector {
    /// Whether it matches every object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    #[must_use]
    pub fn matches<K: AsRef<str> + Ord, V: AsRef<str>>(&self, labels: &BTreeMap<K, V>) -> bool {
        self.requirements
            .iter()
            .all(|Requirement { key, operator }| {
                let value = labels
                    .iter()
                    .find(|(label, _)| label.as_ref() == key)
                    .map(|(_, value)| value.as_ref());
                match operator {
                    Operator::Exists => value.is_some(),
                    Operator::Absent => value.is_none(),
                    Operator::In(values) => {
                        value.is_some_and(|value| values.iter().any(|one| one == value))
                    }
                    Operator::NotIn(values) => {
                        value.is_none_or(|value| values.iter().all(|one| one != value))
                    }
                }
            })
    }

    /// Query parameter `labelSelector=…` of a list; empty for the empty selector.
    #[must_use]
    pub fn query(&self) -> String {
        if self.is_empty() {
            String::new()
        } else {
            format!("labelSelector={}", percent_encode(&self.text))
        }
    }
}

/// Percent-encodes a value of a query.
fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Selector {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        let invalid = || InvalidSelector(text.chars().take(200).collect());
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        if text.len() > MAX_LENGTH {
            return Err(invalid());
        }
        let requirements = split_requirements(text)
            .map(parse_requirement)
            .collect::<Option<_>>()
            .ok_or_else(invalid)?;
        Ok(Self {
            text: text.to_owned(),
            requirements,
        })
    }
}

/// Splits a selector at the commas outside of parentheses.
fn split_requirements(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.split(move |char| {
        inside = match char {
            '(' => true,
            ')' => false,
            _ => inside,
        };
        char == ',' && !inside
    })
}

fn parse_requirement(part: &str) -> Option<Requirement> {
    let part = part.trim();
    let equality =
        |key: &str, value: &str| Some((key.trim().to_owned(), vec![label_value(value)?]));
    let (key, operator) = if let Some(key) = part.strip_prefix('!') {
        (key.trim().to_owned(), Operator::Absent)
    } else if let Some((key, value)) = part.split_once("!=") {
        let (key, values) = equality(key, value)?;
        (key, Operator::NotIn(values))
    } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        let (key, values) = equality(key, value)?;
        (key, Operator::In(values))
    } else if let Some((left, set)) = part.split_once('(') {
        let values = set
            .trim_end()
            .strip_suffix(')')?
            .split(',')
            .map(label_value)
            .collect::<Option<Vec<_>>>()?;
        let (key, operator) = left.trim_end().rsplit_once(char::is_whitespace)?;
        let operator = match operator {
            "in" => Operator::In(values),
            "notin" => Operator::NotIn(values),
            _ => return None,
        };
        (key.trim().to_owned(), operator)
    } else {
        (part.to_owned(), Operator::Exists)
    };
    is_key(&key).then_some(Requirement { key, operator })
}

/// `name`, or `prefix/name`.
fn is_key(text: &str) -> bool {
    let name = match text.split_once('/') {
        Some((prefix, name))
            if !prefix.is_empty() && prefix.len() <= 253 && is_label_text(prefix) =>
        {
            name
        }
        Some(_) => return false,
        None => text,
    };
    !name.is_empty() && name.len() <= 63 && is_label_text(name)
}

fn label_value(text: &str) -> Option<String> {
    let text = text.trim();
    (text.len() <= 63 && is_label_text(text)).then(|| text.to_owned())
}

fn is_label_text(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", &[], true)]
    #[case("team in (a, b),!legacy", &[("team", "b")], true)]
    #[case("team in (a,b),!legacy", &[("team", "c")], false)]
    #[case("team in (a,b),!legacy", &[("team", "a"), ("legacy", "")], false)]
    #[case("team notin (a,b)", &[], true)]
    #[case("team notin (a,b)", &[("team", "a")], false)]
    #[case("example.org/tier=web", &[("example.org/tier", "web")], true)]
    #[case("tier==web", &[("tier", "db")], false)]
    #[case("tier!=web", &[], true)]
    #[case("tier!=web", &[("tier", "web")], false)]
    #[case("tier", &[("tier", "")], true)]
    #[case("tier=", &[("tier", "")], true)]
    #[case("tier", &[], false)]
    fn selector_matches_labels_as_the_api_server_does(
        #[case] selector: &str,
        #[case] labels: &[(&str, &str)],
        #[case] matches: bool,
    ) {
        let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
        assert_eq!(
            selector.parse::<Selector>().unwrap().matches(&labels),
            matches
        );
    }

    #[rstest]
    #[case("team in a,b")]
    #[case("team of (a)")]
    #[case("team in (a")]
    #[case("=a")]
    #[case("a,,b")]
    #[case("a=b&limit=1")]
    #[case("/a")]
    fn selector_with_invalid_syntax_is_rejected(#[case] text: &str) {
        let error = text.parse::<Selector>().unwrap_err().to_string();
        assert!(
            error.ends_with("is not a label selector such as: team in (a,b),!legacy,tier=web"),
            "{error}"
        );
    }

    #[test]
    fn query_is_escaped_and_bounded() {
        let selector: Selector = "team in (a,b),!x/y".parse().unwrap();
        assert_eq!(
            selector.query(),
            "labelSelector=team%20in%20%28a%2Cb%29%2C%21x%2Fy"
        );
        assert_eq!(Selector::default().query(), "");
        let keys = |count: usize| vec!["a"; count].join(",");
        assert!(
            keys(MAX_LENGTH / 2).parse::<Selector>().is_ok()
                && keys(MAX_LENGTH / 2 + 1).parse::<Selector>().is_err()
        );
    }
}
