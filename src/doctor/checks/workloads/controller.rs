//! Checks the controller: its replicas, and whether one of them leads.

use k8s_openapi::api::coordination::v1::Lease;

use super::replicas::evaluate_replicas;
use crate::doctor::check::{Check, CheckId};
use crate::doctor::installation::Installation;
use crate::kubernetes::Lookup;

/// Time in seconds after its end in which a lease is still considered held: the clocks of the API server and of the
/// holder may differ.
const MAX_LEASE_SKEW: i64 = 30;

/// Evaluates the controller. A problem of its replicas is reported instead of the state of its lease: there may be no
/// replica left to renew it.
pub fn evaluate(installation: &Installation) -> Check {
    if let Lookup::Unknown(reason) = &installation.deployments {
        return Check::unchecked(CheckId::Controller, reason.clone());
    }
    let Some(deployment) = installation.deployment("controller") else {
        return Check::ok(
            CheckId::Controller,
            "not installed: no drift scan, no retries of refused pods, no self-managed certificates",
        );
    };
    let lease = match &installation.lease {
        Lookup::Found(lease) => lease,
        Lookup::NotFound => {
            let message = format!(
                "Lease {} not found: no controller can lead",
                installation.lease_name()
            );
            let fix = installation.install_method().reinstall_command();
            return Check::warning(CheckId::Controller, message, fix);
        }
        Lookup::Unknown(reason) => return Check::unchecked(CheckId::Controller, reason.clone()),
    };
    let replicas = evaluate_replicas(CheckId::Controller, deployment, installation);
    if replicas.fix.is_some() {
        return replicas;
    }
    match leader(installation, lease) {
        Ok(leader) => Check::ok(
            CheckId::Controller,
            format!("{}; {leader} leads", replicas.message),
        ),
        Err(message) => {
            let fix = format!(
                "kubectl -n {} logs -l app.kubernetes.io/component=controller --tail=50",
                installation.namespace
            );
            Check::warning(CheckId::Controller, message, fix)
        }
    }
}

/// Returns the holder of the lease, or why none leads.
fn leader(installation: &Installation, lease: &Lease) -> Result<String, String> {
    let lease_name = installation.lease_name();
    let spec = lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.unwrap_or_default();
    if holder.is_empty() {
        return Err(format!("nobody holds Lease {lease_name}"));
    }
    let renewed = spec.renew_time.map_or(0, |time| time.0.as_second());
    let age = installation.now.as_second() - renewed;
    if age > i64::from(spec.lease_duration_seconds.unwrap_or(15)) + MAX_LEASE_SKEW {
        return Err(format!(
            "{holder} holds Lease {lease_name} and has not renewed it for {age} s"
        ));
    }
    Ok(holder)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::doctor::check::Status;
    use crate::doctor::test_support::{NOW, healthy_installation};

    fn check_with(lease: Lookup<Lease>) -> (Status, String) {
        let mut installation = healthy_installation();
        installation.lease = lease;
        let check = evaluate(&installation);
        assert_eq!(
            check.fix.is_some(),
            check.status == Status::Warning,
            "{check:?}"
        );
        (check.status, check.message)
    }

    fn lease(holder: &str, renewed: i64) -> Lookup<Lease> {
        let renewed = Timestamp::from_second(NOW + renewed).expect("a time");
        let spec = json!({"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed.to_string()});
        let lease = json!({"metadata": {}, "spec": spec});
        Lookup::Found(serde_json::from_value(lease).expect("a lease"))
    }

    #[test]
    fn lease_that_is_not_renewed_is_reported() {
        assert_eq!(check_with(lease("a", -20)).0, Status::Ok);
        let (status, message) = check_with(lease("a", -46));
        assert!(
            status == Status::Warning && message.ends_with("has not renewed it for 46 s"),
            "{message}"
        );
        assert_eq!(check_with(lease("", 0)).0, Status::Warning);
        assert_eq!(check_with(Lookup::NotFound).0, Status::Warning);
    }
}
