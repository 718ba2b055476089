//! Keycloak of this program with two realms, and providers for them.

use std::path::PathBuf;

use floe_secrets_webhook::clock::Clock;
use floe_secrets_webhook::http_client::Schemes;
use floe_secrets_webhook::identity::kubernetes::BearerToken;
use floe_secrets_webhook::identity::metrics::IssuerMetrics;
use floe_secrets_webhook::identity::oidc::{OidcProvider, ProviderEnvironment};
use floe_secrets_webhook::identity::settings::OidcSettings;
use serde_json::{Value, json};
use testbed::keycloak::{AUDIENCE, CLIENT_SECRET, Keycloak, Realm};
use testbed::process::Folder;
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Keycloak and its realms. Tests share it; the outage has it alone.
pub struct Fixture {
    pub keycloak: &'static Keycloak,
    pub first: Realm<'static>,
    pub second: Realm<'static>,
    folder: Folder,
}

async fn lock() -> &'static RwLock<Fixture> {
    static SHARED: OnceCell<RwLock<Fixture>> = OnceCell::const_new();
    let start = || async {
        let keycloak = Keycloak::shared().await;
        let fixture = Fixture {
            first: keycloak.create_realm("first").await,
            second: keycloak.create_realm("second").await,
            keycloak,
            folder: Folder::new(),
        };
        RwLock::new(fixture)
    };
    SHARED.get_or_init(start).await
}

impl Fixture {
    /// Keycloak that is running.
    pub async fn shared() -> RwLockReadGuard<'static, Self> {
        lock().await.read().await
    }

    /// Keycloak that no other test uses.
    pub async fn exclusive() -> RwLockWriteGuard<'static, Self> {
        lock().await.write().await
    }

    /// File with the secret of the realms' clients.
    pub fn secret_file(&self) -> PathBuf {
        self.folder.write("client-secret", CLIENT_SECRET)
    }

    /// Provider for a realm, with more settings.
    pub fn provider(&self, realm: &Realm<'_>, more: &Value) -> OidcProvider {
        let mut settings = json!({
            "name": realm.name, "type": "keycloak", "issuer": realm.issuer(),
            "caFile": self.keycloak.ca_file(),
            "realmRoles": ["realm_access", "roles"], "groups": ["groups"],
        });
        if let (Some(settings), Some(more)) = (settings.as_object_mut(), more.as_object()) {
            settings.extend(more.clone());
        }
        let settings: OidcSettings = serde_json::from_value(settings).expect("settings");
        let environment = ProviderEnvironment {
            schemes: Schemes::Https,
            proxy: None,
            clock: Clock::system(),
            metrics: IssuerMetrics::default(),
        };
        OidcProvider::new(&settings, &environment).expect("a provider")
    }

    /// Setting `client` for a client of a realm.
    pub fn own_client(&self, id: &str) -> Value {
        json!({"id": id, "secretFile": self.secret_file()})
    }

    /// Setting `client` for the client that has our roles.
    pub fn our_client(&self) -> Value {
        self.own_client(AUDIENCE)
    }
}

/// Token as a request has it.
pub fn bearer(token: &str) -> BearerToken {
    BearerToken::parse(token).expect("a token")
}

/// Lets the clock of caches pass; requests take real time.
pub async fn pass(time: std::time::Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
