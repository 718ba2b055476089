//! Health of the API server, from the result of a request to `/readyz`.

use super::transport::ExchangeFailure;
use crate::backend::{ErrorKind, HealthState, HealthStatus};

/// Turns the result of a request to `/readyz` into a state; `None` if there was no response in time.
pub(super) fn health_status(result: Option<Result<(), ExchangeFailure>>) -> HealthStatus {
    let (state, message) = match result.map(|result| result.map_err(|failure| failure.kind)) {
        Some(Ok(())) => (HealthState::Healthy, "the API server is ready"),
        // The response is that of an API server. A cluster may deny access to its readiness.
        Some(Err(ErrorKind::PermissionDenied)) => (HealthState::Healthy, "the API server answers"),
        Some(Err(ErrorKind::RateLimited)) => {
            (HealthState::Degraded, "the API server is overloaded")
        }
        Some(Err(ErrorKind::Unauthenticated)) => (
            HealthState::Unhealthy,
            "the API server refuses the webhook's credential",
        ),
        Some(Err(ErrorKind::Unavailable | ErrorKind::Deadline)) => (
            HealthState::Unhealthy,
            "the API server is not ready or cannot be reached",
        ),
        Some(Err(
            ErrorKind::NotFound
            | ErrorKind::Protocol
            | ErrorKind::Invalid
            | ErrorKind::Conflict
            | ErrorKind::TooManyKeys,
        )) => (
            HealthState::Unhealthy,
            "the endpoint is not a Kubernetes API server",
        ),
        None => (
            HealthState::Unhealthy,
            "the API server did not answer in time",
        ),
    };
    HealthStatus::new(state, message)
}
