//! Identity of the cluster: the uid of its Namespace kube-system, which lives as long as the cluster.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use tokio::time::timeout;
use tracing::warn;

use super::lookup::{self, Lookup};

/// Namespace that every cluster has, and that nobody can delete.
const SYSTEM_NAMESPACE: &str = "kube-system";

/// Time limit of reading the uid: the start of a program waits for it.
pub const CLUSTER_UID_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads the uid of the cluster, by one request for metadata. Without the permission, or without a response within
/// [`CLUSTER_UID_TIMEOUT`], there is none, and a warning is logged.
pub async fn cluster_uid(client: &Client) -> Option<String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let read = lookup::read_optional(namespaces.get_metadata_opt(SYSTEM_NAMESPACE));
    let reason = match timeout(CLUSTER_UID_TIMEOUT, read).await {
        Ok(Lookup::Found(namespace)) => match namespace.metadata.uid {
            Some(uid) if !uid.is_empty() => return Some(uid),
            _ => "it has no uid".to_owned(),
        },
        Ok(Lookup::NotFound) => "it does not exist".to_owned(),
        Ok(Lookup::Unknown(reason)) => reason,
        Err(_) => "the API server has not responded in time".to_owned(),
    };
    warn!(
        namespace = SYSTEM_NAMESPACE,
        reason, "the cluster has no name in the audit trail: its namespace could not be read"
    );
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response, StatusCode};
    use kube::client::Body;
    use rstest::rstest;
    use std::convert::Infallible;
    use tokio::time::Instant;

    /// Client of an API server that has one response.
    fn client(status: u16, body: &'static str) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            assert_eq!(request.uri().path(), "/api/v1/namespaces/kube-system");
            let accept = request.headers()["accept"].to_str().unwrap();
            assert!(accept.contains("as=PartialObjectMetadata"), "{accept}");
            let mut response = Response::new(Body::from(body.as_bytes().to_vec()));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            Ok::<_, Infallible>(response)
        });
        Client::new(service, "default")
    }

    const FOUND: &str = r#"{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata",
        "metadata":{"name":"kube-system","uid":"4d3f"}}"#;
    const FORBIDDEN: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",
        "message":"namespaces is forbidden","reason":"Forbidden","code":403}"#;

    #[rstest]
    #[case::found(200, FOUND, Some("4d3f"))]
    #[case::without_uid(200, r#"{"metadata":{}}"#, None)]
    #[case::forbidden(403, FORBIDDEN, None)]
    #[case::absent(404, "", None)]
    #[case::failing(500, "no JSON", None)]
    #[tokio::test]
    async fn uid_is_that_of_the_system_namespace(
        #[case] status: u16,
        #[case] body: &'static str,
        #[case] expected: Option<&str>,
    ) {
        let uid = cluster_uid(&client(status, body)).await;
        assert_eq!(uid.as_deref(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn start_does_not_wait_for_a_stalled_api_server() {
        let service = tower::service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<Body>, Infallible>>()
        });
        let began = Instant::now();
        assert_eq!(cluster_uid(&Client::new(service, "default")).await, None);
        assert_eq!(began.elapsed(), CLUSTER_UID_TIMEOUT);
    }
}
