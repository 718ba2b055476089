//! Line of an input of `verify`: the record in it, however a container runtime, kubectl or a log pipeline wrapped it.
//!
//! Inputs are our own lines, exports, `kubectl logs` (with `--timestamps` and `--prefix`), files of CRI runtimes, and
//! JSON whose fields a pipeline re-ordered or that it put into an object or a text of its own.

use serde_json::{Map, Value};

use super::canonical::{UniqueNames, canonical};
use super::digest::Digest;
use super::link::ChainId;
use super::record::MAX_INTEGER;
use super::signature::{PublicKey, Signature};

/// Levels of wrappers around a record.
const MAX_WRAPPERS: usize = 3;

/// Lines that a signed record is about, at most: more than ours have, so that later versions may have more.
const MAX_READ_TIPS: usize = 256;

/// Fields in which pipelines put what a container wrote. A record is not looked for elsewhere: an author of an object
/// could write a false one into a name.
const WRAPPERS: &[&str] = &[
    "log",
    "message",
    "msg",
    "line",
    "body",
    "stringValue",
    "_source",
    "event",
    "jsonPayload",
    "record",
];

/// Fields that each of our records has, and as many of them as an object of ours has after one was changed or removed.
const OUR_FIELDS: &[&str] = &["chain", "class", "cluster", "outcome", "service"];
const MIN_FIELDS: usize = 3;

/// A line of an input.
#[derive(Debug)]
pub(super) enum InputLine {
    /// Not of the trail, such as a line of the program's log.
    Other,
    /// Of the trail and not readable. `torn`: it only lacks its end.
    Broken {
        torn: bool,
    },
    Record(Box<ReadRecord>),
}

/// A line of a chain as a record or a checkpoint names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReadTip {
    pub chain: ChainId,
    pub seq: u64,
    pub hash: Digest,
}

/// Fields of a record that verification needs.
#[derive(Clone, Debug)]
pub(super) struct ReadRecord {
    pub chain: ChainId,
    pub seq: u64,
    pub prev: Digest,
    pub hash: Digest,
    pub action: String,
    /// Key of the signature, and whether it is right.
    pub signed: Option<(PublicKey, bool)>,
    pub tips: Vec<ReadTip>,
    pub new_key: Option<PublicKey>,
    pub predecessor: Option<ReadTip>,
}

/// RFC 8785 form of the record in a line, which is the line as it was written; `None` for other lines and broken ones.
pub(super) fn written_form(line: &[u8]) -> Option<String> {
    let text = without_prefix(std::str::from_utf8(line).ok()?);
    let object = outermost(text, MAX_WRAPPERS)?;
    canonical(&Value::Object(object))
}

/// Outermost object with our fields, as [`read_object`] finds it.
fn outermost(text: &str, wrappers: usize) -> Option<Map<String, Value>> {
    let Ok(UniqueNames(Value::Object(object))) = serde_json::from_str(text) else {
        return None;
    };
    outermost_in(object, wrappers)
}

fn outermost_in(mut object: Map<String, Value>, wrappers: usize) -> Option<Map<String, Value>> {
    if has_our_fields(&object) {
        return Some(object);
    }
    let wrappers = wrappers.checked_sub(1)?;
    WRAPPERS
        .iter()
        .find_map(|name| match object.swap_remove(*name) {
            Some(Value::Object(inner)) => outermost_in(inner, wrappers),
            Some(Value::String(text)) => outermost(text.trim_ascii(), wrappers),
            _ => None,
        })
}

fn has_our_fields(object: &Map<String, Value>) -> bool {
    let fields = OUR_FIELDS.iter().filter(|name| object.contains_key(**name));
    fields.count() >= MIN_FIELDS
}

/// Reads one line without its newline.
pub(super) fn read(line: &[u8]) -> InputLine {
    match std::str::from_utf8(line) {
        Ok(text) => read_text(without_prefix(text), MAX_WRAPPERS),
        // An error without a length is a character without its end.
        Err(error) => broken(line, error.error_len().is_none()),
    }
}

fn read_text(text: &str, wrappers: usize) -> InputLine {
    if !text.starts_with('{') {
        return broken(text.as_bytes(), false);
    }
    match serde_json::from_str(text) {
        Ok(UniqueNames(Value::Object(object))) => read_object(&object, wrappers),
        Ok(_) => InputLine::Other,
        Err(error) => broken(text.as_bytes(), error.is_eof()),
    }
}

