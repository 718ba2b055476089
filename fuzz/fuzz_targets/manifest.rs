//! floe manifests as an author, or an attacker, would write them. The first byte selects options of `compile`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| floe_secrets_webhook::fuzzing::compile_manifest(data));
