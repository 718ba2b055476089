//! Collects the request and the invalid annotations while the contract is parsed.

use crate::contract::decision::InvalidAnnotation;
use crate::contract::request::{AnnotationRef, InjectionRequest, Variable};
use crate::contract::secret_ref::{SecretId, SecretSource};
use crate::excerpt::excerpt;
use crate::keys::RECORD_KEY;
use crate::limits::{MAX_SECRETS, check_count};

/// Unknown annotations for which a similar known one is looked for.
const MAX_SUGGESTIONS: usize = 8;

/// Annotations with a fixed name, for suggestions.
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

/// The request and the errors so far.
#[derive(Default)]
pub(crate) struct Collector {
    pub(crate) request: InjectionRequest,
    /// Variables by `env.<VAR>`: they follow those by `refs`.
    pub(crate) aliases: Vec<Variable>,
    pub(crate) errors: Vec<InvalidAnnotation>,
    /// Number of unknown annotations.
    unknown: usize,
}

impl Collector {
    /// Reports an invalid annotation.
    pub(crate) fn reject(&mut self, site: &AnnotationRef, problem: impl Into<String>) {
        self.errors.push(InvalidAnnotation {
            site: site.clone(),
            problem: problem.into(),
            unsupported: false,
        });
    }

    /// Rejects too many secrets once, at the first annotation that requests any.
    pub(crate) fn check_secrets(&mut self) {
        let secrets = self.request.key_queries().len();
        if let Some(site) = self
            .request
            .first_site()
            .cloned()
            .filter(|_| secrets > MAX_SECRETS)
        {
            self.reject(
                &site,
                format!(
                    "with the other annotations, {secrets} different secrets are asked for; at most {MAX_SECRETS} are allowed for one object"
                ),
            );
        }
    }

    /// Whether the webhook has the source of the secret; rejects the annotation otherwise.
    pub(crate) fn check_source(&mut self, site: &AnnotationRef, secret: &SecretId) -> bool {
        let supported = secret.source != SecretSource::Vault;
        if !supported {
            self.errors.push(InvalidAnnotation {
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

    /// Adds a variable to a list, unless it is in the list already.
    pub(crate) fn add_variable(
        &mut self,
        variable: Variable,
        list: fn(&mut Self) -> &mut Vec<Variable>,
    ) {
        if !self.check_source(&variable.site, &variable.reference.secret) {
            return;
        }
        // The variable is in the container's environment by other means: there is nothing to inject.
        if variable.reference.secret.source == SecretSource::Env {
            return;
        }
        let list = list(self);
        let is_same = |known: &Variable| {
            known.reference == variable.reference && known.alias == variable.alias
        };
        if !list.iter().any(is_same) {
            list.push(variable);
        }
    }

    /// Parses one of a few keywords. White space around it is ignored, as in lists.
    pub(crate) fn keyword<T: Copy>(
        &mut self,
        site: &AnnotationRef,
        value: &str,
        keywords: &[(&str, T)],
    ) -> Option<T> {
        let value = value.trim();
        let meaning = keywords
            .iter()
            .find_map(|(keyword, meaning)| (*keyword == value).then_some(*meaning));
        if meaning.is_none() {
            let known: Vec<&str> = keywords.iter().map(|(keyword, _)| *keyword).collect();
            self.reject(
                site,
                format!("{:?} is not one of {}", excerpt(value), known.join(", ")),
            );
        }
        meaning
    }

    /// Splits a list at commas and white space, or at dashes as in YAML. An empty list is rejected: it is what a
    /// manifest template with an unset value results in.
    pub(crate) fn items<'v>(
        &mut self,
        site: &AnnotationRef,
        value: &'v str,
        most: usize,
    ) -> Vec<&'v str> {
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
                self.reject(site, problem);
                Vec::new()
            }
        }
    }

    /// Known annotation whose name is similar to an unknown one.
    pub(crate) fn similar_key(&mut self, key: &str) -> Option<&'static str> {
        self.unknown += 1;
        let is_comparable =
            |known: &&str| self.unknown <= MAX_SUGGESTIONS && known.len().abs_diff(key.len()) <= 3;
        let distances = FIXED_KEYS
            .into_iter()
            .filter(is_comparable)
            .map(|known| (strsim::damerau_levenshtein(known, key), known));
        distances
            .min()
            .filter(|(distance, _)| *distance <= 3)
            .map(|(_, known)| known)
    }
}
