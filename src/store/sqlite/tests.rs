//! Tests of the store in a file.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rstest::rstest;
use rusqlite::Connection;
use tempfile::TempDir;

mod faults;

use super::schema::{MIGRATIONS, migrate};
use super::*;
use crate::audit::asked_by::Requester;
use crate::audit::record::{Action, ObjectFields, OwnerFields, Record, RecordOutcome};
use crate::audit::stored::StoredLine;
use crate::audit::text::Text;
use crate::store::conformance::{
    StoreFixture, Trail, exported, fill, query, second, start, stored, target,
};
use crate::store::{AskedBy, MAX_PAGE, QueryArguments, SecretFilter, TargetAttribution};

fn settings(folder: &TempDir) -> SqliteSettings {
    SqliteSettings {
        create: true,
        ..SqliteSettings::new(folder.path().join("audit.db"))
    }
}

fn opened(settings: &SqliteSettings) -> SqliteStore {
    SqliteStore::open(settings).unwrap()
}

fn fixture() -> std::future::Ready<StoreFixture> {
    let folder = tempfile::tempdir().unwrap();
    std::future::ready(StoreFixture {
        store: Arc::new(opened(&settings(&folder))),
        guard: Box::new(folder),
    })
}

crate::audit_store_conformance!(conformance, fixture());

/// Store of an earlier schema with two lines, updated.
fn updated() -> std::future::Ready<StoreFixture> {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let mut connection = Connection::open(&settings.path).unwrap();
    migrate(&mut connection, 0, 1).unwrap();
    drop(connection);
    std::future::ready(StoreFixture {
        store: Arc::new(opened(&settings)),
        guard: Box::new(folder),
    })
}

crate::audit_store_conformance!(updated_conformance, updated());

#[tokio::test]
async fn store_is_the_same_after_it_was_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let mut trail = Trail::new("a");
    let mut lines = fill(&opened(&settings), &mut trail, 3).await;
    let settings = SqliteSettings::new(settings.path);
    // A store that is closed is one file.
    assert!(!folder.path().join("audit.db-wal").exists());
    let store = opened(&settings);
    lines.extend(fill(&store, &mut trail, 1).await);
    assert_eq!(exported(&store, start(), second(9)).await, lines);
}

#[tokio::test]
async fn durable_lines_are_in_a_copy_of_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&settings(&folder));
    let lines = fill(&store, &mut Trail::new("a"), 3).await;
    let copy = tempfile::tempdir().unwrap();
    for file in ["audit.db", "audit.db-wal"] {
        fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
    }
    let copy = opened(&settings(&copy));
    assert_eq!(exported(&copy, start(), second(9)).await, lines);
}

#[tokio::test]
async fn second_writer_is_kept_out_and_a_reader_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(&folder);
    settings.holder = "admin of the pod floe-0".to_owned();
    let store = opened(&settings);
    let error = SqliteStore::open(&settings).unwrap_err().to_string();
    let process = format!("admin of the pod floe-0 (process {})", std::process::id());
    assert!(
        error.contains(&process) && error.contains("stop that process"),
        "{error}"
    );
    let reader = SqliteStore::open_read_only(&settings).unwrap();
    let mut trail = Trail::new("a");
    fill(&store, &mut trail, 2).await;
    assert_eq!(stored(&reader).await.len(), 2);
    let append = reader.append(trail.batch(&trail.clone().lines(1))).await;
    assert!(matches!(
        append,
        Err(AppendError::Store(StoreError::ReadOnly { .. }))
    ));
    drop(store);
    assert!(SqliteStore::open(&settings).is_ok());
}

#[test]
fn absent_store_is_not_created_unless_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let settings = SqliteSettings::new(folder.path().join("audit.db"));
    let not_found = |result: Result<SqliteStore, StoreError>| {
        assert!(
            matches!(result, Err(StoreError::NotFound { .. })),
            "{result:?}"
        );
    };
    not_found(SqliteStore::open(&settings));
    not_found(SqliteStore::open_read_only(&settings));
    let below = SqliteSettings {
        create: true,
        ..SqliteSettings::new(folder.path().join("no/audit.db"))
    };
    not_found(SqliteStore::open(&below));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

