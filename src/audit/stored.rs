//! Lines as a store keeps them: the text as it was written, and the fields of it that a store has an index of.
//!
//! A line of a newer program may have other fields, words and a higher `v`: only its chain and its time are required, and
//! other fields are read as far as they have the form of this version.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::Value;
use thiserror::Error;

use super::MAX_LINE;
use super::canonical::UniqueNames;
use super::digest::Digest;
use super::input::LineJoiner;
use super::line::written_form;
use super::link::{ChainId, Tip};
use super::record::{Action, MAX_INTEGER, RecordOutcome};

/// A line and its fields. Absent texts are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLine {
    /// Text as it was written, without a newline.
    pub json: String,
    /// SHA-256 of the text.
    pub hash: Digest,
    pub chain: ChainId,
    pub seq: u64,
    pub prev: Digest,
    pub time: Timestamp,
    pub id: String,
    pub class: String,
    pub action: String,
    pub outcome: String,
    pub reason: String,
    /// Name of the requester, or else an id.
    pub actor: String,
    pub actor_uid: String,
    /// Namespace of the object; the first target's if there is no object.
    pub namespace: String,
    pub request_uid: String,
    /// Value of `audit.floe.dev/event` that an admitted pod had before.
    pub found_event: String,
    /// Object of an admission that decides later ones: a workload, a Namespace or a `ServiceAccount`.
    pub author_object: Option<AuthorObject>,
    /// Whether somebody else than the requester may have asked for secrets: an owner's author, or the author of defaults.
    pub has_other_author: bool,
    /// Targets by namespace and name, each once.
    pub secrets: Vec<(String, String)>,
    /// Lines of chains that the record confirms: those of a checkpoint, and the last one of the process before.
    pub confirmed: Vec<Tip>,
}

/// Object whose admissions say who asked for the secrets of later ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuthorObject {
    /// Namespace of the object; that of a Namespace is its name.
    pub namespace: String,
    pub kind: String,
    /// Name; if the API server generates it, the prefix of the name and `*`.
    pub name: String,
}

/// Reason why bytes are not a line of the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidLine {
    #[error("is longer than {MAX_LINE} bytes: the program that wrote it has to split it")]
    TooLong,
    #[error("is not JSON, or has a name twice in one object: send the line as it was written")]
    NotJson,
    #[error("lacks a valid field \"{0}\": send the line as it was written")]
    Field(&'static str),
}

impl StoredLine {
    /// Reads a line without its newline.
    ///
    /// # Errors
    ///
    /// The line is too long, is not JSON, or has no place in a chain or no time.
    pub fn parse(line: &[u8]) -> Result<Self, InvalidLine> {
        if line.len() > MAX_LINE {
            return Err(InvalidLine::TooLong);
        }
        let text = std::str::from_utf8(line).map_err(|_| InvalidLine::NotJson)?;
        let UniqueNames(record) = serde_json::from_str(text).map_err(|_| InvalidLine::NotJson)?;
        Self::of(text.to_owned(), &record)
    }

    /// Whether the record is the use of secrets: a pod was admitted with those that it requests.
    #[must_use]
    pub fn is_use(&self) -> bool {
        self.action == Action::AdmitPod.as_str()
            && self.outcome == RecordOutcome::Success.as_str()
            && !self.secrets.is_empty()
    }

    fn of(json: String, record: &Value) -> Result<Self, InvalidLine> {
        let link = field(record, "chain");
        let missing = |name| move || InvalidLine::Field(name);
        let chain = text(link, "id").and_then(|id| ChainId::parse(id).ok());
        let seq = field(link, "seq").as_u64();
        let time = text(record, "time").and_then(|time| time.parse().ok());
        let owned = |value: &Value, name| text(value, name).unwrap_or_default().to_owned();
        let actor = ["username", "subject", "uid"]
            .into_iter()
            .find_map(|name| text(field(record, "actor"), name));
        let secrets = secrets(record);
        Ok(Self {
            hash: Digest::of(json.as_bytes()),
            chain: chain.ok_or_else(missing("chain.id"))?,
            seq: seq
                .filter(|seq| (1..=MAX_INTEGER).contains(seq))
                .ok_or_else(missing("chain.seq"))?,
            prev: text(link, "prev")
                .and_then(Digest::parse)
                .ok_or_else(missing("chain.prev"))?,
            time: time.ok_or_else(missing("time"))?,
            id: owned(record, "id"),
            class: owned(record, "class"),
            action: owned(record, "action"),
            outcome: owned(record, "outcome"),
            reason: owned(record, "reason"),
            actor: actor.unwrap_or_default().to_owned(),
            actor_uid: owned(field(record, "actor"), "uid"),
            namespace: namespace(record)
                .or_else(|| secrets.first().map(|(namespace, _)| namespace.as_str()))
                .unwrap_or_default()
                .to_owned(),
            request_uid: owned(field(record, "request"), "admission_uid"),
            found_event: owned(field(record, "request"), "found_event"),
            author_object: author_object(record),
            has_other_author: has_other_author(record),
            secrets,
            confirmed: confirmed(record),
            json,
        })
    }
}

