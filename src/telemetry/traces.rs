//! Traces: what an admission and the controller's work spend their time on, sent to a collector by OTLP.
//!
//! Off unless a collector is named, and then nothing of this runs: a [`Span`] that is off is an empty pointer. A
//! collector that is away, slow or refuses costs spans and nothing else: no span waits for it ([`queue`]).
//!
//! The names of spans and attributes are in docs/operations/LOGS.md. As in logs: names only, never a value.

mod endpoint;
mod exporter;
pub mod metrics;
mod queue;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue, Value};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::telemetry::traces::metrics::TraceMetrics;

pub use endpoint::{Endpoint, InvalidEndpoint};
pub use exporter::TraceError;

/// As much of a text as a span keeps, in bytes: whoever reaches the port may send long names.
const TEXT: usize = 1024;

/// What traces there are, and where they go.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    /// The collector.
    pub endpoint: Endpoint,
    /// The CA of its certificate, PEM; without it the system's.
    pub ca: Option<PathBuf>,
    /// The part of traces that is recorded, 0 to 1, of those that nobody decided about before.
    pub ratio: f64,
    /// `service.name`.
    pub service: &'static str,
    /// `k8s.pod.name`.
    pub pod: Option<String>,
    /// `k8s.namespace.name`.
    pub namespace: Option<String>,
}

/// Starts spans. Clones go to the same collector.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Recorder>>);

#[derive(Debug)]
struct Recorder {
    tracer: SdkTracer,
    /// Holds the queue's end: the tracer alone would not.
    _provider: SdkTracerProvider,
}

/// Sends what is left when the program ends.
#[derive(Debug, Default)]
pub struct Flush(Option<(CancellationToken, JoinHandle<()>)>);

impl Traces {
    /// No traces.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Starts recording, and a task that sends. Must be called inside the runtime.
    ///
    /// # Errors
    /// When the CA cannot be read; never because the collector does not answer.
    pub async fn start(
        settings: TraceSettings,
        metrics: TraceMetrics,
    ) -> Result<(Self, Flush), TraceError> {
        let resource = resource(&settings);
        let exporter =
            exporter::build(&settings.endpoint, settings.ca.as_deref(), &resource).await?;
        let (queue, worker) = queue::queue(exporter, settings.endpoint, metrics);
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
                settings.ratio,
            ))))
            .with_resource(resource)
            .with_span_processor(queue)
            .build();
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"));
        let tracer = provider.tracer_with_scope(scope.build());
        let stop = CancellationToken::new();
        let task = tokio::spawn(worker.run(stop.clone()));
        Ok((
            Self(Some(Arc::new(Recorder {
                tracer,
                _provider: provider,
            }))),
            Flush(Some((stop, task))),
        ))
    }

    /// The span of a request; its trace goes on when the caller sent a `traceparent`.
    #[must_use]
    pub fn request(&self, name: &'static str, headers: &HeaderMap) -> Span {
        let Some(recorder) = &self.0 else {
            return Span::off();
        };
        let parent = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &HeaderExtractor(headers));
        recorder.begin(name, SpanKind::Server, &parent)
    }

    /// The span of work that nobody asked for: the first of its trace.
    #[must_use]
    pub fn root_span(&self, name: &'static str) -> Span {
        let Some(recorder) = &self.0 else {
            return Span::off();
        };
        recorder.begin(name, SpanKind::Internal, &Context::new())
    }
}

impl Recorder {
    fn begin(self: &Arc<Self>, name: &'static str, kind: SpanKind, parent: &Context) -> Span {
        let span = self
            .tracer
            .build_with_context(self.tracer.span_builder(name).with_kind(kind), parent);
        // What is not recorded has no children that are.
        let live = span.is_recording().then(|| {
            Box::new(Live {
                span,
                recorder: Arc::clone(self),
            })
        });
        Span(live)
    }
}

