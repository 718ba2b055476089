//! What cert-manager reports about the webhook's certificate.

use crate::doctor::check::{Check, Id};
use crate::doctor::installation::Installation;
use crate::kubernetes::{Lookup, cert_manager};

/// cert-manager's word.
pub(crate) fn certificate(seen: &Installation) -> Option<Check> {
    let looked = seen.certificate.as_ref()?;
    let this = format!(
        "certificate {} in namespace {}",
        looked.name, looked.namespace
    );
    Some(
        match (cert_manager::trouble(looked, seen.now), &looked.certificate) {
            // Who made them brings them back.
            (Some(trouble), certificate)
                if looked.served
                    && (matches!(certificate, Lookup::NotFound)
                        || matches!(looked.issuer, Lookup::NotFound)) =>
            {
                Check::failure(Id::CertManager, trouble.says, seen.origin().again())
            }
            (Some(trouble), _) => Check::failure(Id::CertManager, trouble.says, trouble.mend),
            (None, Lookup::Unknown(why)) => Check::unchecked(Id::CertManager, why.clone()),
            (None, _) => Check::ok(Id::CertManager, format!("{this} is Ready")),
        },
    )
}
