//! A panic ends its request and nothing else, and its text is never written: it may hold what was being handled.

use std::io::Write;
use std::panic::{AssertUnwindSafe, PanicHookInfo};

use axum::body::Body;
use futures::FutureExt;
use http::{Response, StatusCode};

use crate::server::metrics::ServerMetrics;

/// Replaces the default hook, which prints the payload, by one that names only the place.
///
/// The request's span is current while the hook runs, so the line carries the request's uid.
pub fn install_hook() {
    std::panic::set_hook(Box::new(report));
}

fn report(info: &PanicHookInfo<'_>) {
    let location = info
        .location()
        .map_or_else(|| "unknown".to_owned(), ToString::to_string);
    if tracing::dispatcher::has_been_set() {
        tracing::error!(location, "panicked");
    } else {
        // Before telemetry stands, a panic must still leave a line. What can be done when stderr is closed? Nothing.
        let line =
            serde_json::json!({"level": "ERROR", "message": "panicked", "location": location});
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// Runs a request; a panic in it is counted and answered with a bare 500, so that `failurePolicy` decides.
pub(crate) async fn guard<F>(request: F, metrics: &ServerMetrics) -> Response<Body>
where
    F: Future<Output = Response<Body>>,
{
    if let Ok(response) = AssertUnwindSafe(request).catch_unwind().await {
        return response;
    }
    metrics.panics.inc();
    let mut response = Response::new(Body::from("internal error\n"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
