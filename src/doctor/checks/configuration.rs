//! The webhook configuration against the one that is shipped: entries, rules, conditions, policies. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, RuleWithOperations,
};
use kube::core::{Selector, SelectorExt as _};

use crate::defaults::ENABLED_LABEL;
use crate::doctor::check::{Check, Id, or_ok};
use crate::doctor::entries::{NAME_LABEL, find, shipped};
use crate::doctor::installation::{Alike, Installation};
use crate::kubernetes::Lookup;

/// The timeouts that make sense, in seconds: below, a slow moment refuses pods; above, a dead webhook holds up creates.
const TIMEOUTS: std::ops::RangeInclusive<i32> = 2..=10;

/// Fields of metadata that every object has.
const ALWAYS: [&str; 4] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.generateName",
];

/// Judges the configuration.
pub fn judge(seen: &Installation) -> Vec<Check> {
    let Installation { name, alike, .. } = seen;
    let again = seen.origin().again();
    let found = match &seen.configuration {
        Lookup::Found(_) => seen.entries(),
        Lookup::NotFound => {
            let says = format!(
                "MutatingWebhookConfiguration {name} not found: nobody is asked about any pod, and pods run without their secrets"
            );
            return vec![Check::failure(Id::Configuration, says, again)];
        }
        Lookup::Unknown(why) => return vec![Check::unchecked(Id::Configuration, why.clone())],
    };
    let mut checks = or_ok(others(alike), Id::Configuration, || {
        format!("MutatingWebhookConfiguration {name} is there")
    });
    let each =
        |judge: fn(&MutatingWebhook, &MutatingWebhook, &Installation) -> Vec<Check>| -> Vec<Check> {
            let pairs = shipped()
                .iter()
                .filter_map(|shipped| Some((find(found, &shipped.name)?, shipped)));
            pairs
                .flat_map(|(entry, shipped)| judge(entry, shipped, seen))
                .collect()
        };
    let mut listed = missing(found, &again);
    listed.extend(each(paths_and_rules));
    checks.extend(or_ok(listed, Id::Entries, || {
        format!("all {} entries, as they are shipped", shipped().len())
    }));
    let own = found
        .iter()
        .filter(|entry| find(shipped(), &entry.name).is_some())
        .count();
    checks.extend(or_ok(each(conditions), Id::Conditions, || {
        format!("{own} entries have their conditions, and every field in them may be absent")
    }));
    checks.extend(or_ok(each(policies), Id::Policies, || {
        policy_summary(found)
    }));
    checks
}

/// Other configurations of ours. One that labels keep apart may be another installation, for other pods: deleting it
/// would let those pods run without their secrets, so it is only shown.
fn others(alike: &[Alike]) -> Vec<Check> {
    let named = |labelled: bool| -> Vec<&str> {
        alike
            .iter()
            .filter(|other| other.labelled == labelled)
            .map(|other| other.name.as_str())
            .collect()
    };
    let (twice, apart) = (named(false), named(true));
    let mut checks = Vec::new();
    if !twice.is_empty() {
        let says = format!(
            "{} has entries of this webhook too: each object is sent twice",
            twice.join(", ")
        );
        let mend = format!(
            "kubectl delete mutatingwebhookconfiguration {}",
            twice.join(" ")
        );
        checks.push(Check::warning(Id::Configuration, says, mend));
    }
    if !apart.is_empty() {
        let says = format!(
            "{} has entries of this webhook with other conditions on labels: objects that match both are sent twice. \
             It may be another installation, for other pods: see that the labels keep the two apart, and do not delete it \
             before you know whose it is",
            apart.join(", ")
        );
        let mend = format!(
            "kubectl get mutatingwebhookconfiguration {} -o yaml",
            apart.join(" ")
        );
        checks.push(Check::warning(Id::Configuration, says, mend));
    }
    checks
}

fn missing(found: &[MutatingWebhook], again: &str) -> Vec<Check> {
    let missing: Vec<&str> = shipped()
        .iter()
        .map(|entry| entry.name.as_str())
        .filter(|name| find(found, name).is_none())
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let says = format!(
        "missing: {}; what it concerns is never sent to the webhook",
        missing.join(", ")
    );
    vec![Check::failure(Id::Entries, says, again)]
}

