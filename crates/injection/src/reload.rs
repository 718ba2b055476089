//! Restart on change: what Stakater Reloader or the Infisical operator is told on a workload's own metadata.
//!
//! Reloader looks at the metadata and, only when that says nothing about Secrets, at the template; of the two it
//! takes one whole (Reloader, `pkg/common` `ShouldReload`). It matches each item of the named list, split at commas
//! and trimmed, as the regular expression `^item$`. Nothing that an author wrote is ever changed.

use std::collections::{BTreeMap, BTreeSet};

use crate::contract::binding::BindOutcome;
use crate::contract::input::PlanInput;
use crate::contract::problem::NoRestart;
use crate::contract::request::{InjectionRequest, ReloadMode};
use crate::contract::secret_ref::SecretId;
use crate::keys::{INFISICAL, RELOADER_LIST as LIST};
use crate::limits::MAX_RELOAD_BYTES;
use crate::record::Restart;
use crate::view::pod::Annotations;
use crate::view::workload::WorkloadKind;

const AUTO: &str = "reloader.stakater.com/auto";
const SECRET_AUTO: &str = "secret.reloader.stakater.com/auto";
const SEARCH: &str = "reloader.stakater.com/search";
const IGNORE: &str = "reloader.stakater.com/ignore";
const EXCLUDE: &str = "secrets.exclude.reloader.stakater.com/reload";

/// One of these on the metadata, whatever its value, and Reloader does not look at the template about a Secret.
const ABOUT_SECRETS: [&str; 4] = [LIST, AUTO, SECRET_AUTO, SEARCH];

/// The same about `ConfigMaps` and `SecretProviderClasses`.
const ABOUT_OTHERS: [&str; 4] = [
    "configmap.reloader.stakater.com/reload",
    "configmap.reloader.stakater.com/auto",
    "secretproviderclass.reloader.stakater.com/reload",
    "secretproviderclass.reloader.stakater.com/auto",
];

/// `secrets.infisical.com/managed-secret.<name>` ends at 63 characters after the prefix; the operator's whole update is
/// refused beyond.
const MAX_MANAGED: usize = 48;

/// All annotations of an object may come to 256 KiB: one that only tells must not be what is too much.
const MAX_TOLD_BY_POD: usize = 4096;

type Told = BTreeMap<String, String>;

/// What the plan depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestartInput<'a> {
    pub kind: WorkloadKind,
    pub mode: ReloadMode,
    /// The Secrets whose change should restart the workload.
    pub secrets: &'a [String],
    pub metadata: Option<&'a Annotations<'a>>,
    pub template: Option<&'a Annotations<'a>>,
    /// What was written earlier.
    pub recorded: &'a Restart,
    /// The template itself refers to the Secrets.
    pub in_template: bool,
}

/// The annotations to change; `None` takes one away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RestartPlan {
    pub changes: BTreeMap<String, Option<String>>,
    pub written: Restart,
    pub warning: Option<NoRestart>,
}

/// Plans by what authors wrote: earlier additions are taken out first, so that a second pass comes to the same.
pub(crate) fn restart(input: &RestartInput<'_>) -> RestartPlan {
    if is_too_long(input.metadata) || is_too_long(input.template) {
        let warning = (input.mode != ReloadMode::Off).then_some(NoRestart::TooLong);
        return RestartPlan {
            changes: BTreeMap::new(),
            written: input.recorded.clone(),
            warning,
        };
    }
    let metadata = owned(input.metadata);
    let author = without(metadata.clone(), input.recorded);
    let (written, warning) = match choose(input, &author) {
        Ok(written) => (written, None),
        Err(warning) => (Restart::default(), warning),
    };
    let wanted = with(author, &written);
    let mut changes = BTreeMap::new();
    for (key, value) in &wanted {
        if metadata.get(key) != Some(value) {
            changes.insert(key.clone(), Some(value.clone()));
        }
    }
    for key in metadata.keys().filter(|key| !wanted.contains_key(*key)) {
        changes.insert(key.clone(), None);
    }
    RestartPlan {
        changes,
        written,
        warning,
    }
}

