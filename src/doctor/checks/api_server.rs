//! Checks the API server: its version, and its clock compared with this machine's.

use std::time::Duration;

use http::Response;
use http::header::DATE;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::doctor::check::{Check, CheckId};
use crate::kubernetes::proxy;

/// Oldest version of Kubernetes with matchConditions enabled by default.
const OLDEST_KUBERNETES: (u32, u32) = (1, 30);

/// Difference of the clocks, in seconds, above which times in certificates and leases are misread.
const MAX_CLOCK_SKEW: i64 = 60;

/// Time limit of reading the version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(30);

/// Version and clock of the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// For example `v1.36.3`.
    pub version: String,
    /// Time in the response, or of this machine if the response has none.
    pub now: Timestamp,
    /// Seconds by which the clock of this machine is ahead.
    pub ahead: i64,
}

/// Reads the version; `clock` is the clock of this machine.
///
/// # Errors
/// If the API server does not respond, or is not one.
pub async fn read(client: &Client, clock: &Clock) -> Result<ApiServer, String> {
    timeout(VERSION_TIMEOUT, read_version(client, clock))
        .await
        .unwrap_or_else(|_| Err("the API server did not answer in time".to_owned()))
}

async fn read_version(client: &Client, clock: &Clock) -> Result<ApiServer, String> {
    let request = http::Request::get("/version")
        .body(Body::empty())
        .map_err(|error| error.to_string())?;
    let response = client.send(request).await.map_err(|error| match error {
        kube::Error::Auth(_) => "no credential for the API server could be obtained".to_owned(),
        error => proxy::proxy_problem(&error)
            .unwrap_or_else(|| "the API server cannot be reached".to_owned()),
    })?;
    let date = http_date(&response);
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|_| "the answer broke off".to_owned())?
        .to_bytes();
    if !status.is_success() {
        return Err(format!(
            "the API server answered HTTP {} to /version",
            status.as_u16()
        ));
    }
    let version = git_version(&body).ok_or("the endpoint is not a Kubernetes API server")?;
    let now = date.unwrap_or_else(|| clock.now());
    Ok(ApiServer {
        version,
        now,
        ahead: clock.now().as_second() - now.as_second(),
    })
}

fn git_version(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let version = body.get("gitVersion")?.as_str()?;
    Some(version.to_owned())
}

/// Returns the time of the header `Date`, as in `Sun, 22 Nov 2026 17:41:03 GMT`.
fn http_date<B>(response: &Response<B>) -> Option<Timestamp> {
    let date = response.headers().get(DATE)?.to_str().ok()?;
    let time = jiff::fmt::rfc2822::parse(date).ok()?;
    Some(time.timestamp())
}

/// Evaluates the version and the clock.
pub fn evaluate(server: &ApiServer) -> Check {
    let ApiServer { version, ahead, .. } = server;
    let mut numbers = version
        .trim_start_matches('v')
        .split('.')
        .map(|part| part.parse::<u32>().ok());
    let parsed = numbers.next().flatten().zip(numbers.next().flatten());
    match parsed {
        Some(parsed) if parsed < OLDEST_KUBERNETES => {
            let message = format!(
                "Kubernetes {version} is older than 1.30: it has no matchConditions by default"
            );
            let fix = "upgrade the cluster to 1.30 or newer";
            Check::failure(CheckId::ApiServer, message, fix)
        }
        _ if ahead.abs() > MAX_CLOCK_SKEW => {
            let message = format!(
                "Kubernetes {version}; the clock here differs from its own by {ahead} s, whose is used here"
            );
            Check::warning(CheckId::ApiServer, message, "timedatectl set-ntp true")
        }
        _ => Check::ok(CheckId::ApiServer, format!("Kubernetes {version}")),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::doctor::check::Status;

    #[rstest]
    #[case("v1.29.14", 0, Status::Failure)]
    #[case("v1.30.0-gke.100", 0, Status::Ok)]
    #[case("v1.36.3", 59, Status::Ok)]
    #[case("v1.36.3", -61, Status::Warning)]
    #[case("v2.0.0+k3s1", 0, Status::Ok)]
    fn old_api_servers_and_wrong_clocks_are_reported(
        #[case] version: &str,
        #[case] ahead: i64,
        #[case] status: Status,
    ) {
        let server = ApiServer {
            version: version.to_owned(),
            now: Timestamp::UNIX_EPOCH,
            ahead,
        };
        assert_eq!(evaluate(&server).status, status);
    }

    #[test]
    fn date_header_is_parsed() {
        let response = Response::builder()
            .header(DATE, "Sun, 22 Nov 2026 17:41:03 GMT")
            .body(())
            .expect("a response");
        let time = http_date(&response).expect("a date");
        assert_eq!(time.to_string(), "2026-11-22T17:41:03Z");
    }
}
