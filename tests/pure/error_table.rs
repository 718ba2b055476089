//! Rows of `docs/ERRORS.md`: each situation with its complete response. A new kind of error or skip reason does not
//! compile here until it is listed, and fails until a row tries it.
#![cfg(feature = "test-util")]
#![expect(
    clippy::indexing_slicing,
    reason = "serde_json values are indexed; a panic fails the test"
)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use floe_secrets_webhook::admission::authorize::{Authorizer, SecretUse};
use floe_secrets_webhook::admission::error::ForbiddenSecret;
use floe_secrets_webhook::admission::error::{AdmissionError, AdmissionErrorKind};
use floe_secrets_webhook::admission::event::DecisionReason;
use floe_secrets_webhook::admission::policy::{
    OnUnavailable, Policy, SecretNameMode, SecretNamePolicy,
};
use floe_secrets_webhook::admission::surface::Surface;
use floe_secrets_webhook::backend::ErrorKind;
use floe_secrets_webhook::backend::memory::Fault;
use floe_secrets_webhook::server::metrics::ShedReason;
use injection::SkipReason;
use serde_json::{Value, json};
use testbed::admission_client::{pod, review};
use testbed::in_process::{HandlerFixture, patched};
use testbed::tools;

/// Lists all values of an enum. A new variant breaks the `match`.
macro_rules! all {
    ($type:ident: $($variant:ident),+ $(,)?) => {{
        const fn listed(value: $type) {
            match value { $($type::$variant => {})+ }
        }
        [$({ listed($type::$variant); $type::$variant }),+]
    }};
}

fn kinds() -> Vec<AdmissionErrorKind> {
    all!(AdmissionErrorKind: Invalid, Conflict, NotFound, PermissionDenied, Unauthenticated, Protocol, Unavailable, Timeout, NotRecorded, Unreadable)
        .to_vec()
}

fn skips() -> Vec<SkipReason> {
    all!(SkipReason:
        NotRequested, OptedOut, AlreadyInjected, NotThisOperation, NotThisKind, ExemptNamespace, MirrorPod, Unchanged,
        BeingDeleted,
    )
    .to_vec()
}

fn surfaces() -> Vec<Surface> {
    all!(Surface: Pods, DefaultsPods, Workloads, DefaultsWorkloads, Sources).to_vec()
}

fn backend_errors() -> Vec<ErrorKind> {
    all!(ErrorKind:
        NotFound, PermissionDenied, Unavailable, RateLimited, Deadline, Unauthenticated, Protocol, Invalid, Conflict,
        TooManyKeys,
    )
    .to_vec()
}

/// Response to a review.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    allowed: bool,
    patch: bool,
    warnings: usize,
    /// Code and reason, if there is a message.
    status: Option<(u64, String)>,
    /// Types of the causes, in order.
    causes: Vec<String>,
    decision: String,
    /// Label in metrics, log and audit annotation.
    reason: String,
    level: String,
}

/// Situation, and its expected response.
struct Row {
    what: &'static str,
    surface: Surface,
    policy: Policy,
    fault: Option<Fault>,
    /// The audit trail takes no records, and nothing is admitted without one.
    unrecorded: bool,
    body: String,
    expected: Verdict,
}

impl Row {
    fn new(what: &'static str, pod: &Value, expected: Verdict) -> Self {
        let body = review(pod).to_string();
        Self {
            what,
            surface: Surface::Pods,
            policy: Policy::default(),
            fault: None,
            unrecorded: false,
            body,
            expected,
        }
    }

    fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    fn unrecorded(mut self) -> Self {
        self.unrecorded = true;
        self
    }

    fn request(mut self, pointer: &str, value: Value) -> Self {
        let mut review: Value = serde_json::from_str(&self.body).expect("a review");
        *review
            .pointer_mut(pointer)
            .unwrap_or_else(|| panic!("{pointer}")) = value;
        self.body = review.to_string();
        self
    }

    fn with(self, pointer: &str, key: &str, value: Value) -> Self {
        let review: Value = serde_json::from_str(&self.body).expect("a review");
        let mut object = review
            .pointer(pointer)
            .cloned()
            .unwrap_or_else(|| panic!("{pointer}"));
        object[key] = value;
        self.request(pointer, object)
    }

