//! Annotations as an author, or an attacker, would write them, on one pod.
//!
//! The input is a list of pairs: key and value end with a zero byte each, and keys get the webhook's prefix. The key
//! `@c` adds a container of the value's name, `@i` an init container; a digit N after it adds N times ten of them.

#![no_main]

mod path;

use injection::{PREFIX, PodView};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::{Map, Value, json};

fuzz_target!(|data: &[u8]| {
    let mut texts = data
        .split(|byte| *byte == 0)
        .map(|text| String::from_utf8_lossy(text).into_owned());
    let mut annotations = Map::new();
    let (mut containers, mut init_containers) = (Vec::new(), Vec::new());
    while let (Some(key), Some(value)) = (texts.next(), texts.next()) {
        let list = match key.get(..2) {
            Some("@c") => &mut containers,
            Some("@i") => &mut init_containers,
            _ => {
                annotations.insert(format!("{PREFIX}{key}"), Value::String(value));
                continue;
            }
        };
        match key[2..].parse::<u8>() {
            Ok(tens) => list.extend(
                (0..u32::from(tens.min(9)) * 10).map(|n| json!({ "name": format!("{value}{n}") })),
            ),
            Err(_) => list.push(json!({ "name": value })),
        }
    }
    init_containers.extend([
        json!({ "name": "init" }),
        json!({ "name": "proxy", "restartPolicy": "Always", "env": null }),
    ]);
    containers.extend([
        json!({ "name": "app", "env": [{ "name": "URL", "value": "$(FLOE_SECRET_A_K)" }] }),
        json!({ "name": "istio-proxy", "envFrom": [{ "secretRef": { "name": "a" } }] }),
    ]);
    let pod = json!({
        "metadata": { "annotations": annotations },
        "spec": {
            "initContainers": init_containers,
            "containers": containers,
        },
    });
    path::admit(&PodView::deserialize(&pod).expect("the pod is one"), &pod);
});
