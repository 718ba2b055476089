//! Shared webhook on the API server, registered as it is shipped.

use tokio::sync::OnceCell;

use super::control_plane::ControlPlane;
use super::webhook::{Registration, webhook_identity};
use super::webhook_process::{Launch, WebhookProcess};

/// Control plane, and the webhook with its configuration in force.
pub struct SharedFixture {
    pub cp: &'static ControlPlane,
    /// Process of the webhook, which logs skips too.
    pub webhook: WebhookProcess,
    _registration: Registration,
}

/// Fixture of this test binary: the webhook has the shipped permissions and is called by its Service for every
/// namespace.
pub async fn shared_fixture() -> &'static SharedFixture {
    static SHARED: OnceCell<SharedFixture> = OnceCell::const_new();
    let start = || async {
        let cp = ControlPlane::shared().await;
        let identity = webhook_identity(cp).await;
        let webhook = Launch::serve(cp, &identity)
            .with(&["--log", "debug"])
            .start()
            .await;
        let registration = Registration::shared(cp, &webhook.service_configuration()).await;
        SharedFixture {
            cp,
            webhook,
            _registration: registration,
        }
    };
    SHARED.get_or_init(start).await
}