    fn admitting(mut self) -> Self {
        self.policy.on_unavailable = OnUnavailable::Admit;
        self
    }

    async fn try_it(self) {
        let Self {
            what,
            surface,
            policy,
            fault,
            unrecorded,
            body,
            expected,
        } = self;
        let mut fixture = HandlerFixture::new(policy);
        if unrecorded {
            fixture.refuse_unrecorded().await;
        }
        fixture
            .backend
            .put("jobs", "db", &[("value", "v"), ("user", "u")]);
        fixture.backend.put("jobs", "db-user", &[("value", "v")]);
        fixture.backend.always(fault);
        let response = fixture
            .respond(surface, body.as_bytes())
            .await
            .unwrap_or_else(|| panic!("{what}: no answer"));
        let lines = fixture.admissions();
        let [line] = lines.as_slice() else {
            panic!("{what}: one line per admission, not {lines:?}")
        };
        assert_eq!(verdict(&response, line), expected, "{what}: {response}");

        let refused = response.pointer("/status/message").is_some();
        assert_eq!(
            refused, !expected.allowed,
            "{what}: a rejection has a reason"
        );
        assert!(
            !response.to_string().contains("retryAfterSeconds"),
            "{what}: no wait in a controller's worker"
        );
        assert_eq!(
            response["auditAnnotations"]["event-id"], response["uid"],
            "{what}"
        );
        let audit = ["skipped", "refused", "degraded"]
            .map(|key| response["auditAnnotations"][key].as_str());
        let wanted = match expected.decision.as_str() {
            "skipped" => [Some(expected.reason.as_str()), None, None],
            "denied" => [None, Some(expected.reason.as_str()), None],
            "degraded" => [None, None, Some(expected.reason.as_str())],
            _ => [None; 3],
        };
        assert_eq!(audit, wanted, "{what}");
        let labels = format!(
            "decision=\"{}\",reason=\"{}\"}} 1",
            expected.decision, expected.reason
        );
        assert!(
            fixture.exposition().contains(&labels),
            "{what}: {labels} in\n{}",
            fixture.exposition()
        );
    }
}

fn verdict(response: &Value, line: &Value) -> Verdict {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let status = &response["status"];
    Verdict {
        allowed: response["allowed"].as_bool().expect("a decision"),
        patch: response["patch"].is_string(),
        warnings: list(&response["warnings"]).len(),
        status: status["code"]
            .as_u64()
            .map(|code| (code, text(&status["reason"]))),
        causes: list(&status["details"]["causes"])
            .iter()
            .map(|cause| text(&cause["reason"]))
            .collect(),
        decision: text(&line["decision"]),
        reason: text(&line["reason"]),
        level: text(&line["level"]),
    }
}

fn skipped(reason: SkipReason) -> Verdict {
    Verdict {
        allowed: true,
        patch: false,
        warnings: 0,
        status: None,
        causes: Vec::new(),
        decision: "skipped".to_owned(),
        reason: reason.as_str().to_owned(),
        level: "DEBUG".to_owned(),
    }
}

fn injected(warnings: usize) -> Verdict {
    let (decision, reason, level) = ("injected".to_owned(), "ok".to_owned(), "INFO".to_owned());
    Verdict {
        patch: true,
        warnings,
        decision,
        reason,
        level,
        ..skipped(SkipReason::NotRequested)
    }
}

fn denied(
    kind: AdmissionErrorKind,
    code: u64,
    reason: &str,
    causes: &[&str],
    level: &str,
) -> Verdict {
    Verdict {
        allowed: false,
        status: Some((code, reason.to_owned())),
        causes: causes.iter().map(|&cause| cause.to_owned()).collect(),
        decision: "denied".to_owned(),
        reason: DecisionReason::Error(kind).as_str().to_owned(),
        level: level.to_owned(),
        ..skipped(SkipReason::NotRequested)
    }
}

fn degraded(kind: AdmissionErrorKind, level: &str) -> Verdict {
    let (decision, reason) = (
        "degraded".to_owned(),
        DecisionReason::Error(kind).as_str().to_owned(),
    );
    Verdict {
        warnings: 1,
        decision,
        reason,
        level: level.to_owned(),
        ..skipped(SkipReason::NotRequested)
    }
}

