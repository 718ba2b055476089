//! Conformance suite: the contracts of [`SecretBinder`] and [`SecretsBackend`] as tests, one function per clause.
//!
//! Every backend, decorator and fake runs them by [`crate::binder_conformance`] and [`crate::backend_conformance`]. Its
//! [`Fixture`] creates secrets and makes the backend fail. Each clause needs a fixture of its own, and panics where the
//! contract is broken.
//!
//! [`SecretBinder`]: super::SecretBinder
//! [`SecretsBackend`]: super::SecretsBackend
#![expect(
    clippy::missing_panics_doc,
    reason = "clauses report a broken contract by a panic"
)]

pub mod backend;
pub mod binder;
mod fixture;
mod queries;

pub use fixture::{CANARY, Fixture, InjectedFailure, leaks};

/// Defines a module of tests: every clause of [`binder`]. The expression
/// `$fixture` is awaited once per clause.
#[macro_export]
macro_rules! binder_conformance {
    ($module:ident, $fixture:expr) => {
        $crate::conformance_clauses! { $module, binder, $fixture,
            existing_secret_is_bound_by_name, requested_keys_are_complete, missing_key_is_not_an_error,
            empty_secret_has_no_keys, missing_secret_is_not_found, created_secret_is_found_by_the_next_review,
            denied_read_does_not_disclose_existence, failures_keep_their_kind, missing_response_fails_at_the_deadline,
            dropped_call_is_cancelled, dropped_call_does_not_affect_other_callers,
            concurrent_callers_all_get_a_result, errors_contain_no_text_of_the_backend
        }
    };
}

/// Defines a module of tests: every clause of [`mod@backend`].
#[macro_export]
macro_rules! backend_conformance {
    ($module:ident, $fixture:expr) => {
        $crate::conformance_clauses! { $module, backend, $fixture,
            missing_values_are_not_found, values_are_returned_unchanged, set_creates_a_secret, set_keeps_other_keys_and_annotations,
            set_does_not_adopt_foreign_secrets, list_returns_names_in_order, health_check_returns_in_time, metadata_is_well_formed
        }
    };
}

/// Tests of one contract, for both macros above.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_clauses {
    ($module:ident, $contract:ident, $fixture:expr, $($clause:ident),+) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test]
                async fn $clause() {
                    let fixture = $fixture.await;
                    $crate::backend::conformance::$contract::$clause(&fixture).await;
                }
            )+
        }
    };
}
