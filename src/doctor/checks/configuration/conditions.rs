//! Checks the matchConditions of an entry, which keep other objects from being sent to the webhook.

use k8s_openapi::api::admissionregistration::v1::{MatchCondition, MutatingWebhook};

use crate::doctor::check::{Check, CheckId};
use crate::doctor::entries::fails_closed;
use crate::doctor::installation::Installation;

/// Fields of the metadata that every object has.
const ALWAYS_PRESENT_FIELDS: [&str; 4] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.generateName",
];

/// Evaluates an entry against the shipped one.
pub fn evaluate(
    entry: &MutatingWebhook,
    shipped: &MutatingWebhook,
    installation: &Installation,
) -> Vec<Check> {
    let additional = entry
        .match_conditions
        .iter()
        .flatten()
        .filter(|condition| !has_condition(shipped, condition))
        .filter_map(|condition| additional_condition(entry, condition, installation));
    missing_conditions(entry, shipped, installation)
        .into_iter()
        .chain(additional)
        .collect()
}

/// Whether an entry has a condition with the same expression, apart from white space.
fn has_condition(entry: &MutatingWebhook, condition: &MatchCondition) -> bool {
    let compact =
        |condition: &MatchCondition| condition.expression.split_whitespace().collect::<String>();
    let expected = compact(condition);
    let mut conditions = entry.match_conditions.iter().flatten();
    conditions.any(|condition| compact(condition) == expected)
}

fn missing_conditions(
    entry: &MutatingWebhook,
    shipped: &MutatingWebhook,
    installation: &Installation,
) -> Option<Check> {
    let missing: Vec<&str> = shipped
        .match_conditions
        .iter()
        .flatten()
        .filter(|condition| !has_condition(entry, condition))
        .map(|condition| condition.name.as_str())
        .collect();
    if missing.is_empty() {
        return None;
    }
    let (name, list) = (&entry.name, missing.join(", "));
    let fix = installation.install_method().reinstall_command();
    Some(if fails_closed(entry) {
        let message = format!(
            "{name} lacks the condition {list}: objects that ask for nothing are sent too, and refused while the webhook is away"
        );
        Check::failure(CheckId::Conditions, message, fix)
    } else {
        let message =
            format!("{name} lacks the condition {list}: more is sent to the webhook than it needs");
        Check::warning(CheckId::Conditions, message, fix)
    })
}

/// Evaluates a condition that is not shipped: an error in it causes requests to be refused.
fn additional_condition(
    entry: &MutatingWebhook,
    condition: &MatchCondition,
    installation: &Installation,
) -> Option<Check> {
    let method = installation.install_method();
    let this = format!("the condition {} of {}", condition.name, entry.name);
    if condition.expression.contains("namespaceObject") {
        let message = format!(
            "{this} names namespaceObject, which a webhook has not: every object is refused"
        );
        let fix = method.reinstall_command();
        return Some(Check::failure(CheckId::Conditions, message, fix));
    }
    let field = unguarded_field(&condition.expression)?;
    let message = format!(
        "{this} takes {field} for present: where it is not, the condition fails, and Fail refuses the object; \
         write object.?{} in webhook.extraMatchConditions",
        field.replace('.', ".?")
    );
    let fix = method.upgrade_command("--values values.yaml");
    Some(Check::warning(CheckId::Conditions, message, fix))
}

/// Finds a field that is reached through another field without `?` or `has(…)`. The result is a warning for a person to
/// review, so the expression is not parsed.
fn unguarded_field(expression: &str) -> Option<&str> {
    if expression.contains("has(") {
        return None;
    }
    let mut rest = expression;
    // Matches `object.` and `oldObject.`.
    while let Some(start) = rest.find("bject.") {
        let after = rest.get(start + "bject.".len()..)?;
        let end = after
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '?' | '_')))
            .unwrap_or(after.len());
        let path = after.get(..end)?;
        let is_call = after.get(end..).is_some_and(|next| next.starts_with('('));
        let fields = if is_call {
            // The last part is the name of a function.
            path.rsplit_once('.').map_or("", |(fields, _)| fields)
        } else {
            path
        };
        if fields.contains('.') && !fields.contains('?') && !ALWAYS_PRESENT_FIELDS.contains(&fields)
        {
            return Some(fields);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::entries;
    use crate::doctor::test_support::healthy_installation;

    /// Evaluates a changed entry of the shipped configuration.
    fn problems(index: usize, change: impl FnOnce(&mut MutatingWebhook)) -> Vec<Check> {
        let shipped = &entries::shipped()[index];
        let mut entry = shipped.clone();
        change(&mut entry);
        evaluate(&entry, shipped, &healthy_installation())
    }

    fn problems_with_condition(expression: &str) -> Vec<Check> {
        problems(0, |entry| {
            let conditions = entry.match_conditions.as_mut().expect("conditions");
            conditions.push(MatchCondition {
                name: "additional".to_owned(),
                expression: expression.to_owned(),
            });
        })
    }

    #[test]
    fn missing_conditions_are_a_failure_if_the_entry_fails_closed() {
        let [problem] = problems(0, |entry| entry.match_conditions = None)
            .try_into()
            .expect("one");
        assert_eq!(problem.status, Status::Failure);
        assert!(
            problem.message.contains(
                "pods.secrets.floe.dev lacks the condition asks-for-secrets, not-a-mirror-pod"
            ),
            "{problem:?}"
        );
        let [problem] = problems(1, |entry| entry.match_conditions = None)
            .try_into()
            .expect("one");
        assert_eq!(
            problem.status,
            Status::Warning,
            "an entry that fails open refuses no object"
        );
    }

    #[test]
    fn additional_conditions_are_evaluated() {
        assert_eq!(
            problems_with_condition("object.?metadata.?labels.orValue({}).exists(k, k == 'a')"),
            []
        );
        let [problem] = problems_with_condition("namespaceObject.metadata.name != 'a'")
            .try_into()
            .expect("one");
        assert!(
            problem.status == Status::Failure && problem.message.contains("namespaceObject"),
            "{problem:?}"
        );
        let [problem] = problems_with_condition("!('a' in object.metadata.labels)")
            .try_into()
            .expect("one");
        assert!(
            problem.status == Status::Warning
                && problem
                    .message
                    .contains("takes metadata.labels for present"),
            "{problem:?}"
        );
    }

    #[rstest]
    #[case("has(object.metadata.labels) && 'a' in object.metadata.labels", None)]
    #[case("object.metadata.name.startsWith('a')", None)]
    #[case("object.metadata.?labels.orValue({}).size() > 0", None)]
    #[case("object.spec.nodeName != ''", Some("spec.nodeName"))]
    #[case("oldObject.metadata.labels.size() > 0", Some("metadata.labels"))]
    #[case("request.userInfo.username != 'a'", None)]
    fn unguarded_fields_are_found(#[case] expression: &str, #[case] field: Option<&str>) {
        assert_eq!(unguarded_field(expression), field);
    }
}