/// Requests the secret `db`.
fn asking() -> Value {
    pod(&json!({"secrets.floe.dev/env-from": "db"}))
}

async fn rows() -> Vec<Row> {
    let asks = |key: &str, value: &str| pod(&json!({format!("secrets.floe.dev/{key}"): value}));
    let mut rows = skip_rows().await;
    rows.extend(vec![
        Row::new("injected", &asking(), injected(0)),
        Row::new(
            "malformed annotations, all of them",
            &pod(&json!({"secrets.floe.dev/env-form": "db", "secrets.floe.dev/refs": "UPPER/x"})),
            denied(AdmissionErrorKind::Invalid, 422, "Invalid", &["FieldValueInvalid"; 2], "INFO"),
        ),
        Row::new(
            "a source that this webhook does not have",
            &asks("env-from", "infisical:db"),
            denied(AdmissionErrorKind::Invalid, 422, "Invalid", &["FieldValueNotSupported"], "INFO"),
        ),
        Row::new(
            "two references, one variable",
            &asks("refs", "db/user, db-user"),
            denied(AdmissionErrorKind::Conflict, 422, "Invalid", &["FieldValueDuplicate"], "INFO"),
        ),
        Row::new(
            "no such container",
            &pod(&json!({"secrets.floe.dev/env-from": "db", "secrets.floe.dev/containers": "worker"})),
            denied(AdmissionErrorKind::Conflict, 422, "Invalid", &["FieldValueNotFound"], "INFO"),
        ),
        misnamed("a name against the convention, refused", SecretNameMode::Deny, denied(
            AdmissionErrorKind::Invalid, 422, "Invalid", &["FieldValueInvalid"], "INFO",
        )),
        misnamed("a name against the convention, warned of", SecretNameMode::Warn, injected(1)),
        only_sidecars(),
        Row::new(
            "missing secret",
            &asks("env-from", "gone"),
            denied(AdmissionErrorKind::NotFound, 422, "Invalid", &["FieldValueNotFound"], "INFO"),
        ),
        Row::new(
            "missing key",
            &asks("refs", "db/token"),
            denied(AdmissionErrorKind::NotFound, 422, "Invalid", &["FieldValueNotFound"], "INFO"),
        ),
        Row::new(
            "missing secret, warned of",
            &pod(&json!({"secrets.floe.dev/env-from": "gone", "secrets.floe.dev/on-missing": "warn"})),
            injected(1),
        ),
        Row::new("malformed, and no defaults", &asks("env-form", "db"), {
            denied(AdmissionErrorKind::Invalid, 422, "Invalid", &["FieldValueInvalid"], "INFO")
        })
        .on(Surface::DefaultsPods),
        Row::new("no record", &asking(), denied(AdmissionErrorKind::NotRecorded, 503, "ServiceUnavailable", &[], "WARN"))
            .unrecorded(),
        Row::new("not a review, with a uid", &asking(), denied(AdmissionErrorKind::Unreadable, 400, "BadRequest", &[], "WARN"))
            .request("/apiVersion", json!("admission.k8s.io/v1beta1")),
    ]);
    for kind in backend_errors() {
        rows.extend(backend_rows(kind));
    }
    for surface in [Surface::Workloads, Surface::DefaultsWorkloads] {
        rows.extend(workload_rows().map(|row| row.on(surface)));
    }
    rows
}

/// Requests the secret `db` of an operator who requires other names.
fn misnamed(what: &'static str, mode: SecretNameMode, expected: Verdict) -> Row {
    let mut row = Row::new(what, &asking(), expected);
    row.policy.secret_names = Some(SecretNamePolicy {
        convention: "floe".parse().expect("a pattern"),
        mode,
    });
    row
}

