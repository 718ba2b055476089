//! Configuration of Reloader by a workload's annotations, and the entries of its named list.
//!
//! Reloader reads the metadata and, only if no annotation there is about Secrets, the template; it uses one of the two
//! as a whole (Reloader, `pkg/common` `ShouldReload`).

use std::collections::BTreeSet;

use crate::contract::request::ReloadMode;
use crate::contract::warning::NoRestart;
use crate::keys::{INFISICAL, RELOADER_LIST as LIST};
use crate::record::Restart;
use crate::reload::annotations::{AUTO, EXCLUDE, IGNORE, ReloadAnnotations, SEARCH, SECRET_AUTO};
use crate::reload::list_entry::{items, quote_regex};

/// Annotations about Secrets. If the metadata has one of them, with any value, Reloader ignores the template's.
pub(crate) const ABOUT_SECRETS: [&str; 4] = [LIST, AUTO, SECRET_AUTO, SEARCH];

/// Annotations about `ConfigMaps` and `SecretProviderClasses`, with the same rule.
const ABOUT_OTHERS: [&str; 4] = [
    "configmap.reloader.stakater.com/reload",
    "configmap.reloader.stakater.com/auto",
    "secretproviderclass.reloader.stakater.com/reload",
    "secretproviderclass.reloader.stakater.com/auto",
];

/// Reload annotations by a workload's author.
pub(crate) struct ReloaderConfig<'a> {
    pub(crate) author: &'a ReloadAnnotations,
    pub(crate) template: &'a ReloadAnnotations,
}

impl ReloaderConfig<'_> {
    pub(crate) fn any(&self, key: &str, is: impl Fn(&str) -> bool) -> bool {
        [self.author, self.template]
            .into_iter()
            .filter_map(|annotations| annotations.get(key))
            .any(|value| is(value))
    }

    /// Whether the author opts out, on the metadata or the template, even if Reloader would use the named list anyway.
    fn opts_out(&self) -> bool {
        [AUTO, SECRET_AUTO]
            .into_iter()
            .any(|key| self.any(key, |value| parse_bool(value) == Some(false)))
            || self.any(IGNORE, |value| parse_bool(value) == Some(true))
    }

    /// Whether Reloader restarts the workload for the Secrets that its template refers to.
    pub(crate) fn watches_template(&self) -> bool {
        [AUTO, SECRET_AUTO]
            .into_iter()
            .any(|key| self.any(key, |value| parse_bool(value) == Some(true)))
            || self.any(SEARCH, |value| value == "true")
    }

    /// Plans the entries of the named list. The error is a warning, or `None` if nothing has to be written.
    pub(crate) fn plan_list(
        &self,
        mode: ReloadMode,
        secrets: &[String],
        in_template: bool,
    ) -> Result<Restart, Option<NoRestart>> {
        let refused = |reason| Err((mode != ReloadMode::Auto).then_some(reason));
        if self.opts_out() {
            return refused(NoRestart::OptedOut);
        }
        if self
            .author
            .get(INFISICAL)
            .is_some_and(|value| value == "true")
        {
            return refused(NoRestart::OtherMechanism);
        }
        if mode == ReloadMode::Auto && self.watches_template() {
            return Err((!in_template).then_some(NoRestart::NotWatched));
        }
        self.merge(secrets).map_err(Some)
    }

    /// Entries that the named list lacks, and annotations of the template that have to be promoted with them.
    fn merge(&self, secrets: &[String]) -> Result<Restart, NoRestart> {
        let template_counts = ABOUT_SECRETS
            .into_iter()
            .all(|key| !self.author.contains_key(key));
        let effective = if template_counts {
            self.template
        } else {
            self.author
        };
        let listed: BTreeSet<&str> = effective
            .get(LIST)
            .map(|list| items(list).collect())
            .unwrap_or_default();
        let excluded = [self.author, self.template]
            .into_iter()
            .filter_map(|annotations| annotations.get(EXCLUDE));
        let excluded: BTreeSet<&str> = excluded.flat_map(|list| items(list)).collect();
        let mut list: Vec<String> = Vec::new();
        for name in secrets
            .iter()
            .filter(|name| !excluded.contains(name.as_str()))
        {
            let entry = quote_regex(name);
            if !listed.contains(name.as_str())
                && !listed.contains(entry.as_str())
                && !list.contains(&entry)
            {
                list.push(entry);
            }
        }
        let promoted = if template_counts && !list.is_empty() {
            self.promote()?
        } else {
            ReloadAnnotations::new()
        };
        Ok(Restart {
            list,
            promoted,
            infisical: false,
        })
    }

    /// Annotations of the template that Reloader would ignore once the metadata has a named list.
    fn promote(&self) -> Result<ReloadAnnotations, NoRestart> {
        let of_template = |keys: &[&'static str]| -> ReloadAnnotations {
            let existing = keys
                .iter()
                .filter_map(|key| Some(((*key).to_owned(), self.template.get(*key)?.clone())));
            existing.collect()
        };
        if self.template.contains_key(SEARCH) {
            // `search` is about ConfigMaps too: annotations of the metadata about them would change its meaning.
            if ABOUT_OTHERS
                .into_iter()
                .any(|key| self.author.contains_key(key))
            {
                return Err(NoRestart::OtherMechanism);
            }
            return Ok(of_template(
                &[&ABOUT_SECRETS[..], &ABOUT_OTHERS[..]].concat(),
            ));
        }
        let mut promoted = of_template(&[LIST, SECRET_AUTO]);
        // Promoted under the name that is about Secrets only.
        if let Some(auto) = self
            .template
            .get(AUTO)
            .filter(|auto| parse_bool(auto) == Some(true))
        {
            promoted.insert(SECRET_AUTO.to_owned(), auto.clone());
        }
        Ok(promoted)
    }
}

/// Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
