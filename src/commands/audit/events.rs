//! Output of events as a table, JSON and CSV.
//!
//! Names in records were chosen by users. Characters that a terminal obeys are written as escapes, whatever wrote the
//! store, and cells of CSV cannot be formulas.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::asked_by::{PrintedAsker, askers, cell};
use super::fields::{actor, field, text};
use crate::audit::floe_view::{FloeEvent, floe_events};
use crate::cli::output::write_columns;
use crate::store::{RecordAttribution, StoredEvent};
use crate::telemetry::characters::is_obeyed;

/// Form of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EventView {
    Record,
    Floe,
}

/// Events as they are printed.
#[derive(Debug)]
pub(super) struct Events<'e> {
    stored: &'e [StoredEvent],
    /// Askers of the secrets of each event.
    attributions: &'e [RecordAttribution],
    is_more: bool,
    view: EventView,
}

/// JSON object of all events.
#[derive(Serialize)]
struct EventsDocument<E> {
    events: Vec<E>,
    /// Whether older events match.
    more: bool,
}

#[derive(Serialize)]
struct EventDocument<'e> {
    position: u64,
    provenance: &'static str,
    /// Position of the first pass of the same use.
    #[serde(skip_serializing_if = "Option::is_none")]
    second_pass_of: Option<u64>,
    record: &'e RawValue,
    /// Derived from other records; absent if the record is not about an admitted object.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    asked_by: Vec<PrintedAsker>,
}

impl<'e> Events<'e> {
    pub(super) fn new(
        events: &'e [StoredEvent],
        attributions: &'e [RecordAttribution],
        is_more: bool,
        view: EventView,
    ) -> Self {
        Self {
            stored: events,
            attributions,
            is_more,
            view,
        }
    }

    /// Flat events. A line that has none, such as a start of a process, is left out.
    fn flat(&self) -> impl Iterator<Item = FloeEvent> {
        self.records().flat_map(|(event, _, askers)| {
            let name = |asker: &PrintedAsker| asker.asked_by.username().map(str::to_owned);
            let names: Vec<Option<String>> = askers.iter().map(name).collect();
            floe_events(&event.line, &names).unwrap_or_default()
        })
    }

    /// Events with their records and who asked for the secrets of each.
    fn records(&self) -> impl Iterator<Item = (&'e StoredEvent, Value, Vec<PrintedAsker>)> {
        let attributions = self.attributions;
        self.stored.iter().enumerate().map(move |(index, event)| {
            // Only lines that are JSON are stored.
            let record: Value = serde_json::from_str(&event.line).unwrap_or_default();
            let attribution = attributions.get(index);
            let attribution = attribution.filter(|found| found.position == event.position);
            let askers = askers(&record, event.position, attribution);
            (event, record, askers)
        })
    }
}

pub(super) fn write_table(events: &Events<'_>, out: &mut dyn Write) -> io::Result<()> {
    match events.view {
        EventView::Record => {
            let header = [
                "TIME", "ACTION", "OUTCOME", "REASON", "ACTOR", "ASKED BY", "OBJECT", "SECRETS",
            ];
            let rows = events.records().map(|(event, record, askers)| {
                [
                    format!("{:.3}", event.time),
                    action(event, &record),
                    text(&record, &["outcome"]),
                    text(&record, &["reason"]),
                    actor(&record),
                    cell(&askers),
                    object(&record),
                    secrets(&record),
                ]
            });
            write_rows(header, rows, out)
        }
        EventView::Floe => {
            let header = [
                "TIMESTAMP",
                "REQUESTER",
                "OPERATION",
                "RESULT",
                "SECRET",
                "SOURCE IP",
            ];
            let rows = events.flat().map(|event| {
                [
                    event.timestamp,
                    event.requester_id.as_str().to_owned(),
                    event.operation,
                    event.result.to_owned(),
                    event.secret_path.as_str().to_owned(),
                    event.source_ip.unwrap_or_default(),
                ]
            });
            write_rows(header, rows, out)
        }
    }
}

fn write_rows<const N: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let dash = |cell: String| {
        if cell.is_empty() {
            "-".to_owned()
        } else {
            shown(&cell)
        }
    };
    let mut table = vec![header.map(str::to_owned)];
    table.extend(rows.map(|row| row.map(dash)));
    write_columns(out, &table)
}

pub(super) fn write_json(events: &Events<'_>, out: &mut dyn Write) -> io::Result<()> {
    let more = events.is_more;
    let text = match events.view {
        EventView::Record => {
            let records = events.records();
            let documents = records.map(|(event, _, asked_by)| {
                Ok(EventDocument {
                    position: event.position.0,
                    provenance: event.provenance.as_str(),
                    second_pass_of: event.second_pass_of.map(|first| first.0),
                    record: serde_json::from_str(&event.line)?,
                    asked_by,
                })
            });
            let documents: serde_json::Result<Vec<EventDocument<'_>>> = documents.collect();
            let events = documents?;
            serde_json::to_string_pretty(&EventsDocument { events, more })?
        }
        EventView::Floe => {
            let events = events.flat().collect::<Vec<_>>();
            serde_json::to_string_pretty(&EventsDocument { events, more })?
        }
    };
    writeln!(out, "{}", escaped_json(&text))
}

