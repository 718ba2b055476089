//! The annotation contract: from annotations, and the defaults that govern them, to a request.
//!
//! Nearest wins, key by key: pod, then service account, then namespace. Every mistake is collected, so that
//! one answer names them all; a mistake in a value that a nearer annotation hides is not one.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::contract::idle_defaults::is_meant_for_the_label;
use crate::contract::inherited;
use crate::contract::reference::{Form, parse_reference, reference_documents, split_source};
use crate::contract::request::{
    AnnotationOwner, AnnotationRef, Bulk, Choice, InfisicalPath, InjectionRequest, OnMissing,
    ReloadMode, Selection, SkipReason, Variable,
};
use crate::contract::secret_ref::{
    EnvVarName, KeyChoice, SecretId, SecretName, SecretReference, SecretSource,
};
use crate::contract::selector::Pattern;
use crate::excerpt::excerpt;
use crate::keys::{ENABLED_LABEL, INHERITED_KEY, PREFIX, RECORD_KEY};
use crate::limits::{
    MAX_ITEMS, MAX_PATTERNS, MAX_SECRETS, MAX_TOTAL_BYTES, MAX_VALUE_BYTES, check_count,
};
use crate::view::pod::Annotations;

/// Annotation names end at 63 characters after the prefix.
const MAX_KEY: usize = 63;

/// The keys with one fixed name, for suggestions.
const FIXED_KEYS: [&str; 8] = [
    "env-from",
    "refs",
    "containers",
    "init-containers",
    "on-missing",
    "reload",
    "inject",
    RECORD_KEY,
];

/// The annotations that govern a pod, nearest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnnotationLayers<'a> {
    /// The pod's own, or its template's.
    pub object: Option<&'a Annotations<'a>>,
    /// The service account's name and annotations, where defaults apply.
    pub service_account: Option<(&'a str, &'a Annotations<'a>)>,
    /// The namespace's name and annotations, where defaults apply.
    pub namespace: Option<(&'a str, &'a Annotations<'a>)>,
}

/// What the annotations come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing to do, and why.
    Skip(SkipReason),
    /// This.
    Inject(Box<InjectionRequest>),
}

/// A mistake in an annotation, as a sentence that names it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{site}: {problem}")]
pub struct InvalidAnnotation {
    /// Which annotation, and whose.
    pub site: AnnotationRef,
    /// What is wrong with it, and what would be right.
    pub problem: String,
    /// The value is well formed, and asks for what this webhook does not have.
    pub unsupported: bool,
}

/// Reads the contract.
///
/// # Errors
/// Every mistake in an annotation that counts, in the order of the annotations' names. What opts out is not
/// governed by defaults, so their mistakes do not count against it.
pub fn parse(sources: &AnnotationLayers<'_>) -> Result<Decision, Vec<InvalidAnnotation>> {
    let mut reader = Reader::default();
    let inherited = reader.inherited(sources.object);
    let inject = reader.read_all(&nearest(sources, inherited.as_ref()));
    if inject {
        reader.check_secrets();
    } else {
        reader
            .mistakes
            .retain(|mistake| !mistake.site.origin.is_default());
    }
    if !reader.mistakes.is_empty() {
        return Err(reader.mistakes);
    }
    Ok(match reader.request {
        _ if !inject => Decision::Skip(SkipReason::OptedOut),
        request if request.is_empty() => Decision::Skip(SkipReason::NotRequested),
        request => Decision::Inject(Box::new(request)),
    })
}

const INJECT_WORDS: [(&str, bool); 2] = [("true", true), ("false", false)];
const ON_MISSING_WORDS: [(&str, OnMissing); 2] =
    [("deny", OnMissing::Deny), ("warn", OnMissing::Warn)];
const RELOAD_WORDS: [(&str, ReloadMode); 4] = [
    ("auto", ReloadMode::Auto),
    ("reloader", ReloadMode::Reloader),
    ("infisical", ReloadMode::Infisical),
    ("off", ReloadMode::Off),
];

