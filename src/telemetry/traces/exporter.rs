//! OTLP over HTTP, in protobuf, by the same HTTP and TLS libraries as everything else here.
//!
//! What the OpenTelemetry specification leaves to the environment (`OTEL_EXPORTER_OTLP_HEADERS`, for a token, and
//! `OTEL_EXPORTER_OTLP_TIMEOUT`) is read by the exporter itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

use crate::telemetry::traces::Endpoint;

/// How long the collector may take for one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why traces cannot be sent at all.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The CA's file.
    #[error("the collector's CA {} could not be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No certificate in it.
    #[error("the collector's CA {} holds no certificate in PEM form", path.display())]
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// None in the system, either.
    #[error("there are no CA certificates on this system; name the collector's with --otlp-ca")]
    NoRoots(#[source] std::io::Error),
    /// What the environment says about the exporter.
    #[error("the settings for traces in the environment (OTEL_EXPORTER_OTLP_…) are not valid")]
    Settings(#[source] opentelemetry_otlp::ExporterBuildError),
}

/// An exporter to the collector; it connects when there is something to send.
pub(super) async fn build(
    endpoint: &Endpoint,
    ca: Option<&Path>,
    resource: &Resource,
) -> Result<SpanExporter, TraceError> {
    let client = HyperClient::new(connector(endpoint, ca).await?, TIMEOUT, None);
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint.traces())
        .build()
        .map_err(TraceError::Settings)?;
    exporter.set_resource(resource);
    Ok(exporter)
}

async fn connector(
    endpoint: &Endpoint,
    ca: Option<&Path>,
) -> Result<HttpsConnector<HttpConnector>, TraceError> {
    let builder = HttpsConnectorBuilder::new();
    let builder = match ca {
        _ if !endpoint.is_https() => builder.with_tls_config(trusting(RootCertStore::empty())),
        Some(path) => builder.with_tls_config(trusting(roots(path).await?)),
        None => builder.with_native_roots().map_err(TraceError::NoRoots)?,
    };
    Ok(builder.https_or_http().enable_http1().build())
}

fn trusting(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

async fn roots(path: &Path) -> Result<RootCertStore, TraceError> {
    let pem = tokio::fs::read(path)
        .await
        .map_err(|source| TraceError::Read {
            path: path.to_owned(),
            source,
        })?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    if roots.is_empty() {
        Err(TraceError::NoCertificate {
            path: path.to_owned(),
        })
    } else {
        Ok(roots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[tokio::test]
    async fn a_ca_that_is_none_is_said_with_its_name() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"hello").unwrap();
        let error = roots(file.path()).await.unwrap_err().to_string();
        assert!(
            error.contains(file.path().to_str().unwrap()) && error.contains("no certificate"),
            "{error}"
        );
        let error = roots(Path::new("/nowhere/ca.crt"))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nowhere/ca.crt"), "{error}");
    }
}