pub(super) fn write_csv(events: &Events<'_>, out: &mut dyn Write) -> io::Result<()> {
    match events.view {
        EventView::Record => write_records_csv(events, out),
        EventView::Floe => write_flat_csv(events, out),
    }
}

fn write_records_csv(events: &Events<'_>, out: &mut dyn Write) -> io::Result<()> {
    let columns = [
        "time",
        "action",
        "class",
        "outcome",
        "reason",
        "decision",
        "actor",
        "actor_uid",
        "asked_by",
        "namespace",
        "kind",
        "name",
        "secrets",
        "id",
        "request_uid",
        "chain",
        "seq",
        "position",
        "provenance",
        "second_pass_of",
    ];
    write_record(out, &columns)?;
    for (event, record, askers) in events.records() {
        let cells = [
            text(&record, &["time"]),
            text(&record, &["action"]),
            text(&record, &["class"]),
            text(&record, &["outcome"]),
            text(&record, &["reason"]),
            text(&record, &["decision"]),
            actor(&record),
            text(&record, &["actor", "uid"]),
            cell(&askers),
            text(&record, &["object", "namespace"]),
            text(&record, &["object", "kind"]),
            name(&record),
            secrets(&record),
            text(&record, &["id"]),
            text(&record, &["request", "admission_uid"]),
            text(&record, &["chain", "id"]),
            field(&record, &["chain", "seq"]).to_string(),
            event.position.0.to_string(),
            event.provenance.as_str().to_owned(),
            event
                .second_pass_of
                .map(|first| first.0.to_string())
                .unwrap_or_default(),
        ];
        write_record(out, &cells)?;
    }
    Ok(())
}

fn write_flat_csv(events: &Events<'_>, out: &mut dyn Write) -> io::Result<()> {
    let columns = [
        "timestamp",
        "requester_id",
        "secret_path",
        "operation",
        "result",
        "source_ip",
        "trace_id",
        "plugin_type",
        "namespace",
        "event_id",
        "denial_reason",
        "error",
        "actor",
    ];
    write_record(out, &columns)?;
    for event in events.flat() {
        let metadata = event.metadata;
        let cells = [
            event.timestamp,
            event.requester_id.as_str().to_owned(),
            event.secret_path.as_str().to_owned(),
            event.operation,
            event.result.to_owned(),
            event.source_ip.unwrap_or_default(),
            event.trace_id.unwrap_or_default(),
            event.plugin_type.unwrap_or_default(),
            event.namespace.unwrap_or_default(),
            metadata.event_id,
            metadata.denial_reason.unwrap_or_default(),
            metadata.error.unwrap_or_default(),
            metadata.actor.unwrap_or_default(),
        ];
        write_record(out, &cells)?;
    }
    Ok(())
}

fn write_record(out: &mut dyn Write, cells: &[impl AsRef<str>]) -> io::Result<()> {
    let cells: Vec<String> = cells.iter().map(|cell| csv_cell(cell.as_ref())).collect();
    // RFC 4180 ends records so.
    write!(out, "{}\r\n", cells.join(","))
}

/// Cell of CSV. A quote before a text that a spreadsheet would take for a formula makes it a text.
fn csv_cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let quote = if is_formula { "'" } else { "" };
    let cell = format!("{quote}{}", shown(text));
    if cell.contains([',', '"']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell
    }
}

