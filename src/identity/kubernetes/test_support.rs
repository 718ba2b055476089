//! Scripted API server that reviews tokens, without sockets.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

use crate::kubernetes::ObjectApi;

/// Response of the API server: status and body. A status of 0 is none.
pub(crate) type Script = Arc<dyn Fn(&Value) -> (u16, Value) + Send + Sync>;

/// API server that reviews tokens as a script does, and the bodies that it received.
pub(crate) fn scripted(script: Script) -> (ObjectApi, Arc<Mutex<Vec<Value>>>) {
    let received: Arc<Mutex<Vec<Value>>> = Arc::default();
    let seen = Arc::clone(&received);
    let service = service_fn(move |request: Request<Body>| {
        let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let review: Value = serde_json::from_slice(&body).unwrap();
            let (status, response) = script(&review);
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(review);
            if status == 0 {
                std::future::pending::<()>().await;
            }
            let response = Response::builder()
                .status(status)
                .body(Body::from(response.to_string().into_bytes()));
            Ok::<_, Infallible>(response.unwrap())
        }
    });
    (ObjectApi::new(Client::new(service, "default")), received)
}

/// Status of a review of a pod's token.
pub(crate) fn authenticated(service_account: &str, pod: &str, uid: &str) -> Value {
    json!({"status": {
        "authenticated": true,
        "audiences": ["floe"],
        "user": {
            "username": format!("system:serviceaccount:{service_account}"),
            "uid": "sa-uid",
            "groups": ["system:serviceaccounts"],
            "extra": {
                "authentication.kubernetes.io/pod-name": [pod],
                "authentication.kubernetes.io/pod-uid": [uid],
                "authentication.kubernetes.io/credential-id": ["JTI=1"],
            },
        },
    }})
}
