//! The ops port: `/livez`, `/readyz`, `/metrics`. Plain HTTP, open to the node, so nothing secret is ever on it.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use prometheus_client::registry::Registry;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What must hold for the program to take traffic, each under a name.
#[derive(Clone, Default)]
pub struct Checks {
    checks: Vec<(&'static str, Check)>,
}

impl std::fmt::Debug for Checks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.checks.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Checks {
    /// No checks: always ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check. It is called on each probe, so it looks at state and waits for nothing; its reason is shown to
    /// whoever can reach the port.
    #[must_use]
    pub fn with<F>(mut self, name: &'static str, check: F) -> Self
    where
        F: Fn() -> Result<(), String> + Send + Sync + 'static,
    {
        self.checks.push((name, Arc::new(check)));
        self
    }

    /// Runs all: are all well, and a line for each as the API server writes them.
    fn run(&self) -> (bool, String) {
        let mut report = String::new();
        let mut well = true;
        for (name, check) in &self.checks {
            // Writing to a String cannot fail.
            let _ = match check() {
                Ok(()) => writeln!(report, "[+]{name} ok"),
                Err(reason) => {
                    well = false;
                    writeln!(report, "[-]{name} failed: {reason}")
                }
            };
        }
        (well, report)
    }
}

#[derive(Clone)]
struct Ops {
    registry: Arc<Registry>,
    checks: Checks,
}

/// The routes of the ops port.
pub fn router(registry: Arc<Registry>, checks: Checks) -> Router {
    Router::new()
        // That this answers shows that the event loop turns; anything more would restart pods for others' faults.
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Ops { registry, checks })
}

async fn readyz(State(ops): State<Ops>, RawQuery(query): RawQuery) -> Response {
    let verbose = query.is_some_and(|q| {
        q.split('&')
            .any(|pair| pair.split('=').next() == Some("verbose"))
    });
    match ops.checks.run() {
        (true, report) if verbose => format!("{report}readyz check passed\n").into_response(),
        (true, _) => "ok\n".into_response(),
        // Failing, it always says why: the kubelet puts the text into the pod's events.
        (false, report) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{report}readyz check failed\n"),
        )
            .into_response(),
    }
}

async fn metrics(State(ops): State<Ops>) -> Response {
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
    async fn readiness_follows_the_checks_and_names_the_one_that_failed() {
        let bad = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&bad);
        let checks = Checks::new()
            .with("listeners", || Ok(()))
            .with("certificate", move || {
                if seen.load(Ordering::Relaxed) {
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
        bad.store(true, Ordering::Relaxed);
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
