//! Logs: how lines look, which are written, and which never are.

mod stdout;

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterFn, ParseError, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

pub use stdout::Log;

/// Libraries that would drown us at `debug`: at most `warn`, unless the filter names them.
const CAPPED: [&str; 7] = [
    "hyper",
    "hyper_util",
    "h2",
    "rustls",
    "tokio_rustls",
    "tower",
    "tower_http",
];

/// Crates that write whole response bodies into their logs when those do not parse: Secrets among them.
const SILENCED: [&str; 2] = ["kube_client", "kube_core"];

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line, for collectors.
    #[default]
    Json,
    /// For people.
    Pretty,
}

impl FromStr for LogFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "json" => Ok(Self::Json),
            "pretty" => Ok(Self::Pretty),
            _ => Err(UnknownFormat),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Pretty => "pretty",
        })
    }
}

/// Not a log format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("log format is \"json\" or \"pretty\"")]
pub struct UnknownFormat;

/// Why logging could not start.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error(
        "log filter {filter:?} is not valid: expected directives such as \"info\" or \"info,floe_secrets_webhook=debug\""
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What the parser says.
        #[source]
        source: ParseError,
    },
    /// Logging was started before.
    #[error("logging is already set up")]
    AlreadySet(#[source] TryInitError),
}

/// Starts logging for the whole process. `writer` is a [`Log`] for servers, and stderr where stdout
/// carries results.
///
/// # Errors
/// When the filter does not parse or logging was started before.
pub fn init<W>(format: LogFormat, filter: &str, writer: W) -> Result<(), TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    subscriber(format, filter, writer)?
        .try_init()
        .map_err(TelemetryError::AlreadySet)
}

/// What [`init`] starts, for tests and for those who add layers.
///
/// # Errors
/// When the filter does not parse.
pub fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    writer: W,
) -> Result<impl Subscriber + Send + Sync, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let directives = EnvFilter::builder()
        // A filter that only names targets leaves the rest at `info`; a bare level in it comes later and wins.
        .parse(format!("info,{filter}"))
        .map_err(|source| TelemetryError::Filter {
            filter: filter.to_owned(),
            source,
        })?;
    let lines = match format {
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(writer)
            .boxed(),
        LogFormat::Pretty => tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(writer)
            .boxed(),
    };
    // Both filters are global, not the layer's own: whatever layer is added later is under them as well.
    Ok(tracing_subscriber::registry()
        .with(lines)
        .with(directives)
        .with(silence(filter)))
}

/// What no directive of a user reaches past, and what only a directive that names it does.
fn silence(filter: &str) -> FilterFn<impl Fn(&Metadata<'_>) -> bool + Send + Sync + use<>> {
    let capped: Vec<_> = CAPPED
        .into_iter()
        .filter(|name| !filter.split(',').any(|directive| root(directive) == *name))
        .collect();
    filter_fn(move |metadata| {
        let root = root(metadata.target());
        !SILENCED.contains(&root) && (*metadata.level() <= Level::WARN || !capped.contains(&root))
    })
}

/// The crate in a target or in a directive.
fn root(target: &str) -> &str {
    target
        .trim()
        .split([':', '=', '['])
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(
            subscriber(format, filter, move || writer.clone()).unwrap(),
            log,
        );
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn kube_client_is_silent_whatever_the_filter_says() {
        for filter in [
            "trace",
            "kube_client=trace",
            "trace,kube_client::client=trace,kube_core=trace",
        ] {
            let text = logged(LogFormat::Json, filter, || {
                tracing::error!(target: "kube_client", "canary");
                tracing::error!(target: "kube_client::client", "canary");
                tracing::warn!(target: "kube_core::response", "canary");
                let _span = tracing::error_span!(target: "kube_client", "canary").entered();
                tracing::info!("ours");
            });
            assert!(
                text.contains("ours") && !text.contains("canary"),
                "{filter}: {text}"
            );
        }
    }

    #[test]
    fn libraries_are_capped_until_they_are_asked_for() {
        let log = || {
            tracing::debug!(target: "hyper::proto", "chatter");
            tracing::warn!(target: "hyper::proto", "trouble");
        };
        let text = logged(LogFormat::Json, "debug", log);
        assert!(
            text.contains("trouble") && !text.contains("chatter"),
            "{text}"
        );
        assert!(logged(LogFormat::Json, "info,hyper=debug", log).contains("chatter"));
        assert!(logged(LogFormat::Json, "hyper::proto=debug", log).contains("chatter"));
        assert_eq!(
            logged(LogFormat::Json, "error", log),
            "",
            "a cap is no floor"
        );
    }

    #[test]
    fn a_json_line_is_flat_and_carries_its_span() {
        let text = logged(LogFormat::Json, "info", || {
            let _span = tracing::info_span!("admission", request.uid = "u-1").entered();
            tracing::info!(decision = "skipped", "answered");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "answered");
        assert_eq!(line["decision"], "skipped");
        assert_eq!(line["span"]["request.uid"], "u-1");
    }

    #[test]
    fn a_pretty_line_has_no_colour_codes_and_a_bad_filter_is_an_error() {
        assert!(!logged(LogFormat::Pretty, "info", || tracing::info!("hello")).contains('\u{1b}'));
        let error = subscriber(LogFormat::Json, "info,=,", io::sink)
            .map(|_| ())
            .unwrap_err();
        assert!(error.to_string().contains("\"info,=,\""), "{error}");
    }
}
