//! The certificate that a webhook outside the cluster shows, read by a handshake from here. Nothing is sent to it, so
//! whatever it shows is taken, and judged afterwards.

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

/// How long the whole of it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shakes hands with the URL's server.
pub async fn look(url: &str, provider: Arc<CryptoProvider>) -> Lookup<PublicCertificates> {
    match timeout(PATIENCE, shake(url, provider)).await {
        Ok(Ok(chain)) => Lookup::Found(PublicCertificates {
            chain: chain.into_bytes(),
            ca: Bundle::default(),
        }),
        Ok(Err(why)) => Lookup::Unknown(format!("{url} shows no certificate from here: {why}")),
        Err(_) => Lookup::Unknown(format!("{url} did not answer from here in time")),
    }
}

async fn shake(url: &str, provider: Arc<CryptoProvider>) -> Result<String, String> {
    let uri: Uri = url.parse().map_err(|_| "that is no URL".to_owned())?;
    let host = uri
        .host()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let name = ServerName::try_from(host.clone()).map_err(|_| "that is no host".to_owned())?;
    let seen = Arc::new(CertificateRecorder {
        provider: Arc::clone(&provider),
        chain: Mutex::new(String::new()),
    });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&seen) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443)))
        .await
        .map_err(|error| error.to_string())?;
    let shaken = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await;
    let chain = seen
        .chain
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    match shaken {
        // One that demands a certificate of us has shown its own before.
        _ if !chain.is_empty() => Ok(chain),
        Ok(_) => Err("it showed none".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Takes every certificate and keeps it, as PEM.
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
        let block = |one: &CertificateDer<'_>| {
            pem::encode_config(&Pem::new("CERTIFICATE", one.as_ref()), line_ending)
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
