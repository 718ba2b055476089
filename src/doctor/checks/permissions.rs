//! Checks the permissions of the webhook, of its controller, of `admin`, and of the caller.

mod permission;
mod required;
mod review;

use std::collections::{BTreeMap, BTreeSet};

pub use review::{PermissionReview, read};

use self::permission::Permission;
use self::review::{AccountPermissions, PermissionAnswer};
use crate::doctor::check::{Check, CheckId};
use crate::doctor::installation::Installation;
use crate::kubernetes::cert_manager;

/// Evaluates the permissions of the webhook, of the controller and of `admin`.
pub fn evaluate(installation: &Installation, review: &PermissionReview) -> Vec<Check> {
    let webhook = match &review.webhook {
        Some(webhook) => account_permissions(CheckId::WebhookPermissions, installation, webhook),
        None => Check::unchecked(
            CheckId::WebhookPermissions,
            "its ServiceAccount is not known, as its Deployment is not",
        ),
    };
    // The others are optional.
    let controller = review.controller.as_ref().map(|controller| {
        account_permissions(CheckId::ControllerPermissions, installation, controller)
    });
    let admin = review
        .admin
        .as_ref()
        .map(|admin| account_permissions(CheckId::AdminPermissions, installation, admin));
    [webhook]
        .into_iter()
        .chain(controller)
        .chain(admin)
        .collect()
}

fn account_permissions(
    id: CheckId,
    installation: &Installation,
    permissions: &AccountPermissions,
) -> Check {
    let AccountPermissions { account, answers } = permissions;
    if let Some(error) = first_error(answers) {
        let fix = format!(
            "kubectl auth can-i get secrets -A \
             --as=system:serviceaccount:{}:{account}",
            installation.namespace
        );
        return Check::unchecked(id, error).with_fix(fix);
    }
    let denied = denied(answers);
    if denied.is_empty() {
        let message = format!(
            "ServiceAccount {account} has all {} that it needs",
            answers.len()
        );
        return Check::ok(id, message);
    }
    let message = format!("ServiceAccount {account} may not {}", describe(&denied));
    let fix = installation.install_method().reinstall_command();
    // cert-manager's objects are only read for log messages.
    let is_needed = |permission: &&Permission| permission.group != cert_manager::GROUP;
    if id == CheckId::WebhookPermissions && denied.iter().any(is_needed) {
        Check::failure(id, message, fix)
    } else {
        Check::warning(id, message, fix)
    }
}

/// Evaluates the permissions of the caller.
pub fn caller_permissions(review: &PermissionReview) -> Check {
    let user = review.user.as_deref().unwrap_or("you");
    if let Some(error) = first_error(&review.caller) {
        return Check::unchecked(CheckId::CallerPermissions, error);
    }
    let denied = denied(&review.caller);
    if denied.is_empty() {
        return Check::ok(
            CheckId::CallerPermissions,
            format!("{user} may look at everything that is looked at here"),
        );
    }
    let message = format!(
        "{user} may not {}; what needs it is not checked",
        describe(&denied)
    );
    Check::unchecked(CheckId::CallerPermissions, message).with_fix(grant_command(user, &denied))
}

/// Command with which an administrator grants exactly these permissions.
fn grant_command(user: &str, denied: &[&Permission]) -> String {
    let mut grouped: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    for permission in denied {
        grouped
            .entry((&permission.namespace, &permission.verb))
            .or_default()
            .insert(permission.kind());
    }
    let commands = grouped.into_iter().map(|((namespace, verb), kinds)| {
        let kinds = kinds.into_iter().collect::<Vec<_>>().join(",");
        let (role, flag) = if namespace.is_empty() {
            ("clusterrole", String::new())
        } else {
            ("role", format!(" -n {namespace}"))
        };
        let name = format!("floe-secrets-doctor-{verb}");
        format!(
            "kubectl{flag} create {role} {name} --verb={verb} --resource={kinds}; \
             kubectl{flag} create {role}binding {name} --{role}={name} --user={user}"
        )
    });
    commands.collect::<Vec<_>>().join("; ")
}

