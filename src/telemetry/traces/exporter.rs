//! Exporter of OTLP over HTTP in protobuf, with the HTTP and TLS libraries of the rest of the program.
//!
//! The exporter itself reads the settings that the OpenTelemetry specification defines as environment variables:
//! `OTEL_EXPORTER_OTLP_HEADERS`, for a token, and `OTEL_EXPORTER_OTLP_TIMEOUT`.

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

/// Time limit of one request to the collector.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Reason why traces cannot be exported at all.
#[derive(Debug, Error)]
pub enum TraceError {
    #[error("the collector's CA {} could not be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the collector's CA {} holds no certificate in PEM form", path.display())]
    NoCertificate { path: PathBuf },
    /// No CA is configured, and the system has none.
    #[error("there are no CA certificates on this system; name the collector's with --otlp-ca")]
    NoRoots(#[source] std::io::Error),
    /// The environment variables of the exporter are invalid.
    #[error("the settings for traces in the environment (OTEL_EXPORTER_OTLP_…) are not valid")]
    Settings(#[source] opentelemetry_otlp::ExporterBuildError),
}

/// Builds the exporter. It connects to the collector only when there are spans.
pub(super) async fn build(
    endpoint: &Endpoint,
    ca: Option<&Path>,
    resource: &Resource,
) -> Result<SpanExporter, TraceError> {
    let client = HyperClient::new(connector(endpoint, ca).await?, EXPORT_TIMEOUT, None);
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
        _ if !endpoint.is_https() => builder.with_tls_config(tls_config(RootCertStore::empty())),
        Some(path) => builder.with_tls_config(tls_config(read_roots(path).await?)),
        None => builder.with_native_roots().map_err(TraceError::NoRoots)?,
    };
    Ok(builder.https_or_http().enable_http1().build())
}

fn tls_config(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

async fn read_roots(path: &Path) -> Result<RootCertStore, TraceError> {
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
    async fn ca_error_names_the_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"hello").unwrap();
        let error = read_roots(file.path()).await.unwrap_err().to_string();
        assert!(
            error.contains(file.path().to_str().unwrap()) && error.contains("no certificate"),
            "{error}"
        );
        let error = read_roots(Path::new("/nowhere/ca.crt"))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nowhere/ca.crt"), "{error}");
    }
}
