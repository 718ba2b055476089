//! Parses annotations, and the defaults that apply to them, to a request.
//!
//! The nearest annotation of each name counts: pod, then service account, then namespace. All errors are collected, so
//! that one response names them all. An error in a value that a nearer annotation hides is not reported.

use crate::contract::collector::Collector;
use crate::contract::decision::{Decision, InvalidAnnotation, SkipReason};
use crate::contract::idle_defaults::is_meant_for_the_label;
use crate::contract::inherited;
use crate::contract::layers::{AnnotationLayers, EffectiveAnnotations};
use crate::contract::request::{AnnotationOwner, AnnotationRef, OnMissing, ReloadMode};
use crate::keys::{ENABLED_LABEL, INHERITED_KEY, PREFIX, RECORD_KEY};
use crate::limits::{MAX_ITEMS, MAX_TOTAL_BYTES, MAX_VALUE_BYTES};
use crate::view::annotations::Annotations;

/// Limit of Kubernetes for the part of an annotation's name after the prefix.
const MAX_KEY_CHARS: usize = 63;

const INJECT_KEYWORDS: [(&str, bool); 2] = [("true", true), ("false", false)];
const ON_MISSING_KEYWORDS: [(&str, OnMissing); 2] =
    [("deny", OnMissing::Deny), ("warn", OnMissing::Warn)];
const RELOAD_KEYWORDS: [(&str, ReloadMode); 4] = [
    ("auto", ReloadMode::Auto),
    ("reloader", ReloadMode::Reloader),
    ("infisical", ReloadMode::Infisical),
    ("off", ReloadMode::Off),
];

/// Parses the annotations that apply to a pod.
///
/// # Errors
/// All invalid annotations that count, in the order of their names. Defaults do not apply to an object that opts out,
/// so their errors are not reported for it.
pub fn parse(sources: &AnnotationLayers<'_>) -> Result<Decision, Vec<InvalidAnnotation>> {
    let mut collector = Collector::default();
    let inherited = collector.inherited(sources.object);
    let inject = collector.parse_all(&sources.effective(inherited.as_ref()));
    if inject {
        collector.check_secrets();
    } else {
        collector
            .errors
            .retain(|error| !error.site.origin.is_default());
    }
    if !collector.errors.is_empty() {
        return Err(collector.errors);
    }
    Ok(match collector.request {
        _ if !inject => Decision::Skip(SkipReason::OptedOut),
        request if request.is_empty() => Decision::Skip(SkipReason::NotRequested),
        request => Decision::Inject(Box::new(request)),
    })
}

impl Collector {
    /// Annotations that a pod's template inherited. A value that the webhook did not write is rejected.
    fn inherited(&mut self, object: Option<&Annotations<'_>>) -> Option<Annotations<'static>> {
        match inherited::read(inherited::inherited_value(object)?) {
            Ok(keys) => Some(keys),
            Err(problem) => {
                self.reject(
                    &AnnotationRef::new(INHERITED_KEY, AnnotationOwner::Object),
                    problem,
                );
                None
            }
        }
    }

    /// Parses annotations within their limits. Returns whether injection is enabled.
    fn parse_all(&mut self, effective: &EffectiveAnnotations<'_>) -> bool {
        let mut inject = true;
        let mut bytes = 0;
        // The record is information, never proof, so a forged one is not an error.
        let requests = effective.iter().filter(|(key, _)| **key != RECORD_KEY);
        for (read, (key, (value, owner))) in requests.enumerate() {
            let site = AnnotationRef::new(key, owner.clone());
            bytes += key.len() + value.len();
            if read == MAX_ITEMS {
                self.reject(
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
                self.reject(&site, problem);
                break;
            }
            if value.len() > MAX_VALUE_BYTES {
                self.reject(
                    &site,
                    format!(
                        "is {} bytes long; at most {MAX_VALUE_BYTES} are read",
                        value.len()
                    ),
                );
                continue;
            }
            if *key == "inject" {
                inject = self.inject(&site, value);
            } else {
                self.parse_one(&site, key, value);
            }
        }
        self.request.variables.append(&mut self.aliases);
        inject
    }

    fn parse_one(&mut self, site: &AnnotationRef, key: &str, value: &str) {
        match key {
            "env-from" => self.env_from(site, value),
            "refs" => self.refs(site, value),
            "containers" => self.request.containers = Some(self.selection(site, value, None)),
            "init-containers" => {
                self.request.init_containers = Some(self.selection(site, value, Some("none")));
            }
            "on-missing" => {
                self.request.on_missing = self.keyword(site, value, &ON_MISSING_KEYWORDS);
            }
            "reload" => {
                self.request.reload = self
                    .keyword(site, value, &RELOAD_KEYWORDS)
                    .unwrap_or_default();
            }
            _ => self.parse_patterned(site, value),
        }
    }

    /// Parses `env.<VAR>` and `infisical.<name>`; rejects unknown annotations.
    fn parse_patterned(&mut self, site: &AnnotationRef, value: &str) {
        if site.key.len() > MAX_KEY_CHARS {
            self.reject(
                site,
                format!("the name is longer than {MAX_KEY_CHARS} characters after the prefix"),
            );
        } else if site.key == INHERITED_KEY {
            self.reject(
                site,
                "is written by the webhook, on pod templates alone; remove it",
            );
        } else if let Some(variable) = site.key.strip_prefix("env.") {
            self.alias(site, variable, value);
        } else if let Some(name) = site.key.strip_prefix("infisical.") {
            self.infisical(site, name, value);
        } else {
            let hint = self.similar_key(&site.key).map_or_else(
                || "the".to_owned(),
                |known| format!("did you mean {PREFIX}{known}? The"),
            );
            self.reject(
                site,
                format!(
                    "unknown annotation; {hint} annotations are env-from, refs, env.<VAR>, containers, init-containers, on-missing, reload, infisical.<name> and inject"
                ),
            );
        }
    }

    /// Parses `inject`. Returns whether injection is enabled.
    fn inject(&mut self, site: &AnnotationRef, value: &str) -> bool {
        let inject = self.keyword(site, value, &INJECT_KEYWORDS);
        if inject.is_none()
            && is_meant_for_the_label(value)
            && let Some(error) = self.errors.last_mut()
        {
            let (key, value) = ENABLED_LABEL;
            error.problem = format!(
                "{}; defaults are let in by the label {key}={value} of the Namespace, which is no annotation",
                error.problem
            );
        }
        inject.unwrap_or(true)
    }
}
