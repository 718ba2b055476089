//! Log line of an admission.

use super::{AdmissionEvent, AdmissionFields, Severity};

/// Logs an event; its severity selects the level.
pub fn log(event: &AdmissionEvent<'_>) {
    let AdmissionFields {
        uid,
        resource,
        namespace,
        name,
        generate_name,
        owner,
        user,
        dry_run,
        caller,
        trace_id,
        audit: _,
    } = event.fields;
    let (secrets, error, cause, peer) =
        (event.secrets(), event.error(), event.cause(), event.peer());
    let channel = caller.map(|caller| caller.channel.as_str());
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                uid,
                surface = event.surface.as_str(),
                operation = event.operation.as_str(),
                resource,
                namespace,
                name,
                generate_name,
                owner,
                user,
                peer,
                channel,
                dry_run,
                decision = event.decision.as_str(),
                reason = event.reason.as_str(),
                secrets,
                error,
                cause,
                duration_us = u64::try_from(event.duration.as_micros()).unwrap_or(u64::MAX),
                trace_id,
                "admission"
            )
        };
    }
    match event.severity() {
        Severity::Debug => line!(debug),
        Severity::Info => line!(info),
        Severity::Warn => line!(warn),
        Severity::Error => line!(error),
    }
}