/// Longer than anybody writes: merging it would cost more than it says.
fn is_too_long(annotations: Option<&Annotations<'_>>) -> bool {
    let told = annotations.map(Annotations::restarts).unwrap_or_default();
    told.iter()
        .map(|(key, value)| key.len() + value.len())
        .sum::<usize>()
        > MAX_RELOAD_BYTES
}

fn owned(annotations: Option<&Annotations<'_>>) -> Told {
    let told = annotations.map(Annotations::restarts).unwrap_or_default();
    told.into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// What to write, or nothing and perhaps why.
fn choose(input: &RestartInput<'_>, author: &Told) -> Result<Restart, Option<NoRestart>> {
    if input.secrets.is_empty() || !input.kind.restarts() || input.mode == ReloadMode::Off {
        return Err(None);
    }
    let template = owned(input.template);
    let told = ReloaderConfig {
        author,
        template: &template,
    };
    let asked = |why| Err(Some(why));
    if input.mode == ReloadMode::Infisical {
        return if input.kind == WorkloadKind::Rollout {
            asked(NoRestart::NotThisKind)
        } else if input.secrets.iter().any(|name| name.len() > MAX_MANAGED) {
            asked(NoRestart::NameTooLong)
        } else if author.get(INFISICAL).is_some_and(|value| value != "true") {
            asked(NoRestart::OptedOut)
        } else if told.any(LIST, |list| !list.trim().is_empty()) || told.watches() {
            asked(NoRestart::OtherMechanism)
        } else if author.contains_key(INFISICAL) {
            Err(None)
        } else {
            Ok(Restart {
                infisical: true,
                ..Restart::default()
            })
        };
    }
    by_name(&told, input.mode, input.secrets, input.in_template)
}

/// The named list for Reloader, or nothing and perhaps why.
fn by_name(
    told: &ReloaderConfig<'_>,
    mode: ReloadMode,
    secrets: &[String],
    in_template: bool,
) -> Result<Restart, Option<NoRestart>> {
    let asked = |why| Err((mode != ReloadMode::Auto).then_some(why));
    if told.opts_out() {
        return asked(NoRestart::OptedOut);
    }
    if told
        .author
        .get(INFISICAL)
        .is_some_and(|value| value == "true")
    {
        return asked(NoRestart::OtherMechanism);
    }
    if mode == ReloadMode::Auto && told.watches() {
        return Err((!in_template).then_some(NoRestart::Unseen));
    }
    told.merge(secrets).map_err(Some)
}

/// What a pod tells of its restarts: the entries for its Secrets, decided by its own annotations as a workload's would
/// be. Reloader never reads pods, so that this is for people alone, and nothing of the author's is touched for it:
/// where the pod has a list already, there is nothing to add.
pub(crate) fn told_by_pod(input: &PlanInput<'_>) -> Vec<String> {
    let mode = input.request.reload;
    let by_reloader = matches!(mode, ReloadMode::Auto | ReloadMode::Reloader);
    let owners = input
        .pod
        .metadata
        .iter()
        .flat_map(|metadata| metadata.owner_references.iter().flatten());
    // The next run of a Job reads the new value anyway: nothing of it is restarted.
    let of_a_job = owners.into_iter().any(|owner| owner.kind.as_str() == "Job");
    if is_too_long(input.pod.annotations()) {
        return Vec::new();
    }
    let (author, none) = (owned(input.pod.annotations()), Told::new());
    if !by_reloader || of_a_job || author.contains_key(LIST) {
        return Vec::new();
    }
    let told = ReloaderConfig {
        author: &author,
        template: &none,
    };
    let secrets = restarting_secrets(input.request, input.bindings);
    let list = by_name(&told, mode, &secrets, true)
        .map(|written| written.list)
        .unwrap_or_default();
    let length: usize = list.iter().map(|entry| entry.len() + 1).sum();
    if length > MAX_TOLD_BY_POD {
        Vec::new()
    } else {
        list
    }
}

/// What a workload's author tells Reloader.
struct ReloaderConfig<'a> {
    author: &'a Told,
    template: &'a Told,
}

