//! Bytes that anybody who reaches the port can send as a review.

#![no_main]

use floe_secrets_webhook::admission::review::{SourceView, Unreadable, decode};
use injection::PodView;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let uid = serde_json::from_slice::<Value>(data)
        .ok()
        .and_then(|review| {
            review
                .get("request")?
                .get("uid")?
                .as_str()
                .map(str::to_owned)
        })
        .filter(|uid| !uid.is_empty());
    match decode::<PodView<'_>>(data) {
        Ok(request) => {
            let _ = format!("{request:?}");
            assert!(!request.uid.as_str().is_empty());
        }
        Err(error) => check(&error, uid.as_deref(), data),
    }
    if let Err(error) = decode::<SourceView<'_>>(data) {
        check(&error, uid.as_deref(), data);
    }
});

/// Checks that a uid which occurs once in a readable document is never lost, and that the error never quotes the bytes.
fn check(error: &Unreadable, uid: Option<&str>, data: &[u8]) {
    let once = |key: &str| {
        data.windows(key.len())
            .filter(|window| *window == key.as_bytes())
            .count()
            == 1
    };
    // Escapes could write either key a second time.
    if uid.is_some() && once("\"uid\"") && once("\"request\"") && !data.contains(&b'\\') {
        assert_eq!(error.uid.as_deref(), uid);
    }
    assert!(error.to_string().len() < 200);
}
