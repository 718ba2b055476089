//! Owners whose pods the webhook refused, from Events of reason `FailedCreate` that name it.
//!
//! Event recorders count repeated events in the first one, so modified events matter like added ones.

mod event;

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::warn;

use self::event::{Change, parse_line, refused_owner};
use super::owner::Owner;
use crate::kubernetes::{ApiError, ApiErrorKind, ObjectApi, Representation, Watch};
use crate::telemetry::error_chain::ErrorChain;

const QUERY: &str = "fieldSelector=reason%3DFailedCreate";

/// Events per page.
const PAGE_SIZE: usize = 200;

/// First pause after a failure. Each pause is twice as long as the one before.
const MIN_BACKOFF: Duration = Duration::from_secs(1);

/// Longest pause after a failure.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// A watch that lasted this long succeeded: the next one follows without a pause.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Exponential back-off.
struct Backoff(Duration);

impl Backoff {
    async fn wait(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(MAX_BACKOFF);
    }
}

/// Passes owners to `enqueue` until it is dropped: of one namespace, or of all. The same owner may be passed
/// repeatedly.
pub(super) async fn follow(api: &ObjectApi, namespace: Option<&str>, enqueue: &impl Fn(Owner)) {
    let path = namespace.map_or_else(
        || "/api/v1/events".to_owned(),
        |namespace| format!("/api/v1/namespaces/{namespace}/events"),
    );
    let mut backoff = Backoff(MIN_BACKOFF);
    loop {
        let error = match list_and_watch(api, &path, enqueue, &mut backoff).await {
            Err(error) => error,
            Ok(infallible) => match infallible {},
        };
        // Expired versions are expected: the server's history is limited.
        if error.kind != ApiErrorKind::Gone && backoff.0 == MIN_BACKOFF {
            warn!(error = %ErrorChain(&error), "cannot watch events; retrying");
        }
        backoff.wait().await;
    }
}

/// Lists the events, then watches them. Returns only with an error.
async fn list_and_watch(
    api: &ObjectApi,
    path: &str,
    enqueue: &impl Fn(Owner),
    backoff: &mut Backoff,
) -> Result<Infallible, ApiError> {
    let mut pages = api.pages(path, QUERY, Representation::Full, PAGE_SIZE);
    let mut version = String::new();
    while let Some(page) = pages.next().await? {
        page.items
            .iter()
            .filter_map(|item| refused_owner(item))
            .for_each(enqueue);
        version = page.resource_version;
    }
    loop {
        let mut watch = api.watch(path, QUERY, &version).await?;
        let opened = Instant::now();
        let ended = read_watch(&mut watch, &mut version, enqueue).await;
        let was_stable = opened.elapsed() >= STABLE_AFTER;
        if was_stable {
            backoff.0 = MIN_BACKOFF;
        }
        ended?;
        // A server that closes every watch immediately must not get the next request immediately.
        if !was_stable {
            backoff.wait().await;
        }
    }
}

/// Reads a watch until the server closes it, and advances `version` to where the next watch begins.
async fn read_watch(
    watch: &mut Watch,
    version: &mut String,
    enqueue: &impl Fn(Owner),
) -> Result<(), ApiError> {
    while let Some(line) = watch.next().await? {
        match parse_line(&line) {
            Change::Event {
                owner,
                resource_version,
            } => {
                if let Some(newer) = resource_version {
                    *version = newer;
                }
                owner.into_iter().for_each(enqueue);
            }
            // Usually 410. The next list returns the events in between.
            Change::Error => return Err(watch.gone()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use kube::client::Body;
    use serde_json::{Value, json};

    use super::event::tests::{REFUSAL, event};
    use super::*;

    /// Scripted responses of an API server, and the requests that it received.
    struct ScriptedServer {
        responses: VecDeque<(u16, String)>,
        requests: Vec<String>,
    }

    fn list_of(version: &str, items: &[Value]) -> (u16, String) {
        (
            200,
            json!({"metadata": {"resourceVersion": version}, "items": items}).to_string(),
        )
    }

    fn watch_of(lines: &[Value]) -> (u16, String) {
        (
            200,
            lines
                .iter()
                .flat_map(|line| [line.to_string(), "\n".to_owned()])
                .collect(),
        )
    }

    fn event_about(name: &str, version: &str) -> Value {
        let mut event = event("Job", REFUSAL);
        (
            event["involvedObject"]["name"],
            event["metadata"]["resourceVersion"],
        ) = (name.into(), version.into());
        event
    }

    /// Follows refusals until `owners` owners were passed on or `within` is over. Returns their names, and the requests
    /// with the second of each.
    async fn scripted(
        responses: Vec<(u16, String)>,
        owners: usize,
        within: Duration,
    ) -> (Vec<String>, Vec<String>) {
        let script = Arc::new(Mutex::new(ScriptedServer {
            responses: responses.into(),
            requests: Vec::new(),
        }));
        let server = Arc::clone(&script);
        let began = Instant::now();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let mut server = server.lock().unwrap();
            let parameter = |name: &str| {
                query
                    .split('&')
                    .find_map(|pair| pair.strip_prefix(name))
                    .map(str::to_owned)
            };
            let at = began.elapsed().as_secs();
            server.requests.push(match parameter("resourceVersion=") {
                Some(version) => format!("{at}: watch from {version}"),
                None => format!("{at}: list"),
            });
            let next = server.responses.pop_front();
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
        let api = ObjectApi::new(kube::Client::new(service, "default"));
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
            () = follow(&api, None, &enqueue) => unreachable!("refusals are followed until the future is dropped"),
        }
        let requests = std::mem::take(&mut script.lock().unwrap().requests);
        (names, requests)
    }

    #[tokio::test(start_paused = true)]
    async fn expired_watch_restarts_with_a_list() {
        let gone = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}});
        let (names, requests) = scripted(
            vec![
                list_of("10", &[]),
                watch_of(&[gone]),
                // The list has the event that the watch missed.
                list_of("20", &[event_about("one", "15")]),
                (410, "{}".to_owned()),
                list_of("30", &[]),
                watch_of(&[json!({"type": "ADDED", "object": event_about("two", "31")})]),
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
        assert_eq!(
            requests[..6],
            expected,
            "every restart is preceded by a pause"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn closed_watch_continues_at_its_last_version() {
        let bookmark = json!({"type": "BOOKMARK", "object": {"kind": "Event", "metadata": {"resourceVersion": "40"}}});
        let (names, requests) = scripted(
            vec![
                list_of("10", &[]),
                watch_of(&[
                    json!({"type": "MODIFIED", "object": event_about("one", "12")}),
                    bookmark,
                ]),
                watch_of(&[]),
                (500, "{}".to_owned()),
                list_of("50", &[event_about("two", "45")]),
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
        assert_eq!(requests[..5], expected);
    }

    #[tokio::test(start_paused = true)]
    async fn watches_that_close_at_once_are_opened_twice_a_minute() {
        let mut responses = vec![list_of("10", &[])];
        responses.extend((0..1000).map(|_| watch_of(&[])));
        let (_, requests) = scripted(responses, 1, Duration::from_mins(10)).await;
        assert!(requests.len() < 30, "{requests:?}");
        let gone = vec![(410, "{}".to_owned()); 10_000];
        let (_, requests) = scripted(gone, 1, Duration::from_mins(10)).await;
        assert!(requests.len() < 200, "{}", requests.len());
    }
}