/// Reads the outermost object that has our fields.
fn read_object(object: &Map<String, Value>, wrappers: usize) -> InputLine {
    if has_our_fields(object) {
        return record(object).map_or(InputLine::Broken { torn: false }, |record| {
            InputLine::Record(Box::new(record))
        });
    }
    let Some(wrappers) = wrappers.checked_sub(1) else {
        return InputLine::Other;
    };
    for name in WRAPPERS {
        let inner = match object.get(*name) {
            Some(Value::Object(inner)) => read_object(inner, wrappers),
            Some(Value::String(text)) => read_text(text.trim_ascii(), wrappers),
            _ => continue,
        };
        if !matches!(inner, InputLine::Other) {
            return inner;
        }
    }
    InputLine::Other
}

/// A line that is not JSON: one of ours if it has two names that each of ours has.
fn broken(line: &[u8], torn: bool) -> InputLine {
    const NAMES: [&[u8]; 4] = [b"\"chain", b"\"prev", b"\"seq", b"\"cluster"];
    let has = |name: &&[u8]| {
        let mut windows = line.windows(name.len() + 1);
        // The quote after it has a backslash before it in a text of a pipeline.
        windows
            .any(|window| window.starts_with(name) && matches!(window.last(), Some(b'"' | b'\\')))
    };
    if NAMES.iter().filter(|name| has(name)).count() >= 2 {
        InputLine::Broken { torn }
    } else {
        InputLine::Other
    }
}

/// Text after the prefixes of `kubectl logs`: `[pod/NAME/CONTAINER] ` and a timestamp.
fn without_prefix(text: &str) -> &str {
    let mut text = text.trim_ascii();
    if text.starts_with("[pod/") {
        text = text.split_once("] ").map_or(text, |(_, rest)| rest);
    }
    match text.split_once(' ') {
        Some((time, rest)) if is_time(time) => rest.trim_ascii_start(),
        _ => text,
    }
}

/// Whether a word is a timestamp of RFC 3339, as far as it has to be told from other words.
pub(super) fn is_time(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_digit() || b"-:.TZ+".contains(&byte);
    (20..=35).contains(&word.len()) && word.bytes().all(plain) && word.contains('T')
}

fn record(object: &Map<String, Value>) -> Option<ReadRecord> {
    let link = object.get("chain")?;
    let own = Value::Object(object.clone());
    let action = object
        .get("action")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let signed = match object.get("signature") {
        None => None,
        Some(signature) => Some(check(object, signature)?),
    };
    let tips = object.get("tips").and_then(Value::as_array);
    Some(ReadRecord {
        chain: ChainId::parse(link.get("id")?.as_str()?).ok()?,
        seq: seq(link)?,
        prev: Digest::parse(link.get("prev")?.as_str()?)?,
        hash: Digest::of(canonical(&own)?.as_bytes()),
        action: action.to_owned(),
        signed,
        tips: tips.map_or(Vec::new(), |tips| {
            tips.iter().take(MAX_READ_TIPS).filter_map(tip).collect()
        }),
        new_key: object
            .get("key")
            .and_then(|key| PublicKey::parse(key.as_str()?)),
        predecessor: object.get("predecessor").and_then(tip),
    })
}

/// Number of a line: 1 for the first.
fn seq(value: &Value) -> Option<u64> {
    let seq = value.get("seq")?.as_u64()?;
    (1..=MAX_INTEGER).contains(&seq).then_some(seq)
}

fn tip(value: &Value) -> Option<ReadTip> {
    Some(ReadTip {
        chain: ChainId::parse(value.get("chain")?.as_str()?).ok()?,
        seq: seq(value)?,
        hash: Digest::parse(value.get("hash")?.as_str()?)?,
    })
}

