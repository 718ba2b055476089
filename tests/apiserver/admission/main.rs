//! Webhook with the shipped permissions, registered as it is shipped, on a real API server with real controllers and
//! real kubectl. All of these tests share one control plane and one webhook.

#![expect(clippy::indexing_slicing, reason = "a failing helper fails its test")]
#![expect(clippy::too_many_lines, reason = "a table of cases")]

mod defaults;
mod entries;
mod manifests;
mod neighbours;
mod records;
mod refusals;
mod reviews;
mod secret_names;

use serde_json::{Value, json};
use testbed::manifests::prefixed;

/// Value that must not appear anywhere.
const CANARY: &str = "canary-7f3a-value";

/// Both forms of a request for `db-creds`.
fn asking() -> Value {
    prefixed(&json!({"env-from": "db-creds", "env.KEY": "db-creds/k"}))
}
