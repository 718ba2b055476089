//! Self-managed certificates: a CA and a serving certificate, renewed after two thirds of their validity. The API server
//! never meets a certificate that it does not trust.
//!
//! First, every entry of the webhook configuration trusts the new CA beside the old one. API servers pick up the change
//! one by one, so the new serving certificate is written into the Secret that `serve` reads only after a grace period.
//! A leader that dies between these two steps leaves a CA whose key nobody has; the next leader issues another one.
//!
//! The certificate of `admin` has a CA of its own, which no webhook configuration trusts: `serve` mounts `ca.crt` of the
//! Secret. There, the first step is to write `ca.crt` alone, and the grace period is that of a kubelet.

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

/// Grace periods that a mounted file takes. A kubelet renews it about every minute and a half; API servers see a change
/// of the configuration within seconds.
const MOUNT_GRACES: u32 = 6;

/// Place that publishes the CA to its clients.
#[derive(Clone, Debug)]
pub enum CaPublication {
    /// All entries of a `MutatingWebhookConfiguration`, by its name.
    Configuration(String),
    /// `ca.crt` of the Secret, which clients mount.
    Secret,
}

/// Settings of a self-managed certificate.
#[derive(Clone, Debug)]
pub struct CertificateSettings {
    /// Namespace of the Secret.
    pub namespace: String,
    /// Secret that has the certificate and its key.
    pub secret: String,
    pub publication: CaPublication,
    /// DNS names under which clients call the server.
    pub names: BTreeSet<String>,
    /// Validity of a new certificate.
    pub validity: Duration,
    /// Time between the new CA in the configuration and the new certificate in the Secret. Six times as long for a CA
    /// that clients mount.
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
    #[error(
        "Secret \"{0}\" was changed while clients learned the new CA, so the old certificate serves on; find out what else \
         writes it: kubectl get secret {0} -o yaml --show-managed-fields"
    )]
    SecretChanged(String),
}

/// Renews the certificate and publishes its CA.
#[derive(Debug)]
pub struct Certificates {
    secret: TlsSecret,
    /// `None`: the Secret publishes the CA.
    configuration: Option<WebhookConfiguration>,
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
        let configuration = match &settings.publication {
            CaPublication::Configuration(name) => {
                Some(WebhookConfiguration::new(api.clone(), name))
            }
            CaPublication::Secret => None,
        };
        Self {
            secret: TlsSecret::new(api.clone(), &settings.namespace, &settings.secret),
            configuration,
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
        let _reset = ResetNotAfter(self.not_after());
        loop {
            if let Err(error) = self.reconcile().await {
                self.metrics.rotation_ended(RotationResult::Failed);
                warn!(
                    secret = self.settings.secret,
                    error = %ErrorChain(&error),
                    "certificate reconciliation failed"
                );
            }
            sleep(self.settings.poll_interval).await;
        }
    }

    /// Gauge of the end of validity.
    fn not_after(&self) -> &Gauge {
        match self.configuration {
            Some(_) => &self.metrics.certificate_not_after,
            None => &self.metrics.admin_certificate_not_after,
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
            self.not_after().set(pair.not_after.as_second());
        }
        let reason = renewal_reason(
            present.as_ref(),
            &stored.ca,
            &self.settings.names,
            &self.provider,
            now,
        );
        match reason {
            None => match &self.configuration {
                Some(configuration) => publish(configuration, &stored.ca).await.map(drop),
                None => Ok(()),
            },
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
        // Without a certificate that is served and trusted, there is no reason to wait.
        let waits = !older.is_empty();
        match &self.configuration {
            Some(configuration) => {
                self.announce(configuration, &trusted, waits).await?;
                self.secret.write(stored, &issued, &trusted).await?;
            }
            None if waits => {
                let stored = self.announce_in_secret(stored, &trusted).await?;
                self.secret.write(&stored, &issued, &trusted).await?;
            }
            None => self.secret.write(stored, &issued, &trusted).await?,
        }
        self.not_after().set(issued.not_after.as_second());
        self.metrics.rotation_ended(RotationResult::Rotated);
        info!(
            secret = self.settings.secret,
            not_after = %issued.not_after,
            reason = %reason,
            "issued a serving certificate"
        );
        Ok(())
    }

    /// Publishes the CAs in the configuration, and waits for the grace period if a trusted certificate is served.
    async fn announce(
        &self,
        configuration: &WebhookConfiguration,
        trusted: &Bundle,
        waits: bool,
    ) -> Result<(), CertificateError> {
        publish(configuration, trusted).await?;
        if waits {
            sleep(self.settings.ca_grace).await;
            // Another writer of the configuration may have replaced the caBundle in the meantime.
            if !publish(configuration, trusted).await? {
                let name = configuration.name().to_owned();
                return Err(CertificateError::CaNotKept(name));
            }
        }
        Ok(())
    }

    /// Publishes the CAs in the Secret, beside the present pair, and waits until clients have them. Returns the Secret.
    async fn announce_in_secret(
        &self,
        stored: &StoredPair,
        trusted: &Bundle,
    ) -> Result<StoredPair, CertificateError> {
        self.secret.write_ca(stored, trusted).await?;
        sleep(self.settings.ca_grace * MOUNT_GRACES).await;
        let current = self.secret.read().await?;
        if current.ca == *trusted && current.chain == stored.chain {
            Ok(current)
        } else {
            let name = self.settings.secret.clone();
            Err(CertificateError::SecretChanged(name))
        }
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
        if let Some(configuration) = &self.configuration
            && let Some(current) = configuration.read().await?
        {
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
}

/// Writes `bundle` into all entries of the configuration. Returns `true` if nothing had to be written: all entries have
/// it already, or there is no configuration.
async fn publish(
    configuration: &WebhookConfiguration,
    bundle: &Bundle,
) -> Result<bool, CertificateError> {
    if bundle.is_empty() {
        return Err(CertificateError::NoCa);
    }
    let Some(current) = configuration.read().await? else {
        return Ok(true);
    };
    let published = current.has_only(bundle);
    if !published {
        configuration.publish(&current, bundle).await?;
        info!(configuration = configuration.name(), "caBundle written");
    }
    Ok(published)
}
