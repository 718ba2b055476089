//! Restart on change: plans the annotations on a workload's metadata by which Stakater Reloader or the Infisical
//! operator restarts it. Nothing that an author wrote is changed.

pub(crate) mod annotations;
pub(crate) mod list_entry;
pub(crate) mod mechanism;
pub(crate) mod pod;
pub(crate) mod reloader_config;

use std::collections::BTreeMap;

use crate::contract::request::ReloadMode;
use crate::contract::warning::NoRestart;
use crate::keys::{INFISICAL, RELOADER_LIST as LIST};
use crate::record::Restart;
use crate::reload::annotations::{
    ReloadAnnotations, is_too_long, reload_annotations, with_written, without_written,
};
use crate::reload::reloader_config::ReloaderConfig;
use crate::view::annotations::Annotations;
use crate::view::workload::WorkloadKind;

/// Limit of the Infisical operator for a Secret's name: the part of `secrets.infisical.com/managed-secret.<name>` after
/// the slash has at most 63 characters, and the operator's whole update is rejected beyond.
const MAX_INFISICAL_NAME: usize = 48;

/// Input of [`plan_restart`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestartInput<'a> {
    pub kind: WorkloadKind,
    pub mode: ReloadMode,
    /// Secrets whose change should restart the workload.
    pub secrets: &'a [String],
    pub metadata: Option<&'a Annotations<'a>>,
    pub template: Option<&'a Annotations<'a>>,
    /// Entries that an earlier pass wrote.
    pub recorded: &'a Restart,
    /// Whether the template itself refers to the Secrets.
    pub in_template: bool,
}

/// Annotations to change; `None` removes one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RestartPlan {
    pub changes: BTreeMap<String, Option<String>>,
    pub written: Restart,
    pub warning: Option<NoRestart>,
}

/// Plans from the author's annotations: earlier additions are removed first, so that a second pass has the same result.
pub(crate) fn plan_restart(input: &RestartInput<'_>) -> RestartPlan {
    if is_too_long(input.metadata) || is_too_long(input.template) {
        let warning = (input.mode != ReloadMode::Off).then_some(NoRestart::TooLong);
        return RestartPlan {
            changes: BTreeMap::new(),
            written: input.recorded.clone(),
            warning,
        };
    }
    let metadata = reload_annotations(input.metadata);
    let author = without_written(metadata.clone(), input.recorded);
    let (written, warning) = match choose_mechanism(input, &author) {
        Ok(written) => (written, None),
        Err(warning) => (Restart::default(), warning),
    };
    let desired = with_written(author, &written);
    let mut changes = BTreeMap::new();
    for (key, value) in &desired {
        if metadata.get(key) != Some(value) {
            changes.insert(key.clone(), Some(value.clone()));
        }
    }
    for key in metadata.keys().filter(|key| !desired.contains_key(*key)) {
        changes.insert(key.clone(), None);
    }
    RestartPlan {
        changes,
        written,
        warning,
    }
}