fn foreign_database(path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("CREATE TABLE t (x)").unwrap();
}

fn other_application(path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "application_id", 7).unwrap();
}

fn newer_schema(path: &Path) {
    let mut connection = Connection::open(path).unwrap();
    migrate(&mut connection, 0, SCHEMA_VERSION).unwrap();
    connection
        .pragma_update(None, "user_version", SCHEMA_VERSION + 1)
        .unwrap();
}

fn store_with_lines(path: &Path) {
    let mut connection = Connection::open(path).unwrap();
    migrate(&mut connection, 0, SCHEMA_VERSION).unwrap();
}

fn truncated(path: &Path) {
    store_with_lines(path);
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

fn overwritten(path: &Path) {
    store_with_lines(path);
    let mut bytes = fs::read(path).unwrap();
    // The first page has the schema.
    bytes[100..4_096].fill(0xa5);
    fs::write(path, bytes).unwrap();
}

fn without_a_table(path: &Path) {
    store_with_lines(path);
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("DROP TABLE event_secret").unwrap();
}

fn text(path: &Path) {
    fs::write(path, "x".repeat(5_000)).unwrap();
}

fn folder(path: &Path) {
    fs::create_dir(path).unwrap();
}

#[rstest]
#[case::foreign_database(foreign_database, "of another program")]
#[case::other_application(other_application, "of another program")]
#[case::text(text, "is not a store of the audit trail")]
#[case::folder(folder, "it is a folder")]
#[case::newer(newer_schema, "use the newer program")]
#[case::truncated(truncated, "is damaged")]
#[case::overwritten(overwritten, "is damaged")]
#[case::without_a_table(without_a_table, "\"event_secret\" is missing")]
fn other_content_is_left_as_it_is(#[case] make: fn(&Path), #[case] expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    make(&settings.path);
    let before = fs::read(&settings.path).ok();
    for result in [
        SqliteStore::open(&settings),
        SqliteStore::open_read_only(&settings),
    ] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(
        fs::read(&settings.path).ok() == before,
        "the file was changed"
    );
}

#[tokio::test]
async fn empty_file_and_empty_database_become_a_store() {
    let makes: [fn(&Path); 2] = [
        |path| fs::write(path, "").unwrap(),
        |path| {
            let connection = Connection::open(path).unwrap();
            connection
                .execute_batch("CREATE TABLE t (x); DROP TABLE t")
                .unwrap();
        },
    ];
    for make in makes {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        make(&settings.path);
        fill(&opened(&settings), &mut Trail::new("a"), 1).await;
        let connection = Connection::open(&settings.path).unwrap();
        let pragma = |name| -> String {
            let value = connection.pragma_query_value(None, name, |row| {
                row.get(0)
                    .map(|value: rusqlite::types::Value| format!("{value:?}"))
            });
            value.unwrap()
        };
        assert_eq!(pragma("auto_vacuum"), "Integer(2)");
        assert_eq!(pragma("journal_mode"), "Text(\"wal\")");
        assert_eq!(pragma("user_version"), format!("Integer({SCHEMA_VERSION})"));
    }
}

/// Content of a file's schema, however it was made.
fn schema_of(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection
        .prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY name")
        .unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

#[tokio::test]
async fn every_earlier_schema_is_updated_with_its_lines() {
    let newest = tempfile::tempdir().unwrap();
    drop(opened(&settings(&newest)));
    let expected = schema_of(&settings(&newest).path);
    let folder = tempfile::tempdir().unwrap();
    let appended = settings(&folder);
    let batch = Trail::new("a").batch(&lines_with_derived_rows());
    opened(&appended).append(batch).await.unwrap();
    assert_eq!(derived_rows(&appended.path).len(), 14);
    for version in 1..SCHEMA_VERSION {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        let lines = lines_with_derived_rows();
        let mut connection = Connection::open(&settings.path).unwrap();
        migrate(&mut connection, 0, version).unwrap();
        insert_as_of(version, &connection, &lines);
        drop(connection);
        let error = SqliteStore::open_read_only(&settings).unwrap_err();
        assert!(matches!(error, StoreError::Older { found, .. } if found == version));
        let store = opened(&settings);
        assert_eq!(exported(&store, start(), second(99)).await, lines);
        drop(store);
        assert_eq!(schema_of(&settings.path), expected);
        assert_eq!(derived_rows(&settings.path), derived_rows(&appended.path));
    }
    assert_eq!(
        MIGRATIONS.len(),
        5,
        "a new migration needs rows of the schema before it"
    );
}

/// Lines with all that the schema has of authors and passes.
fn lines_with_derived_rows() -> Vec<String> {
    let mut trail = Trail::new("a");
    let usual = trail.record();
    let owned = |mut record: Record| {
        record.object.as_mut().unwrap().owner = Some(OwnerFields {
            kind: Text::new("Job"),
            ..OwnerFields::default()
        });
        record
    };
    let author = |action: Action, kind: &str, name: &str, namespace: &str| {
        let mut record = usual.clone();
        record.action = action;
        record.object = Some(ObjectFields {
            kind: Text::new(kind),
            name: Text::new(name),
            namespace: Text::new(namespace),
            generate_name: Text::new("etl-"),
            ..ObjectFields::default()
        });
        record
    };
    let mut default = usual.clone();
    default.targets[0].origin = "serviceaccount";
    let mut without_targets = owned(usual.clone());
    without_targets.targets.clear();
    let mut refused = owned(author(Action::AdmitWorkload, "Deployment", "api", "jobs"));
    refused.outcome = RecordOutcome::Denied;
    let records = [
        usual.clone(),
        owned(usual.clone()),
        default,
        without_targets,
        refused,
        author(Action::AdmitWorkload, "Deployment", "api", "jobs"),
        owned(author(Action::AdmitWorkload, "Job", "", "jobs")),
        author(Action::AdmitDefaults, "Namespace", "web", ""),
        author(Action::AdmitDefaults, "ServiceAccount", "dbt", "jobs"),
        author(Action::AdmitWorkload, "Deployment", "api", ""),
    ];
    let mut lines: Vec<String> = records.map(|record| trail.line_of(record)).into();
    lines.extend(passes(&mut trail));
    // Fields of a newer program in another form.
    let newer = owned(author(Action::AdmitWorkload, "Deployment", "api", "jobs"));
    let newer = trail.line_of(newer);
    lines.push(
        newer
            .replace(r#""kind":"Deployment""#, r#""kind":["Deployment"]"#)
            .replace(r#""targets":[{"#, r#""targets":["x",{"#),
    );
    lines
}

/// A use, four pods with its annotation, and a forged annotation.
fn passes(trail: &mut Trail) -> Vec<String> {
    let uid = "705ab4f5-6393-11e8-b7cc-42010a800002";
    let pass = |uid: &str, found: &str, milliseconds: i64| {
        let mut record = trail.record();
        let request = record.request.as_mut().unwrap();
        (request.admission_uid, request.found_event) = (Text::new(uid), Text::new(found));
        record.time = start() + jiff::SignedDuration::from_millis(milliseconds);
        record
    };
    let mut refused = pass("b", uid, 1);
    refused.outcome = RecordOutcome::Denied;
    let mut other = pass("c", uid, 2);
    other.targets[0].origin = "namespace";
    let records = [
        pass(uid, "", 0),
        refused,
        other,
        pass("d", uid, 4),
        pass("e", uid, 3),
        pass("f", &uid.to_uppercase(), 3),
    ];
    records.map(|record| trail.line_of(record)).into()
}

/// Stores lines as an earlier schema has them.
fn insert_as_of(version: u32, connection: &Connection, lines: &[String]) {
    let mut names = names::Names::new(connection).unwrap();
    for line in lines {
        let line = StoredLine::parse(line.as_bytes()).unwrap();
        let chain = append::extend_chain(connection, &line, 1).unwrap();
        let sql = "INSERT INTO event (id, chain, seq, time, provenance, class, action, outcome, actor, actor_uid,
            namespace, request_uid, line) VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
        let time = crate::store::query::nanoseconds(line.time);
        let values = rusqlite::params![
            names::compact_id(&line.id),
            chain,
            line.seq,
            time,
            line.class,
            line.action,
            line.outcome,
            names.name(&line.actor).unwrap(),
            names.name(&line.actor_uid).unwrap(),
            names.name(&line.namespace).unwrap(),
            names::compact_id(&line.request_uid),
            line.json
        ];
        connection.execute(sql, values).unwrap();
        let position = connection.last_insert_rowid();
        if version >= 3 {
            let mut author = author::AuthorRows::inserting(connection).unwrap();
            author.execute(&line, position).unwrap();
        }
        if version >= 4 {
            let mut passes = second_pass::SecondPasses::new(connection).unwrap();
            passes.insert(&line, position).unwrap();
        }
    }
}

/// Rows about authors and passes.
fn derived_rows(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT namespace || '/' || kind || '/' || name || ' ' || time || ' ' || position FROM event_object
        UNION ALL SELECT 'unattributed ' || position FROM unattributed
        UNION ALL SELECT 'found ' || quote(request_uid) || ' ' || time || ' ' || position FROM found_event
        UNION ALL SELECT 'second pass ' || position || ' of ' || first_position FROM second_pass ORDER BY 1";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

#[rstest]
#[case(attribution::UNATTRIBUTED, "u USING INTEGER PRIMARY KEY (rowid>?)")]
#[case(
    attribution::OBJECT_RECORDS,
    "o USING PRIMARY KEY (namespace=? AND kind=? AND name=? AND time>? AND time<?)"
)]
#[case(attribution::ATTRIBUTION, "a USING PRIMARY KEY (position=?)")]
#[case(
    second_pass::FIRST_PASSES,
    "e USING INDEX event_request_uid (request_uid=?)"
)]
#[case(
    second_pass::SECOND_PASSES,
    "f USING PRIMARY KEY (request_uid=? AND time>? AND time<?)"
)]
#[case(
    attribution::IS_UNATTRIBUTED,
    "unattributed USING INTEGER PRIMARY KEY (rowid=?)"
)]
fn nothing_derived_reads_a_whole_table(#[case] sql: &str, #[case] index: &str) {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    drop(opened(&settings));
    let connection = Connection::open(&settings.path).unwrap();
    let sql = format!("EXPLAIN QUERY PLAN {sql}");
    let mut statement = connection.prepare(&sql).unwrap();
    let mut rows = statement.raw_query();
    let mut plan = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        plan.push(row.get::<_, String>(3).unwrap());
    }
    let plan = plan.join("; ");
    assert!(plan.contains(index), "{plan}");
    assert!(!plan.contains("SCAN") && !plan.contains("TEMP"), "{plan}");
}

