//! The store of the audit trail with as many rows as its default size holds: bytes of a row, times of queries, times of
//! appends while retention deletes, and the memory of `admin`.
//!
//! `AUDIT_SCALE_ROWS` is another number of rows, and `AUDIT_SCALE_FOLDER` a folder for the store.

#![cfg(feature = "test-util")]

mod admin;
mod ingest;
mod queries;
mod records;
mod report;
mod run;
mod store;

use testbed::control_plane::ControlPlane;
use testbed::print_line;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_leaves_young_lines_and_an_intact_trail() {
    run::check_small_store().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes 15 minutes, 6 GB of disk and a machine without other work: make audit-scale"]
async fn full_store_keeps_its_promises() {
    let (folder, _guard) = run::folder();
    let full = folder.join("audit.db");
    let mut broken = run::measure_store(&full).await;
    let cp = ControlPlane::shared().await;
    broken.extend(admin::measure(cp, &folder.join("empty.db"), "an empty store").await);
    broken.extend(admin::measure(cp, &full, "a full store").await);
    assert!(broken.is_empty(), "not kept: {broken:#?}");
}
