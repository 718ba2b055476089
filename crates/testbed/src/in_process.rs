//! Handler in this process, as `serve` assembles it, over a scripted backend in memory. For tests on paused time.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use floe_secrets_webhook::admission::authorize::Authorizer;
use floe_secrets_webhook::admission::caller::Caller;
use floe_secrets_webhook::admission::event::metrics::AdmissionMetrics;
use floe_secrets_webhook::admission::handler::{Handler, Received};
use floe_secrets_webhook::admission::pipeline::Pipeline;
use floe_secrets_webhook::admission::policy::{OnAuditFailure, Policy};
use floe_secrets_webhook::admission::review::Unreadable;
use floe_secrets_webhook::admission::sources::{Source, Sources};
use floe_secrets_webhook::admission::surface::Surface;
use floe_secrets_webhook::audit::record::Service;
use floe_secrets_webhook::audit::text::Text;
use floe_secrets_webhook::backend::BackendError;
use floe_secrets_webhook::backend::memory::MemoryBackend;
use floe_secrets_webhook::backend::metrics::BackendMetrics;
use floe_secrets_webhook::backend::registry::{Backend, DecoratorSettings};
use floe_secrets_webhook::clock::Clock;
use floe_secrets_webhook::defaults::{Defaults, DefaultsObject, DefaultsReader};
use floe_secrets_webhook::recorder::{AuditRecorder, RecorderSettings, chain_of_process};
use floe_secrets_webhook::telemetry::logs::thread_log::set_for_thread;
use floe_secrets_webhook::telemetry::logs::{LogFormat, subscriber};
use floe_secrets_webhook::telemetry::metrics::registry;
use floe_secrets_webhook::telemetry::span::Span;
use injection::SecretSource;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::time::Instant;
use tracing::subscriber::DefaultGuard;

use super::admission_client::{pod, review};

/// Handler with its backend, log and metrics.
pub struct HandlerFixture {
    pub backend: Arc<MemoryBackend>,
    /// Sender of the reviews.
    pub caller: Caller,
    handler: Handler,
    registry: Registry,
    log: Log,
    // Sends this thread's log to `log`: each test has a thread of its own.
    _logging: DefaultGuard,
}

impl HandlerFixture {
    pub fn new(policy: Policy) -> Self {
        Self::with_defaults(policy, Arc::new(NoDefaults))
    }

    /// Fixture with an authorizer.
    pub fn authorized_by(authorizer: Arc<dyn Authorizer>) -> Self {
        let decorate = |pipeline: Pipeline| pipeline.authorized_by(authorizer);
        Self::assemble(Policy::default(), Arc::new(NoDefaults), decorate)
    }

    /// Fixture with these Namespaces and ServiceAccounts.
    pub fn with_defaults(policy: Policy, reader: Arc<dyn DefaultsReader>) -> Self {
        Self::assemble(policy, reader, |pipeline| pipeline)
    }

    fn assemble(
        policy: Policy,
        reader: Arc<dyn DefaultsReader>,
        decorate: impl FnOnce(Pipeline) -> Pipeline,
    ) -> Self {
        let mut registry = registry();
        let metrics = BackendMetrics::register(&mut registry);
        let admission_metrics = AdmissionMetrics::register(&mut registry);
        let backend = Arc::new(MemoryBackend::new());
        let Backend { binder, names, .. } =
            Backend::assemble(Arc::clone(&backend), DecoratorSettings::default(), &metrics);
        let sources = Sources::from([(
            SecretSource::Kubernetes,
            Source {
                binder,
                recent_names: Some(names),
            },
        )]);
        let pipeline = decorate(Pipeline::new(
            sources,
            Arc::new(Defaults::new(reader)),
            policy,
        ));
        let log = Log::default();
        let writer = log.clone();
        let lines =
            subscriber(LogFormat::Json, "trace", move || writer.clone()).expect("a valid filter");
        let logging = set_for_thread(lines);
        let caller = Caller::TRUSTED;
        Self {
            backend,
            caller,
            handler: Handler::new(Arc::new(pipeline), admission_metrics),
            registry,
            log,
            _logging: logging,
        }
    }