#[tokio::test]
async fn full_store_keeps_what_it_has_and_goes_on_after_deletion() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(&folder);
    settings.max_bytes = Some(1 << 20);
    let store = opened(&settings);
    let mut trail = Trail::new("a");
    let mut durable = 0;
    let refused = loop {
        let lines = trail.lines(20);
        match store.append(trail.batch(&lines)).await {
            Ok(appended) => durable = appended.durable,
            Err(error) => break (lines, error),
        }
        assert!(durable < 2_000, "the store is not limited");
    };
    let AppendError::Store(StoreError::Full { bytes, .. }) = &refused.1 else {
        panic!("{:?}", refused.1)
    };
    assert!((900_000..=1 << 20).contains(bytes), "{bytes}");
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.lines, counts.max_bytes), (durable, Some(1 << 20)));
    let rule = RetentionRule {
        older_than: second(200),
        min_age: Timestamp::MAX,
        max_bytes: None,
    };
    let plan = store.plan_retention(rule).await.unwrap();
    assert_eq!(store.retain(plan).await, Ok(200));
    // Pages that became free are returned.
    let after = settings.path.metadata().unwrap().len();
    assert!(after + (100 << 10) < *bytes, "{after}");
    let appended = store.append(trail.batch(&refused.0)).await.unwrap();
    assert_eq!(appended.durable, durable + 20);
}

