//! Record of one action, as docs/AUDIT.md describes it: names, never a value, a key name, a token or a message.
//!
//! Fields are declared in the order of their written names, and values are texts, booleans, integers below 2^53, lists
//! and objects. So the line that is written is its own RFC 8785 form, and whoever re-orders it can restore it.
//! All texts are [`Text`]s or words of this program, so the longest record is known at compile time.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::{Serialize, Serializer};

use super::json::write_json;
use super::link::{ChainLink, Tip};
use super::signature::{PublicKey, Signature};
use super::target::{RecordPart, TargetSecret};
use super::text::{Text, TextList};

/// Version of the record. Added fields do not change it; a field that means something else does.
pub const VERSION: u64 = 1;

/// Largest integer that every JSON reader keeps exactly.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Bytes that most lines have at most.
const LINE_CAPACITY: usize = 2 << 10;

const TIME_PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(9));

words! {
    /// Action that a record is about.
    Action {
        /// Admission of a Namespace's or ServiceAccount's annotations, which are defaults.
        AdmitDefaults = "defaults.admit",
        AdmitPod = "pod.admit",
        /// Admission of an object with a pod template.
        AdmitWorkload = "workload.admit",
        /// Signed: the last lines of chains.
        Checkpoint = "system.checkpoint",
        /// Records that were not kept.
        Gap = "system.gap",
        /// Signed by the key before: a new key.
        Key = "system.key",
        /// Signed: the last lines of the parts of chains that are deleted.
        Retention = "system.retention",
        /// First record of a chain.
        Start = "system.start",
        /// Last record of a chain.
        Stop = "system.stop",
    }
}

words! {
    Class {
        Admin = "admin",
        Authn = "authn",
        Authz = "authz",
        Data = "data",
        Injection = "injection",
        /// Rules that decide later admissions, such as defaults.
        Policy = "policy",
        System = "system",
    }
}

words! {
    RecordOutcome {
        Denied = "denied",
        Error = "error",
        Failure = "failure",
        Success = "success",
        /// The process ended between the intent and its completion.
        Unknown = "unknown",
    }
}

words! {
    /// Records of an act that needs two: one before it, and one after.
    Phase {
        Complete = "complete",
        Intent = "intent",
    }
}

/// Identity of the requester.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Actor {
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub auth_method: Text<32>,
    /// Client that the token was issued to.
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub azp: Text<128>,
    /// Id of the credential, never the credential: `jti` of a token, or what the API server calls `credential-id`.
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub credential_id: Text<128>,
    #[serde(skip_serializing_if = "TextList::is_empty")]
    pub groups: TextList<64>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub issuer: Text<256>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub realm: Text<63>,
    #[serde(skip_serializing_if = "TextList::is_empty")]
    pub roles: TextList<64>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub subject: Text<256>,
    /// Kind of the identity, such as `kubernetes` or `oidc`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub uid: Text<128>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub username: Text<256>,
}

/// Answer of the authorization to whether the actor may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Authorization {
    pub allowed: bool,
    pub engine: &'static str,
    pub reason: &'static str,
}

/// Object of an admission, as far as its create knows it: there is no uid yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ObjectFields {
    /// Prefix of a name that the API server generates.
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub generate_name: Text<253>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub kind: Text<63>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub name: Text<253>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub namespace: Text<63>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerFields>,
    /// `ServiceAccount` of a pod or template, if its defaults ask for a secret.
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub service_account: Text<253>,
}

/// Controller owner reference of an object. Anybody may write one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OwnerFields {
    pub kind: Text<63>,
    pub name: Text<253>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub uid: Text<64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RequestFields {
    /// Uid of the AdmissionReview's request; also in the cluster's audit log.
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub admission_uid: Text<128>,
    /// Value of `audit.floe.dev/event` that the pod had before. Anybody may write one.
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub found_event: Text<128>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub id: Text<128>,
    /// Operation of the review, or method of HTTP.
    pub method: &'static str,
    /// Entry that received the review, or route of HTTP.
    pub route: &'static str,
}

/// Sender of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SourceFields {
    /// Trust in the connection: `verified`, `declared` or `unverified`.
    pub channel: &'static str,
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub ip: Text<64>,
    /// Kind of peer that has the address: `apiserver` for an admission, whose requester's address is not known.
    pub kind: &'static str,
    /// Addresses that proxies name, nearest last.
    #[serde(skip_serializing_if = "TextList::is_empty")]
    pub proxy_chain: TextList<45>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub user_agent: Text<128>,
}