/// Key by key, the nearest annotation.
fn nearest<'a>(
    sources: &AnnotationLayers<'a>,
    inherited: Option<&'a Annotations<'static>>,
) -> BTreeMap<&'a str, (&'a str, AnnotationOwner)> {
    let mut effective = BTreeMap::new();
    let farthest_first = [
        sources
            .namespace
            .map(|(name, annotations)| (annotations, AnnotationOwner::Namespace(name.to_owned()))),
        sources.service_account.map(|(name, annotations)| {
            (
                annotations,
                AnnotationOwner::ServiceAccount(name.to_owned()),
            )
        }),
        inherited.map(|annotations| (annotations, AnnotationOwner::Workload)),
        sources
            .object
            .map(|annotations| (annotations, AnnotationOwner::Object)),
    ];
    for (annotations, origin) in farthest_first.into_iter().flatten() {
        let is_read = |key: &str| key != INHERITED_KEY || origin.is_default();
        for (key, value) in annotations.ours().filter(|(key, _)| is_read(key)) {
            effective.insert(key, (value, origin.clone()));
        }
    }
    effective
}

/// Collects the request and the mistakes.
#[derive(Default)]
struct Reader {
    request: InjectionRequest,
    aliases: Vec<Variable>,
    mistakes: Vec<InvalidAnnotation>,
    /// Unknown annotations so far.
    unknown: usize,
}

/// Unknown annotations for which the nearest known one is looked for.
const MAX_SUGGESTIONS: usize = 8;