/// On workloads fewer errors reject.
fn workload_rows() -> impl Iterator<Item = Row> {
    let row = |what, annotations: &Value, expected| {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "annotations": annotations},
            "spec": {"template": {"spec": {"containers": [{"name": "main", "image": "none"}]}}},
        });
        Row::new(what, &deployment, expected).request("/request/resource", deployments())
    };
    let mutated = |warnings| Verdict {
        decision: "mutated".to_owned(),
        ..injected(warnings)
    };
    let asks = |secret: &str| json!({"secrets.floe.dev/env-from": secret});
    let strict =
        json!({"secrets.floe.dev/env-from": "gone", "secrets.floe.dev/on-missing": "deny"});
    let rows = [
        row("a workload", &asks("db"), mutated(0)),
        row(
            "a workload whose secret is missing",
            &asks("gone"),
            mutated(1),
        ),
        row(
            "a workload that is to be refused",
            &strict,
            denied(
                AdmissionErrorKind::NotFound,
                422,
                "Invalid",
                &["FieldValueNotFound"],
                "INFO",
            ),
        ),
        row(
            "a malformed workload",
            &json!({"secrets.floe.dev/env-form": "db"}),
            denied(
                AdmissionErrorKind::Invalid,
                422,
                "Invalid",
                &["FieldValueInvalid"],
                "INFO",
            ),
        ),
        row(
            "a workload that asks for nothing",
            &json!({}),
            skipped(SkipReason::NotRequested),
        ),
        row(
            "a workload that is going",
            &asks("db"),
            skipped(SkipReason::BeingDeleted),
        )
        .with(
            "/request/object/metadata",
            "deletionTimestamp",
            json!("2026-01-01T00:00:00Z"),
        ),
        row("a workload and a dead backend", &asks("db"), mutated(1))
            .fault(Fault::Fail(ErrorKind::Unavailable)),
        row(
            "a workload and a backend that refuses",
            &asks("db"),
            mutated(1),
        )
        .fault(Fault::Fail(ErrorKind::PermissionDenied)),
    ];
    rows.into_iter()
}

fn only_sidecars() -> Row {
    let refused = denied(
        AdmissionErrorKind::Conflict,
        422,
        "Invalid",
        &["FieldValueRequired"],
        "INFO",
    );
    let mut row = Row::new(
        "all containers are sidecars",
        &pod(&json!({"secrets.floe.dev/env-from": "db"})),
        refused,
    );
    row.policy.sidecars = vec!["*".parse().expect("a sidecar")];
    row
}

fn deployments() -> Value {
    json!({"group": "apps", "version": "v1", "resource": "deployments"})
}

impl Row {
    fn on(mut self, surface: Surface) -> Self {
        self.surface = surface;
        self
    }
}

/// Response to a backend's error, with and without the operator's permission to admit.
fn backend_rows(error: ErrorKind) -> Vec<Row> {
    let (fault, kind, code, reason, level) = match error {
        // Missing secrets are in the rows above, with their causes.
        ErrorKind::NotFound => return Vec::new(),
        ErrorKind::PermissionDenied => (
            Fault::Fail(error),
            AdmissionErrorKind::PermissionDenied,
            403,
            "Forbidden",
            "INFO",
        ),
        ErrorKind::Unavailable => (
            Fault::Fail(error),
            AdmissionErrorKind::Unavailable,
            503,
            "ServiceUnavailable",
            "WARN",
        ),
        ErrorKind::RateLimited => (
            Fault::SlowDown(Duration::from_mins(1)),
            AdmissionErrorKind::Unavailable,
            503,
            "ServiceUnavailable",
            "WARN",
        ),
        ErrorKind::Deadline => (
            Fault::Hang,
            AdmissionErrorKind::Timeout,
            503,
            "ServiceUnavailable",
            "WARN",
        ),
        ErrorKind::Unauthenticated => (
            Fault::Fail(error),
            AdmissionErrorKind::Unauthenticated,
            503,
            "ServiceUnavailable",
            "ERROR",
        ),
        ErrorKind::TooManyKeys => (
            Fault::Fail(error),
            AdmissionErrorKind::Conflict,
            422,
            "Invalid",
            "INFO",
        ),
        ErrorKind::Protocol | ErrorKind::Invalid | ErrorKind::Conflict => (
            Fault::Fail(error),
            AdmissionErrorKind::Protocol,
            500,
            "InternalError",
            "ERROR",
        ),
    };
    let causes: &[&str] = if code == 422 {
        &["FieldValueInvalid"]
    } else {
        &[]
    };
    let refused = || denied(kind, code, reason, causes, level);
    let admitted = if error.is_unavailable() {
        degraded(kind, level)
    } else {
        refused()
    };
    vec![
        Row::new("a backend's error", &asking(), refused()).fault(fault),
        Row::new(
            "a backend's error, with the operator's leave",
            &asking(),
            admitted,
        )
        .fault(fault)
        .admitting(),
    ]
}

