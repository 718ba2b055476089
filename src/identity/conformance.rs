//! Conformance suite: the contracts of [`IdentityProvider`] and [`PluginMetadata`] as tests, one function per clause.
//! Numbers `I1` to `I17` are the lines of the floe spec's own suite.
//!
//! Every provider and fake runs them by [`crate::identity_conformance`]. Each clause needs a fixture of its own, and
//! panics where the contract is broken.
//!
//! [`PluginMetadata`]: crate::plugin::PluginMetadata
#![expect(
    clippy::missing_panics_doc,
    reason = "clauses report a broken contract by a panic"
)]

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::time::timeout;

use super::error::IdentityError;
use super::kubernetes::BearerToken;
use super::provider::IdentityProvider;
use super::types::LoginCredentials;
use crate::plugin::{HealthState, PluginInfo};

/// Part of every credential of a fixture, and of what its issuer sends in errors. It must not be shown.
pub const CANARY: &str = "canary-7d1f";

/// Time limit of a health check.
const HEALTH_TIMEOUT: Duration = Duration::from_millis(500);
/// Time limit of every other call.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Provider under test, with an issuer that the fixture controls.
#[async_trait]
pub trait ProviderFixture: Send + Sync {
    /// Provider under test.
    fn provider(&self) -> &dyn IdentityProvider;

    /// Token that is valid, and its subject.
    async fn valid_token(&self) -> (BearerToken, String);

    /// Makes the issuer unreachable, and what is known of it too old to be used. False if the fixture cannot.
    async fn take_issuer_away(&self) -> bool;
}

/// Defines a module of tests: every clause of [`mod@conformance`](self). The expression `$fixture` is awaited once per
/// clause.
#[macro_export]
macro_rules! identity_conformance {
    ($module:ident, $fixture:expr) => {
        $crate::identity_conformance! { $module, $fixture,
            metadata_is_well_formed, schema_is_an_object_or_absent, startup_and_shutdown_may_be_repeated,
            health_check_returns_in_time, valid_token_has_an_owner, junk_tokens_are_not_valid,
            wrong_credentials_are_not_authenticated, operations_are_there_or_unsupported, outage_is_not_a_rejection
        }
    };
    ($module:ident, $fixture:expr, $($clause:ident),+) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test]
                async fn $clause() {
                    let fixture = $fixture.await;
                    $crate::identity::conformance::$clause(&fixture).await;
                }
            )+
        }
    };
}

/// Name and versions have the format of the floe spec, and never change (I1 to I3).
pub async fn metadata_is_well_formed(fixture: &dyn ProviderFixture) {
    let PluginInfo {
        name,
        version,
        floe_api_version,
        description,
    } = fixture.provider().metadata();
    let numbers = |text: &str| {
        let parts = text.split('.');
        parts.filter(|part| part.parse::<u32>().is_ok()).count()
    };
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    assert!(!name.is_empty() && name.bytes().all(is_allowed), "{name}");
    assert_eq!((numbers(version), numbers(floe_api_version)), (3, 2));
    assert!(!description.is_empty());
    fixture.provider().startup().await;
    assert_eq!(fixture.provider().metadata().name, name);
}

/// The schema of the settings is an object, if there are settings, and never changes (I16, I17).
pub async fn schema_is_an_object_or_absent(fixture: &dyn ProviderFixture) {
    let schema = fixture.provider().config_schema();
    assert!(schema.as_ref().is_none_or(Value::is_object));
    fixture.provider().startup().await;
    assert_eq!(fixture.provider().config_schema(), schema);
}

/// `startup` and `shutdown` may be called more than once (I14, I15).
pub async fn startup_and_shutdown_may_be_repeated(fixture: &dyn ProviderFixture) {
    for _ in 0..2 {
        fixture.provider().startup().await;
    }
    for _ in 0..2 {
        fixture.provider().shutdown().await;
    }
}

/// `health_check` reports an issuer that responds, and returns in time if it does not (I12, I13).
pub async fn health_check_returns_in_time(fixture: &dyn ProviderFixture) {
    let status = in_time(fixture.provider().health_check(CALL_TIMEOUT)).await;
    assert_eq!(status.state, HealthState::Healthy, "{status:?}");
    if fixture.take_issuer_away().await {
        let status = in_time(fixture.provider().health_check(HEALTH_TIMEOUT)).await;
        assert_ne!(status.state, HealthState::Healthy);
        assert!(!status.message.is_empty() && !leaks(&status));
    }
}

