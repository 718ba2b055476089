//! Traces of admissions and of the controller's work, exported to a collector by OTLP.
//!
//! Traces are off unless a collector is configured. If the collector is
//! unavailable, slow, or rejects requests, spans are lost, but no caller waits for it ([`queue`]).
//!
//! docs/operations/LOGS.md lists the names of spans and attributes. Attributes have names of secrets, never their
//! values.

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
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::span::{AttributeValue, Span, SpanRecorder};
use crate::telemetry::traces::metrics::TraceMetrics;

pub use endpoint::{Endpoint, InvalidEndpoint};
pub use exporter::TraceError;

#[derive(Clone, Debug)]
pub struct TraceSettings {
    pub endpoint: Endpoint,
    /// CA of the collector's certificate, PEM; the system's CAs by default.
    pub ca: Option<PathBuf>,
    /// Sampling ratio, 0 to 1, of traces that the caller has not sampled itself.
    pub ratio: f64,
    /// `service.name`.
    pub service: &'static str,
    /// `k8s.pod.name`.
    pub pod: Option<String>,
    /// `k8s.namespace.name`.
    pub namespace: Option<String>,
}

/// Starts spans. Clones export to the same collector.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<TraceRecorder>>);

#[derive(Debug)]
struct TraceRecorder {
    tracer: SdkTracer,
    /// Keeps the queue open, which the tracer alone does not.
    _provider: SdkTracerProvider,
}

/// Exports the last spans at the end of the program.
#[derive(Debug, Default)]
pub struct Flush(Option<(CancellationToken, JoinHandle<()>)>);

impl Traces {
    /// Records no traces.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Starts recording and the task that exports. Must be called inside the runtime.
    ///
    /// # Errors
    /// The CA cannot be read, or the exporter's settings are invalid. An unavailable collector is not an error.
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
            Self(Some(Arc::new(TraceRecorder {
                tracer,
                _provider: provider,
            }))),
            Flush(Some((stop, task))),
        ))
    }

    /// Starts the span of a request. It continues the caller's trace if the request has a `traceparent`.
    #[must_use]
    pub fn request(&self, name: &'static str, headers: &HeaderMap) -> Span {
        let Some(recorder) = &self.0 else {
            return Span::off();
        };
        let parent = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &HeaderExtractor(headers));
        recorder.start_span(name, SpanKind::Server, &parent)
    }

    /// Starts the root span of work without a request.
    #[must_use]
    pub fn root_span(&self, name: &'static str) -> Span {
        let Some(recorder) = &self.0 else {
            return Span::off();
        };
        recorder.start_span(name, SpanKind::Internal, &Context::new())
    }
}

impl TraceRecorder {
    fn start_span(self: &Arc<Self>, name: &'static str, kind: SpanKind, parent: &Context) -> Span {
        let span = self
            .tracer
            .build_with_context(self.tracer.span_builder(name).with_kind(kind), parent);
        // An unsampled span has no sampled children.
        if span.is_recording() {
            Span::recorded(RecordingSpan {
                span,
                recorder: Arc::clone(self),
            })
        } else {
            Span::off()
        }
    }
}

#[derive(Debug)]
struct RecordingSpan {
    span: opentelemetry_sdk::trace::Span,
    recorder: Arc<TraceRecorder>,
}

impl SpanRecorder for RecordingSpan {
    fn client_span(&self, name: &'static str) -> Span {
        let parent = Context::new().with_remote_span_context(self.span.span_context().clone());
        self.recorder.start_span(name, SpanKind::Client, &parent)
    }

    fn set(&mut self, key: &'static str, value: AttributeValue) {
        let value: opentelemetry::Value = match value {
            AttributeValue::Text(text) => text.into(),
            AttributeValue::Static(text) => text.into(),
            AttributeValue::Bool(value) => value.into(),
            AttributeValue::I64(value) => value.into(),
        };
        self.span.set_attribute(KeyValue::new(key, value));
    }

    fn set_error(&mut self, reason: &'static str) {
        self.span.set_status(Status::error(reason));
    }

    fn trace_id(&self) -> String {
        self.span.span_context().trace_id().to_string()
    }
}

impl Flush {
    /// Exports the last spans within the time limit.
    pub async fn flush(self, time_limit: Duration) {
        let Some((stop, mut task)) = self.0 else {
            return;
        };
        stop.cancel();
        if timeout(time_limit, &mut task).await.is_err() {
            task.abort();
            warn!("trace export timed out at shutdown; the last spans are lost");
        }
    }
}

/// Builds the resource. The SDK reads `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME`; the attributes set here
/// override them, except for the service's name.
fn resource(settings: &TraceSettings) -> Resource {
    let TraceSettings {
        endpoint: _,
        ca: _,
        ratio: _,
        service,
        pod,
        namespace,
    } = settings;
    // A pod's name is unique and known to operators. Outside of a pod, the ID is random.
    let instance = pod
        .clone()
        .unwrap_or_else(|| format!("{:016x}", fastrand::u64(..)));
    let mut attributes = vec![
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance),
    ];
    attributes.extend(pod.clone().map(|pod| KeyValue::new("k8s.pod.name", pod)));
    attributes.extend(
        namespace
            .clone()
            .map(|namespace| KeyValue::new("k8s.namespace.name", namespace)),
    );
    let builder = Resource::builder().with_attributes(attributes);
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
    fn span_that_is_off_is_a_pointer_and_ignores_attributes() {
        assert_eq!(size_of::<Span>(), 2 * size_of::<usize>());
        let mut span = Traces::off().request("admission", &HeaderMap::new());
        span.set_str("a", "b");
        span.set_error("c");
        assert!(!span.is_on() && !span.client_span("backend.bind").is_on());
        assert_eq!(span.trace_id(), None);
    }
}