async fn skip_rows() -> Vec<Row> {
    // State after the first call.
    let fixture = HandlerFixture::new(Policy::default());
    fixture.backend.put("jobs", "db", &[]);
    let done = patched(
        asking(),
        &fixture.admit(&asking()["metadata"]["annotations"]).await,
    );

    let mut mirror = asking();
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "hash".into();
    let mut exempt = Row::new(
        "exempt namespace",
        &asking(),
        skipped(SkipReason::ExemptNamespace),
    )
    .request("/request/namespace", json!("kube-system"));
    exempt
        .policy
        .exempt_namespaces
        .insert("kube-system".to_owned());
    let mut unchanged = review(&asking());
    unchanged["request"]["oldObject"] = unchanged["request"]["object"].clone();
    unchanged["request"]["operation"] = "UPDATE".into();
    unchanged["request"]["resource"]["resource"] = "serviceaccounts".into();
    let mut defaults = Row::new(
        "unchanged defaults",
        &asking(),
        skipped(SkipReason::Unchanged),
    )
    .on(Surface::Sources);
    defaults.body = unchanged.to_string();
    let validated = Verdict {
        patch: false,
        decision: "validated".to_owned(),
        ..injected(0)
    };
    vec![
        Row::new(
            "nothing asked for",
            &pod(&json!({})),
            skipped(SkipReason::NotRequested),
        ),
        Row::new(
            "opted out",
            &pod(&json!({"secrets.floe.dev/env-from": "db", "secrets.floe.dev/inject": "false"})),
            skipped(SkipReason::OptedOut),
        ),
        Row::new("already there", &done, skipped(SkipReason::AlreadyInjected)),
        Row::new(
            "an update",
            &asking(),
            skipped(SkipReason::NotThisOperation),
        )
        .request("/request/operation", json!("UPDATE")),
        Row::new("another kind", &asking(), skipped(SkipReason::NotThisKind))
            .request("/request/resource/resource", json!("deployments")),
        exempt,
        Row::new("mirror pod", &mirror, skipped(SkipReason::MirrorPod)),
        defaults,
        Row::new("new defaults", &asking(), validated)
            .on(Surface::Sources)
            .request("/request/resource/resource", json!("serviceaccounts")),
        Row::new(
            "malformed defaults",
            &pod(&json!({"secrets.floe.dev/env-form": "db"})),
            denied(
                AdmissionErrorKind::Invalid,
                422,
                "Invalid",
                &["FieldValueInvalid"],
                "INFO",
            ),
        )
        .on(Surface::Sources)
        .request("/request/resource/resource", json!("serviceaccounts")),
    ]
}

#[tokio::test(start_paused = true)]
async fn rows_get_their_documented_response() {
    for row in rows().await {
        row.try_it().await;
    }
}

#[tokio::test(start_paused = true)]
async fn error_kinds_and_skip_reasons_all_have_rows() {
    let tried: BTreeSet<String> = rows()
        .await
        .into_iter()
        .map(|row| row.expected.reason)
        .collect();
    let all = kinds()
        .into_iter()
        .map(DecisionReason::Error)
        .chain(skips().into_iter().map(DecisionReason::Skip))
        .chain([DecisionReason::Ok]);
    let all: BTreeSet<String> = all.map(|reason| reason.as_str().to_owned()).collect();
    assert_eq!(tried, all);
    let tried: Vec<Surface> = rows().await.into_iter().map(|row| row.surface).collect();
    assert!(
        surfaces().iter().all(|surface| tried.contains(surface)),
        "{tried:?}"
    );
}

/// Bytes without a uid get no response that an API server could accept.
#[tokio::test]
async fn review_without_uid_has_no_response() {
    let fixture = HandlerFixture::new(Policy::default());
    assert_eq!(fixture.respond(Surface::Pods, b"{}").await, None);
    let lines = fixture.admissions();
    assert_eq!(
        (&lines[0]["level"], &lines[0]["reason"]),
        (&json!("WARN"), &json!("unreadable"))
    );
}

/// Forbids every secret, and records its calls.
#[derive(Debug, Default)]
struct ForbidAll(Mutex<Vec<String>>);

