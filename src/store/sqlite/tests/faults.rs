//! Faults of volumes and of processes. A test runs its own executable again, in a namespace with a small volume or as a
//! process that is killed.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jiff::Timestamp;

use super::{SqliteSettings, SqliteStore, opened};
use crate::audit::verify::{VerifyOptions, verify};
use crate::store::conformance::{Trail, exported, fill, second, start};
use crate::store::sqlite::reserve::RESERVE_BYTES;
use crate::store::{AppendError, AuditStore, RetentionPlan, RetentionRule, StoreError};

/// Folder of the volume, or of the store of a process that is killed.
const FOLDER: &str = "FLOE_SECRETS_TEST_FOLDER";

/// Bytes of a volume: twice the reserve, and little more.
const VOLUME_BYTES: u64 = 36 << 20;

/// Folder of a process that a test has started, which is none in the test itself.
#[expect(
    clippy::disallowed_methods,
    reason = "arguments of the executable are those of the test harness"
)]
fn folder_of_process() -> Option<PathBuf> {
    env::var_os(FOLDER).map(PathBuf::from)
}

/// Runs the test again in a mount namespace with a volume of its own, or returns the volume there.
fn volume(test: &str) -> Option<PathBuf> {
    if let Some(folder) = folder_of_process() {
        return Some(folder);
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size={VOLUME_BYTES} none \"${FOLDER}\" && exec \"$@\"");
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private"]);
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["sh", "-c", &mount, "sh"]);
    let status = again(
        unshare.arg(env::current_exe().unwrap()),
        test,
        folder.path(),
    );
    assert!(status.status().unwrap().success());
    None
}

/// Arguments of this executable for one test of this file.
fn again<'c>(command: &'c mut Command, test: &str, folder: &Path) -> &'c mut Command {
    let module = module_path!().split_once("::").unwrap().1;
    let test = format!("{module}::{test}");
    let arguments = ["--exact", &test, "--nocapture"];
    command.args(arguments).env(FOLDER, folder)
}

fn remount(volume: &Path, options: &str) {
    let options = format!("remount,{options}");
    let mut mount = Command::new("mount");
    let mounted = mount.args(["-o", &options]).arg(volume).status().unwrap();
    assert!(mounted.success(), "{options}");
}

fn settings_on(volume: &Path) -> SqliteSettings {
    SqliteSettings {
        create: true,
        reserve: true,
        ..SqliteSettings::new(volume.join("audit.db"))
    }
}

fn reserve(volume: &Path) -> u64 {
    let file = volume.join("audit.db.reserve").metadata();
    file.map_or(0, |file| file.len())
}

/// Stores lines until the volume is full. Returns all lines that are durable, and those that were refused.
async fn fill_volume(store: &SqliteStore, trail: &mut Trail) -> (Vec<String>, Vec<String>) {
    let mut durable = Vec::new();
    loop {
        let lines = trail.lines(200);
        match store.append(trail.batch(&lines)).await {
            Ok(_) => durable.extend(lines),
            Err(AppendError::Store(StoreError::Full { .. })) => return (durable, lines),
            Err(other) => panic!("{other}"),
        }
        assert!(durable.len() < 20_000, "the volume does not become full");
    }
}

async fn all(store: &dyn AuditStore) -> Vec<String> {
    exported(store, start(), second(1_000_000)).await
}

#[tokio::test]
async fn full_volume_keeps_its_lines_and_takes_more_after_it_has_grown() {
    let test = "full_volume_keeps_its_lines_and_takes_more_after_it_has_grown";
    let Some(volume) = volume(test) else { return };
    let store = opened(&settings_on(&volume));
    assert_eq!(reserve(&volume), RESERVE_BYTES);
    fs::write(volume.join("other"), vec![1; 14 << 20]).unwrap();
    let mut trail = Trail::new("a");
    let (mut lines, refused) = fill_volume(&store, &mut trail).await;
    assert_eq!(reserve(&volume), 0);
    assert_eq!(all(&store).await, lines);
    // The room of the reserve is used, too, if nothing is deleted meanwhile.
    fs::write(volume.join("more"), vec![1; 8 << 20]).unwrap();
    store.append(trail.batch(&refused)).await.unwrap();
    lines.extend(refused);
    let (more, refused) = fill_volume(&store, &mut trail).await;
    lines.extend(more);
    assert_eq!(store.retain(RetentionPlan::default()).await, Ok(0));
    assert_eq!(reserve(&volume), 0);
    assert_eq!(store.counts().await.unwrap().lines, lines.len() as u64);
    remount(&volume, "size=96M");
    store.append(trail.batch(&refused)).await.unwrap();
    lines.extend(refused);
    lines.extend(fill(&store, &mut trail, 5).await);
    assert_eq!(store.retain(RetentionPlan::default()).await, Ok(0));
    assert_eq!(reserve(&volume), RESERVE_BYTES);
    assert_eq!(all(&store).await, lines);
    drop(store);
    assert_eq!(all(&opened(&settings_on(&volume))).await, lines);
}

