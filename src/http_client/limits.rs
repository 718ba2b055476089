//! Limits of the client. docs/IDENTITY.md lists them.

use std::time::Duration;

/// Time limit of a connection: name, TCP and TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Time limit of an exchange, unless the request has another.
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(3);

/// Bytes of a response's body, unless the request has another limit.
pub const MAX_BODY: usize = 64 << 10;

/// Bytes of a file of CA certificates.
pub const MAX_CA_FILE: u64 = 1 << 20;

/// Idle connections that are kept for each host.
pub const MAX_IDLE: usize = 2;

/// Time after which an idle connection is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// Characters of a URL.
pub const MAX_URL: usize = 2048;

/// Networks that the settings may allow.
pub const MAX_ALLOWED_NETWORKS: usize = 64;

/// Addresses of a name that are tried.
pub const MAX_ADDRESSES: usize = 16;

/// Characters of the proxy's URL, and of the exceptions.
pub const MAX_PROXY: usize = 4096;
