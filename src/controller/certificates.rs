//! Self-managed certificates: a CA and a leaf, made anew when two thirds of their time are over, with no moment at
//! which the API server meets a certificate that it does not trust.
//!
//! The order is the point: first every entry of the webhook configuration trusts the new CA beside the old one; then,
//! a while later, because API servers learn of it one by one, the new leaf goes into the Secret that `serve` reads.
//! A leader that dies between the two leaves a CA behind whose key nobody has, and the next one begins anew.

mod configuration;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::gauge::Gauge;
use rustls::crypto::CryptoProvider;
use secrecy::ExposeSecret as _;
use tokio::time::sleep;
use tracing::{info, warn};

use self::configuration::Configuration;
use super::metrics::{ControllerMetrics, RotationResult};
use crate::kubernetes::tls_secret::{StoredPair, TlsSecret, TlsSecretError};
use crate::kubernetes::{ApiError, ObjectApi};
use crate::telemetry::error_chain::ErrorChain;
use crate::telemetry::traces::Traces;
use crate::tls::{Bundle, Due, IssueError, Pair, due, issue};

/// Older CAs that stay trusted beside the new one: replicas that still serve with their leaves must not be shut out,
/// however often the certificate is made anew meanwhile.
const OLDER: usize = 3;

/// How it is done.
#[derive(Clone, Debug)]
pub struct CertificateSettings {
    /// The Secret's namespace.
    pub namespace: String,
    /// The Secret.
    pub secret: String,
    /// The `MutatingWebhookConfiguration` whose entries shall trust the CA.
    pub configuration: String,
    /// The DNS names under which the API server calls.
    pub names: BTreeSet<String>,
    /// How long a certificate is valid.
    pub validity: Duration,
    /// From the new CA in the configuration to the new leaf.
    pub ca_grace: Duration,
    /// Between two looks.
    pub every: Duration,
}

/// Why a look came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the certificate's Secret cannot be used")]
    Secret(#[from] TlsSecretError),
    #[error("the webhook configuration cannot be used")]
    Configuration(#[from] ApiError),
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error(
        "the webhook configuration \"{0}\" does not keep the new CA, so the old certificate serves on; find out what \
         else writes its caBundle: kubectl get mutatingwebhookconfiguration {0} -o yaml --show-managed-fields"
    )]
    HeldUp(String),
    #[error("there is no CA to be trusted; nothing is written into the webhook configuration")]
    NoCa,
}

/// Keeps the certificate and the trust in it.
#[derive(Debug)]
pub struct Certificates {
    secret: TlsSecret,
    configuration: Configuration,
    settings: CertificateSettings,
    provider: Arc<CryptoProvider>,
    metrics: ControllerMetrics,
    now: fn() -> Timestamp,
    traces: Traces,
}

impl Certificates {
    /// For the leader; `now` is the wall clock.
    #[must_use]
    pub fn new(
        api: &ObjectApi,
        settings: CertificateSettings,
        metrics: ControllerMetrics,
        now: fn() -> Timestamp,
    ) -> Self {
        Self {
            secret: TlsSecret::new(api.clone(), &settings.namespace, &settings.secret),
            configuration: Configuration::new(api.clone(), &settings.configuration),
            settings,
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            metrics,
            now,
            traces: Traces::off(),
        }
    }

    /// The same, and traced.
    #[must_use]
    pub fn traced(self, traces: &Traces) -> Self {
        Self {
            traces: traces.clone(),
            ..self
        }
    }

    /// Looks again and again for as long as it is polled.
    pub async fn run(&self) {
        /// The figure is the leader's alone.
        struct Forget<'a>(&'a Gauge);
        impl Drop for Forget<'_> {
            fn drop(&mut self) {
                self.0.set(0);
            }
        }
        let _forget = Forget(&self.metrics.certificate_not_after);
        loop {
            if let Err(error) = self.look().await {
                self.metrics.rotated(RotationResult::Failed);
                warn!(error = %ErrorChain(&error), "certificate reconciliation failed");
            }
            sleep(self.settings.every).await;
        }
    }

    /// Compares what is with what should be, and mends it.
    async fn look(&self) -> Result<(), Failure> {
        let kept = self.secret.read().await?;
        let now = (self.now)();
        let present = Pair::from_pem(
            &kept.chain,
            kept.key.expose_secret().as_bytes(),
            &self.provider,
            now,
        );
        if let Ok(pair) = &present {
            self.metrics
                .certificate_not_after
                .set(pair.not_after.as_second());
        }
        match due(
            present.as_ref(),
            &kept.ca,
            &self.settings.names,
            &self.provider,
            now,
        ) {
            None => {
                self.publish(&kept.ca).await?;
                Ok(())
            }
            Some(why) => {
                let mut span = self.traces.root_span("certificate.renew");
                let renewed = self.renew(&kept, present.as_ref().ok(), &why, now).await;
                let result = if renewed.is_ok() {
                    RotationResult::Rotated
                } else {
                    RotationResult::Failed
                };
                span.set_static("result", result.as_str());
                if renewed.is_err() {
                    span.set_error(result.as_str());
                }
                renewed
            }
        }
    }

    async fn renew(
        &self,
        kept: &StoredPair,
        present: Option<&Pair>,
        why: &Due,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let issued = issue(&self.settings.names, self.settings.validity, now)?;
        let older = match present {
            Some(pair) => self.verifying(kept, pair, now).await?,
            None => Bundle::default(),
        };
        let trusted = issued
            .ca
            .before(&older.before(&kept.ca, OLDER, now), OLDER, now);
        self.publish(&trusted).await?;
        // While nothing serves that anybody trusts, there is nothing to wait for.
        if !older.is_empty() {
            sleep(self.settings.ca_grace).await;
            // Whoever else writes there may have written in the meantime.
            if !self.publish(&trusted).await? {
                return Err(Failure::HeldUp(self.settings.configuration.clone()));
            }
        }
        self.secret.write(kept, &issued, &trusted).await?;
        self.metrics
            .certificate_not_after
            .set(issued.not_after.as_second());
        self.metrics.rotated(RotationResult::Rotated);
        info!(not_after = %issued.not_after, reason = %why, "issued a serving certificate");
        Ok(())
    }

    /// The CAs that verify the present pair: those kept beside it, and those that the configuration trusts already, as
    /// when a pair of somebody else's was taken over. They stay trusted while it serves.
    async fn verifying(
        &self,
        kept: &StoredPair,
        pair: &Pair,
        now: Timestamp,
    ) -> Result<Bundle, Failure> {
        let mut verifying = kept.ca.verifying(pair, &self.provider, now);
        if let Some(standing) = self.configuration.read().await? {
            for trusted in standing.trusted() {
                verifying =
                    verifying.before(&trusted.verifying(pair, &self.provider, now), OLDER, now);
            }
        }
        Ok(verifying)
    }

    /// Makes the configuration trust `bundle`, and tells whether it did so already (or there is none to trust it).
    async fn publish(&self, bundle: &Bundle) -> Result<bool, Failure> {
        if bundle.is_empty() {
            return Err(Failure::NoCa);
        }
        let Some(standing) = self.configuration.read().await? else {
            return Ok(true);
        };
        let shown = standing.shows(bundle);
        if !shown {
            self.configuration.publish(&standing, bundle).await?;
            info!(
                configuration = self.settings.configuration,
                "caBundle written"
            );
        }
        Ok(shown)
    }
}