/// Where the entry leads, and what it sees.
fn paths_and_rules(
    entry: &MutatingWebhook,
    shipped: &MutatingWebhook,
    seen: &Installation,
) -> Vec<Check> {
    let again = seen.origin().again();
    let mut checks = Vec::new();
    let name = &entry.name;
    let wanted = shipped
        .client_config
        .service
        .as_ref()
        .and_then(|service| service.path.as_deref())
        .unwrap_or_default();
    let path = match (&entry.client_config.service, &entry.client_config.url) {
        (Some(service), _) => service.path.clone().unwrap_or_default(),
        (None, Some(url)) => url.clone(),
        (None, None) => String::new(),
    };
    if !path.trim_end_matches('/').ends_with(wanted) {
        checks.push(Check::failure(
            Id::Entries,
            format!("{name} leads to {path:?} and not to {wanted}"),
            again.as_str(),
        ));
    }
    let (is, should) = (rules(entry), rules(shipped));
    let lacks: Vec<&str> = should.difference(&is).map(String::as_str).collect();
    if !lacks.is_empty() {
        checks.push(Check::failure(
            Id::Entries,
            format!("{name} is not sent {}", lacks.join(", ")),
            again.as_str(),
        ));
    }
    let more: Vec<&str> = is.difference(&should).map(String::as_str).collect();
    if !more.is_empty() {
        let says = format!(
            "{name} is sent more than the webhook looks at: {}",
            more.join(", ")
        );
        checks.push(Check::warning(Id::Entries, says, again));
    }
    checks
}

/// `CREATE apps/deployments`, … each by itself.
fn rules(entry: &MutatingWebhook) -> BTreeSet<String> {
    let all = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let one = |rule: &RuleWithOperations| {
        let mut each = Vec::new();
        for (group, resource) in all(&rule.api_groups).iter().flat_map(|group| {
            all(&rule.resources)
                .into_iter()
                .map(move |r| (group.clone(), r))
        }) {
            let slash = if group.is_empty() { "" } else { "/" };
            each.extend(
                all(&rule.operations)
                    .iter()
                    .map(|operation| format!("{operation} {group}{slash}{resource}")),
            );
        }
        each
    };
    entry.rules.iter().flatten().flat_map(one).collect()
}

/// The conditions that keep everybody else out of the webhook's way.
fn conditions(
    entry: &MutatingWebhook,
    shipped: &MutatingWebhook,
    seen: &Installation,
) -> Vec<Check> {
    let again = seen.origin().again();
    let plain =
        |condition: &MatchCondition| condition.expression.split_whitespace().collect::<String>();
    let is: BTreeSet<String> = entry.match_conditions.iter().flatten().map(plain).collect();
    let of_ours: Vec<&MatchCondition> = shipped.match_conditions.iter().flatten().collect();
    let lacks: Vec<&str> = of_ours
        .iter()
        .filter(|condition| !is.contains(&plain(condition)))
        .map(|condition| condition.name.as_str())
        .collect();
    let name = &entry.name;
    let mut checks = Vec::new();
    if !lacks.is_empty() {
        let list = lacks.join(", ");
        checks.push(if fails(entry) {
            let says = format!(
                "{name} lacks the condition {list}: objects that ask for nothing are sent too, and refused while the webhook is away"
            );
            Check::failure(Id::Conditions, says, again.as_str())
        } else {
            let says = format!("{name} lacks the condition {list}: more is sent to the webhook than it needs");
            Check::warning(Id::Conditions, says, again.as_str())
        });
    }
    for condition in entry.match_conditions.iter().flatten() {
        if of_ours.iter().any(|ours| plain(ours) == plain(condition)) {
            continue;
        }
        let this = format!("the condition {} of {name}", condition.name);
        if condition.expression.contains("namespaceObject") {
            let says = format!(
                "{this} names namespaceObject, which a webhook has not: every object is refused"
            );
            checks.push(Check::failure(Id::Conditions, says, again.as_str()));
        } else if let Some(field) = unguarded(&condition.expression) {
            let says = format!(
                "{this} takes {field} for present: where it is not, the condition fails, and Fail refuses the object; \
                 write {} in webhook.extraMatchConditions",
                guarded(field)
            );
            let mend = seen.origin().set("--values values.yaml");
            checks.push(Check::warning(Id::Conditions, says, mend));
        }
    }
    checks
}

