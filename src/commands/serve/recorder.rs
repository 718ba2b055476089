//! Builds the recorder of the audit trail from the arguments.

use anyhow::Context as _;
use prometheus_client::registry::Registry;

use super::args::{AuditOutput, RecorderArgs};
use crate::admission::handler::Handler;
use crate::audit::record::Service;
use crate::audit::text::Text;
use crate::clock::Clock;
use crate::recorder::{AuditRecorder, RecorderSettings, chain_of_process};
use crate::telemetry::logs::Log;

/// Starts the recorder, unless there is to be no audit trail, and lets the handler use it.
pub(super) fn attach(
    handler: Handler,
    args: &RecorderArgs,
    clock: Clock,
    log: &Log,
    registry: &mut Registry,
) -> anyhow::Result<(Handler, Option<AuditRecorder>)> {
    if args.audit == AuditOutput::Off {
        return Ok((handler, None));
    }
    let settings = RecorderSettings {
        cluster: Text::new(args.audit_cluster_name.as_deref().unwrap_or_default()),
        service: Service {
            name: "serve",
            replica: Text::new(args.pod_name.as_deref().unwrap_or_default()),
            version: env!("CARGO_PKG_VERSION"),
        },
        chain: chain_of_process(args.pod_uid.as_deref(), clock.now()),
    };
    tracing::info!(chain = %settings.chain, "recording the audit trail on standard output");
    let recorder = AuditRecorder::start(settings, log.output(), clock, registry)
        .context("the audit trail could not be started")?;
    let handler = handler.recorded_by(recorder.clone(), args.audit_on_failure);
    Ok((handler, Some(recorder)))
}
