//! Client that this program is for an issuer.

use std::sync::Arc;

use secrecy::SecretString;

use crate::http_client::HttpClient;
use crate::identity::client_credentials::{ClientCredential, ClientCredentialsLogin};
use crate::identity::discovery::DiscoveryCache;
use crate::identity::error::IdentityError;
use crate::identity::settings::OwnClientSettings;
use crate::identity::token_endpoint::ClientAuthentication;
use crate::token_source::CredentialFile;

/// Client and the file with its credential.
#[derive(Clone, Debug)]
pub(super) struct OwnClient {
    id: String,
    credential: ClientCredential,
}

/// Client with its credential, for one request.
pub(super) struct OwnClientProof<'c> {
    client: &'c OwnClient,
    credential: SecretString,
}

impl OwnClient {
    /// Client of validated settings.
    pub(super) fn new(settings: &OwnClientSettings) -> Self {
        let credential = match (&settings.secret_file, &settings.assertion_file) {
            (_, Some(file)) => ClientCredential::Assertion(CredentialFile::new(file.clone())),
            (file, None) => {
                let file = file.clone().unwrap_or_default();
                ClientCredential::Secret(CredentialFile::new(file))
            }
        };
        Self {
            id: settings.id.clone(),
            credential,
        }
    }

    /// Reads the credential.
    pub(super) async fn proof(&self, provider: &str) -> Result<OwnClientProof<'_>, IdentityError> {
        let (ClientCredential::Secret(file) | ClientCredential::Assertion(file)) = &self.credential;
        let credential = file.read().await;
        let credential = credential.map_err(|error| IdentityError::Misconfigured {
            provider: provider.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(OwnClientProof {
            client: self,
            credential,
        })
    }

    /// Login by client credentials.
    pub(super) fn login(
        &self,
        discovery: &Arc<DiscoveryCache>,
        client: &HttpClient,
    ) -> ClientCredentialsLogin {
        ClientCredentialsLogin {
            client: client.clone(),
            discovery: Arc::clone(discovery),
            client_id: self.id.clone(),
            credential: self.credential.clone(),
            scope: None,
        }
    }
}

impl OwnClientProof<'_> {
    pub(super) fn authentication(&self) -> ClientAuthentication<'_> {
        let id = self.client.id.as_str();
        match &self.client.credential {
            ClientCredential::Secret(_) => ClientAuthentication::Secret {
                id,
                secret: &self.credential,
            },
            ClientCredential::Assertion(_) => ClientAuthentication::Assertion {
                id,
                assertion: &self.credential,
            },
        }
    }
}
