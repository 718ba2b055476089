//! Annotations as an author, or an enemy, would write them, on one pod.
//!
//! The input is a list of pairs: key and value end with a zero byte each, and keys stand under our prefix.

#![no_main]

mod path;

use floe_secrets_webhook::injection::{PREFIX, PodView};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::{Map, Value, json};

fuzz_target!(|data: &[u8]| {
    let mut texts = data.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
    let mut annotations = Map::new();
    while let (Some(key), Some(value)) = (texts.next(), texts.next()) {
        annotations.insert(format!("{PREFIX}{key}"), Value::String(value));
    }
    let pod = json!({
        "metadata": { "annotations": annotations },
        "spec": {
            "initContainers": [{ "name": "init" }, { "name": "proxy", "restartPolicy": "Always", "env": null }],
            "containers": [
                { "name": "app", "env": [{ "name": "URL", "value": "$(FLOE_SECRET_A_K)" }] },
                { "name": "istio-proxy", "envFrom": [{ "secretRef": { "name": "a" } }] },
            ],
        },
    });
    path::admit(&PodView::deserialize(&pod).expect("the pod is one"), &pod);
});