/// A field that is reached through another one without `?` or `has(…)`; a person's look at it is wanted, so a wrong
/// guess costs little.
fn unguarded(expression: &str) -> Option<&str> {
    if expression.contains("has(") {
        return None;
    }
    let mut rest = expression;
    while let Some(at) = rest.find("bject.") {
        let after = rest.get(at + "bject.".len()..)?;
        let end = after
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '?' | '_')))
            .unwrap_or(after.len());
        let path = after.get(..end)?;
        // The last part may be a function's name.
        let is_call = after.get(end..).is_some_and(|next| next.starts_with('('));
        let fields = if is_call {
            path.rsplit_once('.').map_or("", |(fields, _)| fields)
        } else {
            path
        };
        if fields.contains('.') && !fields.contains('?') && !ALWAYS.contains(&fields) {
            return Some(fields);
        }
        rest = after;
    }
    None
}

fn guarded(field: &str) -> String {
    format!("object.?{}", field.replace('.', ".?"))
}

fn fails(entry: &MutatingWebhook) -> bool {
    // What the API server takes when nothing is said.
    entry.failure_policy.as_deref() != Some("Ignore")
}

/// What happens when the webhook is away, how long it is waited for, and whom it must never concern.
fn policies(entry: &MutatingWebhook, shipped: &MutatingWebhook, seen: &Installation) -> Vec<Check> {
    let (origin, name) = (seen.origin(), &entry.name);
    let mut checks = Vec::new();
    let mut warn = |says: String, mend: String| {
        checks.push(Check::warning(
            Id::Policies,
            format!("{name}: {says}"),
            mend,
        ));
    };
    if fails(entry) != fails(shipped) {
        let value = if name.starts_with("defaults.") {
            "webhook.defaults.failurePolicy"
        } else {
            "webhook.failurePolicy"
        };
        if fails(shipped) {
            let says = "failurePolicy is Ignore: while the webhook is away, pods run without their secrets";
            warn(says.to_owned(), origin.set(&format!("--set {value}=Fail")));
        } else {
            warn(
                "failurePolicy is Fail: while the webhook is away, workloads cannot be changed"
                    .to_owned(),
                origin.again(),
            );
        }
    }
    let timeout = entry.timeout_seconds.unwrap_or(10);
    if !TIMEOUTS.contains(&timeout) {
        let says = format!(
            "timeoutSeconds is {timeout}; 2 to 10 are long enough, and short enough for those who wait"
        );
        warn(says, origin.set("--set webhook.timeoutSeconds=5"));
    }
    for (field, is, should) in [
        ("matchPolicy", &entry.match_policy, &shipped.match_policy),
        (
            "reinvocationPolicy",
            &entry.reinvocation_policy,
            &shipped.reinvocation_policy,
        ),
        (
            "sideEffects",
            &Some(entry.side_effects.clone()),
            &Some(shipped.side_effects.clone()),
        ),
    ] {
        if is != should {
            let word =
                |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
            warn(
                format!("{field} is {} and not {}", word(is), word(should)),
                origin.again(),
            );
        }
    }
    let concerned: Vec<&str> = ["kube-system", seen.namespace.as_str()]
        .into_iter()
        .filter(|namespace| fails(entry) && selects(entry, &labels(namespace, name)))
        .collect();
    if !concerned.is_empty() {
        let says = format!(
            "{name} concerns {}: what has to start before the webhook would wait for it",
            concerned.join(" and ")
        );
        checks.push(Check::failure(Id::Policies, says, origin.again()));
    }
    checks
}

/// The labels of a namespace for which this entry is made.
fn labels(namespace: &str, entry: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([(NAME_LABEL.to_owned(), namespace.to_owned())]);
    if entry.starts_with("defaults.") {
        labels.insert(ENABLED_LABEL.0.to_owned(), ENABLED_LABEL.1.to_owned());
    }
    labels
}