/// Text without characters that a terminal obeys.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_obeyed(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// JSON with the same content, in which characters that a terminal obeys are escapes. Outside of texts there are none but
/// newlines.
pub(super) fn escaped_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if character != '\n' && is_obeyed(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Action of an event, and whether it is the second pass of a use.
fn action(event: &StoredEvent, record: &Value) -> String {
    let note = event.second_pass_of.map(|_| " (second pass)");
    text(record, &["action"]) + note.unwrap_or_default()
}

/// Name of the object; the prefix of one that is generated.
fn name(record: &Value) -> String {
    match text(record, &["object", "name"]) {
        name if name.is_empty() => match text(record, &["object", "generate_name"]) {
            prefix if prefix.is_empty() => prefix,
            prefix => format!("{prefix}*"),
        },
        name => name,
    }
}

/// Object as `KIND NAMESPACE/NAME`.
fn object(record: &Value) -> String {
    let kind = text(record, &["object", "kind"]);
    match (text(record, &["object", "namespace"]), name(record)) {
        (namespace, name) if namespace.is_empty() => format!("{kind} {name}").trim().to_owned(),
        (namespace, name) => format!("{kind} {namespace}/{name}").trim().to_owned(),
    }
}

/// Secrets as `NAMESPACE/NAME`, each once.
fn secrets(record: &Value) -> String {
    let targets = field(record, &["targets"]).as_array().into_iter().flatten();
    let mut secrets: Vec<String> = Vec::new();
    for target in targets {
        let namespace = text(target, &["namespace"]);
        let slash = if namespace.is_empty() { "" } else { "/" };
        let secret = format!("{namespace}{slash}{}", text(target, &["name"]));
        if !secrets.contains(&secret) {
            secrets.push(secret);
        }
    }
    secrets.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{Trail, second};
    use crate::store::{LinePosition, Provenance};

    fn event(line: String) -> StoredEvent {
        StoredEvent {
            position: LinePosition(7),
            provenance: Provenance::Received,
            time: second(0),
            line,
            second_pass_of: None,
        }
    }

    fn events() -> Vec<StoredEvent> {
        vec![event(Trail::new("a").lines(1).remove(0))]
    }

    type Format = fn(&Events<'_>, &mut dyn Write) -> io::Result<()>;

    fn written(format: Format, events: &[StoredEvent], view: EventView) -> String {
        let mut out = Vec::new();
        format(&Events::new(events, &[], true, view), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn table_has_who_did_what_to_which_secret() {
        let expected = "\
TIME                       ACTION      OUTCOME   REASON   ACTOR   ASKED BY   OBJECT      SECRETS
2026-11-28T12:00:00.000Z   pod.admit   success   ok       alice   alice      Pod jobs/   jobs/db
";
        assert_eq!(written(write_table, &events(), EventView::Record), expected);
        let expected = "\
TIMESTAMP                        REQUESTER   OPERATION   RESULT    SECRET    SOURCE IP
2026-11-28T12:00:00.000000000Z   alice       get         success   jobs/db   -
";
        assert_eq!(written(write_table, &events(), EventView::Floe), expected);
    }

    #[test]
    fn json_has_the_record_as_it_was_written() {
        let events = events();
        let text = written(write_json, &events, EventView::Record);
        assert!(text.contains(&events[0].line), "{text}");
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["events"][0]["position"], 7);
        assert_eq!(document["events"][0]["provenance"], "received");
        assert_eq!(document["events"][0]["asked_by"][0]["username"], "alice");
        assert_eq!(document["more"], true);
        let floe: Value =
            serde_json::from_str(&written(write_json, &events, EventView::Floe)).unwrap();
        assert_eq!(floe["events"][0]["secret_path"], "jobs/db");
    }

    #[test]
    fn second_pass_is_marked() {
        let mut events = events();
        events[0].second_pass_of = Some(LinePosition(5));
        let table = written(write_table, &events, EventView::Record);
        assert!(table.contains("  pod.admit (second pass)  "), "{table}");
        let json = written(write_json, &events, EventView::Record);
        let document: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(document["events"][0]["second_pass_of"], 5);
        let csv = written(write_csv, &events, EventView::Record);
        assert!(csv.contains(",7,received,5\r\n"), "{csv}");
    }

    #[test]
    fn csv_has_all_columns() {
        let text = written(write_csv, &events(), EventView::Record);
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(lines.len(), 3);
        let expected = "2026-11-28T12:00:00.000000000Z,pod.admit,injection,success,ok,injected,alice,uid-alice,\
                        alice,jobs,Pod,,jobs/db,a-1,request-a-1,a/1,1,7,received,";
        assert_eq!(lines[1], expected);
        let floe = written(write_csv, &events(), EventView::Floe);
        let expected =
            "2026-11-28T12:00:00.000000000Z,alice,jobs/db,get,success,,,kubernetes,jobs,a-1,,,";
        assert_eq!(floe.split("\r\n").nth(1), Some(expected));
    }

    #[test]
    fn cells_are_not_formulas() {
        for (text, expected) in [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\\u{9}=1"),
            ("\r=1", "'\\u{d}=1"),
            ("a,b", "\"a,b\""),
            ("=\"a\"", "\"'=\"\"a\"\"\""),
            ("a\nb", "a\\u{a}b"),
            ("alice", "alice"),
        ] {
            assert_eq!(csv_cell(text), expected);
        }
    }

    #[test]
    fn characters_that_a_terminal_obeys_are_escaped() {
        // As no program of ours writes them.
        let line = r#"{"action":"\u001b[2J","actor":{"username":"DEL CSI RLO TAG"},"targets":[]}"#;
        let line = line
            .replace("DEL", "\u{7f}")
            .replace("CSI", "\u{9b}31m")
            .replace("RLO", "\u{202e}")
            .replace("TAG", "\u{e0041}");
        let events = [event(line.clone())];
        let formats: [(Format, EventView); 3] = [
            (write_table, EventView::Record),
            (write_json, EventView::Record),
            (write_csv, EventView::Record),
        ];
        for (format, view) in formats {
            let text = written(format, &events, view);
            let obeyed = |character: char| !"\r\n".contains(character) && is_obeyed(character);
            assert!(!text.contains(obeyed), "{text:?}");
        }
        let same: Value = serde_json::from_str(&escaped_json(&line)).unwrap();
        assert_eq!(same, serde_json::from_str::<Value>(&line).unwrap());
    }
}
