//! Self-managed certificates: a CA and a serving certificate, renewed after two thirds of their validity. The API server
//! never meets a certificate that it does not trust.
//!
//! First, every entry of the webhook configuration trusts the new CA beside the old one. API servers pick up the change
//! one by one, so the new serving certificate is written into the Secret that `serve` reads only after a grace period.
//! A leader that dies between these two steps leaves a CA whose key nobody has; the next leader issues another one.

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

use self::configuration::WebhookConfiguration;
use super::metrics::{ControllerMetrics, RotationResult};
use crate::clock::Clock;
use crate::kubernetes::tls_secret::{StoredPair, TlsSecret, TlsSecretError};
use crate::kubernetes::{ApiError, ObjectApi};
use crate::telemetry::error_chain::ErrorChain;
use crate::telemetry::traces::Traces;
use crate::tls::{Bundle, IssueError, RenewalReason, ServingPair, issue, renewal_reason};

/// Limit of older CAs that stay trusted beside the new one. Replicas that still serve an older certificate stay
/// trusted, even if the certificate is renewed several times in a short time.
const MAX_OLDER_CAS: usize = 3;

/// Settings of the self-managed certificate.
#[derive(Clone, Debug)]
pub struct CertificateSettings {
    /// Namespace of the Secret.
    pub namespace: String,
    /// Secret that has the certificate and its key.
    pub secret: String,
    /// `MutatingWebhookConfiguration` whose entries trust the CA.
    pub configuration: String,
    /// DNS names under which the API server calls the webhook.
    pub names: BTreeSet<String>,
    /// Validity of a new certificate.
    pub validity: Duration,
    /// Time between the new CA in the configuration and the new certificate in the Secret.
    pub ca_grace: Duration,
    /// Interval of reconciliations.
    pub poll_interval: Duration,
}

/// Error that ends one reconciliation.
#[derive(Debug, thiserror::Error)]
enum CertificateError {
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
    CaNotKept(String),
    #[error("there is no CA to be trusted; nothing is written into the webhook configuration")]
    NoCa,
}

/// Renews the certificate and publishes its CA.
#[derive(Debug)]
pub struct Certificates {
    secret: TlsSecret,
    configuration: WebhookConfiguration,
    settings: CertificateSettings,
    provider: Arc<CryptoProvider>,
    metrics: ControllerMetrics,
    clock: Clock,
    traces: Traces,
}

impl Certificates {
    /// Creates it without tracing; `now` is the wall clock.
    #[must_use]
    pub fn new(
        api: &ObjectApi,
        settings: CertificateSettings,
        metrics: ControllerMetrics,
        clock: Clock,
    ) -> Self {
        Self {
            secret: TlsSecret::new(api.clone(), &settings.namespace, &settings.secret),
            configuration: WebhookConfiguration::new(api.clone(), &settings.configuration),
            settings,
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            metrics,
            clock,
            traces: Traces::off(),
        }
    }

    /// Enables tracing.
    #[must_use]
    pub fn traced(self, traces: &Traces) -> Self {
        Self {
            traces: traces.clone(),
            ..self
        }
    }

    /// Reconciles at every interval, until it is dropped.
    pub async fn run(&self) {
        /// Only the leader reports this gauge; it is reset when the lease is lost.
        struct ResetNotAfter<'a>(&'a Gauge);
        impl Drop for ResetNotAfter<'_> {
            fn drop(&mut self) {
                self.0.set(0);
            }
        }
        let _reset = ResetNotAfter(&self.metrics.certificate_not_after);
        loop {
            if let Err(error) = self.reconcile().await {
                self.metrics.rotation_ended(RotationResult::Failed);
                warn!(error = %ErrorChain(&error), "certificate reconciliation failed");
            }
            sleep(self.settings.poll_interval).await;
        }
    }

    /// Renews the certificate if it is due; otherwise publishes its CA.
    async fn reconcile(&self) -> Result<(), CertificateError> {
        let stored = self.secret.read().await?;
        let now = self.clock.now();
        let present = ServingPair::from_pem(
            &stored.chain,
            stored.key.expose_secret().as_bytes(),
            &self.provider,
            now,
        );
        if let Ok(pair) = &present {
            self.metrics
                .certificate_not_after
                .set(pair.not_after.as_second());
        }
        let reason = renewal_reason(
            present.as_ref(),
            &stored.ca,
            &self.settings.names,
            &self.provider,
            now,
        );
        match reason {
            None => self.publish(&stored.ca).await.map(drop),
            Some(reason) => {
                self.renew_traced(&stored, present.as_ref().ok(), &reason, now)
                    .await
            }
        }
    }

    async fn renew_traced(
        &self,
        stored: &StoredPair,
        present: Option<&ServingPair>,
        reason: &RenewalReason,
        now: Timestamp,
    ) -> Result<(), CertificateError> {
        let mut span = self.traces.root_span("certificate.renew");
        let renewed = self.renew(stored, present, reason, now).await;
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

    /// Issues a certificate, publishes its CA, waits for the grace period, and writes the certificate.
    async fn renew(
        &self,
        stored: &StoredPair,
        present: Option<&ServingPair>,
        reason: &RenewalReason,
        now: Timestamp,
    ) -> Result<(), CertificateError> {
        let issued = issue(&self.settings.names, self.settings.validity, now)?;
        let older = match present {
            Some(pair) => self.trusted_cas(stored, pair, now).await?,
            None => Bundle::default(),
        };
        let trusted = issued.ca.prepend_to(
            &older.prepend_to(&stored.ca, MAX_OLDER_CAS, now),
            MAX_OLDER_CAS,
            now,
        );
        self.publish(&trusted).await?;
        // Without a certificate that is served and trusted, there is no reason to wait.
        if !older.is_empty() {
            sleep(self.settings.ca_grace).await;
            // Another writer of the configuration may have replaced the caBundle in the meantime.
            if !self.publish(&trusted).await? {
                return Err(CertificateError::CaNotKept(
                    self.settings.configuration.clone(),
                ));
            }
        }
        self.secret.write(stored, &issued, &trusted).await?;
        self.metrics
            .certificate_not_after
            .set(issued.not_after.as_second());
        self.metrics.rotation_ended(RotationResult::Rotated);
        info!(not_after = %issued.not_after, reason = %reason, "issued a serving certificate");
        Ok(())
    }

    /// CAs that verify the present pair: those stored beside it, and those that the configuration trusts already (after
    /// a takeover, the pair may have been issued by another tool). They stay trusted while the pair is served.
    async fn trusted_cas(
        &self,
        stored: &StoredPair,
        pair: &ServingPair,
        now: Timestamp,
    ) -> Result<Bundle, CertificateError> {
        let mut verifying = stored.ca.verifying(pair, &self.provider, now);
        if let Some(current) = self.configuration.read().await? {
            for trusted in current.bundles() {
                verifying = verifying.prepend_to(
                    &trusted.verifying(pair, &self.provider, now),
                    MAX_OLDER_CAS,
                    now,
                );
            }
        }
        Ok(verifying)
    }

    /// Writes `bundle` into all entries of the configuration. Returns `true` if nothing had to be written: all entries
    /// have it already, or there is no configuration.
    async fn publish(&self, bundle: &Bundle) -> Result<bool, CertificateError> {
        if bundle.is_empty() {
            return Err(CertificateError::NoCa);
        }
        let Some(current) = self.configuration.read().await? else {
            return Ok(true);
        };
        let published = current.has_only(bundle);
        if !published {
            self.configuration.publish(&current, bundle).await?;
            info!(
                configuration = self.settings.configuration,
                "caBundle written"
            );
        }
        Ok(published)
    }
}