/// Reads the lines of an input in any of the forms that verification reads, without the lines of other programs.
#[derive(Debug, Default)]
pub struct LineReader {
    joiner: LineJoiner,
}

impl LineReader {
    /// Adds a line of the input without its newline. Returns a complete line of the trail, or why it cannot be kept.
    pub fn push(&mut self, line: &[u8]) -> Option<Result<StoredLine, InvalidLine>> {
        self.joiner.push(line).and_then(stored)
    }

    /// Lines whose end was not read.
    pub fn finish(self) -> impl Iterator<Item = Result<StoredLine, InvalidLine>> {
        let rest = self.joiner.finish();
        rest.filter_map(|line| stored(Cow::Owned(line)))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form of the two callers")]
fn stored(line: Cow<'_, [u8]>) -> Option<Result<StoredLine, InvalidLine>> {
    let written = written_form(&line)?;
    Some(StoredLine::parse(written.as_bytes()))
}

/// Field of an object; null if there is none.
fn field<'v>(value: &'v Value, name: &str) -> &'v Value {
    value.get(name).unwrap_or(&Value::Null)
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    field(value, name).as_str().filter(|text| !text.is_empty())
}

fn namespace(record: &Value) -> Option<&str> {
    let object = field(record, "object");
    let named = || text(object, "name").filter(|_| text(object, "kind") == Some("Namespace"));
    text(object, "namespace").or_else(named)
}

fn is_success(record: &Value, actions: &[Action]) -> bool {
    let action = text(record, "action");
    text(record, "outcome") == Some(RecordOutcome::Success.as_str())
        && actions.iter().any(|of| action == Some(of.as_str()))
}

fn author_object(record: &Value) -> Option<AuthorObject> {
    if !is_success(record, &[Action::AdmitWorkload, Action::AdmitDefaults]) {
        return None;
    }
    let object = field(record, "object");
    let generated = || text(object, "generate_name").map(|prefix| format!("{prefix}*"));
    Some(AuthorObject {
        namespace: namespace(record)?.to_owned(),
        kind: text(object, "kind")?.to_owned(),
        name: text(object, "name").map(str::to_owned).or_else(generated)?,
    })
}

fn has_other_author(record: &Value) -> bool {
    let targets = field(record, "targets").as_array();
    let mut targets = targets.into_iter().flatten().peekable();
    let has_owner = field(field(record, "object"), "owner").is_object();
    let is_default =
        |target: &Value| matches!(text(target, "origin"), Some("namespace" | "serviceaccount"));
    is_success(record, &[Action::AdmitPod, Action::AdmitWorkload])
        && targets.peek().is_some()
        && (has_owner || targets.any(is_default))
}

fn secrets(record: &Value) -> Vec<(String, String)> {
    let targets = field(record, "targets").as_array();
    let mut secrets: Vec<(String, String)> = Vec::new();
    for target in targets.into_iter().flatten() {
        if let Some(name) = text(target, "name") {
            let namespace = text(target, "namespace").unwrap_or_default();
            secrets.push((namespace.to_owned(), name.to_owned()));
        }
    }
    secrets.sort();
    secrets.dedup();
    secrets
}

