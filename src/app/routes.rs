//! The admission port's routes: one path for each entry of the webhook configuration.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderValue, Request, StatusCode, header};
use tokio::time::Instant;

use crate::admission::handler::Handler;
use crate::admission::mutator::Surface;
use crate::server::limits::BodyLimits;
use crate::traces::Traces;

/// `/admit/pods`, `/admit/workloads`, the two of `/admit/defaults`, and `/admit/sources`.
pub fn admission(handler: Handler, limits: BodyLimits, traces: Traces) -> Router {
    let admit = |surface| post(move |state, request| admit(surface, state, request));
    Router::new()
        .route("/admit/pods", admit(Surface::Pods))
        .route("/admit/defaults/pods", admit(Surface::DefaultsPods))
        .route("/admit/workloads", admit(Surface::Workloads))
        .route("/admit/defaults/workloads", admit(Surface::DefaultsWorkloads))
        .route("/admit/sources", admit(Surface::Sources))
        .with_state((handler, limits, traces))
}

async fn admit(
    surface: Surface,
    State((handler, limits, traces)): State<(Handler, BodyLimits, Traces)>,
    request: Request<Body>,
) -> Response {
    let arrived = Instant::now();
    let mut span = traces.request("admission", request.headers());
    let request = match limits.read(request).await {
        Ok(request) => request,
        Err(shed) => {
            span.word("surface", surface.as_str());
            span.failed("shed");
            return shed.into_response();
        }
    };
    match handler.answer(surface, request.uri().query(), request.body(), arrived, span).await {
        Ok(answer) => json(&answer),
        Err(unreadable) => (StatusCode::BAD_REQUEST, format!("{unreadable}\n")).into_response(),
    }
}

fn json(answer: &crate::admission::response::Answer) -> Response {
    let mut response = Response::new(Body::from(answer.to_json()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