impl ReloaderConfig<'_> {
    fn any(&self, key: &str, is: impl Fn(&str) -> bool) -> bool {
        [self.author, self.template]
            .into_iter()
            .filter_map(|told| told.get(key))
            .any(|value| is(value))
    }

    /// Wherever it stands, and even where Reloader would go by the named list all the same.
    fn opts_out(&self) -> bool {
        [AUTO, SECRET_AUTO]
            .into_iter()
            .any(|key| self.any(key, |value| parse_bool(value) == Some(false)))
            || self.any(IGNORE, |value| parse_bool(value) == Some(true))
    }

    /// Restarts for what the template refers to.
    fn watches(&self) -> bool {
        [AUTO, SECRET_AUTO]
            .into_iter()
            .any(|key| self.any(key, |value| parse_bool(value) == Some(true)))
            || self.any(SEARCH, |value| value == "true")
    }

    /// The entries that the named list lacks, and what of the template has to come up with them.
    fn merge(&self, secrets: &[String]) -> Result<Restart, NoRestart> {
        let hidden = ABOUT_SECRETS
            .into_iter()
            .all(|key| !self.author.contains_key(key));
        let effective = if hidden { self.template } else { self.author };
        let there: BTreeSet<&str> = effective
            .get(LIST)
            .map(|list| items(list).collect())
            .unwrap_or_default();
        let excluded = [self.author, self.template]
            .into_iter()
            .filter_map(|told| told.get(EXCLUDE));
        let excluded: BTreeSet<&str> = excluded.flat_map(|list| items(list)).collect();
        let mut list: Vec<String> = Vec::new();
        for name in secrets
            .iter()
            .filter(|name| !excluded.contains(name.as_str()))
        {
            let entry = escape(name);
            if !there.contains(name.as_str())
                && !there.contains(entry.as_str())
                && !list.contains(&entry)
            {
                list.push(entry);
            }
        }
        let promoted = if hidden && !list.is_empty() {
            self.promote()?
        } else {
            Told::new()
        };
        Ok(Restart {
            list,
            promoted,
            infisical: false,
        })
    }

    /// What our list on the metadata would hide.
    fn promote(&self) -> Result<Told, NoRestart> {
        let of_template = |keys: &[&'static str]| -> Told {
            let there = keys
                .iter()
                .filter_map(|key| Some(((*key).to_owned(), self.template.get(*key)?.clone())));
            there.collect()
        };
        if self.template.contains_key(SEARCH) {
            // It is about ConfigMaps too: what the metadata says about them would change its meaning.
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
        // In the form that is about Secrets alone.
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
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

/// Go's `regexp.QuoteMeta`. In the name of a Secret only the dot needs it.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for character in name.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Takes back what was written, as far as it is still there.
fn without(mut told: Told, written: &Restart) -> Told {
    let Restart {
        list,
        promoted,
        infisical,
    } = written;
    if let Some(there) = told.get(LIST) {
        // Both lists may be forged, and thousands of items long: each is gone through once.
        let mut left: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in list {
            *left.entry(entry).or_default() += 1;
        }
        let mut segments: Vec<&str> = there.split(',').rev().collect();
        segments.retain(|segment| match left.get_mut(segment.trim()) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            Some(_) | None => true,
        });
        segments.reverse();
        let rest = (!segments.is_empty()).then(|| segments.join(","));
        match rest {
            Some(rest) => told.insert(LIST.to_owned(), rest),
            None => told.remove(LIST),
        };
    }
    for (key, value) in promoted {
        if told.get(key) == Some(value) {
            told.remove(key);
        }
    }
    if *infisical && told.get(INFISICAL).is_some_and(|value| value == "true") {
        told.remove(INFISICAL);
    }
    told
}

/// An empty item matches nothing, so that the author's text stands before ours as it was.
fn with(mut told: Told, written: &Restart) -> Told {
    let Restart {
        list,
        promoted,
        infisical,
    } = written;
    for (key, value) in promoted {
        told.insert(key.clone(), value.clone());
    }
    if !list.is_empty() {
        let ours = list.join(",");
        let merged = match told.get(LIST) {
            Some(theirs) => format!("{theirs},{ours}"),
            None => ours,
        };
        told.insert(LIST.to_owned(), merged);
    }
    if *infisical {
        told.insert(INFISICAL.to_owned(), "true".to_owned());
    }
    told
}

/// The names of the Secrets whose change should restart a workload, in the order of the references.
#[must_use]
pub fn restarting_secrets(
    request: &InjectionRequest,
    bindings: &BTreeMap<SecretId, BindOutcome>,
) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let names = request
        .key_queries()
        .into_keys()
        .map(|secret| match bindings.get(secret) {
            Some(BindOutcome::Found(binding)) => binding.secret_name.clone(),
            Some(BindOutcome::Missing { .. } | BindOutcome::Unchecked) | None => {
                secret.name.to_string()
            }
        });
    names.filter(|name| seen.insert(name.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn annotations(pairs: Pairs<'_>) -> Annotations<'static> {
        Annotations::from_pairs(
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        )
    }

    fn plan(
        kind: WorkloadKind,
        mode: ReloadMode,
        secrets: &[&str],
        metadata: Pairs<'_>,
        template: Pairs<'_>,
    ) -> (Told, RestartPlan) {
        let secrets: Vec<String> = secrets.iter().map(|name| (*name).to_owned()).collect();
        let (metadata, template) = (annotations(metadata), annotations(template));
        let once = |metadata: &Annotations<'_>, recorded: &Restart, secrets: &[String]| {
            let input = RestartInput {
                kind,
                mode,
                secrets,
                metadata: Some(metadata),
                template: Some(&template),
                recorded,
                in_template: false,
            };
            let plan = restart(&input);
            let mut after = owned(Some(metadata));
            for (key, change) in &plan.changes {
                match change {
                    Some(value) => after.insert(key.clone(), value.clone()),
                    None => after.remove(key),
                };
            }
            (after, plan)
        };
        let (after, first) = once(&metadata, &Restart::default(), &secrets);
        let written = Annotations::from_pairs(after.clone());
        let (same, second) = once(&written, &first.written, &secrets);
        assert_eq!(
            (&same, second.changes.len(), &second.written),
            (&after, 0, &first.written),
            "a second pass"
        );
        let (back, _) = once(&written, &first.written, &[]);
        assert_eq!(
            back,
            owned(Some(&metadata)),
            "what is taken back is what was written"
        );
        (after, first)
    }

    const S: &str = "secret.reloader.stakater.com/reload";

    #[rstest::rstest]
    // The plain case, and the dot.
    #[case::named(&["a", "b.c"], &[], &[], &[(S, r"a,b\.c")])]
    #[case::no_secret(&[], &[], &[], &[])]
    // What the author lists stays as it is, byte by byte.
    #[case::appended(&["a"], &[(S, "x , y.*")], &[], &[(S, "x , y.*,a")])]
    #[case::empty_list(&["a"], &[(S, "")], &[], &[(S, ",a")])]
    #[case::trailing_comma(&["a"], &[(S, "x,")], &[], &[(S, "x,,a")])]
    #[case::there_literally(&["a.b"], &[(S, "x, a.b")], &[], &[(S, "x, a.b")])]
    #[case::there_escaped(&["a.b"], &[(S, r"a\.b ,x")], &[], &[(S, r"a\.b ,x")])]
    #[case::inside_another_is_not_there(&["a"], &[(S, "a|b")], &[], &[(S, "a|b,a")])]
    // Ways out.
    #[case::off_by_false(&["a"], &[("reloader.stakater.com/auto", "false")], &[], &[("reloader.stakater.com/auto", "false")])]
    #[case::off_by_typed_false(&["a"], &[("secret.reloader.stakater.com/auto", "0")], &[], &[("secret.reloader.stakater.com/auto", "0")])]
    #[case::off_in_the_template(&["a"], &[], &[("reloader.stakater.com/auto", "F")], &[])]
    #[case::ignored(&["a"], &[("reloader.stakater.com/ignore", "true")], &[], &[("reloader.stakater.com/ignore", "true")])]
    #[case::excluded(&["a", "b"], &[("secrets.exclude.reloader.stakater.com/reload", "x, a")], &[],
        &[("secrets.exclude.reloader.stakater.com/reload", "x, a"), (S, "b")])]
    // Other mechanisms.
    #[case::auto(&["a"], &[("reloader.stakater.com/auto", "true")], &[], &[("reloader.stakater.com/auto", "true")])]
    #[case::auto_in_the_template(&["a"], &[], &[("reloader.stakater.com/auto", "true")], &[])]
    #[case::typed_auto(&["a"], &[("secret.reloader.stakater.com/auto", "true")], &[], &[("secret.reloader.stakater.com/auto", "true")])]
    #[case::search(&["a"], &[("reloader.stakater.com/search", "true")], &[], &[("reloader.stakater.com/search", "true")])]
    #[case::infisical(&["a"], &[(INFISICAL, "true")], &[], &[(INFISICAL, "true")])]
    #[case::infisical_off_is_no_mechanism(&["a"], &[(INFISICAL, "false")], &[], &[(INFISICAL, "false"), (S, "a")])]
    #[case::config_maps_are_another_matter(&["a"], &[("configmap.reloader.stakater.com/auto", "false")], &[],
        &[("configmap.reloader.stakater.com/auto", "false"), (S, "a")])]
    // The metadata hides the template.
    #[case::promoted_list(&["a"], &[], &[(S, "t")], &[(S, "t,a")])]
    #[case::nothing_to_lift_when_all_is_there(&["a"], &[], &[(S, "t, a")], &[])]
    #[case::hidden_already(&["a"], &[(S, "m")], &[(S, "t")], &[(S, "m,a")])]
    #[case::search_of_another_value_is_promoted(&["a"], &[], &[("reloader.stakater.com/search", "no"), ("configmap.reloader.stakater.com/reload", "cm")],
        &[(S, "a"), ("configmap.reloader.stakater.com/reload", "cm"), ("reloader.stakater.com/search", "no")])]
    fn auto_means_the_named_list(
        #[case] secrets: &[&str],
        #[case] metadata: Pairs<'_>,
        #[case] template: Pairs<'_>,
        #[case] expected: Pairs<'_>,
    ) {
        let (after, _) = plan(
            WorkloadKind::Deployment,
            ReloadMode::Auto,
            secrets,
            metadata,
            template,
        );
        assert_eq!(after, owned(Some(&annotations(expected))));
    }

    #[rstest::rstest]
    #[case::beside_auto(&[(AUTO, "true")], &[], &[(AUTO, "true"), (S, "a")], None)]
    #[case::auto_of_the_template_is_promoted_for_secrets(&[], &[(AUTO, "true")], &[(SECRET_AUTO, "true"), (S, "a")], None)]
    #[case::typed_auto_of_the_template(&[], &[(SECRET_AUTO, "1")], &[(SECRET_AUTO, "1"), (S, "a")], None)]
    #[case::search_of_the_template(&[], &[(SEARCH, "true"), (AUTO, "true")], &[(SEARCH, "true"), (AUTO, "true"), (S, "a")], None)]
    #[case::search_that_cannot_be_promoted(&[("configmap.reloader.stakater.com/reload", "x")], &[(SEARCH, "true")],
        &[("configmap.reloader.stakater.com/reload", "x")], Some(NoRestart::OtherMechanism))]
    #[case::author_says_no(&[(AUTO, "false")], &[], &[(AUTO, "false")], Some(NoRestart::OptedOut))]
    #[case::infisical(&[(INFISICAL, "true")], &[], &[(INFISICAL, "true")], Some(NoRestart::OtherMechanism))]
    fn reloader_by_name(
        #[case] metadata: Pairs<'_>,
        #[case] template: Pairs<'_>,
        #[case] expected: Pairs<'_>,
        #[case] warning: Option<NoRestart>,
    ) {
        let (after, first) = plan(
            WorkloadKind::StatefulSet,
            ReloadMode::Reloader,
            &["a"],
            metadata,
            template,
        );
        assert_eq!(
            (after, first.warning),
            (owned(Some(&annotations(expected))), warning)
        );
    }

    #[rstest::rstest]
    #[case::plain(WorkloadKind::Deployment, &[], &[], &[(INFISICAL, "true")], None)]
    #[case::the_authors_own(WorkloadKind::DaemonSet, &[(INFISICAL, "true")], &[], &[(INFISICAL, "true")], None)]
    #[case::author_says_no(WorkloadKind::Deployment, &[(INFISICAL, "false")], &[], &[(INFISICAL, "false")], Some(NoRestart::OptedOut))]
    #[case::reloader_is_there(WorkloadKind::Deployment, &[(S, "x")], &[], &[(S, "x")], Some(NoRestart::OtherMechanism))]
    #[case::reloader_in_the_template(WorkloadKind::Deployment, &[], &[(AUTO, "true")], &[], Some(NoRestart::OtherMechanism))]
    #[case::reloader_off_is_none(WorkloadKind::Deployment, &[(AUTO, "false")], &[], &[(AUTO, "false"), (INFISICAL, "true")], None)]
    #[case::rollout(WorkloadKind::Rollout, &[], &[], &[], Some(NoRestart::NotThisKind))]
    fn infisical_by_name(
        #[case] kind: WorkloadKind,
        #[case] metadata: Pairs<'_>,
        #[case] template: Pairs<'_>,
        #[case] expected: Pairs<'_>,
        #[case] warning: Option<NoRestart>,
    ) {
        let (after, first) = plan(kind, ReloadMode::Infisical, &["a"], metadata, template);
        assert_eq!(
            (after, first.warning),
            (owned(Some(&annotations(expected))), warning)
        );
    }

    #[test]
    fn infisical_cannot_name_every_secret() {
        let long = "s".repeat(49);
        for (name, warning) in [
            (&long[..48], None),
            (&long[..], Some(NoRestart::NameTooLong)),
        ] {
            let (after, first) = plan(
                WorkloadKind::Deployment,
                ReloadMode::Infisical,
                &[name],
                &[],
                &[],
            );
            assert_eq!(
                (after.is_empty(), first.warning),
                (warning.is_some(), warning)
            );
        }
    }

    #[rstest::rstest]
    fn jobs_are_never_restarted_and_off_is_off(
        #[values(
            ReloadMode::Auto,
            ReloadMode::Reloader,
            ReloadMode::Infisical,
            ReloadMode::Off
        )]
        mode: ReloadMode,
        #[values(WorkloadKind::Job, WorkloadKind::CronJob, WorkloadKind::Deployment)]
        kind: WorkloadKind,
    ) {
        let (after, first) = plan(kind, mode, &["a"], &[], &[]);
        assert_eq!(
            after.is_empty(),
            !kind.restarts() || mode == ReloadMode::Off,
            "{after:?}"
        );
        assert!(after.len() <= 1, "exactly one mechanism: {after:?}");
        assert_eq!(first.warning, None);
    }

    #[test]
    fn a_changed_wish_replaces_our_entries_and_no_others() {
        let metadata = annotations(&[(S, "x,a,b,y")]);
        let recorded = Restart {
            list: vec!["a".to_owned(), "b".to_owned()],
            ..Restart::default()
        };
        let secrets = ["b".to_owned(), "c".to_owned()];
        let input = RestartInput {
            kind: WorkloadKind::Deployment,
            mode: ReloadMode::Auto,
            secrets: &secrets,
            metadata: Some(&metadata),
            template: None,
            recorded: &recorded,
            in_template: false,
        };
        let changes = restart(&input).changes;
        assert_eq!(
            changes,
            BTreeMap::from([(S.to_owned(), Some("x,y,b,c".to_owned()))])
        );
    }

    /// What Go's regexp makes of `^entry$` for names that look alike: by hand, from its documented syntax.
    #[rstest::rstest]
    #[case("db-creds", "db-creds")]
    #[case("a.b", r"a\.b")]
    #[case("a..b", r"a\.\.b")]
    #[case("x-1.y-2.z", r"x-1\.y-2\.z")]
    #[case(r"a+b*(c)|[d]{e}^$?\", r"a\+b\*\(c\)\|\[d\]\{e\}\^\$\?\\")]
    fn names_are_quoted_as_go_quotes_them(#[case] name: &str, #[case] expected: &str) {
        assert_eq!(escape(name), expected);
    }

    /// Both tables are what the real Reloader decided: of an entry and a Secret, and of an entry all the Secrets of
    /// the first table for which it restarts.
    #[test]
    fn reloader_takes_our_entry_for_its_secret_and_for_no_other() {
        let pairs: Vec<Vec<&str>> =
            table(include_str!("../tests/testdata/reloader_matching.tsv")).collect();
        let names: BTreeSet<&str> = pairs.iter().map(|row| row[1]).collect();
        let restarts: BTreeMap<&str, Vec<&str>> =
            table(include_str!("../tests/testdata/reloader_names.tsv"))
                .map(|row| (row[0], row[1].split(' ').collect()))
                .collect();
        assert!(names.len() > 1000, "the tables are whole");
        let mut look_alikes = 0;
        for name in &names {
            let entry = escape(name);
            assert_eq!(restarts.get(entry.as_str()), Some(&vec![*name]), "{entry}");
            look_alikes += usize::from(
                restarts
                    .get(name)
                    .is_some_and(|unescaped| unescaped.len() > 1),
            );
        }
        assert!(
            look_alikes > 100,
            "{look_alikes} names would mean others too, were they not escaped"
        );
        let ours: BTreeMap<String, &str> = names.iter().map(|name| (escape(name), *name)).collect();
        let told = pairs
            .iter()
            .filter_map(|row| Some((row, *ours.get(row[0])?)));
        let wrong: Vec<_> = told
            .filter(|(row, name)| row[2] != (row[1] == *name).to_string())
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    fn table(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
        text.lines().skip(1).map(|line| line.split('\t').collect())
    }

    /// As Reloader matches an item: `^` before it and `$` after it, without a group. Of Go's syntax as much as the
    /// tables here use: characters, escaped ones, `.`, `*` and `|`.
    fn matches(item: &str, name: &str) -> bool {
        fn here(pattern: &[char], text: &[char], to_the_end: bool) -> bool {
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
                    here(rest, text, to_the_end)
                        || (is(text) && here(pattern, text.get(1..).unwrap_or(&[]), to_the_end))
                }
                rest => is(text) && here(rest, text.get(1..).unwrap_or(&[]), to_the_end),
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
                .any(|start| here(one, name.get(start..).unwrap_or(&[]), last))
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
    fn an_item_matches_as_gos_regexp_would(
        #[case] item: &str,
        #[case] name: &str,
        #[case] expected: bool,
    ) {
        assert_eq!(matches(item, name), expected);
    }

    /// Every name of up to four characters against every other.
    #[test]
    fn our_entry_matches_its_secret_and_no_look_alike() {
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
            let entry = escape(one);
            assert!(!entry.contains(','));
            for other in &names {
                assert_eq!(matches(&entry, other), one == other, "{entry} and {other}");
            }
        }
    }
}
