//! Bytes of a pod, as the API server, or anybody who reaches the port, would send them.

#![no_main]

mod path;

use injection::PodView;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(view) = serde_json::from_slice::<PodView<'_>>(data) else {
        return;
    };
    let _ = format!("{view:?}");
    // The view skips fields that it does not need, so it accepts documents that a complete decoder rejects.
    let Ok(document) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    path::admit(&view, &document);
});
