//! Checks the replicas of the webhook and of the controller.

mod controller;
mod disruption_budget;
mod replicas;
mod versions;

pub use self::replicas::evaluate_replicas;

use crate::doctor::check::Check;
use crate::doctor::installation::Installation;

/// Evaluates versions, replicas, disruption budget and controller.
pub fn evaluate(installation: &Installation) -> Vec<Check> {
    vec![
        versions::evaluate(installation),
        replicas::evaluate(installation),
        disruption_budget::evaluate(installation),
        controller::evaluate(installation),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::healthy_installation;

    #[test]
    fn two_replicas_of_this_version_are_ok() {
        let checks = evaluate(&healthy_installation());
        assert!(
            checks.iter().all(|check| check.status == Status::Ok),
            "{checks:#?}"
        );
        assert_eq!(
            checks[3].message,
            "2 of 2 replicas of Deployment floe-secrets-controller are available; a leads"
        );
    }
}