    /// Refuses what leaves a record, because the audit trail takes none.
    ///
    /// # Panics
    /// The recorder cannot be started.
    pub async fn refuse_unrecorded(&mut self) {
        let settings = RecorderSettings {
            cluster: Text::default(),
            service: Service::default(),
            chain: chain_of_process(None, Clock::system().now()),
        };
        let recorder = AuditRecorder::start(settings, io::sink(), Clock::system(), &mut registry());
        let recorder = recorder.expect("threads can be started");
        recorder.stop(Duration::from_mins(1)).await;
        // Where the clock of the test is paused, the stop does not wait for the thread.
        let deadline = std::time::Instant::now() + Duration::from_mins(1);
        while !recorder.has_ended() {
            assert!(
                std::time::Instant::now() < deadline,
                "the recorder does not end"
            );
            std::thread::yield_now();
        }
        let handler = self.handler.clone();
        self.handler = handler.recorded_by(recorder, OnAuditFailure::Refuse);
    }

    /// Bytes of the response to a review; `None` if the bytes are not a review and have no uid.
    pub async fn bytes(
        &self,
        surface: Surface,
        query: Option<&str>,
        body: &[u8],
    ) -> Option<Vec<u8>> {
        let received = Received {
            caller: self.caller,
            ..Received::in_process(query)
        };
        let result = self
            .handler
            .handle(surface, received, body, Span::off())
            .await;
        result.ok().map(|answer| answer.to_json())
    }

    /// Response to a review's bytes, as JSON; `None` if they are not a review and have no uid.
    pub async fn respond(&self, surface: Surface, body: &[u8]) -> Option<Value> {
        let received = Received {
            caller: self.caller,
            ..Received::in_process(Some("timeout=5s"))
        };
        let result = self
            .handler
            .handle(surface, received, body, Span::off())
            .await;
        let answer = match result {
            Ok(answer) => answer,
            Err(Unreadable { .. }) => return None,
        };
        let mut review = serde_json::to_value(&answer).expect("a response is JSON");
        Some(review["response"].take())
    }

    /// Response to a pod's creation.
    pub async fn admit(&self, annotations: &Value) -> Value {
        self.admit_on(Surface::Pods, annotations).await
    }

    /// Response to a pod's creation on another path.
    pub async fn admit_on(&self, surface: Surface, annotations: &Value) -> Value {
        let review = review(&pod(annotations));
        self.respond(surface, review.to_string().as_bytes())
            .await
            .expect("a review")
    }

    /// Metrics in the text format of `/metrics`.
    pub fn exposition(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("writing to a String succeeds");
        text
    }

    /// Clears the log, and returns the length of its longest line.
    pub fn longest_line(&self) -> usize {
        let text = std::mem::take(&mut *self.log.0.lock().unwrap_or_else(PoisonError::into_inner));
        text.split(|byte| *byte == b'\n')
            .map(<[u8]>::len)
            .max()
            .unwrap_or_default()
    }

    /// Log lines of admissions.
    pub fn admissions(&self) -> Vec<Value> {
        let text = self
            .log
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let lines = String::from_utf8(text).expect("logs are text");
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON lines"));
        lines
            .filter(|line| line["message"] == "admission")
            .collect()
    }
}

/// Reader without any defaults.
#[derive(Debug)]
pub struct NoDefaults;

#[async_trait]
impl DefaultsReader for NoDefaults {
    async fn namespace(&self, _: &str, _: Instant) -> Result<Option<DefaultsObject>, BackendError> {
        Ok(None)
    }

    async fn service_account(
        &self,
        _: &str,
        _: &str,
        _: Instant,
    ) -> Result<Option<DefaultsObject>, BackendError> {
        Ok(None)
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Pod with the response's patch applied.
pub fn patched(mut pod: Value, response: &Value) -> Value {
    use base64::Engine as _;
    if let Some(patch) = response["patch"].as_str() {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(patch)
            .expect("the patch is base64");
        let patch: json_patch::Patch = serde_json::from_slice(&bytes).expect("a JSON patch");
        json_patch::patch(&mut pod, &patch).expect("the patch applies");
    }
    pod
}
