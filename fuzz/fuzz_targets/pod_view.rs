//! The bytes of a pod, as the API server, or anybody who reaches the port, would send them.

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
    // The view skips what it does not look at, so it takes documents that a whole decoder does not.
    let Ok(document) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    path::admit(&view, &document);
});
