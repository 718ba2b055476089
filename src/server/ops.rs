//! Ops port: `/livez`, `/readyz`, `/metrics`. It is plain HTTP and open to the node, so it never has confidential data.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use prometheus_client::registry::Registry;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type ReadinessCheck = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Named conditions under which the program is ready for traffic.
#[derive(Clone, Default)]
pub struct Checks {
    checks: Vec<(&'static str, ReadinessCheck)>,
}

impl std::fmt::Debug for Checks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.checks.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Checks {
    /// An empty list, with which the program is always ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check. It is called for each probe, so it must not wait. Its reason is shown to anybody who can reach the
    /// port.
    #[must_use]
    pub fn with<F>(mut self, name: &'static str, check: F) -> Self
    where
        F: Fn() -> Result<(), String> + Send + Sync + 'static,
    {
        self.checks.push((name, Arc::new(check)));
        self
    }

    /// Runs all checks. Returns whether all passed, and a line for each in the format of the API server.
    fn run(&self) -> (bool, String) {
        let mut report = String::new();
        let mut passed = true;
        for (name, check) in &self.checks {
            // Writing to a String cannot fail.
            let _ = match check() {
                Ok(()) => writeln!(report, "[+]{name} ok"),
                Err(reason) => {
                    passed = false;
                    writeln!(report, "[-]{name} failed: {reason}")
                }
            };
        }
        (passed, report)
    }
}

#[derive(Clone)]
struct OpsState {
    registry: Arc<Registry>,
    checks: Checks,
}

/// Routes of the ops port.
pub fn router(registry: Arc<Registry>, checks: Checks) -> Router {
    Router::new()
        // A response shows that the event loop runs. Checking more would restart pods because of failures elsewhere.
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(OpsState { registry, checks })
}

async fn readyz(State(ops): State<OpsState>, RawQuery(query): RawQuery) -> Response {
    let verbose = query.is_some_and(|q| {
        q.split('&')
            .any(|pair| pair.split('=').next() == Some("verbose"))
    });
    match ops.checks.run() {
        (true, report) if verbose => format!("{report}readyz check passed\n").into_response(),
        (true, _) => "ok\n".into_response(),
        // A failure always has its reason: the kubelet writes the text into the pod's events.
        (false, report) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{report}readyz check failed\n"),
        )
            .into_response(),
    }
}

async fn metrics(State(ops): State<OpsState>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &ops.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(std::fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::metrics::ServerMetrics;
    use crate::telemetry::metrics::registered;
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tower::ServiceExt;

    async fn get(router: &Router, path: &str) -> (StatusCode, String, String) {
        let response = router
            .clone()
            .oneshot(Request::get(path).body(Body::empty()).unwrap())
            .await
            .unwrap();
        let kind = response.headers()[header::CONTENT_TYPE]
            .to_str()
            .unwrap()
            .to_owned();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_follows_the_checks_and_names_the_failed_one() {
        let expired = Arc::new(AtomicBool::new(false));
        let is_expired = Arc::clone(&expired);
        let checks = Checks::new()
            .with("listeners", || Ok(()))
            .with("certificate", move || {
                if is_expired.load(Ordering::Relaxed) {
                    Err("expired".into())
                } else {
                    Ok(())
                }
            });
        let (registry, _) = registered(ServerMetrics::register);
        let router = router(registry, checks);

        assert_eq!(get(&router, "/readyz").await.2, "ok\n");
        let (status, _, text) = get(&router, "/readyz?verbose").await;
        assert_eq!(
            (status, text.as_str()),
            (
                StatusCode::OK,
                "[+]listeners ok\n[+]certificate ok\nreadyz check passed\n"
            )
        );
        expired.store(true, Ordering::Relaxed);
        let (status, _, text) = get(&router, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            text,
            "[+]listeners ok\n[-]certificate failed: expired\nreadyz check failed\n"
        );
        assert_eq!(get(&router, "/livez").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn metrics_are_openmetrics_text_with_our_prefix() {
        let (registry, metrics) = registered(ServerMetrics::register);
        metrics.panics.inc();
        let (status, kind, text) = get(&router(registry, Checks::new()), "/metrics").await;
        assert_eq!((status, kind.as_str()), (StatusCode::OK, OPENMETRICS));
        assert!(
            text.contains("floe_secrets_webhook_panics_total 1\n") && text.ends_with("# EOF\n"),
            "{text}"
        );
    }
}
