//! Certificate that a webhook outside the cluster presents, read in a TLS handshake from this machine. No request is
//! sent, so every certificate is accepted, and evaluated afterwards.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use pem::{EncodeConfig, LineEnding, Pem};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::kubernetes::Lookup;
use crate::kubernetes::tls_secret::PublicCertificates;
use crate::tls::Bundle;

/// Time limit of name resolution, connection and handshake together.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the certificates that the URL's server presents.
pub async fn read(url: &str, provider: Arc<CryptoProvider>) -> Lookup<PublicCertificates> {
    match timeout(HANDSHAKE_TIMEOUT, read_chain(url, provider)).await {
        Ok(Ok(chain)) => Lookup::Found(PublicCertificates {
            chain: chain.into_bytes(),
            ca: Bundle::default(),
        }),
        Ok(Err(reason)) => {
            Lookup::Unknown(format!("{url} shows no certificate from here: {reason}"))
        }
        Err(_) => Lookup::Unknown(format!("{url} did not answer from here in time")),
    }
}

async fn read_chain(url: &str, provider: Arc<CryptoProvider>) -> Result<String, String> {
    let uri: Uri = url.parse().map_err(|_| "that is no URL".to_owned())?;
    let host = uri
        .host()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let name = ServerName::try_from(host.clone()).map_err(|_| "that is no host".to_owned())?;
    let recorder = Arc::new(CertificateRecorder {
        provider: Arc::clone(&provider),
        chain: Mutex::new(String::new()),
    });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&recorder) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443)))
        .await
        .map_err(|error| error.to_string())?;
    let handshake = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await;
    let chain = recorder
        .chain
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    match handshake {
        // A server that requires a client certificate fails the handshake after it has presented its own.
        _ if !chain.is_empty() => Ok(chain),
        Ok(_) => Err("it showed none".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Accepts every certificate and records it, as PEM.
#[derive(Debug)]
struct CertificateRecorder {
    provider: Arc<CryptoProvider>,
    chain: Mutex<String>,
}

impl ServerCertVerifier for CertificateRecorder {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let line_ending = EncodeConfig::new().set_line_ending(LineEnding::LF);
        let block = |certificate: &CertificateDer<'_>| {
            pem::encode_config(&Pem::new("CERTIFICATE", certificate.as_ref()), line_ending)
        };
        let chain = [leaf].into_iter().chain(more).map(block).collect();
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
