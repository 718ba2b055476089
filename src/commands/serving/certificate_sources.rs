//! Sources of the serving certificate: files, and the Secret of self-managed certificates.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;

use super::args::ServingArgs;
use super::certificate_monitor::CertificateMonitor;
use super::tls_secret;
use crate::clock::Clock;
use crate::kubernetes::tls_secret::TlsSecret;
use crate::kubernetes::{ClientSettings, ObjectApi, connect_for_long_calls};
use crate::server::cert_store::{CertStore, ClientAuth, TlsFiles};
use crate::server::metrics::ServerMetrics;

/// Sources beside files that are configured.
pub(crate) struct CertificateSources {
    /// The Secret of self-managed certificates.
    secret: Option<TlsSecret>,
    /// Monitor of the `Certificate` that the files come from.
    pub(crate) monitor: Option<CertificateMonitor>,
}

impl CertificateSources {
    pub(crate) async fn connect(
        args: &ServingArgs,
        settings: &ClientSettings,
        namespace: &str,
    ) -> anyhow::Result<Self> {
        let secret = match &args.tls_secret {
            Some(name) => {
                let api = ObjectApi::new(connect_for_long_calls(settings).await?);
                Some(TlsSecret::new(api, namespace, name))
            }
            None => None,
        };
        let monitor = match &args.tls_certificate {
            Some(name) => Some(CertificateMonitor::new(
                connect_for_long_calls(settings).await?,
                namespace,
                name,
            )),
            None => None,
        };
        Ok(Self { secret, monitor })
    }
}

/// Loads the certificate that serves first. If there is none, the error has the reason that cert-manager reports.
pub(crate) async fn load(
    args: &ServingArgs,
    client_ca: Option<PathBuf>,
    clock: Clock,
    metrics: &ServerMetrics,
    sources: &CertificateSources,
) -> anyhow::Result<(Arc<CertStore>, TlsFiles)> {
    let auth = if client_ca.is_some() {
        ClientAuth::Required
    } else {
        ClientAuth::None
    };
    let store = CertStore::new(auth, clock.clone(), metrics.clone());
    let files = TlsFiles {
        pair: args.tls_cert.clone().zip(args.tls_key.clone()),
        client_ca,
    };
    let Err(error) = files
        .load(&store)
        .await
        .context("the serving certificate could not be loaded")
    else {
        return Ok((store, files));
    };
    let reason = match &sources.monitor {
        Some(monitor) => monitor.describe_problem(clock.now()).await,
        None => None,
    };
    Err(match reason {
        Some(reason) => error.context(reason),
        None => error,
    })
}

/// Starts the tasks that keep the serving certificate current.
pub(crate) fn watch(
    store: &Arc<CertStore>,
    files: TlsFiles,
    sources: CertificateSources,
    poll_interval: Duration,
    clock: Clock,
) -> JoinSet<()> {
    let CertificateSources { secret, monitor } = sources;
    let mut tasks = JoinSet::new();
    if let Some(secret) = secret {
        let store = Arc::clone(store);
        tasks.spawn(async move { tls_secret::watch(secret, &store, poll_interval).await });
    }
    if let Some(monitor) = monitor {
        let store = Arc::clone(store);
        tasks.spawn(async move { monitor.watch(&store, || clock.now()).await });
    }
    let store = Arc::clone(store);
    tasks.spawn(async move { files.watch(&store, poll_interval).await });
    tasks
}
