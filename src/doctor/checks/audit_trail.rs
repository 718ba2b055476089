//! Checks the audit trail: its way from the webhook to `admin`, `admin` and its volume, and the state of what has
//! arrived.

mod admin;
mod collector;
mod objects;
mod shipping;

use crate::doctor::check::Check;
use crate::doctor::installation::Installation;

pub use self::objects::{AdminObjects, read};

/// Evaluates the trail. Without `admin`, nothing has arrived.
pub fn evaluate(installation: &Installation, objects: &AdminObjects) -> Vec<Check> {
    let mut checks = vec![
        collector::evaluate(installation, objects),
        admin::evaluate(installation, objects),
    ];
    if let Some(deployment) = installation.deployment("admin") {
        checks.push(shipping::evaluate(installation, deployment, objects));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::{CheckId, Status};
    use crate::doctor::test_support::healthy_installation;

    #[test]
    fn objects_that_may_not_be_read_are_not_checked() {
        let checks = evaluate(&healthy_installation(), &AdminObjects::default());
        let expected = [
            (CheckId::AuditTrail, Status::NotChecked),
            (CheckId::Admin, Status::Ok),
            (CheckId::AuditShipping, Status::NotChecked),
        ];
        let found: Vec<_> = checks.iter().map(|row| (row.check, row.status)).collect();
        assert_eq!(found, expected, "{checks:#?}");
    }

    #[test]
    fn installation_without_admin_is_ok_if_nothing_is_sent() {
        let mut installation = healthy_installation();
        crate::doctor::test_support::remove_admin(&mut installation);
        let checks = evaluate(&installation, &AdminObjects::default());
        assert_eq!(checks[0].status, Status::Failure, "{checks:#?}");
        crate::doctor::test_support::set_arguments(&mut installation, 0, &["--audit=stdout"]);
        let checks = evaluate(&installation, &AdminObjects::default());
        assert!(checks.iter().all(|row| row.status == Status::Ok));
        assert_eq!(checks.len(), 2);
    }
}