/// Key of a signature, and whether the signature is that of the record without it.
fn check(object: &Map<String, Value>, signature: &Value) -> Option<(PublicKey, bool)> {
    let text = |name: &str| signature.get(name).and_then(Value::as_str);
    let signature = Signature::parse(text("key")?, text("value")?)?;
    let mut rest = object.clone();
    rest.swap_remove("signature");
    let rest = canonical(&Value::Object(rest))?;
    Some((signature.key, signature.is_of(rest.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::{Chain, Line};
    use crate::audit::test_support::{admission, emitter, id, key};
    use rstest::rstest;
    use serde_json::json;

    fn line() -> Line {
        Chain::new(id("a")).append_signed(admission("db", 2), &key(1))
    }

    fn record_of(text: &str) -> ReadRecord {
        match read(text.as_bytes()) {
            InputLine::Record(record) => *record,
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn record_is_found_in_every_wrapper() {
        let line = line();
        let value: Value = serde_json::from_str(&line.json).unwrap();
        let mut fields: Vec<(String, Value)> =
            value.as_object().unwrap().clone().into_iter().collect();
        fields.reverse();
        let reordered: Map<String, Value> = fields.into_iter().collect();
        let time = "2026-11-28T12:00:00.123456789Z";
        let inputs = [
            line.json.clone(),
            format!("  {}\r", line.json),
            serde_json::to_string_pretty(&value).unwrap(),
            Value::Object(reordered).to_string(),
            format!("{time} {}", line.json),
            format!("[pod/audit-0/admin] {}", line.json),
            format!("[pod/audit-0/admin] {time} {}", line.json),
            json!({"log": value, "kubernetes": {"pod": "x"}}).to_string(),
            json!({"log": line.json.clone() + "\n", "stream": "stdout"}).to_string(),
            json!({"body": {"stringValue": line.json}}).to_string(),
            json!({"_source": {"message": json!({"log": line.json}).to_string()}}).to_string(),
        ];
        for input in inputs {
            let record = record_of(&input);
            assert_eq!((record.hash, record.seq), (line.hash, 1), "{input}");
            assert_eq!(record.signed, Some((key(1).public_key(), true)), "{input}");
            let written = written_form(input.as_bytes());
            assert_eq!(written.as_deref(), Some(line.json.as_str()), "{input}");
        }
    }

    #[test]
    fn record_in_a_name_is_not_read() {
        let inner = line().json;
        for input in [
            json!({"user": inner, "message": "admission"}).to_string(),
            json!({"kubernetes": {"log": inner}}).to_string(),
            format!("2026-11-28T12:00:00Z INFO admission user={inner}"),
            json!({"log": json!({"log": json!({"log": json!({"log": inner}).to_string()}).to_string()}).to_string()}).to_string(),
        ] {
            assert!(!matches!(read(input.as_bytes()), InputLine::Record(_)), "{input}");
            assert_eq!(written_form(input.as_bytes()), None, "{input}");
        }
        let mut record = admission("db", 1);
        record.object.as_mut().unwrap().name = crate::audit::text::Text::new(&inner);
        let outer = Chain::new(id("b")).append(record);
        assert_eq!(record_of(&outer.json).hash, outer.hash);
    }

    #[rstest]
    #[case::log(br#"{"level":"INFO","message":"serving"}"#, "Other")]
    #[case::text(b"panicked at chain", "Other")]
    #[case::empty(b"", "Other")]
    #[case::bytes(b"\xff{", "Other")]
    #[case::name_of_a_tenant(
        br#"{"message":"admission","user":"{\"chain\":{\"prev\":1"}"#,
        "Other"
    )]
    fn other_lines_are_passed_over(#[case] line: &[u8], #[case] expected: &str) {
        assert_eq!(format!("{:?}", read(line)), expected);
    }

    #[test]
    fn broken_lines_are_recognized() {
        let json = line().json;
        let torn = &json[..json.len() - 9];
        assert!(matches!(
            read(torn.as_bytes()),
            InputLine::Broken { torn: true }
        ));
        let twice = json.replacen('{', r#"{"cluster":"other","#, 1);
        let wrong = [
            json.replacen(r#"":""#, r#""":"#, 1),
            json.replace(r#""seq":1"#, r#""seq":-1"#),
            json.replace(r#""prev":"#, r#""prew":"#),
            twice,
        ];
        for line in wrong {
            let read = read(line.as_bytes());
            assert!(matches!(read, InputLine::Broken { torn: false }), "{line}");
        }
    }

    #[test]
    fn signature_of_a_changed_line_is_wrong() {
        let tip = emitter().start(None);
        let line = Chain::new(id("a")).append_signed(tip, &key(1));
        let changed = line.json.replace("success", "denied");
        assert_eq!(
            record_of(&changed).signed,
            Some((key(1).public_key(), false))
        );
    }
}
