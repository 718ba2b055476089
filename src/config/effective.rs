//! Effective settings of a command: each value, and where it comes from.

use std::fmt;
use std::sync::Arc;

use clap::parser::ValueSource;

use super::file::ConfigFile;
use super::sections::SECTIONS;
use super::setting::Setting;
use crate::yaml::Position;

/// Source of a value, in the order of precedence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag(String),
    Environment(String),
    File(Arc<str>, Position),
    Default,
}

/// A setting of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EffectiveSetting {
    /// Path in the file, as in `serve.listen`.
    pub path: String,
    /// `None` if it is not set.
    pub value: Option<String>,
    pub origin: Origin,
    pub is_live: bool,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag --{flag}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(name, Position { line, column }) => {
                write!(f, "file {name}:{line}:{column}")
            }
            Self::Default => f.write_str("default"),
        }
    }
}

/// Settings of a subcommand after its arguments were parsed with the defaults of the file.
pub(crate) fn effective_settings(
    subcommand: &clap::Command,
    matches: &clap::ArgMatches,
    file: Option<&ConfigFile>,
) -> Vec<EffectiveSetting> {
    let mut found = Vec::new();
    for section in SECTIONS {
        for setting in section.settings {
            let Some(argument) = setting.argument_of(subcommand) else {
                continue;
            };
            found.push(EffectiveSetting {
                path: section.path(setting),
                value: value_of(matches, setting.argument),
                origin: origin_of(argument, matches, setting, file),
                is_live: setting.live_in.contains(&subcommand.get_name()),
            });
        }
    }
    found
}

fn origin_of(
    argument: &clap::Arg,
    matches: &clap::ArgMatches,
    setting: &Setting,
    file: Option<&ConfigFile>,
) -> Origin {
    match matches.value_source(setting.argument) {
        Some(ValueSource::CommandLine) => {
            Origin::Flag(argument.get_long().unwrap_or_default().to_owned())
        }
        Some(ValueSource::EnvVariable) => {
            let name = argument.get_env().unwrap_or_default();
            Origin::Environment(name.to_string_lossy().into_owned())
        }
        source => {
            let in_file = |file: &ConfigFile| {
                let mut values = file.values.iter();
                let value = values.find(|value| std::ptr::eq(value.setting, setting))?;
                // A flag for another setting of the group replaces it.
                if source.is_none() && !value.texts.is_empty() {
                    return None;
                }
                Some(Origin::File(Arc::clone(&file.name), value.position))
            };
            file.and_then(in_file).unwrap_or(Origin::Default)
        }
    }
}

/// Values as text, separated by commas. Passwords in URLs are replaced.
fn value_of(matches: &clap::ArgMatches, argument: &str) -> Option<String> {
    let raw = matches.try_get_raw(argument).ok().flatten()?;
    let texts: Vec<_> = raw
        .map(|text| mask_credentials(&text.to_string_lossy()))
        .collect();
    let joined = texts.join(",");
    (!joined.is_empty()).then_some(joined)
}

/// Replaces user and password of a URL. Parsers refuse such URLs; this keeps a missed one out of the output.
fn mask_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest.get(..end).and_then(|authority| authority.rfind('@')) {
        Some(at) => format!("{scheme}://…{}", rest.get(at..).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_urls_are_masked() {
        assert_eq!(
            mask_credentials("http://user:hunter2@collector:4318/x"),
            "http://…@collector:4318/x"
        );
        assert_eq!(mask_credentials("http://a:4318"), "http://a:4318");
        assert_eq!(mask_credentials("https://a/b@c"), "https://a/b@c");
    }
}