/// Program, as each record names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Service {
    pub name: &'static str,
    /// Name of the pod.
    pub replica: Text<253>,
    pub version: &'static str,
}

/// Number of records, and the times of the first and the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Interval {
    #[serde(serialize_with = "integer")]
    pub count: u64,
    #[serde(serialize_with = "nanoseconds")]
    pub from: Timestamp,
    #[serde(serialize_with = "nanoseconds")]
    pub to: Timestamp,
}

/// One record. [`Chain`](super::chain::Chain) numbers, links and writes it; [`parts`](super::parts::parts) splits one
/// with many targets. Made by an [`Emitter`](super::emitter::Emitter).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    pub action: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) chain: Option<ChainLink>,
    pub class: Class,
    pub cluster: Text<128>,
    /// Decision of an admission, as in log and metrics.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub decision: &'static str,
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "some_integer"
    )]
    pub duration_us: Option<u64>,
    /// Records that were not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<Interval>,
    /// Id of the record; parts of one record share it.
    pub id: Text<64>,
    /// New public key that the key before announces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<PublicKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectFields>,
    pub outcome: RecordOutcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) part: Option<RecordPart>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Last line of the chain of the process before, in the same pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) predecessor: Option<Tip>,
    /// Row of the error table, or a reason to skip.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: &'static str,
    /// Refusals like this one that have no record of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Interval>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestFields>,
    pub service: Service,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signature: Option<Signature>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceFields>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub span_id: Text<32>,
    /// Status of the HTTP response, or of the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Secrets that the action was about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetSecret>,
    #[serde(serialize_with = "nanoseconds")]
    pub time: Timestamp,
    /// Lines that a checkpoint or a retention record is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tips: Vec<Tip>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub trace_id: Text<64>,
    pub(super) v: u64,
}

impl Record {
    /// Writes the record without a newline.
    pub(super) fn to_json(&self) -> String {
        String::from_utf8(self.to_bytes()).unwrap_or_default()
    }

    /// Bytes of [`Self::to_json`].
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(LINE_CAPACITY);
        // Records have no values that cannot be written.
        let _ = write_json(self, &mut json);
        json
    }
}

/// Writes an integer that every reader keeps exactly; larger ones as the largest of these.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes the field by reference"
)]
fn integer<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64((*value).min(MAX_INTEGER))
}

#[expect(clippy::ref_option, reason = "serde passes the field by reference")]
fn some_integer<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    integer(&value.unwrap_or_default(), serializer)
}

/// Writes a time with nine digits of the second, so that texts of times are sorted as times are.
fn nanoseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&TIME_PRINTER.timestamp_to_string(time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::canonical::canonical;
    use crate::audit::chain::Chain;
    use crate::audit::test_support::{admission, emitter, fullest, id};

    #[test]
    fn record_is_written_in_its_canonical_form() {
        let mut chain = Chain::new(id("a"));
        for record in [emitter().start(None), admission("db", 1), fullest()] {
            let line = chain.append(record);
            let value: serde_json::Value = serde_json::from_str(&line.json).unwrap();
            assert_eq!(canonical(&value).as_ref(), Some(&line.json));
            assert!(!line.json.contains("null"), "{}", line.json);
        }
    }

    #[test]
    fn record_has_the_documented_form() {
        let line = Chain::new(id("a")).append(admission("db", 1));
        let expected = include_str!("../../docs/AUDIT.md")
            .lines()
            .find(|line| line.starts_with(r#"{"action":"pod.admit""#))
            .expect("an example in docs/AUDIT.md");
        assert_eq!(line.json, expected);
    }

    #[test]
    fn record_keeps_integers_exact_and_times_sortable() {
        let mut record = admission("db", 1);
        record.duration_us = Some(u64::MAX);
        record.time = Timestamp::from_second(1).unwrap();
        let json = Chain::new(id("a")).append(record).json;
        assert!(
            json.contains(r#""duration_us":9007199254740991,"#),
            "{json}"
        );
        assert!(
            json.contains(r#""time":"1970-01-01T00:00:01.000000000Z""#),
            "{json}"
        );
    }
}
