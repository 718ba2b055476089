//! Span attributes of an admission.

use super::{AdmissionEvent, AdmissionFields, Severity};
use crate::telemetry::span::Span;

/// Records an event on its span: the fields of the log line, without the user and without sentences.
pub fn record_span(span: &mut Span, event: &AdmissionEvent<'_>) {
    if !span.is_on() {
        return;
    }
    let AdmissionFields {
        uid,
        resource,
        namespace,
        name,
        generate_name,
        owner,
        user: _,
        dry_run,
        caller,
        trace_id: _,
        audit: _,
    } = event.fields;
    let texts = [
        ("uid", uid),
        ("resource", resource),
        ("namespace", namespace),
        ("name", name),
        ("generate_name", generate_name),
        ("owner", owner),
        ("secrets", &event.secrets()),
        ("peer", &event.peer()),
    ];
    for (key, text) in texts {
        span.set_str(key, text);
    }
    span.set_static("surface", event.surface.as_str());
    span.set_static("operation", event.operation.as_str());
    span.set_static("decision", event.decision.as_str());
    span.set_static("reason", event.reason.as_str());
    if let Some(caller) = caller {
        span.set_static("channel", caller.channel.as_str());
    }
    span.set_bool("dry_run", dry_run);
    if event.severity() > Severity::Info {
        span.set_error(event.reason.as_str());
    }
}
