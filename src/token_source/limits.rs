//! Limits of tokens that are sent. docs/IDENTITY.md lists them.

use std::time::Duration;

/// Time before its end at which a token is no longer used if another one can be had.
pub const DEFAULT_REFRESH_BEFORE: Duration = Duration::from_secs(30);

/// Shortest such time.
pub const MIN_REFRESH_BEFORE: Duration = Duration::from_secs(5);

/// Longest such time. It is never more than half of the lifetime.
pub const MAX_REFRESH_BEFORE: Duration = Duration::from_mins(5);

/// Part of the lifetime before its end at which the token is replaced in the background, in percent.
pub const REFRESH_AHEAD_PERCENT: u32 = 20;

/// Longest random time by which it is replaced earlier: replicas do not log in together.
pub const MAX_SPREAD: Duration = Duration::from_secs(10);

/// Shortest lifetime of a token.
pub const MIN_LIFETIME: Duration = Duration::from_secs(5);

/// Longest time for which a token is used, whatever its lifetime is.
pub const MAX_LIFETIME: Duration = Duration::from_hours(24);

/// Time for which a caller waits for a login.
pub const LOGIN_WAIT: Duration = Duration::from_secs(5);

/// Time between two replacements of tokens that the service rejected.
pub const REPLACE_INTERVAL: Duration = Duration::from_secs(10);

/// Pause after a login that was refused, unless the settings have another.
pub const DEFAULT_REFUSED_PAUSE: Duration = Duration::from_secs(30);