/// Whether an entry concerns a namespace with these labels.
pub fn selects(entry: &MutatingWebhook, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = &entry.namespace_selector else {
        return true;
    };
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

fn policy_summary(found: &[MutatingWebhook]) -> String {
    let of = |fail: bool| -> Vec<&str> {
        let short = |entry: &'_ MutatingWebhook| fails(entry) == fail;
        found
            .iter()
            .filter(|entry| short(entry))
            .filter_map(|entry| entry.name.strip_suffix(".secrets.floe.dev"))
            .collect()
    };
    let timeout = found
        .iter()
        .filter_map(|entry| entry.timeout_seconds)
        .max()
        .unwrap_or(10);
    format!(
        "Fail for {}; Ignore for {}; {timeout} s; kube-system and the webhook's own namespace are left alone",
        of(true).join(", "),
        of(false).join(", ")
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
    use rstest::rstest;

    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::entries::{NAME_LABEL, shipped};
    use crate::doctor::entries::{apart_by_labels, is_ours, overlap};
    use crate::doctor::test_support::installation;

    fn changed(change: impl FnOnce(&mut Vec<MutatingWebhook>)) -> Vec<(Id, Status, String)> {
        let mut seen = installation();
        if let Lookup::Found(configuration) = &mut seen.configuration {
            change(configuration.webhooks.as_mut().expect("entries"));
        }
        let found = judge(&seen)
            .into_iter()
            .filter(|check| check.status != Status::Ok);
        found
            .map(|check| (check.check, check.status, check.message))
            .collect()
    }

    #[test]
    fn what_is_shipped_is_well() {
        assert_eq!(shipped().len(), 5);
        assert_eq!(changed(|_| {}), []);
        assert_eq!(judge(&installation()).len(), 4);
        assert!(is_ours(shipped()) && !is_ours(&[]));
    }

    #[test]
    fn what_is_missing_is_named() {
        let [(id, status, says)] = changed(|entries| drop(entries.remove(1)))
            .try_into()
            .expect("one");
        assert_eq!((id, status), (Id::Entries, Status::Failure));
        assert!(
            says.starts_with("missing: workloads.secrets.floe.dev;"),
            "{says}"
        );
        let [(id, status, says)] = changed(|entries| entries[0].match_conditions = None)
            .try_into()
            .expect("one");
        assert_eq!((id, status), (Id::Conditions, Status::Failure));
        assert!(
            says.contains(
                "pods.secrets.floe.dev lacks the condition asks-for-secrets, not-a-mirror-pod"
            ),
            "{says}"
        );
        let [(_, status, _)] = changed(|entries| entries[1].match_conditions = None)
            .try_into()
            .expect("one");
        assert_eq!(
            status,
            Status::Warning,
            "an entry that fails open refuses nobody"
        );
        let [(id, _, says)] = changed(|entries| {
            entries[1].rules.as_mut().expect("rules").remove(0);
        })
        .try_into()
        .expect("one");
        assert!(
            id == Id::Entries && says.contains("is not sent CREATE apps/daemonsets"),
            "{says}"
        );
        let mut seen = installation();
        seen.configuration = Lookup::NotFound;
        let [check] = judge(&seen).try_into().expect("one");
        assert_eq!(
            check.fix.as_deref(),
            Some("kubectl apply --server-side --force-conflicts -k manifests/webhook")
        );
    }

    #[test]
    fn what_others_add_is_looked_at() {
        let with = |expression: &str| {
            let condition = MatchCondition {
                name: "theirs".to_owned(),
                expression: expression.to_owned(),
            };
            changed(|entries| {
                entries[0]
                    .match_conditions
                    .as_mut()
                    .expect("conditions")
                    .push(condition);
            })
        };
        assert_eq!(
            with("object.?metadata.?labels.orValue({}).exists(k, k == 'a')"),
            []
        );
        let [(id, status, says)] = with("namespaceObject.metadata.name != 'a'")
            .try_into()
            .expect("one");
        assert!(
            id == Id::Conditions && status == Status::Failure && says.contains("namespaceObject"),
            "{says}"
        );
        let [(_, status, says)] = with("!('a' in object.metadata.labels)")
            .try_into()
            .expect("one");
        assert!(
            status == Status::Warning && says.contains("takes metadata.labels for present"),
            "{says}"
        );
        let [(id, status, _)] = changed(|entries| {
            entries[0].rules.as_mut().expect("rules")[0].resources =
                Some(vec!["pods".to_owned(), "secrets".to_owned()]);
        })
        .try_into()
        .expect("one");
        assert_eq!((id, status), (Id::Entries, Status::Warning));
    }

    #[test]
    fn installations_for_different_namespaces_stand_side_by_side() {
        let limited = |names: &[&str]| {
            let mut entries = shipped().to_vec();
            for entry in &mut entries {
                let expressions = entry
                    .namespace_selector
                    .as_mut()
                    .and_then(|selector| selector.match_expressions.as_mut());
                expressions
                    .expect("expressions")
                    .push(LabelSelectorRequirement {
                        key: NAME_LABEL.to_owned(),
                        operator: "In".to_owned(),
                        values: Some(names.iter().map(|name| (*name).to_owned()).collect()),
                    });
            }
            entries
        };
        assert!(!overlap(&limited(&["a", "b"]), &limited(&["c"])));
        assert!(overlap(&limited(&["a", "b"]), &limited(&["b"])));
        assert!(overlap(&limited(&["a"]), shipped()));
    }

    #[test]
    fn installation_that_labels_keep_apart_is_shown_and_not_deleted() {
        let labelled = |change: fn(&mut MutatingWebhook)| {
            let mut entries = shipped().to_vec();
            entries.iter_mut().for_each(change);
            entries
        };
        let team = |entry: &mut MutatingWebhook| {
            let selector = entry.namespace_selector.as_mut().expect("a selector");
            selector.match_labels = Some(BTreeMap::from([("team".to_owned(), "data".to_owned())]));
        };
        let blue = |entry: &mut MutatingWebhook| {
            let labels = Some(BTreeMap::from([("stage".to_owned(), "blue".to_owned())]));
            entry.object_selector = Some(
                k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector {
                    match_labels: labels,
                    ..Default::default()
                },
            );
        };
        assert!(!apart_by_labels(shipped(), shipped()));
        assert!(
            apart_by_labels(shipped(), &labelled(team))
                && apart_by_labels(&labelled(team), shipped())
        );
        assert!(
            apart_by_labels(shipped(), &labelled(blue))
                && apart_by_labels(&labelled(blue), shipped())
        );
        assert!(
            !apart_by_labels(&labelled(team), &labelled(team)),
            "the same pods, twice"
        );

        let mut seen = installation();
        let alike = |name: &str, labelled| Alike {
            name: name.to_owned(),
            labelled,
        };
        seen.alike = vec![alike("zz-copy", false), alike("zz-theirs", true)];
        let checks = judge(&seen);
        let [copy, theirs] = &checks[..2] else {
            panic!("{checks:#?}")
        };
        assert_eq!(
            copy.fix.as_deref(),
            Some("kubectl delete mutatingwebhookconfiguration zz-copy")
        );
        assert_eq!(
            (copy.status, theirs.status),
            (Status::Warning, Status::Warning)
        );
        assert_eq!(
            theirs.fix.as_deref(),
            Some("kubectl get mutatingwebhookconfiguration zz-theirs -o yaml")
        );
        assert!(
            theirs.message.contains("It may be another installation"),
            "{}",
            theirs.message
        );
    }

    #[rstest]
    #[case("has(object.metadata.labels) && 'a' in object.metadata.labels", None)]
    #[case("object.metadata.name.startsWith('a')", None)]
    #[case("object.metadata.?labels.orValue({}).size() > 0", None)]
    #[case("object.spec.nodeName != ''", Some("spec.nodeName"))]
    #[case("oldObject.metadata.labels.size() > 0", Some("metadata.labels"))]
    #[case("request.userInfo.username != 'a'", None)]
    fn fields_that_may_be_absent_are_found(#[case] expression: &str, #[case] field: Option<&str>) {
        assert_eq!(unguarded(expression), field);
    }

    #[test]
    fn policies_that_hurt_are_told() {
        let [(id, status, says)] = changed(|entries| {
            entries[0].failure_policy = Some("Ignore".to_owned());
        })
        .try_into()
        .expect("one");
        assert!(
            id == Id::Policies
                && status == Status::Warning
                && says.contains("run without their secrets"),
            "{says}"
        );
        let [(_, _, says)] = changed(|entries| entries[3].timeout_seconds = Some(30))
            .try_into()
            .expect("one");
        assert!(
            says.starts_with("defaults.workloads.secrets.floe.dev: timeoutSeconds is 30"),
            "{says}"
        );
        let [(_, status, says)] = changed(|entries| entries[2].namespace_selector = None)
            .try_into()
            .expect("one");
        assert!(
            status == Status::Failure && says.contains("kube-system and floe-secrets-webhook"),
            "{says}"
        );
    }
}
