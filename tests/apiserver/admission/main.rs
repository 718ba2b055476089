//! Our own binary under the shipped rights, registered as it is shipped, on a real API server with real controllers
//! and the real kubectl. One control plane and one webhook for all of these tests.

#![expect(
    clippy::indexing_slicing,
    reason = "a helper of a test fails as the test does"
)]
#![expect(
    clippy::too_many_lines,
    reason = "a table of cases is read from top to bottom"
)]

mod defaults;
mod entries;
mod manifests;
mod neighbours;
mod refusals;
mod reviews;
mod told;

use serde_json::{Value, json};
use testbed::served::prefixed;

/// A value that must not be seen anywhere on the way.
const CANARY: &str = "canary-7f3a-value";

/// Both ways to ask for `db-creds`.
fn asking() -> Value {
    prefixed(&json!({"env-from": "db-creds", "env.KEY": "db-creds/k"}))
}