fn confirmed(record: &Value) -> Vec<Tip> {
    let is_checkpoint = text(record, "action") == Some(Action::Checkpoint.as_str());
    let tips = field(record, "tips").as_array().filter(|_| is_checkpoint);
    let tips = tips.into_iter().flatten();
    let read = |tip: &Value| {
        Some(Tip {
            chain: ChainId::parse(text(tip, "chain")?).ok()?,
            hash: Digest::parse(text(tip, "hash")?)?,
            seq: field(tip, "seq")
                .as_u64()
                .filter(|seq| *seq <= MAX_INTEGER)?,
        })
    };
    tips.chain([field(record, "predecessor")])
        .filter_map(read)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::Chain;
    use crate::audit::emitter::Emitter;
    use crate::audit::record::{ObjectFields, Record};
    use crate::audit::test_support::{admission, emitter, fullest, id, key};
    use crate::audit::text::Text;
    use rstest::rstest;

    #[test]
    fn line_has_the_fields_of_its_record() {
        let mut chain = Chain::new(id("a"));
        let root = chain.tip().hash;
        let line = chain.append(admission("db", 2));
        let stored = StoredLine::parse(line.json.as_bytes()).unwrap();
        assert_eq!(stored.json, line.json);
        assert_eq!((stored.hash, stored.seq, stored.prev), (line.hash, 1, root));
        assert_eq!(stored.time, emitter().time);
        assert_eq!(
            stored.actor,
            "system:serviceaccount:kube-system:replicaset-controller"
        );
        assert_eq!(
            (stored.actor_uid.as_str(), stored.namespace.as_str()),
            ("0b1d", "jobs")
        );
        assert_eq!(stored.request_uid, "705ab4f5-6393-11e8-b7cc-42010a800002");
        let secret = |name: &str| ("jobs".to_owned(), name.to_owned());
        assert_eq!(stored.secrets, [secret("db"), secret("db-1")]);
        assert_eq!(
            (stored.author_object, stored.has_other_author),
            (None, true)
        );
        let words = [
            &stored.class,
            &stored.action,
            &stored.outcome,
            &stored.reason,
        ];
        assert_eq!(words, ["injection", "pod.admit", "success", "ok"]);
    }

    #[rstest]
    #[case::workload(Action::AdmitWorkload, "Deployment", "dbt", "jobs/Deployment/dbt")]
    #[case::generated_name(Action::AdmitWorkload, "Job", "", "jobs/Job/dbt-*")]
    #[case::defaults(
        Action::AdmitDefaults,
        "ServiceAccount",
        "dbt",
        "jobs/ServiceAccount/dbt"
    )]
    #[case::pod(Action::AdmitPod, "Pod", "dbt", "")]
    fn object_of_an_author_is_named(
        #[case] action: Action,
        #[case] kind: &str,
        #[case] name: &str,
        #[case] expected: &str,
    ) {
        let mut record = admission("db", 1);
        record.action = action;
        let object = record.object.as_mut().unwrap();
        (object.kind, object.name) = (Text::new(kind), Text::new(name));
        object.generate_name = Text::new("dbt-");
        let mut refused = record.clone();
        refused.outcome = RecordOutcome::Denied;
        let object = |record| {
            let line = Chain::new(id("a")).append(record);
            let stored = StoredLine::parse(line.json.as_bytes()).unwrap();
            let object = stored.author_object;
            object.map_or_else(String::new, |object| {
                format!("{}/{}/{}", object.namespace, object.kind, object.name)
            })
        };
        assert_eq!(object(record), expected);
        assert_eq!(object(refused), "");
    }

    #[test]
    fn namespace_is_in_itself() {
        let mut record = admission("db", 1);
        record.action = Action::AdmitDefaults;
        record.object = Some(ObjectFields {
            kind: Text::new("Namespace"),
            name: Text::new("web"),
            ..ObjectFields::default()
        });
        let line = Chain::new(id("a")).append(record);
        let stored = StoredLine::parse(line.json.as_bytes()).unwrap();
        let object = stored.author_object.unwrap();
        assert_eq!(
            (object.namespace, object.name),
            ("web".into(), "web".into())
        );
        assert!(!stored.has_other_author, "who writes defaults asks");
    }

    #[test]
    fn defaults_and_owners_have_other_authors() {
        let has_other = |change: &dyn Fn(&mut Record)| {
            let mut record = admission("db", 2);
            record.object.as_mut().unwrap().owner = None;
            change(&mut record);
            let line = Chain::new(id("a")).append(record);
            StoredLine::parse(line.json.as_bytes())
                .unwrap()
                .has_other_author
        };
        assert!(!has_other(&|_| ()));
        for origin in ["namespace", "serviceaccount"] {
            assert!(has_other(&|record| record.targets[1].origin = origin));
        }
        let owned = |record: &mut Record| record.object = admission("db", 1).object;
        assert!(has_other(&owned));
        assert!(!has_other(&|record| {
            owned(record);
            record.targets.clear();
        }));
        assert!(!has_other(&|record| {
            owned(record);
            record.outcome = RecordOutcome::Denied;
        }));
    }

    #[test]
    fn checkpoint_and_start_confirm_lines() {
        let tips = [Chain::new(id("b")).tip().clone()];
        let tip = Tip {
            seq: 3,
            ..tips[0].clone()
        };
        let mut chain = Chain::new(id("a"));
        let start = chain.append(emitter().start(Some(tip.clone())));
        let emitter: Emitter = emitter();
        let checkpoint = emitter.checkpoints(std::slice::from_ref(&tip)).remove(0);
        let checkpoint = chain.append_signed(checkpoint, &key(1));
        let retention = emitter.retention(std::slice::from_ref(&tip)).remove(0);
        let retention = chain.append_signed(retention, &key(1));
        let confirmed = |json: &str| StoredLine::parse(json.as_bytes()).unwrap().confirmed;
        assert_eq!(confirmed(&start.json), std::slice::from_ref(&tip));
        assert_eq!(confirmed(&checkpoint.json), [tip]);
        assert_eq!(confirmed(&retention.json), []);
    }

    #[test]
    fn line_of_a_newer_program_is_read() {
        let line = Chain::new(id("a")).append(admission("db", 1));
        let newer = line
            .json
            .replace(r#""v":1"#, r#""v":7,"w":{"x":[1]}"#)
            .replace(r#""class":"injection""#, r#""class":["one","two"]"#)
            .replace("pod.admit", "pod.evict");
        let stored = StoredLine::parse(newer.as_bytes()).unwrap();
        assert_eq!(
            (stored.json.as_str(), stored.class.as_str()),
            (newer.as_str(), "")
        );
        assert_eq!((stored.action.as_str(), stored.seq), ("pod.evict", 1));
    }

    #[rstest]
    #[case::bytes(b"\xff\xfe", InvalidLine::NotJson)]
    #[case::text(b"serving", InvalidLine::NotJson)]
    #[case::two_names(br#"{"v":1,"v":1}"#, InvalidLine::NotJson)]
    #[case::list(b"[1]", InvalidLine::Field("chain.id"))]
    #[case::number(b"1", InvalidLine::Field("chain.id"))]
    #[case::no_number(br#"{"chain":{"id":"a/1","seq":0}}"#, InvalidLine::Field("chain.seq"))]
    fn other_bytes_are_rejected(#[case] line: &[u8], #[case] expected: InvalidLine) {
        assert_eq!(StoredLine::parse(line), Err(expected));
    }

    #[test]
    fn length_is_limited() {
        let line = Chain::new(id("a")).append(fullest());
        assert!(StoredLine::parse(line.json.as_bytes()).is_ok());
        let padded = |length: usize| {
            let end = format!(r#","w":"{}"}}"#, "x".repeat(length - line.json.len() - 7));
            line.json.trim_end_matches('}').to_owned() + &end
        };
        assert_eq!(padded(MAX_LINE).len(), MAX_LINE);
        assert!(StoredLine::parse(padded(MAX_LINE).as_bytes()).is_ok());
        let longer = padded(MAX_LINE + 1);
        assert_eq!(
            StoredLine::parse(longer.as_bytes()),
            Err(InvalidLine::TooLong)
        );
    }

    #[test]
    fn reader_finds_lines_of_the_trail_in_a_log() {
        let line = Chain::new(id("a")).append(admission("db", 1));
        let (first, rest) = line.json.split_at(40);
        let log = format!(
            "{{\"level\":\"INFO\"}}\n2026-11-28T12:00:00.1Z stdout P {first}\n2026-11-28T12:00:00.2Z stdout F {rest}\n"
        );
        let mut reader = LineReader::default();
        let read = log.lines().filter_map(|line| reader.push(line.as_bytes()));
        let read: Vec<_> = read.map(|line| line.unwrap().json).collect();
        assert_eq!(read, [line.json]);
        assert_eq!(reader.finish().count(), 0);
    }
}
