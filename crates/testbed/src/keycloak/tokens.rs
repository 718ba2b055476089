//! Tokens of a realm.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::realm::{CLIENT_SECRET, PASSWORD, Realm};

/// Tokens that the token endpoint returned.
#[derive(Clone, Debug)]
pub struct TokenSet {
    pub access: String,
    pub refresh: Option<String>,
    pub id: Option<String>,
}

impl TokenSet {
    #[track_caller]
    fn of(response: &Value) -> Self {
        let text = |name: &str| response[name].as_str().map(str::to_owned);
        Self {
            access: text("access_token").unwrap_or_else(|| panic!("no token: {response}")),
            refresh: text("refresh_token"),
            id: text("id_token"),
        }
    }
}

impl Realm<'_> {
    /// Logs a confidential client in.
    pub async fn client_token(&self, client_id: &str) -> String {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", client_id),
            ("client_secret", CLIENT_SECRET),
        ];
        self.token(&fields).await.access
    }

    /// Logs a user in at a client that allows it.
    pub async fn user_tokens(&self, client_id: &str, username: &str) -> TokenSet {
        let fields = [
            ("grant_type", "password"),
            ("client_id", client_id),
            ("client_secret", CLIENT_SECRET),
            ("username", username),
            ("password", PASSWORD),
            ("scope", "openid"),
        ];
        self.token(&fields).await
    }

    /// Sends a form to the token endpoint, and expects tokens.
    pub async fn token(&self, fields: &[(&str, &str)]) -> TokenSet {
        let path = format!("/realms/{}/protocol/openid-connect/token", self.name);
        let response = self.keycloak.client().post_form(&path, fields).await;
        let response = response.expect("Keycloak responds").expect_status(200);
        TokenSet::of(&response.json())
    }
}

/// Claims of a token, unchecked.
pub fn claims_of(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a token has three parts");
    let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    serde_json::from_slice(&payload).expect("JSON")
}

/// Form of URL-encoded fields.
pub(super) fn form(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| -> String {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        };
        text.bytes().map(byte).collect()
    };
    let field = |(name, value): &(&str, &str)| format!("{}={}", encode(name), encode(value));
    fields.iter().map(field).collect::<Vec<_>>().join("&")
}
