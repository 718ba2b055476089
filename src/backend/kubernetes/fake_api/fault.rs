//! Faults of the fake API server.

use std::time::Duration;

/// Fault of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiFault {
    /// `Status` of this code.
    Status(u16),
    /// 429 with this Retry-After in seconds.
    TooManyRequests(u64),
    /// 404 of a server that is not an API server.
    PageNotFound,
    /// 200 and a body that is not JSON.
    Garbage,
    /// 200 and half of a Secret, in a complete response.
    Truncated,
    /// 200 and half of a Secret, then the connection breaks.
    BrokenOff,
    /// 200 and another Secret than the requested one.
    OtherObject,
    /// 200 and a body without end.
    Endless,
    /// Correct response after this delay.
    Slow(Duration),
    /// No response.
    NoResponse,
}