fn first_error(answers: &[PermissionAnswer]) -> Option<&str> {
    answers
        .iter()
        .find_map(|answer| answer.allowed.as_ref().err())
        .map(String::as_str)
}

fn denied(answers: &[PermissionAnswer]) -> Vec<&Permission> {
    answers
        .iter()
        .filter(|answer| answer.allowed == Ok(false))
        .map(|answer| &answer.permission)
        .collect()
}

fn describe(permissions: &[&Permission]) -> String {
    permissions
        .iter()
        .map(|permission| permission.describe())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::required::{of_controller, of_doctor, of_webhook};
    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::healthy_installation;

    fn answers(
        permissions: BTreeSet<Permission>,
        allowed: impl Fn(&Permission) -> Result<bool, String>,
    ) -> Vec<PermissionAnswer> {
        permissions
            .into_iter()
            .map(|permission| PermissionAnswer {
                allowed: allowed(&permission),
                permission,
            })
            .collect()
    }

    fn account(name: &str, answers: Vec<PermissionAnswer>) -> AccountPermissions {
        AccountPermissions {
            account: name.to_owned(),
            answers,
        }
    }

    #[test]
    fn denied_permission_of_the_webhook_is_a_failure() {
        let installation = healthy_installation();
        let mut review = PermissionReview {
            webhook: Some(account(
                "webhook",
                answers(of_webhook(&installation), |permission| {
                    Ok(permission.resource != "secrets")
                }),
            )),
            controller: Some(account(
                "controller",
                answers(of_controller(&installation), |_| Ok(true)),
            )),
            ..PermissionReview::default()
        };
        let [webhook, controller]: [Check; 2] =
            evaluate(&installation, &review).try_into().expect("two");
        assert_eq!(
            (webhook.status, webhook.message.as_str()),
            (
                Status::Failure,
                "ServiceAccount webhook may not get secrets"
            )
        );
        assert_eq!(controller.status, Status::Ok);
        review.webhook = Some(account(
            "webhook",
            answers(of_webhook(&installation), |_| Err("forbidden".to_owned())),
        ));
        let [webhook, _]: [Check; 2] = evaluate(&installation, &review).try_into().expect("two");
        assert_eq!(
            (webhook.status, webhook.message.as_str()),
            (Status::NotChecked, "forbidden")
        );
    }

    #[test]
    fn denied_permissions_of_the_caller_are_named_with_the_command_that_grants_them() {
        let is_denied = |permission: &Permission| {
            permission.resource == "endpointslices"
                || permission.verb == "create" && permission.resource == "pods"
        };
        let required = of_doctor(&healthy_installation(), Some("default"), false);
        let check = caller_permissions(&PermissionReview {
            user: Some("jane".to_owned()),
            caller: answers(required, |permission| Ok(!is_denied(permission))),
            ..PermissionReview::default()
        });
        assert_eq!(check.status, Status::NotChecked);
        assert_eq!(
            check.message,
            "jane may not create pods in namespace default, list endpointslices.discovery.k8s.io in namespace \
             floe-secrets-webhook; what needs it is not checked"
        );
        assert_eq!(
            check.fix.as_deref(),
            Some(
                "kubectl -n default create role floe-secrets-doctor-create --verb=create --resource=pods; \
                 kubectl -n default create rolebinding floe-secrets-doctor-create --role=floe-secrets-doctor-create \
                 --user=jane; \
                 kubectl -n floe-secrets-webhook create role floe-secrets-doctor-list --verb=list \
                 --resource=endpointslices.discovery.k8s.io; \
                 kubectl -n floe-secrets-webhook create rolebinding floe-secrets-doctor-list \
                 --role=floe-secrets-doctor-list --user=jane"
            )
        );
    }
}