#[async_trait]
impl Authorizer for ForbidAll {
    async fn forbidden(
        &self,
        secrets: &SecretUse<'_>,
    ) -> Result<Vec<ForbiddenSecret>, AdmissionError> {
        let SecretUse {
            namespace,
            service_account,
            request,
            ..
        } = *secrets;
        self.0
            .lock()
            .expect("a list")
            .push(format!("{namespace}/{service_account}"));
        let forbidden = request
            .key_queries()
            .into_keys()
            .map(|secret| ForbiddenSecret {
                secret: secret.clone(),
                who: format!("service account \"{service_account}\""),
                site: request.site_of(secret).cloned(),
            });
        Ok(forbidden.collect())
    }
}

#[tokio::test(start_paused = true)]
async fn forbidden_secret_is_rejected_whether_or_not_it_exists() {
    let authorizer = Arc::new(ForbidAll::default());
    let fixture = HandlerFixture::authorized_by(Arc::clone(&authorizer) as Arc<dyn Authorizer>);
    fixture.backend.put("jobs", "db", &[("value", "v")]);
    let expected = denied(
        AdmissionErrorKind::PermissionDenied,
        403,
        "Forbidden",
        &[],
        "INFO",
    );
    for name in ["db", "gone"] {
        let response = fixture
            .admit(&json!({"secrets.floe.dev/env-from": name}))
            .await;
        let lines = fixture.admissions();
        assert_eq!(
            verdict(&response, lines.last().expect("a line")),
            expected,
            "{response}"
        );
        let message = response["status"]["message"].as_str().expect("a message");
        assert_eq!(
            message,
            format!(
                "service account \"default\" may not use secret \"{name}\" (asked for by annotation secrets.floe.dev/env-from). Ask the platform operator to allow it, or correct the annotation."
            )
        );
    }
    assert_eq!(fixture.admit(&json!({})).await["allowed"], true);
    assert_eq!(
        *authorizer.0.lock().expect("a list"),
        ["jobs/default"; 2],
        "only requests for secrets are authorized"
    );
}

/// Authorizer that never decides.
#[derive(Debug)]
struct Undecided;

#[async_trait]
impl Authorizer for Undecided {
    async fn forbidden(&self, _: &SecretUse<'_>) -> Result<Vec<ForbiddenSecret>, AdmissionError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn undecided_authorizer_rejects_at_deadline() {
    let fixture = HandlerFixture::authorized_by(Arc::new(Undecided));
    fixture.backend.put("jobs", "db", &[("value", "v")]);
    let response = fixture
        .admit(&json!({"secrets.floe.dev/env-from": "db"}))
        .await;
    let lines = fixture.admissions();
    let expected = denied(
        AdmissionErrorKind::Timeout,
        503,
        "ServiceUnavailable",
        &[],
        "WARN",
    );
    assert_eq!(
        verdict(&response, lines.last().expect("a line")),
        expected,
        "{response}"
    );
}

/// The page: each expected response is in one line of the table.
#[tokio::test(start_paused = true)]
async fn page_matches_the_table() {
    let page =
        std::fs::read_to_string(tools::project_root().join("docs/ERRORS.md")).expect("the page");
    let table: Vec<&str> = page.lines().filter(|line| line.starts_with('|')).collect();
    for Row { what, expected, .. } in rows().await {
        let Verdict {
            allowed,
            status,
            causes,
            reason,
            level,
            decision,
            ..
        } = expected;
        let mut expected_texts = vec![
            format!("`{reason}`"),
            format!("| {} |", level.to_lowercase()),
        ];
        expected_texts.extend(status.map(|(code, reason)| format!("| {code} {reason} |")));
        expected_texts.extend(causes);
        expected_texts.extend((decision == "skipped").then(|| "| yes |".to_owned()));
        expected_texts.extend((decision == "degraded").then(|| "`--on-unavailable`".to_owned()));
        let stands = table
            .iter()
            .any(|line| expected_texts.iter().all(|text| line.contains(text)));
        assert!(
            stands,
            "{what} (allowed: {allowed}): no line of the table has {expected_texts:?}"
        );
    }
    for shed in ShedReason::ALL {
        assert!(page.contains("`requests_shed_total`"), "{}", shed.as_str());
    }
}
