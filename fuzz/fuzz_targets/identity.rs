//! Tokens, their headers and claims, and key sets of issuers. The first byte selects which of them the rest is.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| floe_secrets_webhook::fuzzing::read_identity(data));
