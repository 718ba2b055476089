//! Owners whose pods the webhook refused, from Events of reason `FailedCreate` that name it.
//!
//! Event recorders count repeated events in the first one, so modified events matter like added ones.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::owner::{Owner, OwnerKind};
use crate::kubernetes::{ApiError, ApiErrorKind, ObjectApi, Representation, Watch};
use crate::telemetry::error_chain::ErrorChain;

const QUERY: &str = "fieldSelector=reason%3DFailedCreate";

/// Events per page.
const PAGE: usize = 200;

/// First and longest pause after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A watch that lasted this long succeeded: the next one follows without a pause.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Entries of the webhook configuration that refuse pods, as error messages of the API server quote them.
const ENTRIES: [&str; 2] = [
    r#"webhook "pods.secrets.floe.dev""#,
    r#"webhook "defaults.pods.secrets.floe.dev""#,
];

/// Exponential back-off.
struct Backoff(Duration);

impl Backoff {
    async fn wait(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(BACKOFF.1);
    }
}

/// Passes owners to `enqueue` until it is dropped: of one namespace, or of all. The same owner may be passed repeatedly.
pub(super) async fn follow(api: &ObjectApi, namespace: Option<&str>, enqueue: &impl Fn(Owner)) {
    let path = namespace.map_or_else(
        || "/api/v1/events".to_owned(),
        |namespace| format!("/api/v1/namespaces/{namespace}/events"),
    );
    let mut backoff = Backoff(BACKOFF.0);
    loop {
        let error = match list_and_watch(api, &path, enqueue, &mut backoff).await {
            Err(error) => error,
            Ok(never) => match never {},
        };
        // Expected: the watch's version is older than the server's history.
        if error.kind != ApiErrorKind::Gone && backoff.0 == BACKOFF.0 {
            warn!(error = %ErrorChain(&error), "cannot watch events; retrying");
        }
        backoff.wait().await;
    }
}

/// Returns only with an error.
async fn list_and_watch(
    api: &ObjectApi,
    path: &str,
    enqueue: &impl Fn(Owner),
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible, ApiError> {
    let mut pages = api.pages(path, QUERY, Representation::Full, PAGE);
    let mut version = String::new();
    while let Some(page) = pages.next().await? {
        page.items
            .iter()
            .filter_map(|item| refused(item))
            .for_each(enqueue);
        version = page.resource_version;
    }
    loop {
        let mut watch = api.watch(path, QUERY, &version).await?;
        let opened = Instant::now();
        let ended = read_watch(&mut watch, &mut version, enqueue).await;
        let lived = opened.elapsed() >= STABLE_AFTER;
        if lived {
            backoff.0 = BACKOFF.0;
        }
        ended?;
        // A server that closes every watch immediately must not be asked for the next one immediately.
        if !lived {
            backoff.wait().await;
        }
    }
}

/// Reads a watch until the server closes it; `version` is where the next one begins.
async fn read_watch(
    watch: &mut Watch,
    version: &mut String,
    enqueue: &impl Fn(Owner),
) -> Result<(), ApiError> {
    while let Some(line) = watch.next().await? {
        match change(&line) {
            Change::Event {
                owner,
                resource_version,
            } => {
                if let Some(newer) = resource_version {
                    *version = newer;
                }
                owner.into_iter().for_each(enqueue);
            }
            // Usually 410; the next list returns what was missed.
            Change::Error => return Err(watch.gone()),
        }
    }
    Ok(())
}

/// One line of the watch.
enum Change {
    Event {
        owner: Option<Owner>,
        resource_version: Option<String>,
    },
    Error,
}

fn change(line: &[u8]) -> Change {
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(rename = "type")]
        of: &'a str,
        #[serde(borrow)]
        object: &'a serde_json::value::RawValue,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Versioned {
        metadata: Version,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        resource_version: String,
    }
    let Ok(Line { of, object }) = serde_json::from_slice::<Line<'_>>(line) else {
        return Change::Error;
    };
    if of == "ERROR" {
        return Change::Error;
    }
    let version = serde_json::from_str::<Versioned>(object.get())
        .ok()
        .map(|object| object.metadata.resource_version);
    let owner = if matches!(of, "ADDED" | "MODIFIED") {
        refused(object.get().as_bytes())
    } else {
        None
    };
    Change::Event {
        owner,
        resource_version: version,
    }
}

