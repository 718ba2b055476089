//! Which owners had a pod refused by the webhook: Events of reason `FailedCreate` that name it.
//!
//! The API server counts repeated events in the first one, so what is modified is news as much as what is added.

use std::time::Duration;

use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::warn;

use super::owner::{Owner, OwnerKind};
use crate::api::{ApiError, ApiErrorKind, Form, ObjectApi};
use crate::redact::ErrorChain;

const EVENTS: &str = "/api/v1/events";
const QUERY: &str = "fieldSelector=reason%3DFailedCreate";

/// Events in a page.
const PAGE: usize = 200;

/// The first pause after a failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The entries of the webhook's configuration that refuse pods, as the API server quotes them.
const ENTRIES: [&str; 2] = [r#"webhook "pods.secrets.floe.dev""#, r#"webhook "defaults.pods.secrets.floe.dev""#];

/// Sends owners for as long as somebody receives; an owner may come again and again.
pub(super) async fn follow(api: &ObjectApi, owners: &mpsc::Sender<Owner>) {
    let mut pause = PAUSES.0;
    loop {
        match list_and_watch(api, owners, &mut pause).await {
            Ok(()) => return,
            // The watch ran out of the server's memory of events: nothing is wrong.
            Err(error) if error.kind == ApiErrorKind::Gone => {}
            Err(error) => {
                if pause == PAUSES.0 {
                    warn!(error = %ErrorChain(&error), "events cannot be followed; trying again");
                }
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// Ends well only when nobody receives any more.
async fn list_and_watch(api: &ObjectApi, owners: &mpsc::Sender<Owner>, pause: &mut Duration) -> Result<(), ApiError> {
    let mut more: Option<String> = None;
    let mut version = loop {
        let page = api.page(EVENTS, QUERY, Form::Whole, PAGE, more.as_deref()).await?;
        for owner in page.items.iter().filter_map(|item| refused(item.get().as_bytes())) {
            if owners.send(owner).await.is_err() {
                return Ok(());
            }
        }
        more = page.more;
        if more.is_none() {
            break page.resource_version;
        }
    };
    loop {
        let mut watch = api.watch(EVENTS, QUERY, &version).await?;
        *pause = PAUSES.0;
        while let Some(line) = watch.next().await? {
            match change(&line) {
                Change::Event { owner, resource_version } => {
                    version = resource_version.unwrap_or(version);
                    if let Some(owner) = owner
                        && owners.send(owner).await.is_err()
                    {
                        return Ok(());
                    }
                }
                // Most often 410; a list tells what was missed.
                Change::Error => {
                    sleep(*pause).await;
                    return Err(watch.gone());
                }
            }
        }
    }
}

/// A line of the watch.
enum Change {
    Event { owner: Option<Owner>, resource_version: Option<String> },
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
    let Ok(Line { of, object }) = serde_json::from_slice::<Line<'_>>(line) else { return Change::Error };
    if of == "ERROR" {
        return Change::Error;
    }
    let version = serde_json::from_str::<Versioned>(object.get()).ok().map(|object| object.metadata.resource_version);
    let owner = if matches!(of, "ADDED" | "MODIFIED") { refused(object.get().as_bytes()) } else { None };
    Change::Event { owner, resource_version: version }
}

/// The owner whose pod an event says was refused by us.
fn refused(event: &[u8]) -> Option<Owner> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Event {
        reason: String,
        message: String,
        involved_object: Object,
    }
    #[derive(Deserialize)]
    struct Object {
        kind: String,
        namespace: String,
        name: String,
        uid: String,
    }
    let Event { reason, message, involved_object } = serde_json::from_slice(event).ok()?;
    if reason != "FailedCreate" || !ENTRIES.iter().any(|entry| message.contains(entry)) {
        return None;
    }
    let Object { kind, namespace, name, uid } = involved_object;
    let owner = Owner { uid, kind: OwnerKind::read(&kind)?, namespace, name };
    owner.is_sound().then_some(owner)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    fn event(kind: &str, message: &str) -> Value {
        json!({
            "reason": "FailedCreate", "message": message, "metadata": {"resourceVersion": "7"},
            "involvedObject": {"kind": kind, "namespace": "jobs", "name": "load", "uid": "u"},
        })
    }

    const OURS: &str =
        "Error creating: admission webhook \"pods.secrets.floe.dev\" denied the request: secret \"db\" not found";

    #[rstest::rstest]
    #[case("Job", OURS, true)]
    #[case(
        "ReplicaSet",
        "(combined from similar events): Error creating: admission webhook \"defaults.pods.secrets.floe.dev\" denied the request: x",
        true
    )]
    #[case("Deployment", OURS, false)]
    #[case("Job", "Error creating: admission webhook \"pods.example.org\" denied the request", false)]
    #[case("Job", "Error creating: admission webhook \"xpods.secrets.floe.dev\" denied the request", false)]
    #[case("Job", "pods \"a\" is forbidden: exceeded quota", false)]
    fn only_our_refusals_count(#[case] kind: &str, #[case] message: &str, #[case] counts: bool) {
        assert_eq!(refused(event(kind, message).to_string().as_bytes()).is_some(), counts);
    }

    #[test]
    fn counted_events_and_bookmarks_move_on() {
        for (of, owned) in [("ADDED", true), ("MODIFIED", true), ("DELETED", false)] {
            let line = json!({"type": of, "object": event("Job", OURS)}).to_string();
            let Change::Event { owner, resource_version } = change(line.as_bytes()) else { panic!("{of}") };
            assert_eq!((owner.is_some(), resource_version.as_deref()), (owned, Some("7")));
        }
        let bookmark = json!({"type": "BOOKMARK", "object": {"kind": "Event", "metadata": {"resourceVersion": "9"}}});
        let Change::Event { owner: None, resource_version } = change(bookmark.to_string().as_bytes()) else { panic!() };
        assert_eq!(resource_version.as_deref(), Some("9"));
        assert!(matches!(change(br#"{"type":"ERROR","object":{"code":410}}"#), Change::Error));
    }

    /// An API server that says what it is told to, and what it was asked.
    struct Script {
        answers: VecDeque<(u16, String)>,
        asked: Vec<String>,
    }

    /// A list of these, or lines of a watch.
    fn list(version: &str, items: &[Value]) -> (u16, String) {
        (200, json!({"metadata": {"resourceVersion": version}, "items": items}).to_string())
    }

    fn lines(lines: &[Value]) -> (u16, String) {
        (200, lines.iter().flat_map(|line| [line.to_string(), "\n".to_owned()]).collect())
    }

    fn about(name: &str, version: &str) -> Value {
        let mut event = event("Job", OURS);
        (event["involvedObject"]["name"], event["metadata"]["resourceVersion"]) = (name.into(), version.into());
        event
    }

    async fn scripted(answers: Vec<(u16, String)>, owners: usize) -> (Vec<String>, Vec<String>) {
        let script = Arc::new(Mutex::new(Script { answers: answers.into(), asked: Vec::new() }));
        let server = Arc::clone(&script);
        let answer = tower::service_fn(move |request: http::Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let mut server = server.lock().unwrap();
            let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)).map(str::to_owned);
            server.asked.push(match parameter("resourceVersion=") {
                Some(version) => format!("watch from {version}"),
                None => "list".to_owned(),
            });
            let next = server.answers.pop_front();
            async move {
                let Some((status, body)) = next else { return std::future::pending().await };
                let response = http::Response::builder().status(status).body(Body::from(body.into_bytes()));
                Ok::<_, tower::BoxError>(response.unwrap())
            }
        });
        let api = ObjectApi::new(kube::Client::new(answer, "default"));
        let (sender, mut receiver) = mpsc::channel::<Owner>(8);
        let receiving = async {
            let mut names = Vec::new();
            for _ in 0..owners {
                names.push(receiver.recv().await.unwrap().name);
            }
            names
        };
        let names = tokio::select! {
            names = receiving => names,
            () = follow(&api, &sender) => unreachable!("somebody receives"),
        };
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
        )
        .await;
        assert_eq!(names, ["one", "two"]);
        assert_eq!(asked[..6], ["list", "watch from 10", "list", "watch from 20", "list", "watch from 30"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_ends_in_good_order_goes_on_where_it_was() {
        let bookmark = json!({"type": "BOOKMARK", "object": {"kind": "Event", "metadata": {"resourceVersion": "40"}}});
        let (names, asked) = scripted(
            vec![
                list("10", &[]),
                lines(&[json!({"type": "MODIFIED", "object": about("one", "12")}), bookmark]),
                lines(&[]),
                (500, "{}".to_owned()),
                list("50", &[about("two", "45")]),
            ],
            2,
        )
        .await;
        assert_eq!(names, ["one", "two"]);
        assert_eq!(asked[..5], ["list", "watch from 10", "watch from 40", "watch from 40", "list"]);
    }
}