/// Chooses what to write. The error is a warning, or `None` if nothing has to be written.
fn choose_mechanism(
    input: &RestartInput<'_>,
    author: &ReloadAnnotations,
) -> Result<Restart, Option<NoRestart>> {
    if input.secrets.is_empty() || !input.kind.is_restartable() || input.mode == ReloadMode::Off {
        return Err(None);
    }
    let template = reload_annotations(input.template);
    let config = ReloaderConfig {
        author,
        template: &template,
    };
    if input.mode == ReloadMode::Infisical {
        let refused = |reason| Err(Some(reason));
        return if input.kind == WorkloadKind::Rollout {
            refused(NoRestart::NotThisKind)
        } else if input
            .secrets
            .iter()
            .any(|name| name.len() > MAX_INFISICAL_NAME)
        {
            refused(NoRestart::NameTooLong)
        } else if author.get(INFISICAL).is_some_and(|value| value != "true") {
            refused(NoRestart::OptedOut)
        } else if config.any(LIST, |list| !list.trim().is_empty()) || config.watches_template() {
            refused(NoRestart::OtherMechanism)
        } else if author.contains_key(INFISICAL) {
            Err(None)
        } else {
            Ok(Restart {
                infisical: true,
                ..Restart::default()
            })
        };
    }
    config.plan_list(input.mode, input.secrets, input.in_template)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reload::annotations::{AUTO, SEARCH, SECRET_AUTO};

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
    ) -> (ReloadAnnotations, RestartPlan) {
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
            let plan = plan_restart(&input);
            let mut after = reload_annotations(Some(metadata));
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
        let (without, _) = once(&written, &first.written, &[]);
        assert_eq!(
            without,
            reload_annotations(Some(&metadata)),
            "removing the written entries restores the original"
        );
        (after, first)
    }

    const S: &str = "secret.reloader.stakater.com/reload";

    #[rstest::rstest]
    // Plain names, and a name with a dot.
    #[case::named(&["a", "b.c"], &[], &[], &[(S, r"a,b\.c")])]
    #[case::no_secret(&[], &[], &[], &[])]
    // The author's list is kept byte by byte.
    #[case::appended(&["a"], &[(S, "x , y.*")], &[], &[(S, "x , y.*,a")])]
    #[case::empty_list(&["a"], &[(S, "")], &[], &[(S, ",a")])]
    #[case::trailing_comma(&["a"], &[(S, "x,")], &[], &[(S, "x,,a")])]
    #[case::there_literally(&["a.b"], &[(S, "x, a.b")], &[], &[(S, "x, a.b")])]
    #[case::there_escaped(&["a.b"], &[(S, r"a\.b ,x")], &[], &[(S, r"a\.b ,x")])]
    #[case::inside_another_is_not_there(&["a"], &[(S, "a|b")], &[], &[(S, "a|b,a")])]
    // Opting out.
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
    #[case::infisical_off_is_not_a_mechanism(&["a"], &[(INFISICAL, "false")], &[], &[(INFISICAL, "false"), (S, "a")])]
    #[case::annotations_about_config_maps_do_not_count(&["a"], &[("configmap.reloader.stakater.com/auto", "false")], &[],
        &[("configmap.reloader.stakater.com/auto", "false"), (S, "a")])]
    // The metadata hides the template's annotations.
    #[case::promoted_list(&["a"], &[], &[(S, "t")], &[(S, "t,a")])]
    #[case::nothing_to_promote_if_all_is_listed(&["a"], &[], &[(S, "t, a")], &[])]
    #[case::hidden_already(&["a"], &[(S, "m")], &[(S, "t")], &[(S, "m,a")])]
    #[case::search_of_another_value_is_promoted(&["a"], &[], &[("reloader.stakater.com/search", "no"), ("configmap.reloader.stakater.com/reload", "cm")],
        &[(S, "a"), ("configmap.reloader.stakater.com/reload", "cm"), ("reloader.stakater.com/search", "no")])]
    fn auto_writes_the_named_list(
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
        assert_eq!(after, reload_annotations(Some(&annotations(expected))));
    }

    #[rstest::rstest]
    #[case::beside_auto(&[(AUTO, "true")], &[], &[(AUTO, "true"), (S, "a")], None)]
    #[case::auto_of_the_template_is_promoted_for_secrets(&[], &[(AUTO, "true")], &[(SECRET_AUTO, "true"), (S, "a")], None)]
    #[case::typed_auto_of_the_template(&[], &[(SECRET_AUTO, "1")], &[(SECRET_AUTO, "1"), (S, "a")], None)]
    #[case::search_of_the_template(&[], &[(SEARCH, "true"), (AUTO, "true")], &[(SEARCH, "true"), (AUTO, "true"), (S, "a")], None)]
    #[case::search_that_cannot_be_promoted(&[("configmap.reloader.stakater.com/reload", "x")], &[(SEARCH, "true")],
        &[("configmap.reloader.stakater.com/reload", "x")], Some(NoRestart::OtherMechanism))]
    #[case::author_opts_out(&[(AUTO, "false")], &[], &[(AUTO, "false")], Some(NoRestart::OptedOut))]
    #[case::infisical(&[(INFISICAL, "true")], &[], &[(INFISICAL, "true")], Some(NoRestart::OtherMechanism))]
    fn reloader_writes_the_named_list_or_warns(
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
            (reload_annotations(Some(&annotations(expected))), warning)
        );
    }

    #[rstest::rstest]
    #[case::plain(WorkloadKind::Deployment, &[], &[], &[(INFISICAL, "true")], None)]
    #[case::the_authors_own(WorkloadKind::DaemonSet, &[(INFISICAL, "true")], &[], &[(INFISICAL, "true")], None)]
    #[case::author_opts_out(WorkloadKind::Deployment, &[(INFISICAL, "false")], &[], &[(INFISICAL, "false")], Some(NoRestart::OptedOut))]
    #[case::reloader_is_there(WorkloadKind::Deployment, &[(S, "x")], &[], &[(S, "x")], Some(NoRestart::OtherMechanism))]
    #[case::reloader_in_the_template(WorkloadKind::Deployment, &[], &[(AUTO, "true")], &[], Some(NoRestart::OtherMechanism))]
    #[case::reloader_off_is_none(WorkloadKind::Deployment, &[(AUTO, "false")], &[], &[(AUTO, "false"), (INFISICAL, "true")], None)]
    #[case::rollout(WorkloadKind::Rollout, &[], &[], &[], Some(NoRestart::NotThisKind))]
    fn infisical_is_written_or_warns(
        #[case] kind: WorkloadKind,
        #[case] metadata: Pairs<'_>,
        #[case] template: Pairs<'_>,
        #[case] expected: Pairs<'_>,
        #[case] warning: Option<NoRestart>,
    ) {
        let (after, first) = plan(kind, ReloadMode::Infisical, &["a"], metadata, template);
        assert_eq!(
            (after, first.warning),
            (reload_annotations(Some(&annotations(expected))), warning)
        );
    }

    #[test]
    fn infisical_limits_the_name_of_a_secret() {
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
    fn jobs_and_mode_off_get_no_reload_annotation(
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
            !kind.is_restartable() || mode == ReloadMode::Off,
            "{after:?}"
        );
        assert!(after.len() <= 1, "exactly one mechanism: {after:?}");
        assert_eq!(first.warning, None);
    }

    #[test]
    fn changed_request_replaces_only_recorded_entries() {
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
        let changes = plan_restart(&input).changes;
        assert_eq!(
            changes,
            BTreeMap::from([(S.to_owned(), Some("x,y,b,c".to_owned()))])
        );
    }
}
