//! Shared parts of the metrics: prefix, labels, buckets. Each room registers its own metrics.
//!
//! Every label is an enum with a fixed set of values, never a name, a namespace or a message.

use std::sync::Arc;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Prefix of every metric.
pub const PREFIX: &str = "floe_secrets_webhook";

/// Implements a label by the `as_str` of a fieldless enum.
macro_rules! label {
    ($type:ty) => {
        impl prometheus_client::encoding::EncodeLabelValue for $type {
            fn encode(
                &self,
                encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>,
            ) -> Result<(), std::fmt::Error> {
                prometheus_client::encoding::EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }
    };
}

/// Defines a fieldless enum whose values are label values.
macro_rules! label_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }
        impl $name {
            /// All values.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// Value of the label.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
        $crate::telemetry::metrics::label!($name);
    };
}

pub(crate) use label;
pub(crate) use label_enum;

/// Buckets from 0.5 ms to 10 s: from a cache hit to the API server's timeout of an admission.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Creates a histogram over [`SECONDS`], for families.
pub(crate) fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// Family of histograms that are created by [`seconds`].
pub(crate) type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// Creates the registry of `/metrics`, with the program's prefix.
#[must_use]
pub fn registry() -> Registry {
    Registry::with_prefix(PREFIX)
}

/// Creates a registry with the metrics of one room only, for tests and benchmarks.
pub fn registered<M>(register: impl FnOnce(&mut Registry) -> M) -> (Arc<Registry>, M) {
    let mut registry = registry();
    let metrics = register(&mut registry);
    (Arc::new(registry), metrics)
}