/// The owner whose pod was refused by the webhook, according to an event.
///
/// Anybody with the right to create events may write one, and with `eventTime` it may be about an object in another
/// namespace: only events in the owner's own namespace count. The event's source is a hint against forged events, not a
/// proof.
fn refused(event: &[u8]) -> Option<Owner> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Event {
        metadata: Metadata,
        reason: String,
        message: String,
        involved_object: Object,
        #[serde(default)]
        source: Source,
        #[serde(default)]
        reporting_component: String,
    }
    #[derive(Deserialize)]
    struct Metadata {
        namespace: String,
    }
    #[derive(Deserialize)]
    struct Object {
        kind: String,
        namespace: String,
        name: String,
        uid: String,
    }
    #[derive(Default, Deserialize)]
    struct Source {
        #[serde(default)]
        component: String,
    }
    let Event {
        metadata,
        reason,
        message,
        involved_object,
        source,
        reporting_component,
    } = serde_json::from_slice(event).ok()?;
    if reason != "FailedCreate" || !ENTRIES.iter().any(|entry| message.contains(entry)) {
        return None;
    }
    let Object {
        kind,
        namespace,
        name,
        uid,
    } = involved_object;
    let kind = OwnerKind::read(&kind)?;
    let signed = [source.component, reporting_component]
        .iter()
        .any(|component| component == kind.controller());
    let owner = Owner {
        uid,
        kind,
        namespace,
        name,
    };
    (signed && metadata.namespace == owner.namespace && owner.is_sound()).then_some(owner)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    fn event(kind: &str, message: &str) -> Value {
        let component =
            OwnerKind::read(kind).map_or("deployment-controller", OwnerKind::controller);
        json!({
            "reason": "FailedCreate", "message": message, "metadata": {"namespace": "jobs", "resourceVersion": "7"},
            "involvedObject": {"kind": kind, "namespace": "jobs", "name": "load", "uid": "u"},
            "source": {"component": component}, "eventTime": null, "reportingComponent": component,
        })
    }

    const OURS: &str = "Error creating: admission webhook \"pods.secrets.floe.dev\" denied the request: secret \"db\" not found";

    #[rstest::rstest]
    #[case("Job", OURS, true)]
    #[case(
        "ReplicaSet",
        "(combined from similar events): Error creating: admission webhook \"defaults.pods.secrets.floe.dev\" denied the request: x",
        true
    )]
    #[case("Deployment", OURS, false)]
    #[case(
        "Job",
        "Error creating: admission webhook \"pods.example.org\" denied the request",
        false
    )]
    #[case(
        "Job",
        "Error creating: admission webhook \"xpods.secrets.floe.dev\" denied the request",
        false
    )]
    #[case("Job", "pods \"a\" is forbidden: exceeded quota", false)]
    fn only_our_refusals_count(#[case] kind: &str, #[case] message: &str, #[case] counts: bool) {
        assert_eq!(
            refused(event(kind, message).to_string().as_bytes()).is_some(),
            counts
        );
    }

    #[rstest::rstest]
    #[case("/source/component", "kubelet", true)]
    #[case("/reportingComponent", "", true)]
    #[case("/metadata/namespace", "elsewhere", false)]
    #[case("/involvedObject/namespace", "elsewhere", false)]
    #[case("/involvedObject/name", "../secrets/x", false)]
    fn only_the_controllers_own_events_of_the_owners_own_namespace_count(
        #[case] field: &str,
        #[case] value: &str,
        #[case] counts: bool,
    ) {
        let mut event = event("Job", OURS);
        // With a time, the API server lets an event be about an object in any namespace.
        event["eventTime"] = "2026-01-01T00:00:00.000000Z".into();
        *event.pointer_mut(field).unwrap() = value.into();
        assert_eq!(refused(event.to_string().as_bytes()).is_some(), counts);
    }

    #[test]
    fn an_event_that_no_builtin_controller_signed_counts_for_nothing() {
        for component in ["", "queue", "replicaset-controller"] {
            let mut event = event("Job", OURS);
            event["source"]["component"] = component.into();
            event["reportingComponent"] = component.into();
            assert_eq!(refused(event.to_string().as_bytes()), None, "{component:?}");
        }
    }

    #[test]
    fn counted_events_and_bookmarks_move_on() {
        for (of, owned) in [("ADDED", true), ("MODIFIED", true), ("DELETED", false)] {
            let line = json!({"type": of, "object": event("Job", OURS)}).to_string();
            let Change::Event {
                owner,
                resource_version,
            } = change(line.as_bytes())
            else {
                panic!("{of}")
            };
            assert_eq!(
                (owner.is_some(), resource_version.as_deref()),
                (owned, Some("7"))
            );
        }
        let bookmark = json!({"type": "BOOKMARK", "object": {"kind": "Event", "metadata": {"resourceVersion": "9"}}});
        let Change::Event {
            owner: None,
            resource_version,
        } = change(bookmark.to_string().as_bytes())
        else {
            panic!()
        };
        assert_eq!(resource_version.as_deref(), Some("9"));
        assert!(matches!(
            change(br#"{"type":"ERROR","object":{"code":410}}"#),
            Change::Error
        ));
    }

    /// An API server that says what it is told to, and what it was asked.
    struct Script {
        answers: VecDeque<(u16, String)>,
        asked: Vec<String>,
    }

    /// A list of these, or lines of a watch.
    fn list(version: &str, items: &[Value]) -> (u16, String) {
        (
            200,
            json!({"metadata": {"resourceVersion": version}, "items": items}).to_string(),
        )
    }

    fn lines(lines: &[Value]) -> (u16, String) {
        (
            200,
            lines
                .iter()
                .flat_map(|line| [line.to_string(), "\n".to_owned()])
                .collect(),
        )
    }

    fn about(name: &str, version: &str) -> Value {
        let mut event = event("Job", OURS);
        (
            event["involvedObject"]["name"],
            event["metadata"]["resourceVersion"],
        ) = (name.into(), version.into());
        event
    }

    /// The owners that came, and what was asked for and when, until so many owners came or that time is over.
    async fn scripted(
        answers: Vec<(u16, String)>,
        owners: usize,
        within: Duration,
    ) -> (Vec<String>, Vec<String>) {
        let script = Arc::new(Mutex::new(Script {
            answers: answers.into(),
            asked: Vec::new(),
        }));
        let server = Arc::clone(&script);
        let began = Instant::now();
        let answer = tower::service_fn(move |request: http::Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let mut server = server.lock().unwrap();
            let parameter = |name: &str| {
                query
                    .split('&')
                    .find_map(|pair| pair.strip_prefix(name))
                    .map(str::to_owned)
            };
            let at = began.elapsed().as_secs();
            server.asked.push(match parameter("resourceVersion=") {
                Some(version) => format!("{at}: watch from {version}"),
                None => format!("{at}: list"),
            });
            let next = server.answers.pop_front();
            async move {
                let Some((status, body)) = next else {
                    return std::future::pending().await;
                };
                let response = http::Response::builder()
                    .status(status)
                    .body(Body::from(body.into_bytes()));
                Ok::<_, tower::BoxError>(response.unwrap())
            }
        });
        let api = ObjectApi::new(kube::Client::new(answer, "default"));
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel::<Owner>();
        let enqueue = |owner: Owner| sender.send(owner).unwrap();
        let mut names = Vec::new();
        let receiving = async {
            while names.len() < owners {
                names.push(receiver.recv().await.unwrap().name);
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(within, receiving) => {}
            () = follow(&api, None, &enqueue) => unreachable!("it never ends"),
        }
        let asked = std::mem::take(&mut script.lock().unwrap().asked);
        (names, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_gone_begins_anew_with_a_list() {
        let gone = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}});
        let (names, asked) = scripted(
            vec![
                list("10", &[]),
                lines(&[gone]),
                // What was missed is in the list.
                list("20", &[about("one", "15")]),
                (410, "{}".to_owned()),
                list("30", &[]),
                lines(&[json!({"type": "ADDED", "object": about("two", "31")})]),
            ],
            2,
            Duration::from_mins(1),
        )
        .await;
        assert_eq!(names, ["one", "two"]);
        let expected = [
            "0: list",
            "0: watch from 10",
            "1: list",
            "1: watch from 20",
            "3: list",
            "3: watch from 30",
        ];
        assert_eq!(asked[..6], expected, "never without a pause");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_ends_in_good_order_goes_on_where_it_was() {
        let bookmark = json!({"type": "BOOKMARK", "object": {"kind": "Event", "metadata": {"resourceVersion": "40"}}});
        let (names, asked) = scripted(
            vec![
                list("10", &[]),
                lines(&[
                    json!({"type": "MODIFIED", "object": about("one", "12")}),
                    bookmark,
                ]),
                lines(&[]),
                (500, "{}".to_owned()),
                list("50", &[about("two", "45")]),
            ],
            2,
            Duration::from_mins(1),
        )
        .await;
        assert_eq!(names, ["one", "two"]);
        let expected = [
            "0: list",
            "0: watch from 10",
            "1: watch from 40",
            "3: watch from 40",
            "7: list",
        ];
        assert_eq!(asked[..5], expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_closes_every_watch_at_once_is_asked_twice_a_minute() {
        let mut answers = vec![list("10", &[])];
        answers.extend((0..1000).map(|_| lines(&[])));
        let (_, asked) = scripted(answers, 1, Duration::from_mins(10)).await;
        assert!(asked.len() < 30, "{asked:?}");
        let gone = vec![(410, "{}".to_owned()); 10_000];
        let (_, asked) = scripted(gone, 1, Duration::from_mins(10)).await;
        assert!(asked.len() < 200, "{}", asked.len());
    }
}