#[tokio::test]
async fn full_store_takes_announcements_of_deletions() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(&folder);
    settings.max_bytes = Some(512 << 10);
    let store = opened(&settings);
    let (mut trail, mut own) = (Trail::new("a"), Trail::new("own"));
    while store
        .append(trail.batch(&trail.clone().lines(5)))
        .await
        .is_ok()
    {
        trail.lines(5);
    }
    // More than a page of each index, and less than the bytes that are reserved.
    for _ in 0..20 {
        let lines = own.lines(50);
        store.append(own.batch(&lines).reserved()).await.unwrap();
    }
    let counts = store.counts().await.unwrap();
    assert!(counts.bytes > 1 << 20, "{counts:?}");
    let lines = trail.clone().lines(50);
    let refused = store.append(trail.batch(&lines)).await.unwrap_err();
    assert!(
        matches!(refused, AppendError::Store(StoreError::Full { .. })),
        "{refused}"
    );
}

#[tokio::test]
async fn reserve_is_given_up_by_a_full_store_and_restored_after_deletion() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(&folder);
    (settings.max_bytes, settings.reserve) = (Some(512 << 10), true);
    let store = opened(&settings);
    let reserve = || {
        let file = folder.path().join("audit.db.reserve");
        file.metadata().map_or(0, |file| file.len())
    };
    let mut trail = Trail::new("a");
    let lines = trail.lines(1_000);
    assert!(store.append(trail.batch(&lines)).await.is_err());
    assert_eq!(reserve(), 0);
    assert_eq!(store.retain(RetentionPlan::default()).await, Ok(0));
    assert_eq!(reserve(), reserve::RESERVE_BYTES);
}

