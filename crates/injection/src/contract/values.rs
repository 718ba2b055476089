//! Values of the annotations with a syntax of their own: secrets, references, variables, paths, container selections.

use std::str::FromStr;

use crate::contract::collector::Collector;
use crate::contract::reference::{
    ReferenceFormat, parse_reference, reference_documents, split_source,
};
use crate::contract::request::{AnnotationRef, Bulk, Choice, InfisicalPath, Selection, Variable};
use crate::contract::secret_ref::{
    EnvVarName, KeyChoice, SecretId, SecretName, SecretReference, SecretSource,
};
use crate::contract::selector::Pattern;
use crate::excerpt::excerpt;
use crate::keys::PREFIX;
use crate::limits::{MAX_ITEMS, MAX_PATTERNS};

impl Collector {
    /// `env-from`: secrets whose keys all become variables.
    pub(crate) fn env_from(&mut self, site: &AnnotationRef, value: &str) {
        for item in self.items(site, value, MAX_ITEMS) {
            let parsed = split_source(item).and_then(|(source, name)| {
                Ok(SecretId {
                    source,
                    name: SecretName::from_str(name)?,
                })
            });
            match parsed {
                Ok(secret) if secret.source == SecretSource::Env => self.reject(
                    site,
                    format!("{:?}: source \"env\" names single variables that are already set; it cannot be brought in whole", excerpt(item)),
                ),
                Ok(secret) => {
                    if self.check_source(site, &secret) && !self.request.bulk.iter().any(|bulk| bulk.secret == secret) {
                        self.request.bulk.push(Bulk { secret, site: site.clone() });
                    }
                }
                Err(error) if item.contains('/') => {
                    self.reject(site, format!("{error}; for a single key use {PREFIX}refs"));
                }
                Err(error) => self.reject(site, error.to_string()),
            }
        }
    }

    /// `refs`: references whose variables are named by the floe spec.
    pub(crate) fn refs(&mut self, site: &AnnotationRef, value: &str) {
        let references: Vec<Result<SecretReference, String>> = match ReferenceFormat::of(value) {
            ReferenceFormat::Short => self
                .items(site, value, MAX_ITEMS)
                .into_iter()
                .map(|item| parse_reference(item).map_err(|error| error.to_string()))
                .collect(),
            format => {
                reference_documents(format, value).unwrap_or_else(|problem| vec![Err(problem)])
            }
        };
        for reference in references {
            match reference {
                Ok(reference) => {
                    let variable = Variable {
                        reference,
                        alias: None,
                        site: site.clone(),
                    };
                    self.add_variable(variable, |collector| &mut collector.request.variables);
                }
                Err(problem) => self.reject(site, problem),
            }
        }
    }

    /// `env.<VAR>`: a variable with a name of the author's choice.
    pub(crate) fn alias(&mut self, site: &AnnotationRef, variable: &str, value: &str) {
        let name = EnvVarName::from_str(variable);
        let reference = parse_reference(value.trim());
        match (name, reference) {
            (Ok(name), Ok(reference)) if matches!(reference.key, KeyChoice::Key(_)) => {
                let variable = Variable {
                    reference,
                    alias: Some(name),
                    site: site.clone(),
                };
                self.add_variable(variable, |collector| &mut collector.aliases);
            }
            (Ok(_), Ok(reference)) => {
                self.reject(
                    site,
                    format!(
                        "{:?} does not say which key; write name/key",
                        reference.to_string()
                    ),
                );
            }
            (name, reference) => {
                for error in [name.err(), reference.err()].into_iter().flatten() {
                    self.reject(site, error.to_string());
                }
            }
        }
    }

    /// `infisical.<name>`: the path of a secret in Infisical.
    pub(crate) fn infisical(&mut self, site: &AnnotationRef, name: &str, value: &str) {
        let name = SecretName::from_str(name);
        let path = value.trim().split_once(':').filter(|(environment, path)| {
            !environment.is_empty()
                && environment
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && path.starts_with('/')
                && !path.chars().any(char::is_control)
                && !path
                    .split('/')
                    .any(|segment| segment == "." || segment == "..")
        });
        match (name, path) {
            (Ok(name), Some((environment, path))) => {
                let path = InfisicalPath {
                    environment: environment.to_owned(),
                    path: path.to_owned(),
                };
                self.request.infisical.insert(name, path);
            }
            (name, path) => {
                if let Err(error) = name {
                    self.reject(site, error.to_string());
                }
                if path.is_none() {
                    self.reject(
                        site,
                        format!(
                            "{:?} is not <environment>:/<path>, as in \"prod:/snowflake\"",
                            excerpt(value)
                        ),
                    );
                }
            }
        }
    }

    /// `containers` and `init-containers`: patterns, or the keyword `none` if it is given.
    pub(crate) fn selection(
        &mut self,
        site: &AnnotationRef,
        value: &str,
        none: Option<&str>,
    ) -> Selection {
        let items = self.items(site, value, MAX_PATTERNS);
        if let ([item], Some(none)) = (items.as_slice(), none)
            && *item == none
        {
            return Selection {
                choice: Choice::None,
                site: site.clone(),
            };
        }
        let mut patterns = Vec::new();
        for item in items {
            match Pattern::from_str(item) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.reject(site, error.to_string()),
            }
        }
        Selection {
            choice: Choice::Patterns(patterns),
            site: site.clone(),
        }
    }
}
