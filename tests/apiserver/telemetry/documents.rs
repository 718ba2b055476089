//! docs/operations/LOGS.md and METRICS.md compared with the source, and with the output of a real run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};

use http::Method;
use regex::Regex;
use serde_json::{Value, json};

use crate::fixture;
use testbed::manifests::{pod, prefixed};
use testbed::tools::project_root;
use testbed::wait_for;
use testbed::webhook::{
    Registration, controller_identity, limited_to_namespaces, webhook_identity,
};
use testbed::webhook_process::{Launch, WebhookProcess};

/// Rows below a header line of a document: their cells, and the code spans in each.
fn table(document: &str, header: &str) -> Vec<Vec<Vec<String>>> {
    let text = std::fs::read_to_string(project_root().join("docs/operations").join(document))
        .expect("the document");
    let code = Regex::new("`([^`]+)`").expect("a regular expression");
    let words = |cell: &str| -> Vec<String> {
        let quoted: Vec<String> = code
            .captures_iter(cell)
            .map(|found| found[1].to_owned())
            .collect();
        if quoted.is_empty() {
            vec![cell.trim().to_owned()]
        } else {
            quoted
        }
    };
    let mut rows = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with(header) {
            inside = true;
        } else if !line.starts_with('|') {
            inside = false;
        } else if inside && !line.starts_with("|---") {
            rows.push(line.trim_matches('|').split('|').map(words).collect());
        }
    }
    assert!(!rows.is_empty(), "{document} has no table {header:?}");
    rows
}

/// Event of LOGS.md.
#[derive(Debug)]
struct Event {
    levels: BTreeSet<String>,
    program: String,
    fields: BTreeSet<String>,
}

fn events() -> BTreeMap<String, Event> {
    let rows = table("LOGS.md", "| Message | Level | Program | Fields |");
    let event = |row: Vec<Vec<String>>| {
        let [message, levels, program, fields, ..] = row.as_slice() else {
            panic!("{row:?}")
        };
        let fields = fields
            .iter()
            .filter(|field| !field.is_empty())
            .cloned()
            .collect();
        (
            message[0].clone(),
            Event {
                levels: levels.iter().cloned().collect(),
                program: program[0].clone(),
                fields,
            },
        )
    };
    rows.into_iter().map(event).collect()
}

/// Whether `program` is among those that a row names.
fn is_of(named: &str, program: &str) -> bool {
    named == "all" || named.split(", ").any(|named| named == program)
}

fn sources() -> Vec<(PathBuf, String)> {
    fn collect_files(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect_files(&path, found);
            } else {
                let text = std::fs::read_to_string(&path).expect("a source file");
                // Log lines of tests do not count. A module in a file of its own is declared in any place.
                let code = text
                    .split("#[cfg(test)]\nmod tests {")
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                found.push((path, code));
            }
        }
    }
    let mut found = Vec::new();
    collect_files(&project_root().join("src"), &mut found);
    found
}