#[tokio::test]
async fn full_volume_is_relieved_by_deletion() {
    let Some(volume) = volume("full_volume_is_relieved_by_deletion") else {
        return;
    };
    let store = opened(&settings_on(&volume));
    fs::write(volume.join("other"), vec![1; 14 << 20]).unwrap();
    let mut trail = Trail::new("a");
    let (lines, refused) = fill_volume(&store, &mut trail).await;
    let half = lines.len() / 2;
    let rule = RetentionRule {
        older_than: second(i64::try_from(half).unwrap()),
        min_age: Timestamp::MAX,
        max_bytes: None,
    };
    let plan = store.plan_retention(rule).await.unwrap();
    assert_eq!(store.retain(plan).await, Ok(half as u64));
    store.append(trail.batch(&refused)).await.unwrap();
    let kept = [&lines[half..], &refused].concat();
    assert_eq!(all(&store).await, kept);
}

#[tokio::test]
async fn read_only_volume_is_read_and_not_written() {
    let Some(volume) = volume("read_only_volume_is_read_and_not_written") else {
        return;
    };
    let mut trail = Trail::new("a");
    let settings = settings_on(&volume);
    let mut lines = fill(&opened(&settings), &mut trail, 10).await;
    remount(&volume, "ro");
    let error = SqliteStore::open(&settings).unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
    let reader = SqliteStore::open_read_only(&settings).unwrap();
    assert_eq!(all(&reader).await, lines);
    drop(reader);
    remount(&volume, "rw");
    let store = opened(&settings);
    lines.extend(fill(&store, &mut trail, 1).await);
    assert_eq!(all(&store).await, lines);
}

/// Times that the process is killed.
const KILLS: usize = 8;

/// Stores lines of two chains, and reports each commit, until it is killed.
async fn store_until_killed(folder: &Path) {
    let store = opened(&settings_on(folder));
    let pod = format!("pod-{}", std::process::id());
    let write = |number: usize| {
        let (store, pod) = (&store, &pod);
        async move {
            let mut trail = Trail::new(&format!("{pod}-{number}"));
            loop {
                fill(store, &mut trail, 5).await;
                println!("durable {} {}", trail.id(), trail.tip().seq);
            }
        }
    };
    futures::future::join(write(0), write(1)).await;
}

#[tokio::test]
async fn durable_lines_of_a_killed_process_are_stored() {
    if let Some(folder) = folder_of_process() {
        return store_until_killed(&folder).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut durable = std::collections::BTreeMap::new();
    for _ in 0..KILLS {
        let mut command = Command::new(env::current_exe().unwrap());
        let test = "durable_lines_of_a_killed_process_are_stored";
        let command = again(&mut command, test, folder.path());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        // Enough for several checkpoints.
        let mut rest = fastrand::usize(1..200);
        for line in output.lines() {
            let line = line.unwrap();
            let Some((_, reported)) = line.split_once("durable ") else {
                continue;
            };
            let (chain, seq) = reported.split_once(' ').unwrap();
            durable.insert(chain.to_owned(), seq.parse::<u64>().unwrap());
            rest = rest.saturating_sub(1);
            if rest == 0 {
                // Lines that it reported before its end are read, too.
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success());
    }
    assert_eq!(durable.len(), 2 * KILLS);
    let store = opened(&settings_on(folder.path()));
    let chains = store.chains().await.unwrap();
    for (chain, seq) in durable {
        let found = chains
            .iter()
            .find(|found| found.tip.chain.as_str() == chain);
        assert!(found.unwrap().tip.seq >= seq, "{chain}");
    }
    let report = verify(&all(&store).await, VerifyOptions::default());
    let mut findings = report.findings.iter();
    assert!(
        findings.all(|finding| !finding.kind.is_damage()),
        "{report:?}"
    );
}
