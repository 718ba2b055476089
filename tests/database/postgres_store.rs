//! The store of the audit trail in a real PostgreSQL: its contract, what it finds at its start, and what happens when the
//! server is killed, restarted, or replaced by an empty one.

use std::sync::Arc;
use std::time::Duration;

use floe_secrets_webhook::audit_store_conformance;
use floe_secrets_webhook::store::conformance::{StoreFixture, Trail, second, start};
use floe_secrets_webhook::store::postgres::{
    PostgresAddress, PostgresSettings, PostgresStore, SCHEMA_VERSION,
};
use floe_secrets_webhook::store::{
    AppendError, AttributionStore as _, AuditStore, EventFilter, EventQuery, ExportRange,
    LinePosition, QueryArguments, RetentionRule, SecretFilter, StoreError,
};
use testbed::pki::Authority;
use testbed::postgres::{PASSWORD, Postgres};
use testbed::wait_for;
use tokio::sync::OnceCell;

/// Files of the schema, in the order of their numbers.
const MIGRATIONS: &[&str] = &[include_str!("../../migrations/audit/postgresql/0001.sql")];

/// One server for the tests that do not stop it.
async fn server() -> &'static Postgres {
    static SERVER: OnceCell<Postgres> = OnceCell::const_new();
    SERVER.get_or_init(new_server).await
}

async fn new_server() -> Postgres {
    Postgres::start(&Authority::new("database")).await
}

fn settings(server: &Postgres, database: &str) -> PostgresSettings {
    let address = PostgresAddress::parse(&server.url(database)).expect("a valid URL");
    PostgresSettings {
        password_file: Some(server.password_file()),
        ca_file: Some(server.ca_file()),
        create: true,
        ..PostgresSettings::new(address)
    }
}

async fn opened(settings: &PostgresSettings) -> PostgresStore {
    PostgresStore::open(settings.clone())
        .await
        .expect("a store")
}

/// Empty store in a database of its own.
async fn fixture() -> StoreFixture {
    let server = server().await;
    let store = opened(&settings(server, &server.database().await)).await;
    StoreFixture {
        store: Arc::new(store),
        guard: Box::new(()),
    }
}

audit_store_conformance!(conformance, fixture());

/// Stores the next lines of a trail, and returns them.
async fn fill(store: &dyn AuditStore, trail: &mut Trail, count: usize) -> Vec<String> {
    let lines = trail.lines(count);
    let appended = store.append(trail.batch(&lines)).await;
    appended.expect("the lines are stored");
    lines
}

async fn exported(store: &dyn AuditStore) -> Vec<String> {
    let range = ExportRange {
        from: start(),
        to: second(99_999),
    };
    let exported = store.export(range, LinePosition::default()).await;
    exported.expect("the store can be read").0
}

/// Names of all tables of a database that are not PostgreSQL's own.
async fn tables(server: &Postgres, database: &str) -> Vec<String> {
    let sql = "SELECT n.nspname || '.' || c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1";
    server.texts(database, sql).await
}

