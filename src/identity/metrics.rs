//! Metrics of what issuers publish.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::clock::Clock;
use crate::telemetry::metrics::label_enum;

label_enum! {
    /// Document that an issuer publishes.
    IssuerDocument {
        Keys => "keys",
        Discovery => "discovery",
    }
}

impl IssuerDocument {
    /// Name in errors.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Keys => "the key set",
            Self::Discovery => "the discovery document",
        }
    }
}

label_enum! {
    /// Result of a fetch.
    FetchResult {
        Success => "success",
        Failure => "failure",
    }
}

/// `{provider,document,result}`. The settings limit the number of providers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FetchLabels {
    pub provider: String,
    pub document: IssuerDocument,
    pub result: FetchResult,
}

/// `{provider,document}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct IssuerDocumentLabels {
    pub provider: String,
    pub document: IssuerDocument,
}

/// `{provider}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProviderLabels {
    pub provider: String,
}

/// Metrics of issuers. Clones share their values.
#[derive(Clone)]
pub struct IssuerMetrics {
    clock: Clock,
    fetches: Family<FetchLabels, Counter>,
    fetch_time: Family<IssuerDocumentLabels, Gauge>,
    keys: Family<ProviderLabels, Gauge>,
    skipped_keys: Family<ProviderLabels, Gauge>,
    unknown_keys: Family<ProviderLabels, Counter>,
}

impl Default for IssuerMetrics {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            fetches: Family::default(),
            fetch_time: Family::default(),
            keys: Family::default(),
            skipped_keys: Family::default(),
            unknown_keys: Family::default(),
        }
    }
}

impl fmt::Debug for IssuerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IssuerMetrics")
    }
}

impl IssuerMetrics {
    /// Creates the metrics and registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "identity_fetches",
            "Fetches of keys and endpoints of identity providers",
            metrics.fetches.clone(),
        );
        registry.register_with_unit(
            "identity_fetch_time",
            "Unix time of the last fetch of keys and endpoints that succeeded",
            Unit::Seconds,
            metrics.fetch_time.clone(),
        );
        registry.register(
            "identity_keys",
            "Keys of an identity provider that are used",
            metrics.keys.clone(),
        );
        registry.register(
            "identity_skipped_keys",
            "Keys of an identity provider that are not used",
            metrics.skipped_keys.clone(),
        );
        registry.register(
            "identity_unknown_keys",
            "Tokens with a key that was not known when they arrived",
            metrics.unknown_keys.clone(),
        );
        metrics
    }

    pub(super) fn count_fetch(&self, provider: &str, document: IssuerDocument, succeeded: bool) {
        let provider = provider.to_owned();
        let result = if succeeded {
            FetchResult::Success
        } else {
            FetchResult::Failure
        };
        let labels = FetchLabels {
            provider: provider.clone(),
            document,
            result,
        };
        self.fetches.get_or_create(&labels).inc();
        if succeeded {
            let labels = IssuerDocumentLabels { provider, document };
            let now = self.clock.now().as_second();
            self.fetch_time.get_or_create(&labels).set(now);
        }
    }

    pub(super) fn set_keys<R>(&self, provider: &str, used: usize, skipped: &BTreeMap<R, usize>) {
        let labels = ProviderLabels {
            provider: provider.to_owned(),
        };
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.keys.get_or_create(&labels).set(gauge(used));
        let skipped = gauge(skipped.values().sum());
        self.skipped_keys.get_or_create(&labels).set(skipped);
    }

    pub(super) fn count_unknown_key(&self, provider: &str) {
        let labels = ProviderLabels {
            provider: provider.to_owned(),
        };
        self.unknown_keys.get_or_create(&labels).inc();
    }
}
