//! Checks what cert-manager reports about the webhook's certificate.

use crate::doctor::check::{Check, CheckId};
use crate::doctor::installation::Installation;
use crate::kubernetes::{Lookup, cert_manager};

/// Evaluates the Certificate; `None` if the certificate is not from cert-manager.
pub fn evaluate(installation: &Installation) -> Option<Check> {
    let observed = installation.cert_manager.as_ref()?;
    let problem = cert_manager::find_problem(observed, installation.now);
    Some(match (problem, &observed.certificate) {
        (Some(problem), _) => {
            // A missing Certificate or issuer is part of the installation.
            let is_missing = matches!(observed.certificate, Lookup::NotFound)
                || matches!(observed.issuer, Lookup::NotFound);
            let fix = if observed.served && is_missing {
                installation.install_method().reinstall_command()
            } else {
                problem.fix
            };
            Check::failure(CheckId::CertManager, problem.message, fix)
        }
        (None, Lookup::Unknown(reason)) => Check::unchecked(CheckId::CertManager, reason.clone()),
        (None, _) => {
            let message = format!(
                "certificate {} in namespace {} is Ready",
                observed.name, observed.namespace
            );
            Check::ok(CheckId::CertManager, message)
        }
    })
}