#[tokio::test]
async fn names_are_deleted_with_the_last_line_that_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let store = opened(&settings);
    let mut trail = Trail::new("a");
    fill(&store, &mut trail, 3).await;
    let mut record = trail.record();
    record.actor.as_mut().unwrap().username = Text::new("bob");
    record.targets = vec![target("cache")];
    let other = trail.line_of(record);
    store.append(trail.batch(&[other])).await.unwrap();
    let names = || {
        let connection = Connection::open(&settings.path).unwrap();
        let sql =
            "SELECT group_concat(text) FROM (SELECT text FROM name UNION SELECT name FROM secret)";
        connection
            .query_row(sql, [], |row| row.get::<_, String>(0))
            .unwrap()
    };
    assert_eq!(names(), "alice,bob,cache,db,jobs,uid-alice");
    let rule = |seconds| RetentionRule {
        older_than: second(seconds),
        min_age: Timestamp::MAX,
        max_bytes: None,
    };
    let plan = store.plan_retention(rule(2)).await.unwrap();
    assert_eq!(store.retain(plan).await, Ok(2));
    assert_eq!(names(), "alice,bob,cache,db,jobs,uid-alice");
    let plan = store.plan_retention(rule(3)).await.unwrap();
    assert_eq!(store.retain(plan).await, Ok(1));
    assert_eq!(names(), "bob,cache,jobs,uid-alice");
}

#[tokio::test]
async fn wal_begins_again_while_lines_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&settings(&folder));
    let wal = folder.path().join("audit.db-wal");
    let mut trail = Trail::new("a");
    let mut longest = 0;
    // About 60 MiB of pages.
    for _ in 0..600 {
        fill(&store, &mut trail, 5).await;
        longest = longest.max(wal.metadata().unwrap().len());
    }
    assert!((8 << 20..32 << 20).contains(&longest), "{longest}");
}

#[tokio::test]
async fn queries_are_stopped_at_the_limit_of_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(&folder);
    fill(&opened(&settings), &mut Trail::new("a"), 1_500).await;
    settings.query_timeout = Duration::ZERO;
    let store = SqliteStore::open_read_only(&settings).unwrap();
    let error = store
        .query(&query(EventFilter::default()))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("took longer than 0 s: narrow"),
        "{error}"
    );
    // The connection is replaced: a short query works.
    for _ in 0..=READERS {
        assert!(store.counts().await.is_ok());
    }
}

/// Plans of all queries, with and without a cursor.
fn plans(connection: &Connection, filter: &EventFilter) -> Vec<String> {
    let arguments = QueryArguments {
        filter: filter.clone(),
        from: Some(start()),
        ..QueryArguments::default()
    };
    let first = EventQuery::new(arguments, start()).unwrap();
    let mut next = first.clone();
    next.before = Some((7, 7));
    let index = query_index::indexes(filter)[0];
    [
        select::page(&first, index),
        select::page(&next, index),
        select::follow(filter, (3, 9), MAX_PAGE),
    ]
    .map(|select| plan_of(connection, &select))
    .into()
}

