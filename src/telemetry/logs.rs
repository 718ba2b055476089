//! Logs: format, filter, and the libraries whose lines are never written.

mod stdout;
#[cfg(any(test, feature = "test-util"))]
pub mod thread_log;

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterFn, ParseError, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

pub use stdout::Log;

/// Libraries that log too much at `debug`. They are limited to `warn` unless the filter names them.
const CAPPED: [&str; 7] = [
    "hyper",
    "hyper_util",
    "h2",
    "rustls",
    "tokio_rustls",
    "tower",
    "tower_http",
];

/// Crates that log whole response bodies which do not parse, Secrets among them. They are never logged.
const SILENCED: [&str; 2] = ["kube_client", "kube_core"];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line, for collectors.
    #[default]
    Json,
    /// Text for people.
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

/// Error for an unknown log format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("log format is \"json\" or \"pretty\"")]
pub struct UnknownFormat;

/// Reason why logging could not be started.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter cannot be parsed.
    #[error(
        "log filter {filter:?} is not valid: expected directives such as \"info\" or \"info,floe_secrets_webhook=debug\""
    )]
    Filter {
        filter: String,
        #[source]
        source: ParseError,
    },
    /// Logging was started before.
    #[error("logging is already set up")]
    AlreadySet(#[source] TryInitError),
    /// The filter could not be replaced.
    #[error("the log filter could not be replaced")]
    Reload(#[source] reload::Error),
}

/// Handle that replaces the filter of the log.
pub struct FilterHandle(Box<ReplaceFilter>);

type ReplaceFilter = dyn Fn(&str) -> Result<(), TelemetryError> + Send + Sync;

impl FilterHandle {
    /// Replaces the filter.
    ///
    /// # Errors
    /// The filter cannot be parsed. The old one is kept.
    pub fn replace(&self, filter: &str) -> Result<(), TelemetryError> {
        (self.0)(filter)
    }
}

impl fmt::Debug for FilterHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FilterHandle")
    }
}

/// Starts logging for the whole process. `writer` is a [`Log`] for servers, and stderr for commands that print results
/// to stdout. The filter can be replaced later.
///
/// # Errors
/// The filter cannot be parsed, or logging was started before.
pub fn init<W>(format: LogFormat, filter: &str, writer: W) -> Result<FilterHandle, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (subscriber, handle) = reloadable(format, filter, writer)?;
    subscriber.try_init().map_err(TelemetryError::AlreadySet)?;
    Ok(handle)
}

/// Builds the subscriber that [`init`] installs, for tests and for callers that add layers.
///
/// # Errors
/// The filter cannot be parsed.
pub fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    writer: W,
) -> Result<impl Subscriber + Send + Sync, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    reloadable(format, filter, writer).map(|(subscriber, _)| subscriber)
}

fn reloadable<W>(
    format: LogFormat,
    filter: &str,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync, FilterHandle), TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
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
    let (directives, directives_handle) = reload::Layer::new(directives(filter)?);
    let (limits, limits_handle) = reload::Layer::new(limit_libraries(filter));
    let replace = move |filter: &str| {
        let parsed = self::directives(filter)?;
        directives_handle
            .reload(parsed)
            .and_then(|()| limits_handle.reload(limit_libraries(filter)))
            .map_err(TelemetryError::Reload)
    };
    // Both filters are global and not the layer's, so that they apply to layers that are added later.
    let subscriber = tracing_subscriber::registry()
        .with(lines)
        .with(directives)
        .with(limits);
    Ok((subscriber, FilterHandle(Box::new(replace))))
}

/// Whether a filter can be parsed.
pub(crate) fn is_filter(filter: &str) -> bool {
    directives(filter).is_ok()
}

fn directives(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder()
        // With a filter that only names targets, other targets log at `info`. A bare level in the filter is later and
        // wins.
        .parse(format!("info,{filter}"))
        .map_err(|source| TelemetryError::Filter {
            filter: filter.to_owned(),
            source,
        })
}

/// Filters [`SILENCED`] crates in any case, and [`CAPPED`] ones unless a directive of `filter` names them.
fn limit_libraries(filter: &str) -> FilterFn<impl Fn(&Metadata<'_>) -> bool + Send + Sync + use<>> {
    let capped: Vec<_> = CAPPED
        .into_iter()
        .filter(|name| {
            !filter
                .split(',')
                .any(|directive| crate_of(directive) == *name)
        })
        .collect();
    filter_fn(move |metadata| {
        let library = crate_of(metadata.target());
        !SILENCED.contains(&library)
            && (*metadata.level() <= Level::WARN || !capped.contains(&library))
    })
}

/// Returns the crate in a target or a directive.
fn crate_of(target: &str) -> &str {
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
    struct CapturedLog(Arc<Mutex<Vec<u8>>>);

    impl Write for CapturedLog {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, log: impl FnOnce()) -> String {
        let lines = CapturedLog::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(
            subscriber(format, filter, move || writer.clone()).unwrap(),
            log,
        );
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn kube_client_is_silent_for_any_filter() {
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
                tracing::info!("own line");
            });
            assert!(
                text.contains("own line") && !text.contains("canary"),
                "{filter}: {text}"
            );
        }
    }

    #[test]
    fn libraries_are_capped_unless_the_filter_names_them() {
        let log = || {
            tracing::debug!(target: "hyper::proto", "chatter");
            tracing::warn!(target: "hyper::proto", "problem");
        };
        let text = logged(LogFormat::Json, "debug", log);
        assert!(
            text.contains("problem") && !text.contains("chatter"),
            "{text}"
        );
        assert!(logged(LogFormat::Json, "info,hyper=debug", log).contains("chatter"));
        assert!(logged(LogFormat::Json, "hyper::proto=debug", log).contains("chatter"));
        assert_eq!(
            logged(LogFormat::Json, "error", log),
            "",
            "a cap does not raise the level"
        );
    }

    #[test]
    fn replaced_filter_applies_at_once_and_invalid_one_keeps_the_old() {
        let lines = CapturedLog::default();
        let writer = lines.clone();
        let (subscriber, handle) =
            reloadable(LogFormat::Json, "info", move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("too early");
            handle.replace("debug").unwrap();
            tracing::debug!("now");
            tracing::debug!(target: "hyper::proto", "chatter");
            assert!(handle.replace("info,=,").is_err());
            tracing::debug!("still");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("now") && text.contains("still"), "{text}");
        assert!(
            !text.contains("too early") && !text.contains("chatter"),
            "{text}"
        );
    }

    #[test]
    fn json_line_is_flat_and_has_its_span() {
        let text = logged(LogFormat::Json, "info", || {
            let _span = tracing::info_span!("admission", request.uid = "u-1").entered();
            tracing::info!(decision = "skipped", "responded");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "responded");
        assert_eq!(line["decision"], "skipped");
        assert_eq!(line["span"]["request.uid"], "u-1");
    }

    #[test]
    fn pretty_line_has_no_colour_codes_and_invalid_filter_is_an_error() {
        assert!(!logged(LogFormat::Pretty, "info", || tracing::info!("hello")).contains('\u{1b}'));
        let error = subscriber(LogFormat::Json, "info,=,", io::sink)
            .map(|_| ())
            .unwrap_err();
        assert!(error.to_string().contains("\"info,=,\""), "{error}");
    }
}