#[test]
fn documented_events_equal_those_of_source() {
    let (events, mut written) = (events(), BTreeSet::from(["admission".to_owned()]));
    // The message is the last argument: a literal without placeholders, and not the name of a variable.
    let call =
        Regex::new(r#"(?s)\b(error|warn|info|debug|trace)!\(([^;]*?)"([^"]*[a-z][^"]*)",?\s*\)"#)
            .expect("a regular expression");
    for (path, code) in sources() {
        for found in call.captures_iter(&code) {
            let (level, message) = (found[1].to_uppercase(), found[3].to_owned());
            let event = events
                .get(&message)
                .unwrap_or_else(|| panic!("{}: {message:?} is not in it", path.display()));
            assert!(event.levels.contains(&level), "{message:?} is {level}");
            written.insert(message);
        }
    }
    assert_eq!(events.keys().cloned().collect::<BTreeSet<_>>(), written);
    assert!(written.len() > 40, "{written:?}");
}

/// Checks every line of a program's log against the document, and returns the events that occurred.
fn held_against_the_document(program: &str, log: &str) -> BTreeSet<String> {
    const COMMON: [&str; 5] = ["timestamp", "level", "message", "target", "span"];
    let events = events();
    let mut seen = BTreeSet::new();
    for line in log.lines() {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        // Records of the audit trail are not lines of the log.
        if line["chain"].is_object() {
            continue;
        }
        let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
        assert!(
            !text("timestamp").is_empty() && !text("level").is_empty(),
            "{line}"
        );
        if !text("target").starts_with("floe_secrets_webhook") {
            continue;
        }
        let event = events
            .get(&text("message"))
            .unwrap_or_else(|| panic!("{line} is not in the document"));
        assert!(
            is_of(&event.program, program) && event.levels.contains(&text("level")),
            "{line}: {event:?}"
        );
        let fields: BTreeSet<String> = line
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect();
        let own: BTreeSet<String> = fields
            .into_iter()
            .filter(|field| !COMMON.contains(&field.as_str()))
            .collect();
        let missing: Vec<_> = own.difference(&event.fields).collect();
        assert!(
            missing.is_empty(),
            "{missing:?} of {line} is not in the document"
        );
        if let Some(span) = line["span"].as_object() {
            let known = span
                .keys()
                .all(|key| ["name", "peer"].contains(&key.as_str()));
            assert!(known, "{line}");
        }
        seen.insert(text("message"));
    }
    seen
}

/// Checks the served metrics against the document, and returns those that were present.
fn scraped(program: &str, webhook: &WebhookProcess) -> BTreeSet<String> {
    let rows = table("METRICS.md", "| Metric | Type | Labels | Program |");
    let (_, text) = webhook.get("/metrics").expect("the ops port responds");
    let label = Regex::new("([a-z_]+)=\"").expect("a regular expression");
    let mut seen = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (family, kind) = line.split_once(' ').expect("a name and a type");
        let name = if kind == "counter" {
            format!("{family}_total")
        } else {
            family.to_owned()
        };
        let row = rows
            .iter()
            .find(|row| row[0][0] == name)
            .unwrap_or_else(|| panic!("{name} is not in the document"));
        assert_eq!(row[1][0], kind, "{name}");
        assert!(
            is_of(&row[3][0], program) || is_of(&row[3][0], "serve"),
            "{name} is of {program}"
        );
        let samples = text
            .lines()
            .filter(|line| line.starts_with(family) && !line.starts_with('#'));
        for sample in samples.filter(|line| line[family.len()..].starts_with(['{', '_', ' '])) {
            for found in label.captures_iter(sample) {
                assert!(
                    row[2].contains(&found[1].to_owned()) || &found[1] == "le",
                    "{sample}"
                );
            }
        }
        seen.insert(name);
    }
    seen
}