fn plan_of(connection: &Connection, select: &select::Select) -> String {
    let sql = format!("EXPLAIN QUERY PLAN {}", select.sql);
    let mut statement = connection.prepare(&sql).unwrap();
    let values = rusqlite::params_from_iter(&select.values);
    let rows = statement.query_map(values, |row| row.get::<_, String>(3));
    let rows = rows.unwrap().collect::<rusqlite::Result<Vec<_>>>();
    rows.unwrap().join("; ")
}

/// Field of a filter, and the index that finds its events.
#[rstest]
#[case("", "event_time (time>")]
#[case("secret", "PRIMARY KEY (secret=? AND time>")]
#[case("secret actor", "PRIMARY KEY (secret=? AND time>")]
#[case("actor namespace", "event_actor (actor=? AND time>")]
#[case("actor_uid", "event_actor_uid (actor_uid=? AND time>")]
#[case("namespace", "event_namespace (namespace=? AND time>")]
#[case("action", "event_rare_action (action=? AND time>")]
#[case("class", "event_rare_class (class=? AND time>")]
#[case("usual_action usual_class", "event_time (time>")]
#[case("refusal", "event_refused (outcome=? AND time>")]
#[case("success", "event_time (time>")]
#[case("second_passes", "event_time (time>")]
#[case("chain", "event_chain_time (chain=? AND time>")]
#[case("id secret", "event_id (id=?)")]
#[case("request_uid", "event_request_uid (request_uid=?)")]
fn no_query_reads_a_whole_table(#[case] fields: &str, #[case] index: &str) {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    drop(opened(&settings));
    let connection = Connection::open(&settings.path).unwrap();
    let has = |field: &str| fields.split(' ').any(|name| name == field);
    let text = |field: &str| has(field).then(|| "x".to_owned());
    let usual = |field: &str, word: &str| has(field).then(|| word.to_owned());
    let filter = EventFilter {
        secret: has("secret").then(|| SecretFilter {
            namespace: "jobs".to_owned(),
            name: "db".to_owned(),
        }),
        namespace: text("namespace"),
        actor: text("actor"),
        actor_uid: text("actor_uid"),
        action: text("action").or(usual("usual_action", "pod.admit")),
        outcome: text("refusal").or(usual("success", "success")),
        class: text("class").or(usual("usual_class", "injection")),
        chain: text("chain"),
        id: text("id"),
        request_uid: text("request_uid"),
        second_passes: has("second_passes"),
    };
    let plans = plans(&connection, &filter);
    for plan in &plans {
        assert!(!plan.contains("SCAN"), "{plan}");
    }
    for plan in &plans[..2] {
        assert!(plan.contains(index), "{plan}");
        let sorts = plan.contains("TEMP B-TREE");
        assert_eq!(sorts, filter.names_a_record(), "{plan}");
    }
    assert!(
        plans[2].contains("USING INTEGER PRIMARY KEY (rowid>"),
        "{}",
        plans[2]
    );
}

#[test]
fn docs_contain_the_limit_of_counted_entries() {
    let docs = include_str!("../../../docs/AUDIT.md");
    let row = format!(
        "| Entries of an index that a query counts | {} |",
        read::MAX_COUNTED
    );
    assert!(docs.contains(&row), "docs/AUDIT.md lacks {row}");
}

/// Each index that a filter may have is counted by itself, without a line.
#[test]
fn entries_of_indexes_are_counted_without_lines() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    drop(opened(&settings));
    let connection = Connection::open(&settings.path).unwrap();
    let text = || Some("x".to_owned());
    let filter = EventFilter {
        secret: Some(SecretFilter {
            namespace: "jobs".to_owned(),
            name: "db".to_owned(),
        }),
        namespace: text(),
        actor: text(),
        actor_uid: text(),
        action: text(),
        outcome: text(),
        class: text(),
        chain: text(),
        ..EventFilter::default()
    };
    let indexes = query_index::indexes(&filter);
    assert_eq!(indexes.len(), 8);
    for index in indexes {
        let counted = select::count(&query(filter.clone()), index, 9);
        let plan = plan_of(&connection, &counted);
        let index = match index.name() {
            Some(index) => format!("USING COVERING INDEX {index} ("),
            None => "SEARCH s USING PRIMARY KEY (secret=? AND time>".to_owned(),
        };
        assert!(plan.contains(&index), "{plan}");
    }
}