/// Something that takes time. It ends when it is dropped.
#[derive(Debug, Default)]
pub struct Span(Option<Box<Live>>);

#[derive(Debug)]
struct Live {
    span: opentelemetry_sdk::trace::Span,
    recorder: Arc<Recorder>,
}

impl Span {
    /// One that nobody records.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Whether what is said about it goes anywhere: texts need not be made otherwise.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A call to somebody else, as a part of this.
    #[must_use]
    pub fn client_span(&self, name: &'static str) -> Self {
        let Some(live) = &self.0 else {
            return Self::off();
        };
        let parent = Context::new().with_remote_span_context(live.span.span_context().clone());
        live.recorder.begin(name, SpanKind::Client, &parent)
    }

    /// Says a text about it, cut to a bound; nothing when it is empty.
    pub fn set_str(&mut self, key: &'static str, text: &str) {
        if !text.is_empty() {
            self.set(key, || {
                text.get(..text.floor_char_boundary(TEXT))
                    .unwrap_or_default()
                    .to_owned()
                    .into()
            });
        }
    }

    /// Says a word of a fixed set.
    pub fn set_static(&mut self, key: &'static str, word: &'static str) {
        self.set(key, || word.into());
    }

    /// Says yes or no.
    pub fn set_bool(&mut self, key: &'static str, flag: bool) {
        self.set(key, || flag.into());
    }

    /// Says a number.
    pub fn set_i64(&mut self, key: &'static str, number: i64) {
        self.set(key, || number.into());
    }

    /// It failed: somebody has to look at it. Refusing what is wrong is no failure.
    pub fn set_error(&mut self, why: &'static str) {
        if let Some(live) = &mut self.0 {
            live.span.set_status(Status::error(why));
        }
    }

    /// The trace's id, as logs write it: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        self.0
            .as_ref()
            .map(|live| live.span.span_context().trace_id().to_string())
    }

    fn set(&mut self, key: &'static str, value: impl FnOnce() -> Value) {
        if let Some(live) = &mut self.0 {
            live.span.set_attribute(KeyValue::new(key, value()));
        }
    }
}

impl Flush {
    /// Sends what is left, for so long.
    pub async fn flush(self, patience: Duration) {
        let Some((stop, mut task)) = self.0 else {
            return;
        };
        stop.cancel();
        if timeout(patience, &mut task).await.is_err() {
            task.abort();
            warn!("trace export timed out at shutdown; the last spans are lost");
        }
    }
}

/// Who sends. `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` are read by the SDK, and what is known here wins
/// over them, save for the service's name.
fn resource(settings: &TraceSettings) -> Resource {
    let TraceSettings {
        endpoint: _,
        ca: _,
        ratio: _,
        service,
        pod,
        namespace,
    } = settings;
    // A pod's name is unique, and is what people look for; elsewhere any unique word will do.
    let instance = pod
        .clone()
        .unwrap_or_else(|| format!("{:016x}", fastrand::u64(..)));
    let mut about = vec![
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance),
    ];
    about.extend(pod.clone().map(|pod| KeyValue::new("k8s.pod.name", pod)));
    about.extend(
        namespace
            .clone()
            .map(|namespace| KeyValue::new("k8s.namespace.name", namespace)),
    );
    let builder = Resource::builder().with_attributes(about);
    let named = Resource::builder().build().get(&"service.name".into());
    let unnamed = named.is_none_or(|name| name.as_str().starts_with("unknown_service"));
    if unnamed {
        builder.with_service_name(*service).build()
    } else {
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_that_is_off_is_a_pointer_and_takes_everything() {
        assert_eq!(size_of::<Span>(), size_of::<usize>());
        let mut span = Traces::off().request("admission", &HeaderMap::new());
        span.set_str("a", "b");
        span.set_error("c");
        assert!(!span.is_on() && !span.client_span("backend.bind").is_on());
        assert_eq!(span.trace_id(), None);
    }
}
