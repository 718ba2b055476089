//! Files of manifests that `lint` is given. The first byte selects its options.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| floe_secrets_webhook::fuzzing::lint_manifests(data));
