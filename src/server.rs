//! Listeners, TLS, drain.