#[test]
fn documented_metrics_equal_those_of_source() {
    let call = Regex::new(r#"(?s)\.register(_with_unit)?\(\s*"([a-z_]+)"([^;]*?)\);"#)
        .expect("a regular expression");
    let mut registered = BTreeSet::new();
    for (_, code) in sources() {
        for found in call.captures_iter(&code) {
            let unit = match (&found.get(1), &found[3]) {
                (None, _) => "",
                (Some(_), rest) if rest.contains("Unit::Bytes") => "_bytes",
                (Some(_), rest) if rest.contains("Unit::Seconds") => "_seconds",
                (Some(_), rest) => panic!("another unit: {rest}"),
            };
            registered.insert(format!("floe_secrets_webhook_{}{unit}", &found[2]));
        }
    }
    let rows = table("METRICS.md", "| Metric | Type | Labels | Program |");
    let documented: BTreeSet<String> = rows
        .iter()
        .map(|row| row[0][0].trim_end_matches("_total").to_owned())
        .collect();
    assert_eq!(documented, registered);
    assert!(registered.len() > 15, "{registered:?}");
}

#[tokio::test]
async fn output_of_real_run_matches_documents() {
    let fixture = fixture().await;
    let (cp, collector) = (&fixture.cp, &fixture.collector);
    let namespace = cp.namespace("documented").await;
    cp.secret(&namespace.name, "db", &["user"], "v").await;
    let more = [
        "--log",
        "debug",
        "--otlp-endpoint",
        &collector.endpoint(),
        "--shutdown-delay",
        "0s",
    ];
    let launch = Launch::serve(cp, &webhook_identity(cp).await)
        .with(&more)
        .with(&["--tls-poll", "1s"]);
    let webhook = launch.start().await;
    let args = [
        "--log",
        "debug",
        "--otlp-endpoint",
        &collector.endpoint(),
        "--drift-interval",
        "1s",
    ];
    let controller = Launch::controller(cp, &controller_identity(cp).await)
        .with(&args)
        .start()
        .await;
    let registered = Registration::shared(
        cp,
        &limited_to_namespaces(webhook.service_configuration(), &[&namespace.name]),
    )
    .await;
    for (name, annotations) in [
        ("good", json!({"env.A": "db/user"})),
        ("bad", json!({"env.A": "none/k"})),
        ("wrong", json!({"evn.A": "a"})),
    ] {
        cp.create(&pod(&namespace.name, name, &prefixed(&annotations)))
            .await;
    }
    for body in ["{}", r#"{"request":{"uid":"a"}}"#] {
        webhook.send(Method::POST, "/admit/pods", body).await;
    }
    webhook
        .send(Method::POST, "/admit/pods", vec![b' '; 9 << 20])
        .await;
    let mut plain_client =
        TcpStream::connect((Ipv4Addr::LOCALHOST, webhook.launch.port)).expect("the port is open");
    plain_client
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .expect("written");
    plain_client.read_to_end(&mut Vec::new()).ok();
    webhook.launch.folder.write("tls.key", "garbage");
    wait_for("the certificate is refused", || async {
        webhook.log().contains("certificate rejected").then_some(())
    })
    .await;
    wait_for("a scan", || async {
        controller.log().contains("drift scan").then_some(())
    })
    .await;
    drop(registered);

    let mut metrics = scraped("serve", &webhook);
    metrics.append(&mut scraped("controller", &controller));
    assert!(metrics.len() > 14, "{metrics:?}");
    let folders = [&webhook, &controller].map(|process| {
        process
            .launch
            .folder
            .path()
            .join("floe-secrets-webhook.log")
    });
    webhook.terminate();
    controller.terminate();
    for process in [&webhook, &controller] {
        wait_for("the end", || async { process.exit_status() }).await;
    }
    let [serve, control] = folders.map(|log| std::fs::read_to_string(log).expect("the log"));
    let mut seen = held_against_the_document("serve", &serve);
    seen.append(&mut held_against_the_document("controller", &control));
    for message in [
        "admission",
        "serving",
        "watching",
        "TLS handshake failed",
        "became leader",
        "listener closed",
    ] {
        assert!(
            seen.contains(message),
            "{message:?} was not written: {seen:?}"
        );
    }

    let rows = table("LOGS.md", "| Span | Program | Attributes |");
    let mut spans = BTreeSet::new();
    for (program, service) in [
        ("serve", "floe-secrets-webhook"),
        ("controller", "floe-secrets-controller"),
    ] {
        for span in collector.spans(service) {
            let row = rows.iter().find(|row| row[0][0] == span.name);
            let row = row.unwrap_or_else(|| panic!("{span:?} is not in the document"));
            assert!(is_of(&row[1][0], program), "{span:?}");
            let unknown = span.attributes.keys().find(|key| !row[2].contains(*key));
            assert_eq!(unknown, None, "{span:?}");
            spans.insert(span.name);
        }
    }
    assert!(
        spans.contains("admission") && spans.contains("drift.scan"),
        "{spans:?}"
    );
}