/// A valid token has the same owner for each call, and an end in ISO 8601 if it is known.
pub async fn valid_token_has_an_owner(fixture: &dyn ProviderFixture) {
    let (token, subject) = fixture.valid_token().await;
    let provider = fixture.provider();
    let result = in_time(provider.validate_token(&token)).await;
    let result = result.expect("the issuer is there");
    assert!(result.valid && result.error.is_empty(), "{}", result.error);
    assert!(result.expires_at.is_empty() || result.expires_at.parse::<Timestamp>().is_ok());
    let user = in_time(provider.get_user_info(&token)).await;
    let user = user.expect("the token is valid");
    assert_eq!(result.user_info.as_ref(), Some(&user));
    assert_eq!(user.subject, subject);
    let caller = in_time(provider.verify(&token)).await;
    let caller = caller.expect("the token is valid");
    assert_eq!(caller.user_info, user);
    assert!(!caller.issuer.is_empty());
    assert!(!leaks(&caller) && !leaks(&token));
}

/// Junk is a result that is not valid, with an error of the list, and has no owner (I5, I6, I8 to I10).
pub async fn junk_tokens_are_not_valid(fixture: &dyn ProviderFixture) {
    for text in [
        format!("{CANARY}.junk.x"),
        CANARY.to_owned(),
        format!("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.{CANARY}"),
    ] {
        let token = BearerToken::parse(&text).expect("a bearer token");
        let provider = fixture.provider();
        let result = in_time(provider.validate_token(&token)).await;
        let result = result.expect("the issuer is there");
        assert!(!result.valid && !result.error.is_empty());
        assert_eq!((result.user_info, result.expires_at.as_str()), (None, ""));
        let error = in_time(provider.get_user_info(&token)).await;
        is_unauthenticated(&error.expect_err("no user"));
    }
}

/// Wrong credentials give no token (I4, I7).
pub async fn wrong_credentials_are_not_authenticated(fixture: &dyn ProviderFixture) {
    let secret = || format!("{CANARY}-wrong").into();
    for credentials in [
        LoginCredentials::Password {
            username: "nobody".to_owned(),
            password: secret(),
        },
        LoginCredentials::ClientSecret {
            client_id: "nobody".to_owned(),
            client_secret: secret(),
        },
        LoginCredentials::RefreshToken {
            refresh_token: secret(),
        },
    ] {
        assert!(!leaks(&credentials));
        match in_time(fixture.provider().authenticate(&credentials)).await {
            Err(error @ IdentityError::Unsupported { .. }) => assert!(!leaks(&error)),
            Err(error) => is_unauthenticated(&error),
            Ok(token) => panic!("{}", token.access_token.expose_secret().len()),
        }
    }
}

/// `get_oidc_config` returns endpoints, or reports that the issuer has none (I11).
pub async fn operations_are_there_or_unsupported(fixture: &dyn ProviderFixture) {
    match in_time(fixture.provider().get_oidc_config(None)).await {
        Ok(config) => {
            assert!(!config.issuer_url.is_empty() && !config.jwks_uri.is_empty());
        }
        Err(IdentityError::Unsupported { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    let unknown = in_time(fixture.provider().get_oidc_config(Some("../x"))).await;
    unknown.expect_err("no such realm");
}

/// While the issuer cannot be asked, nothing is known about its tokens: they are neither valid nor rejected.
pub async fn outage_is_not_a_rejection(fixture: &dyn ProviderFixture) {
    let (token, _) = fixture.valid_token().await;
    if !fixture.take_issuer_away().await {
        return;
    }
    let provider = fixture.provider();
    for error in [
        in_time(provider.verify(&token)).await.err(),
        in_time(provider.validate_token(&token)).await.err(),
        in_time(provider.get_user_info(&token)).await.err(),
    ] {
        let error = error.expect("the issuer is away");
        assert!(
            matches!(error, IdentityError::Unavailable { .. }),
            "{error}"
        );
        assert!(!leaks(&error) && !error.to_string().contains(CANARY));
    }
}

/// Result of a call that returns in time.
async fn in_time<T>(call: impl Future<Output = T>) -> T {
    let result = timeout(CALL_TIMEOUT, call).await;
    result.expect("the call returns in time")
}

fn is_unauthenticated(error: &IdentityError) {
    assert!(
        matches!(error, IdentityError::Unauthenticated { .. }),
        "{error}"
    );
    assert!(!leaks(error) && !error.to_string().contains(CANARY));
}

/// Whether a value shows a credential.
fn leaks(value: &impl Debug) -> bool {
    format!("{value:?}").contains(CANARY)
}
