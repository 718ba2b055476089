//! Panics: each ends only its own request, and its message is never logged, because it may contain request data.

use std::io::Write;
use std::panic::{AssertUnwindSafe, PanicHookInfo};

use axum::body::Body;
use futures::FutureExt;
use http::{Response, StatusCode};

use crate::server::metrics::ServerMetrics;

/// Replaces the default hook, which prints the message, by one that logs only the location.
///
/// The span of the request is current while the hook runs, so the log line has the uid of the request.
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
        // A panic before logging is set up is logged, too. If stderr is closed, the line is lost.
        let line =
            serde_json::json!({"level": "ERROR", "message": "panicked", "location": location});
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// Runs a request. A panic in it is counted and responds with a plain 500, so that the `failurePolicy` applies.
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
