//! Routes of the admission port: one path for each entry of the webhook configuration.

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use tokio::time::Instant;

use crate::admission::caller::Caller;
use crate::admission::handler::{Handler, Received};
use crate::admission::review::decoded_bytes;
use crate::admission::surface::Surface;
use crate::server::connection::Peer;
use crate::server::limits::BodyLimits;
use crate::telemetry::traces::Traces;

/// Builds the routes `/admit/pods`, `/admit/workloads`, the same two below `/admit/defaults`, and `/admit/sources`.
///
/// `trusted_callers` is the operator's declaration that only the API server can reach the port.
pub fn admission(
    handler: Handler,
    limits: BodyLimits,
    traces: Traces,
    trusted_callers: bool,
) -> Router {
    let admit = |surface| post(move |state, peer, request| admit(surface, state, peer, request));
    Router::new()
        .route("/admit/pods", admit(Surface::Pods))
        .route("/admit/defaults/pods", admit(Surface::DefaultsPods))
        .route("/admit/workloads", admit(Surface::Workloads))
        .route(
            "/admit/defaults/workloads",
            admit(Surface::DefaultsWorkloads),
        )
        .route("/admit/sources", admit(Surface::Sources))
        .with_state((handler, limits, traces, trusted_callers))
}

async fn admit(
    surface: Surface,
    State((handler, limits, traces, trusted_callers)): State<(Handler, BodyLimits, Traces, bool)>,
    Extension(peer): Extension<Peer>,
    request: Request<Body>,
) -> Response {
    let arrived = Instant::now();
    let caller = Caller::new(peer.addr, peer.verified, trusted_callers);
    let mut span = traces.request("admission", request.headers());
    let request = match limits.read(request).await {
        Ok(request) => request,
        Err(shed) => {
            span.set_static("surface", surface.as_str());
            span.set_error("shed");
            return shed.into_response();
        }
    };
    // A decoded review may be far larger than its bytes, so that its memory is reserved before it is decoded.
    let decoded = match limits.reserve(decoded_bytes(request.body())) {
        Ok(room) => room,
        Err(shed) => return shed.into_response(),
    };
    let received = Received {
        query: request.uri().query(),
        arrived,
        caller,
    };
    match handler
        .handle(surface, received, request.body(), span)
        .await
    {
        Ok(response) => {
            // The review's reservation is released first; most responses fit into it.
            drop((request, decoded));
            limits
                .hold_response(response.to_json())
                .map_or_else(IntoResponse::into_response, json)
        }
        Err(unreadable) => (StatusCode::BAD_REQUEST, format!("{unreadable}\n")).into_response(),
    }
}

fn json(body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::limits::BodySettings;

    #[test]
    fn largest_review_fits_beside_the_reserve() {
        let settings = BodySettings::default();
        let large = (settings.in_flight - settings.reserve) as usize;
        let largest = (0..1_000_000)
            .step_by(1000)
            .map(|nodes| decoded_bytes(&vec![b'{'; nodes]))
            .max()
            .unwrap();
        assert_eq!(largest, 130_000 * 128);
        assert!(settings.per_body + largest <= large);
        assert_eq!(
            decoded_bytes(&vec![b'['; 130_001]),
            0,
            "no memory is reserved for a review that is rejected undecoded"
        );
    }
}
