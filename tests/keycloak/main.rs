//! Providers on a real Keycloak with TLS: logins, tokens of each kind, rotated keys, an outage, disabled users, and
//! registration of clients. `make test-keycloak` runs them; Keycloak is started once for all.

#![cfg(feature = "test-util")]

mod fixture;
mod logins;
mod outage;
mod registration;
mod tokens;