/// Lines of a secret's events are read only if the other indexes have the events.
#[test]
fn events_of_a_secret_are_compared_by_indexes() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    drop(opened(&settings));
    let connection = Connection::open(&settings.path).unwrap();
    let filter = EventFilter {
        secret: Some(SecretFilter {
            namespace: "jobs".to_owned(),
            name: "db".to_owned(),
        }),
        outcome: Some("denied".to_owned()),
        actor: Some("alice".to_owned()),
        ..EventFilter::default()
    };
    let page = select::page(&query(filter), query_index::QueryIndex::Secret);
    let plan = plan_of(&connection, &page);
    for index in [
        "COVERING INDEX event_actor (actor=? AND time=? AND rowid=?)",
        "COVERING INDEX event_refused (outcome=? AND time=? AND rowid=?)",
    ] {
        let at = plan.find(index).unwrap_or_else(|| panic!("{plan}"));
        assert!(
            at < plan.find("SEARCH e USING INTEGER PRIMARY KEY").unwrap(),
            "{plan}"
        );
    }
}

#[tokio::test]
async fn shortest_index_drives_a_query() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let store = opened(&settings);
    let mut trail = Trail::new("a");
    fill(&store, &mut trail, 20).await;
    let mut record = trail.record();
    record.object.as_mut().unwrap().namespace = Text::new("web");
    record.targets = vec![target("cache")];
    let line = trail.line_of(record);
    store.append(trail.batch(&[line])).await.unwrap();
    let connection = Connection::open(&settings.path).unwrap();
    let index = |namespace: &str, secret: Option<&str>| {
        let filter = EventFilter {
            actor: Some("alice".to_owned()),
            namespace: Some(namespace.to_owned()),
            secret: secret.map(|name| SecretFilter {
                namespace: "jobs".to_owned(),
                name: name.to_owned(),
            }),
            ..EventFilter::default()
        };
        read::shortest_index(&connection, &query(filter)).unwrap()
    };
    assert_eq!(index("jobs", None), query_index::QueryIndex::Namespace);
    assert_eq!(index("web", Some("db")), query_index::QueryIndex::Namespace);
    assert_eq!(
        index("jobs", Some("cache")),
        query_index::QueryIndex::Secret
    );
    assert_eq!(
        index("absent", Some("absent")),
        query_index::QueryIndex::Secret
    );
}

#[tokio::test]
async fn attribution_of_all_targets_is_one_row() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let store = opened(&settings);
    let mut trail = Trail::new("a");
    let mut record = trail.record();
    record.object.as_mut().unwrap().owner = Some(OwnerFields::default());
    record.targets = vec![target("db"), target("cache"), target("mail")];
    let lines = [trail.line_of(record.clone()), trail.line_of(record)];
    store.append(trail.batch(&lines)).await.unwrap();
    let asked = |target: u32, name: &str| TargetAttribution {
        target,
        asked_by: AskedBy::Requester {
            requester: Requester {
                username: name.to_owned(),
                uid: String::new(),
            },
            source: LinePosition(1),
        },
    };
    let targets = [
        vec![asked(0, "alice"), asked(1, "alice"), asked(2, "alice")],
        vec![asked(0, "alice"), asked(1, "bob"), asked(2, "alice")],
    ];
    let record = |(position, targets): (u64, &Vec<TargetAttribution>)| AttributedRecord {
        position: LinePosition(position),
        targets: targets.clone(),
        is_final: true,
    };
    let records = (1..).zip(&targets).map(record).collect();
    store.attribute(records, start()).await.unwrap();
    let read = store.attributions(&[LinePosition(1), LinePosition(2)]);
    let read: Vec<_> = read
        .await
        .unwrap()
        .into_iter()
        .map(|record| record.targets)
        .collect();
    assert_eq!(read, targets);
    let connection = Connection::open(&settings.path).unwrap();
    let sql = "SELECT group_concat(position || ':' || target) FROM attribution";
    let rows: String = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(rows, "1:-3,2:0,2:1,2:2");
}
