//! Decorators around a backend: cache, single flight, stall guard, retries, circuit breaker, metrics.
//!
//! [`super::registry`] has the order in which they wrap a backend.

pub mod cached;
pub mod circuit_breaker;
pub mod metered;
pub mod retry;
pub mod single_flight;
pub mod stall_guard;
