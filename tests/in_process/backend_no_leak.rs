//! Secret values appear nowhere: not in errors, and not in logs at the most verbose level.
#![cfg(feature = "test-util")]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use floe_secrets_webhook::backend::kubernetes::KubernetesBackend;
use floe_secrets_webhook::backend::kubernetes::fake_api::{ApiFault, CANARY, FakeApi, leaks};
use floe_secrets_webhook::backend::memory::query;
use floe_secrets_webhook::backend::metrics::BackendMetrics;
use floe_secrets_webhook::backend::registry::{Backend, DecoratorSettings};
use floe_secrets_webhook::backend::{BackendError, BindQuery, KeyQuery};
use floe_secrets_webhook::telemetry::error_chain::ErrorChain;
use floe_secrets_webhook::telemetry::metrics::registered;
use injection::{SecretKey, SecretName};
use secrecy::SecretString;
use tracing::level_filters::LevelFilter;

const FAULTS: [Option<ApiFault>; 12] = [
    None,
    Some(ApiFault::Status(400)),
    Some(ApiFault::Status(401)),
    Some(ApiFault::Status(403)),
    Some(ApiFault::Status(409)),
    Some(ApiFault::PageNotFound),
    Some(ApiFault::TooManyRequests(1)),
    Some(ApiFault::Status(500)),
    Some(ApiFault::Garbage),
    Some(ApiFault::Truncated),
    Some(ApiFault::BrokenOff),
    Some(ApiFault::OtherObject),
];

/// Complete log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic while logging")).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .expect("no panic while logging")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Everything that a caller can print of an error.
fn shown<T>(response: Result<T, BackendError>) -> String {
    match response {
        Ok(_) => String::new(),
        Err(error) => format!("{error}\n{error:?}\n{error:#?}\n{}\n", ErrorChain(&error)),
    }
}

#[tokio::test]
async fn values_appear_neither_in_errors_nor_in_logs() {
    let log = Log::default();
    let writer = log.clone();
    // Set for the whole process: the client's worker and the server log from their own tasks.
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .init();

    let api = FakeApi::start(&["jobs"]).await;
    api.put("jobs", "db", &[("user", CANARY), ("password", CANARY)]);
    let (metrics_registry, metrics) = registered(BackendMetrics::register);
    let backend = Backend::assemble(
        KubernetesBackend::new(api.client(), None),
        DecoratorSettings::default(),
        &metrics,
    );
    let Backend {
        binder,
        values,
        names,
        ..
    } = &backend;
    let name: SecretName = "db".parse().unwrap();
    let key: SecretKey = "user".parse().unwrap();

    let mut seen = Vec::new();
    for fault in FAULTS {
        api.always(fault);
        for keys in [
            KeyQuery::default(),
            KeyQuery::of([key.clone()]),
            KeyQuery::all(),
        ] {
            for secret in ["db", "absent"] {
                let mut query = BindQuery {
                    keys: keys.clone(),
                    ..query("jobs", secret)
                };
                query.deadline = query.arrived + Duration::from_secs(1);
                seen.push(shown(binder.bind(&query).await));
            }
        }
        seen.push(shown(values.get_secret("jobs", &name, &key).await));
        let all = values.get_all("jobs", &name).await;
        seen.push(format!("{all:?}"));
        seen.push(shown(all));
        for target in ["db", "ours"] {
            let data = BTreeMap::from([(key.clone(), SecretString::from(CANARY))]);
            seen.push(shown(
                values
                    .set_secret("jobs", &target.parse().unwrap(), data, BTreeMap::new())
                    .await,
            ));
        }
        seen.push(shown(values.list_secrets("jobs", "").await));
        seen.push(format!(
            "{:?}",
            values.health_check(Duration::from_secs(1)).await
        ));
    }
    seen.push(format!("{backend:?} {:?}", names.recent_names("jobs")));
    let mut exposition = String::new();
    prometheus_client::encoding::text::encode(&mut exposition, &metrics_registry).unwrap();

    let log = log.text();
    assert!(
        log.contains("kube_client") && log.contains("floe_secrets_webhook"),
        "nothing was captured:\n{log}"
    );
    for (what, text) in [
        ("errors", seen.concat()),
        ("logs", log),
        ("metrics", exposition),
    ] {
        assert!(!text.is_empty());
        let leak = text.lines().find(|line| leaks(line));
        assert_eq!(leak, None, "in {what}");
    }
}