#[tokio::test]
async fn store_is_the_same_after_it_was_opened_again() {
    let server = server().await;
    let settings = settings(server, &server.database().await);
    let mut trail = Trail::new("a");
    let mut lines = fill(&opened(&settings).await, &mut trail, 3).await;
    let settings = PostgresSettings {
        create: false,
        ..settings
    };
    let store = opened(&settings).await;
    lines.extend(fill(&store, &mut trail, 1).await);
    let reader = PostgresStore::open_read_only(settings)
        .await
        .expect("a store");
    assert_eq!(exported(&reader).await, lines);
    let refused = reader.append(trail.batch(&trail.clone().lines(1))).await;
    assert!(
        matches!(
            refused,
            Err(AppendError::Store(StoreError::ReadOnly { .. }))
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn absent_store_is_not_created_unless_that_is_asked_for() {
    let server = server().await;
    let database = server.database().await;
    let settings = PostgresSettings {
        create: false,
        ..settings(server, &database)
    };
    for result in [
        PostgresStore::open(settings.clone()).await,
        PostgresStore::open_read_only(settings).await,
    ] {
        assert!(
            matches!(result, Err(StoreError::NotFound { .. })),
            "{result:?}"
        );
    }
    assert_eq!(tables(server, &database).await, [""; 0]);
}

/// Store of an earlier program, as its files of SQL make it.
async fn store_of_version(server: &Postgres, version: usize) -> String {
    let database = server.database().await;
    let mut sql =
        "CREATE SCHEMA floe_secrets_audit; SET search_path = floe_secrets_audit;".to_owned();
    for (number, migration) in (1..=version).zip(MIGRATIONS) {
        sql = format!("{sql}{migration}; UPDATE store SET version = {number};");
    }
    server.execute(&database, &sql).await;
    database
}

#[tokio::test]
async fn every_earlier_schema_is_updated() {
    let server = server().await;
    assert_eq!(u32::try_from(MIGRATIONS.len()), Ok(SCHEMA_VERSION));
    let columns = "SELECT table_name || '.' || column_name || ' ' || data_type FROM information_schema.columns
        WHERE table_schema = 'floe_secrets_audit' ORDER BY 1";
    let newest = server.database().await;
    drop(opened(&settings(server, &newest)).await);
    let expected = server.texts(&newest, columns).await;
    assert!(expected.len() > 40, "{expected:?}");
    for version in 1..=MIGRATIONS.len() {
        let database = store_of_version(server, version).await;
        let settings = settings(server, &database);
        if version < MIGRATIONS.len() {
            let error = PostgresStore::open_read_only(settings.clone()).await;
            assert!(matches!(error, Err(StoreError::Older { .. })), "{error:?}");
        }
        let store = opened(&settings).await;
        assert_eq!(server.texts(&database, columns).await, expected);
        let lines = fill(&store, &mut Trail::new("a"), 3).await;
        assert_eq!(exported(&store).await, lines);
    }
}

#[tokio::test]
async fn two_programs_create_one_store() {
    let server = server().await;
    let settings = settings(server, &server.database().await);
    let (a, b) = tokio::join!(opened(&settings), opened(&settings));
    fill(&a, &mut Trail::new("a"), 1).await;
    assert_eq!(exported(&b).await.len(), 1);
}

/// SQL that makes something else of a database, and a part of the error.
const OTHER_CONTENT: &[(&str, &str)] = &[
    (
        "DROP SCHEMA floe_secrets_audit CASCADE; CREATE SCHEMA floe_secrets_audit; CREATE TABLE floe_secrets_audit.t (x int)",
        "is of another program): name another one",
    ),
    (
        "UPDATE floe_secrets_audit.store SET version = 99",
        "has schema 99, and this program knows schemas up to",
    ),
    (
        "DROP TABLE floe_secrets_audit.event_secret",
        "\"event_secret\" is missing): keep a copy of it",
    ),
    (
        "DELETE FROM floe_secrets_audit.store",
        "it has no version of its schema",
    ),
    (
        "ALTER TABLE floe_secrets_audit.store DROP COLUMN version",
        "is damaged (42703",
    ),
];

#[tokio::test]
async fn other_content_is_left_as_it_is() {
    let server = server().await;
    for (sql, expected) in OTHER_CONTENT {
        let database = store_of_version(server, MIGRATIONS.len()).await;
        server.execute(&database, sql).await;
        let before = tables(server, &database).await;
        let settings = settings(server, &database);
        for result in [
            PostgresStore::open(settings.clone()).await,
            PostgresStore::open_read_only(settings).await,
        ] {
            let error = result.expect_err("no store").to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(tables(server, &database).await, before);
    }
}

#[tokio::test]
async fn tables_of_others_may_be_beside_the_store() {
    let server = server().await;
    let database = server.database().await;
    server
        .execute(
            &database,
            "CREATE TABLE event (x int); CREATE TABLE store (y int)",
        )
        .await;
    let store = opened(&settings(server, &database)).await;
    let lines = fill(&store, &mut Trail::new("a"), 2).await;
    assert_eq!(exported(&store).await, lines);
}

#[tokio::test]
async fn database_needs_utf8() {
    let server = server().await;
    let database = server.database().await;
    let latin = format!("{database}_latin");
    let sql = format!("CREATE DATABASE {latin} ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'");
    server.execute("postgres", &sql).await;
    let error = PostgresStore::open(settings(server, &latin)).await;
    let error = error.expect_err("no store").to_string();
    assert!(error.contains("its encoding is LATIN1"), "{error}");
}

#[tokio::test]
async fn problem_of_a_connection_is_named_without_the_password() {
    let server = server().await;
    let right = settings(server, &server.database().await);
    let folder = testbed::process::Folder::new();
    let wrong_password = folder.write("password", "canary-wrong");
    let other_ca = folder.write("ca.crt", Authority::new("other").pem());
    let with = |change: &dyn Fn(&mut PostgresSettings)| {
        let mut settings = right.clone();
        change(&mut settings);
        settings
    };
    let url = |text: &str| PostgresAddress::parse(text).expect("a valid URL");
    let port = server.port();
    let other_name = format!("postgres://floe@db.example:{port}/audit?hostaddr=127.0.0.1");
    let cases = [
        (
            with(&|settings| settings.password_file = Some(wrong_password.clone())),
            "password authentication failed",
        ),
        (
            with(&|settings| settings.password_file = None),
            "password missing",
        ),
        (
            with(&|settings| settings.password_file = Some(folder.path().join("no"))),
            "its password file",
        ),
        (
            with(&|settings| settings.ca_file = Some(other_ca.clone())),
            "invalid peer certificate",
        ),
        (
            with(&|settings| settings.ca_file = None),
            "set --store-ca-file",
        ),
        (
            with(&|settings| settings.ca_file = Some(wrong_password.clone())),
            "has no certificate",
        ),
        (
            with(&|settings| settings.address = url(&server.url("no_such"))),
            "\"no_such\" does not exist",
        ),
        (
            with(&|settings| settings.address = url("postgres://floe@localhost:1/audit")),
            "onnection refused",
        ),
        (
            // The certificate has other names.
            with(&|settings| settings.address = url(&other_name)),
            "certificate not valid for name",
        ),
    ];
    for (settings, expected) in cases {
        let error = PostgresStore::open(settings.clone()).await;
        let error = error.expect_err("no store");
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
        let text = format!("{error} {error:?} {settings:?}");
        assert!(text.contains(expected), "{text}");
        assert!(
            !text.contains("canary") && !text.contains(PASSWORD),
            "{text}"
        );
    }
}

#[tokio::test]
async fn two_writers_leave_no_gap_for_a_follower() {
    let server = server().await;
    let settings = settings(server, &server.database().await);
    let (first, second) = (opened(&settings).await, opened(&settings).await);
    let write = async |store: &PostgresStore, pod: &str| {
        let mut trail = Trail::new(pod);
        for _ in 0..40 {
            fill(store, &mut trail, 2).await;
        }
    };
    let follow = async {
        let (mut found, mut after) = (Vec::new(), LinePosition::default());
        while found.len() < 160 {
            let followed = first.follow(&EventFilter::default(), after).await;
            let followed = followed.expect("the store can be read");
            found.extend(followed.events.iter().map(|event| event.position.0));
            after = followed.position;
        }
        found
    };
    let (found, ..) = tokio::join!(follow, write(&first, "a"), write(&second, "b"));
    assert_eq!(found, (1..=160).collect::<Vec<_>>());
    // Each of them sees the commits of the other one.
    for store in [&first, &second] {
        let mut committed = store.committed();
        let all = committed.wait_for(|last| last.0 == 160);
        drop(
            tokio::time::timeout(Duration::from_secs(5), all)
                .await
                .expect("in time"),
        );
    }
}

#[tokio::test]
async fn killed_server_is_used_again_by_itself() {
    let mut server = new_server().await;
    let store = opened(&settings(&server, &server.database().await)).await;
    let mut trail = Trail::new("a");
    let mut lines = fill(&store, &mut trail, 5).await;
    for _ in 0..3 {
        server.kill();
        let next = trail.lines(2);
        let refused = store.append(trail.batch(&next)).await;
        assert!(
            matches!(
                refused,
                Err(AppendError::Store(StoreError::Unreachable { .. }))
            ),
            "{refused:?}"
        );
        assert!(store.counts().await.is_err());
        server.restart().await;
        let appended = wait_for("the server", || async {
            store.append(trail.batch(&next)).await.ok()
        })
        .await;
        assert_eq!(appended.added, 2);
        lines.extend(next);
    }
    assert_eq!(exported(&store).await, lines);
}

#[tokio::test]
async fn lines_are_stored_once_while_the_server_is_killed() {
    let mut server = new_server().await;
    let store = Arc::new(opened(&settings(&server, &server.database().await)).await);
    let writing = Arc::clone(&store);
    let writer = tokio::spawn(async move {
        let mut trail = Trail::new("a");
        for _ in 0..300 {
            let lines = trail.lines(2);
            wait_for("the server", || async {
                writing.append(trail.batch(&lines)).await.ok()
            })
            .await;
        }
    });
    for killed_after in [100, 250, 400] {
        let mut committed = store.committed();
        let enough = committed.wait_for(|last| last.0 >= killed_after);
        drop(enough.await.expect("the store is open"));
        server.restart().await;
    }
    writer.await.expect("all lines are stored");
    let lines = exported(store.as_ref()).await;
    assert_eq!(lines, Trail::new("a").lines(600));
    let chain = store
        .chains()
        .await
        .expect("the store can be read")
        .remove(0);
    assert_eq!((chain.lines, chain.missing), (600, vec![]));
}

#[tokio::test]
async fn empty_server_in_its_place_is_not_written() {
    let mut server = new_server().await;
    let settings = settings(&server, "postgres");
    let store = opened(&settings).await;
    let mut trail = Trail::new("a");
    let mut lines = fill(&store, &mut trail, 3).await;
    let next = trail.lines(2);
    server.fail_over_to_empty().await;
    let refused = wait_for("a connection to the empty server", || async {
        match store.append(trail.batch(&next)).await {
            Err(AppendError::Store(StoreError::Unreachable { .. })) => None,
            other => Some(other),
        }
    })
    .await;
    let error = refused.expect_err("nothing is written").to_string();
    assert!(
        error.contains("has no store in place of the one that was opened"),
        "{error}"
    );
    assert_eq!(tables(&server, "postgres").await, [""; 0]);
    // Another program has made a store there.
    let other = opened(&settings).await;
    let error = store
        .append(trail.batch(&next))
        .await
        .expect_err("nothing is written");
    assert!(
        error.to_string().contains("has another store in place"),
        "{error}"
    );
    // Lines that the new one lacks are asked for, and are a gap if their sender no longer has them.
    let wanted = other.append(trail.batch(&next)).await;
    assert!(
        matches!(
            wanted,
            Err(AppendError::OutOfOrder {
                wanted: 1,
                first: 4,
                ..
            })
        ),
        "{wanted:?}"
    );
    let lost = trail.batch(&next).lost_before();
    assert_eq!(other.append(lost).await.expect("a gap").durable, 5);
    assert_eq!(
        other.chains().await.expect("chains").remove(0).missing,
        [(1, 3)]
    );
    drop(other);
    server.fail_back().await;
    wait_for("the first server", || async {
        store.append(trail.batch(&next)).await.ok()
    })
    .await;
    lines.extend(next);
    assert_eq!(exported(&store).await, lines);
}

#[tokio::test]
async fn write_that_waits_too_long_is_refused_and_not_stored_later() {
    let server = server().await;
    let database = server.database().await;
    let settings = settings(server, &database);
    drop(opened(&settings).await);
    let settings = PostgresSettings {
        statement_timeout: Duration::from_secs(1),
        ..settings
    };
    let store = opened(&settings).await;
    let mut trail = Trail::new("a");
    let lines = trail.lines(1);
    // Another program holds the lock of the writers.
    let holder = server.execute(
        &database,
        "BEGIN; SELECT pg_advisory_xact_lock(1179866945); SELECT pg_sleep(8); COMMIT",
    );
    let append = async {
        wait_for("a holder of the lock", || async {
            let waiting = server.texts(
                &database,
                "SELECT 'x' FROM pg_locks JOIN pg_database AS d ON d.oid = pg_locks.database \
                 WHERE locktype = 'advisory' AND granted AND datname = current_database()",
            );
            (!waiting.await.is_empty()).then_some(())
        })
        .await;
        store.append(trail.batch(&lines)).await
    };
    let ((), refused) = tokio::join!(holder, append);
    let refused = refused.expect_err("the lock is held").to_string();
    assert!(refused.contains("for another writer): check"), "{refused}");
    let empty = trail.batch(&[]);
    assert_eq!(
        store.append(empty).await.expect("the lock is free").durable,
        0
    );
    assert_eq!(exported(&store).await, [""; 0]);
}

#[tokio::test]
async fn full_store_keeps_what_it_has_and_goes_on_after_deletion() {
    let server = server().await;
    let settings = PostgresSettings {
        max_bytes: Some(1 << 20),
        ..settings(server, &server.database().await)
    };
    let store = opened(&settings).await;
    let mut trail = Trail::new("a");
    let mut durable = 0;
    let (refused, error) = loop {
        let lines = trail.lines(20);
        match store.append(trail.batch(&lines)).await {
            Ok(appended) => durable = appended.durable,
            Err(error) => break (lines, error),
        }
        assert!(durable < 2_000, "the store is not limited");
    };
    let AppendError::Store(StoreError::Full { bytes, .. }) = error else {
        panic!("{error:?}")
    };
    assert!((900_000..=1 << 20).contains(&bytes), "{bytes}");
    let counts = store.counts().await.expect("counts");
    assert_eq!((counts.lines, counts.bytes), (durable, bytes));
    assert_eq!(counts.max_bytes, Some(1 << 20));
    let mut own = Trail::new("own");
    let announcement = own.batch(&own.clone().lines(1)).reserved();
    own.lines(1);
    store
        .append(announcement)
        .await
        .expect("room for announcements");
    let rule = RetentionRule {
        older_than: second(200),
        min_age: second(9_999),
        max_bytes: None,
    };
    let plan = store.plan_retention(rule).await.expect("a plan");
    // The announcement is old, too.
    assert_eq!(store.retain(plan).await, Ok(201));
    let appended = store
        .append(trail.batch(&refused))
        .await
        .expect("there is room");
    assert_eq!(appended.durable, durable + 20);
}

#[tokio::test]
async fn names_with_a_character_zero_are_stored() {
    let server = server().await;
    let store = opened(&settings(server, &server.database().await)).await;
    let trail = Trail::new("a");
    let line = Trail::new("a").lines(1).remove(0);
    let strange = line
        .replace("\"alice\"", "\"al\\u0000ice\"")
        .replace("pod.admit", "pod.\\u0000");
    store
        .append(trail.batch(std::slice::from_ref(&strange)))
        .await
        .expect("the line is stored");
    assert_eq!(exported(&store).await, [strange]);
    let unattributed = store.unattributed(LinePosition::default()).await;
    assert_eq!(unattributed, Ok(vec![]));
}

#[tokio::test]
async fn counted_bytes_are_about_those_on_the_disk() {
    let server = server().await;
    let database = server.database().await;
    let store = opened(&settings(server, &database)).await;
    let mut trail = Trail::new("a");
    for _ in 0..10 {
        fill(&store, &mut trail, 1_000).await;
    }
    let sql = "SELECT sum(pg_total_relation_size(c.oid))::text FROM pg_class AS c
        WHERE relkind = 'r' AND relnamespace = 'floe_secrets_audit'::regnamespace";
    let size: f64 = server.texts(&database, sql).await[0]
        .parse()
        .expect("a number");
    let counted = store.counts().await.expect("counts").bytes;
    let counted: f64 = counted.to_string().parse().expect("a number");
    testbed::print_line(&format!(
        "10,000 lines: {:.0} bytes each on the disk, {:.0} counted",
        size / 10_000.0,
        counted / 10_000.0
    ));
    assert!((0.7..1.4).contains(&(size / counted)), "{size} {counted}");
}

/// Filters that have an index each.
fn filters() -> Vec<EventFilter> {
    let text = |text: &str| Some(text.to_owned());
    let all = EventFilter::default;
    let secret = |name: &str| {
        Some(SecretFilter {
            namespace: "jobs".to_owned(),
            name: name.to_owned(),
        })
    };
    vec![
        all(),
        EventFilter {
            secret: secret("db"),
            ..all()
        },
        EventFilter {
            secret: secret("no"),
            ..all()
        },
        EventFilter {
            actor: text("alice"),
            ..all()
        },
        EventFilter {
            actor: text("nobody"),
            ..all()
        },
        EventFilter {
            actor_uid: text("uid-alice"),
            ..all()
        },
        EventFilter {
            actor_uid: text("no"),
            ..all()
        },
        EventFilter {
            namespace: text("jobs"),
            ..all()
        },
        EventFilter {
            namespace: text("no"),
            ..all()
        },
        EventFilter {
            outcome: text("denied"),
            ..all()
        },
        EventFilter {
            chain: text("a/1"),
            ..all()
        },
        EventFilter {
            chain: text("no/1"),
            ..all()
        },
        EventFilter {
            id: text("a-7"),
            ..all()
        },
        EventFilter {
            request_uid: text("request-a-7"),
            ..all()
        },
        EventFilter {
            second_passes: true,
            ..all()
        },
    ]
}

#[tokio::test]
async fn no_query_reads_a_whole_table() {
    let server = server().await;
    let database = server.database().await;
    let settings = settings(server, &database);
    let store = opened(&settings).await;
    let mut trail = Trail::new("a");
    for _ in 0..6 {
        fill(&store, &mut trail, 1_000).await;
    }
    drop(store);
    server.execute(&database, "ANALYZE").await;
    // Statistics of a connection are complete when it has ended.
    let read = || async {
        let connections = "SELECT 'x' FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'floe-secrets-admin'";
        wait_for("the end of all connections", || async {
            let open = server.texts(&database, connections).await;
            open.is_empty().then_some(())
        })
        .await;
        let sql =
            "SELECT sum(seq_tup_read)::text FROM pg_stat_user_tables WHERE relname LIKE 'event%'";
        server.texts(&database, sql).await.remove(0)
    };
    let before = read().await;
    for filter in filters() {
        let reader = PostgresStore::open_read_only(settings.clone()).await;
        read_with(&reader.expect("a store"), &filter).await;
        assert_eq!(read().await, before, "{filter:?}");
    }
    let reader = PostgresStore::open_read_only(settings)
        .await
        .expect("a store");
    reader.moved(LinePosition(5_900)).await.expect("chains");
    reader.unattributed(LinePosition(0)).await.expect("records");
    let positions = [LinePosition(7)];
    reader.attributions(&positions).await.expect("records");
    drop(reader);
    assert_eq!(read().await, before);
}

/// Reads two pages and the last events of a filter.
async fn read_with(store: &PostgresStore, filter: &EventFilter) {
    let arguments = QueryArguments {
        filter: filter.clone(),
        from: Some(start()),
        ..QueryArguments::default()
    };
    let query = EventQuery::new(arguments.clone(), second(9_999)).expect("a valid query");
    let page = store.query(&query).await.expect("a page");
    if let Some(next) = page.next {
        let arguments = QueryArguments {
            cursor: Some(next),
            ..arguments
        };
        let query = EventQuery::new(arguments, second(9_999)).expect("a valid query");
        store.query(&query).await.expect("a page");
    }
    let after = LinePosition(5_900);
    store.follow(filter, after).await.expect("events");
}