impl Reader {
    /// What a pod's template inherited. A value that was not written here is a mistake like any other.
    fn inherited(&mut self, object: Option<&Annotations<'_>>) -> Option<Annotations<'static>> {
        match inherited::read(inherited::standing(object)?) {
            Ok(keys) => Some(keys),
            Err(problem) => {
                self.mistake(
                    &AnnotationRef::new(INHERITED_KEY, AnnotationOwner::Object),
                    problem,
                );
                None
            }
        }
    }

    /// Reads annotations within their bounds; whether anything shall be injected at all.
    fn read_all(&mut self, effective: &BTreeMap<&str, (&str, AnnotationOwner)>) -> bool {
        let mut inject = true;
        let mut bytes = 0;
        // Our own record is information, never proof, so a forged one is no mistake.
        let asking = effective.iter().filter(|(key, _)| **key != RECORD_KEY);
        for (read, (key, (value, origin))) in asking.enumerate() {
            let site = AnnotationRef::new(key, origin.clone());
            bytes += key.len() + value.len();
            if read == MAX_ITEMS {
                self.mistake(
                    &site,
                    format!(
                        "there are {} annotations; at most {MAX_ITEMS} are read",
                        effective.len()
                    ),
                );
                break;
            }
            if bytes > MAX_TOTAL_BYTES {
                let problem = format!(
                    "with this one, the {PREFIX} annotations are longer than {MAX_TOTAL_BYTES} bytes together; shorten them"
                );
                self.mistake(&site, problem);
                break;
            }
            if value.len() > MAX_VALUE_BYTES {
                self.mistake(
                    &site,
                    format!(
                        "is {} bytes long; at most {MAX_VALUE_BYTES} are read",
                        value.len()
                    ),
                );
                continue;
            }
            match *key {
                "env-from" => self.env_from(&site, value),
                "refs" => self.refs(&site, value),
                "containers" => self.request.containers = Some(self.selection(&site, value, None)),
                "init-containers" => {
                    self.request.init_containers = Some(self.selection(&site, value, Some("none")));
                }
                "on-missing" => {
                    self.request.on_missing = self.word(&site, value, &ON_MISSING_WORDS);
                }
                "reload" => {
                    self.request.reload =
                        self.word(&site, value, &RELOAD_WORDS).unwrap_or_default();
                }
                "inject" => inject = self.inject(&site, value),
                _ => self.patterned(&site, value),
            }
        }
        self.request.variables.append(&mut self.aliases);
        inject
    }

    /// Too many secrets are one mistake, of whoever asks for the first of them.
    fn check_secrets(&mut self) {
        let secrets = self.request.key_queries().len();
        if let Some(site) = self
            .request
            .first_site()
            .cloned()
            .filter(|_| secrets > MAX_SECRETS)
        {
            self.mistake(
                &site,
                format!(
                    "with the other annotations, {secrets} different secrets are asked for; at most {MAX_SECRETS} are allowed for one object"
                ),
            );
        }
    }

    fn mistake(&mut self, site: &AnnotationRef, problem: impl Into<String>) {
        self.mistakes.push(InvalidAnnotation {
            site: site.clone(),
            problem: problem.into(),
            unsupported: false,
        });
    }

    /// Takes what parsed; a source without a backend here is refused where it is named.
    fn supported(&mut self, site: &AnnotationRef, secret: &SecretId) -> bool {
        let supported = secret.source != SecretSource::Vault;
        if !supported {
            self.mistakes.push(InvalidAnnotation {
                site: site.clone(),
                problem: format!(
                    "source \"vault\" of {:?} is not supported; use kubernetes, infisical or external-secrets",
                    secret.to_string()
                ),
                unsupported: true,
            });
        }
        supported
    }

    fn env_from(&mut self, site: &AnnotationRef, value: &str) {
        for item in self.items(site, value, MAX_ITEMS) {
            let parsed = split_source(item).and_then(|(source, name)| {
                Ok(SecretId {
                    source,
                    name: SecretName::from_str(name)?,
                })
            });
            match parsed {
                Ok(secret) if secret.source == SecretSource::Env => self.mistake(
                    site,
                    format!("{:?}: source \"env\" names single variables that are already set; it cannot be brought in whole", excerpt(item)),
                ),
                Ok(secret) => {
                    if self.supported(site, &secret) && !self.request.bulk.iter().any(|bulk| bulk.secret == secret) {
                        self.request.bulk.push(Bulk { secret, site: site.clone() });
                    }
                }
                Err(error) if item.contains('/') => {
                    self.mistake(site, format!("{error}; for a single key use {PREFIX}refs"));
                }
                Err(error) => self.mistake(site, error.to_string()),
            }
        }
    }

    fn refs(&mut self, site: &AnnotationRef, value: &str) {
        let references: Vec<Result<SecretReference, String>> = match Form::of(value) {
            Form::Short => self
                .items(site, value, MAX_ITEMS)
                .into_iter()
                .map(|item| parse_reference(item).map_err(|error| error.to_string()))
                .collect(),
            form => reference_documents(form, value).unwrap_or_else(|problem| vec![Err(problem)]),
        };
        for reference in references {
            match reference {
                Ok(reference) => {
                    let variable = Variable {
                        reference,
                        alias: None,
                        site: site.clone(),
                    };
                    self.variable(variable, |reader| &mut reader.request.variables);
                }
                Err(problem) => self.mistake(site, problem),
            }
        }
    }

    /// `env.<VAR>` and `infisical.<name>`; anything else is unknown.
    fn patterned(&mut self, site: &AnnotationRef, value: &str) {
        if site.key.len() > MAX_KEY {
            self.mistake(
                site,
                format!("the name is longer than {MAX_KEY} characters after the prefix"),
            );
        } else if site.key == INHERITED_KEY {
            self.mistake(
                site,
                "is written by the webhook, on pod templates alone; remove it",
            );
        } else if let Some(variable) = site.key.strip_prefix("env.") {
            self.alias(site, variable, value);
        } else if let Some(name) = site.key.strip_prefix("infisical.") {
            self.infisical(site, name, value);
        } else {
            let near = self.known_like(&site.key).map_or_else(
                || "the".to_owned(),
                |known| format!("did you mean {PREFIX}{known}? The"),
            );
            self.mistake(
                site,
                format!(
                    "unknown annotation; {near} annotations are env-from, refs, env.<VAR>, containers, init-containers, on-missing, reload, infisical.<name> and inject"
                ),
            );
        }
    }

    fn known_like(&mut self, key: &str) -> Option<&'static str> {
        self.unknown += 1;
        let near =
            |known: &&str| self.unknown <= MAX_SUGGESTIONS && known.len().abs_diff(key.len()) <= 3;
        let distances = FIXED_KEYS
            .into_iter()
            .filter(near)
            .map(|known| (strsim::damerau_levenshtein(known, key), known));
        distances
            .min()
            .filter(|(distance, _)| *distance <= 3)
            .map(|(_, known)| known)
    }

    fn alias(&mut self, site: &AnnotationRef, variable: &str, value: &str) {
        let name = EnvVarName::from_str(variable);
        let reference = parse_reference(value.trim());
        match (name, reference) {
            (Ok(name), Ok(reference)) if matches!(reference.key, KeyChoice::Key(_)) => {
                let variable = Variable {
                    reference,
                    alias: Some(name),
                    site: site.clone(),
                };
                self.variable(variable, |reader| &mut reader.aliases);
            }
            (Ok(_), Ok(reference)) => {
                self.mistake(
                    site,
                    format!(
                        "{:?} does not say which key; write name/key",
                        reference.to_string()
                    ),
                );
            }
            (name, reference) => {
                for error in [name.err(), reference.err()].into_iter().flatten() {
                    self.mistake(site, error.to_string());
                }
            }
        }
    }

    fn variable(&mut self, variable: Variable, list: fn(&mut Self) -> &mut Vec<Variable>) {
        if !self.supported(&variable.site, &variable.reference.secret) {
            return;
        }
        // Already in the container's environment by other means: nothing to inject.
        if variable.reference.secret.source == SecretSource::Env {
            return;
        }
        let list = list(self);
        let again = |known: &Variable| {
            known.reference == variable.reference && known.alias == variable.alias
        };
        if !list.iter().any(again) {
            list.push(variable);
        }
    }

    fn infisical(&mut self, site: &AnnotationRef, name: &str, value: &str) {
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
                    self.mistake(site, error.to_string());
                }
                if path.is_none() {
                    self.mistake(
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

    fn selection(&mut self, site: &AnnotationRef, value: &str, none: Option<&str>) -> Selection {
        let items = self.items(site, value, MAX_PATTERNS);
        if let ([word], Some(none)) = (items.as_slice(), none)
            && *word == none
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
                Err(error) => self.mistake(site, error.to_string()),
            }
        }
        Selection {
            choice: Choice::Patterns(patterns),
            site: site.clone(),
        }
    }

    /// `inject`: whether anything shall be injected at all.
    fn inject(&mut self, site: &AnnotationRef, value: &str) -> bool {
        let word = self.word(site, value, &INJECT_WORDS);
        if word.is_none()
            && is_meant_for_the_label(value)
            && let Some(mistake) = self.mistakes.last_mut()
        {
            let (key, value) = ENABLED_LABEL;
            mistake.problem = format!(
                "{}; defaults are let in by the label {key}={value} of the Namespace, which is no annotation",
                mistake.problem
            );
        }
        word.unwrap_or(true)
    }

    /// One of a few words; white space around it is ignored, as in lists.
    fn word<T: Copy>(
        &mut self,
        site: &AnnotationRef,
        value: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let value = value.trim();
        let word = words
            .iter()
            .find_map(|(word, meant)| (*word == value).then_some(*meant));
        if word.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.mistake(
                site,
                format!("{:?} is not one of {}", excerpt(value), known.join(", ")),
            );
        }
        word
    }

    /// A list, by comma, space or newline, or by dashes as in YAML. An empty one is a mistake: it is what a template
    /// leaves behind.
    fn items<'v>(&mut self, site: &AnnotationRef, value: &'v str, most: usize) -> Vec<&'v str> {
        let items = value
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|item| !item.is_empty());
        let mut items: Vec<&str> = items.collect();
        if items.first() == Some(&"-") {
            items.retain(|item| *item != "-");
        }
        match check_count(items.len(), most) {
            Ok(()) => items,
            Err(problem) => {
                self.mistake(site, problem);
                Vec::new()
            }
        }
    }
}
