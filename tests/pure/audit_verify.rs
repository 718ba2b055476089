//! Verification of the audit trail: every single edit of a trail is found and named, and no intact trail is blamed.
//!
//! Trails are made at random from a seed, which a failure prints: processes that stop and are killed, lost records, key
//! rotation, retention, and every form in which lines are kept. `--ignored` runs 10,000 edits.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper of a test fails as the test does"
)]

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use floe_secrets_webhook::audit::chain::Chain;
use floe_secrets_webhook::audit::digest::Digest;
use floe_secrets_webhook::audit::emitter::Emitter;
use floe_secrets_webhook::audit::link::{ChainId, Tip};
use floe_secrets_webhook::audit::parts::parts;
use floe_secrets_webhook::audit::record::{
    Action, Actor, Class, Interval, Record, RecordOutcome, Service,
};
use floe_secrets_webhook::audit::signature::SigningKey;
use floe_secrets_webhook::audit::target::TargetSecret;
use floe_secrets_webhook::audit::text::Text;
use floe_secrets_webhook::audit::verify::{
    TrailFindingKind as Kind, TrailReport, Verdict, Verifier, VerifyOptions,
};
use jiff::SignedDuration;
use serde_json::{Map, Value, json};

/// Trail of one cluster in the order of its store.
struct Trail {
    lines: Vec<String>,
    /// Last checkpoint, as a copy outside of the cluster has it.
    outside: Vec<String>,
    key: SigningKey,
}

/// Maker of a trail.
struct Maker {
    random: Rng,
    emitter: Emitter,
    lines: Vec<String>,
    /// Running processes of `serve`.
    running: Vec<Chain>,
    /// Last lines of all chains but that of `admin`.
    tips: BTreeMap<ChainId, Tip>,
    admin: Chain,
    key: SigningKey,
    starts: u64,
}

fn signing_key(random: &mut Rng) -> SigningKey {
    let mut seed = [0; 32];
    random.fill(&mut seed);
    SigningKey::from_seed(&seed).unwrap()
}

impl Maker {
    fn new(mut random: Rng) -> Self {
        let service = Service {
            name: "serve",
            replica: Text::new("floe-secrets-webhook-0"),
            version: "0.1.0",
        };
        let mut maker = Self {
            emitter: Emitter {
                cluster: Text::new("prod"),
                service,
                time: "2026-11-28T12:00:00Z".parse().unwrap(),
                id: Text::default(),
            },
            lines: Vec::new(),
            running: Vec::new(),
            tips: BTreeMap::new(),
            admin: Chain::new(ChainId::parse("admin-uid/1").unwrap()),
            key: signing_key(&mut random),
            starts: 0,
            random,
        };
        let start = maker.next().start(None);
        let line = maker.admin.append(start);
        maker.lines.push(line.json);
        for pod in 0..2 {
            maker.start(&format!("serve-uid-{pod}"), None);
        }
        maker
    }

    /// Emitter of the next record, some time later.
    fn next(&mut self) -> Emitter {
        self.emitter.time += SignedDuration::from_millis(self.random.i64(1..2_000));
        self.emitter.id = Text::new(&format!("{:032x}", self.random.u128(..)));
        self.emitter.clone()
    }

    fn start(&mut self, pod: &str, predecessor: Option<Tip>) {
        self.starts += 1;
        let id = ChainId::parse(&format!("{pod}/{}", self.starts)).unwrap();
        self.running.push(Chain::new(id));
        let record = self.next().start(predecessor);
        self.append(self.running.len() - 1, record);
    }

    fn append(&mut self, at: usize, record: Record) {
        let chain = &mut self.running[at];
        let line = chain.append(record);
        self.tips
            .insert(chain.tip().chain.clone(), chain.tip().clone());
        self.lines.push(line.json);
    }

    fn signed(&mut self, record: Record) -> String {
        let line = self.admin.append_signed(record, &self.key);
        self.lines.push(line.json.clone());
        line.json
    }

    fn checkpoint(&mut self) -> Vec<String> {
        let tips: Vec<Tip> = self
            .tips
            .values()
            .cloned()
            .chain([self.admin.tip().clone()])
            .collect();
        let records = self.next().checkpoints(&tips);
        records
            .into_iter()
            .map(|record| self.signed(record))
            .collect()
    }

    fn admission(&mut self) -> Record {
        let names = ["db", "s3", "snowflake", "kafka \"x\"", "naïve\u{202e}"];
        let mut record =
            self.next()
                .record(Class::Injection, Action::AdmitPod, RecordOutcome::Success);
        record.actor = Some(Actor {
            kind: "kubernetes",
            username: Text::new("system:serviceaccount:kube-system:job-controller"),
            ..Actor::default()
        });
        record.decision = "injected";
        record.duration_us = Some(self.random.u64(1..10_000));
        let targets = if self.random.u8(..) < 8 {
            70
        } else {
            self.random.usize(1..4)
        };
        for _ in 0..targets {
            record.targets.push(TargetSecret {
                backend: Text::new("kubernetes"),
                name: Text::new(names[self.random.usize(..names.len())]),
                namespace: Text::new("jobs"),
                origin: "pod",
            });
        }
        if self.random.u8(..) < 30 {
            record.outcome = RecordOutcome::Denied;
            let (from, to) = (record.time, record.time + SignedDuration::from_secs(60));
            record.repeat = Some(Interval {
                count: self.random.u64(1..99),
                from,
                to,
            });
        }
        record
    }

    /// A process ends, killed or not, and another one starts in its pod.
    fn restart(&mut self) {
        let at = self.random.usize(..self.running.len());
        if self.random.bool() {
            let stop = self.next().stop();
            self.append(at, stop);
        }
        let tip = self.running.swap_remove(at).tip().clone();
        let pod = tip.chain.pod_uid().to_owned();
        let is_known = self.random.bool();
        self.start(&pod, is_known.then_some(tip));
    }

    /// The oldest lines of a chain are deleted.
    fn retain(&mut self) {
        let chain = &self
            .tips
            .keys()
            .nth(self.random.usize(..self.tips.len()))
            .unwrap()
            .clone();
        let line_of = |line: &String| {
            let value: Value = serde_json::from_str(line).unwrap();
            let is_this = value["chain"]["id"] == chain.as_str();
            is_this.then(|| {
                (
                    value["chain"]["seq"].as_u64().unwrap(),
                    Digest::of(line.as_bytes()),
                )
            })
        };
        let lines: Vec<_> = self.lines.iter().filter_map(line_of).collect();
        let Some(at) = lines.len().checked_sub(1) else {
            return;
        };
        let (seq, hash) = lines[self.random.usize(..=at)];
        let tip = Tip {
            chain: chain.clone(),
            hash,
            seq,
        };
        for record in self.next().retention(&[tip]) {
            self.signed(record);
        }
        self.lines
            .retain(|line| line_of(line).is_none_or(|(number, _)| number > seq));
    }

    fn step(&mut self) {
        match self.random.u8(..100) {
            0..3 => self.restart(),
            3..8 => drop(self.checkpoint()),
            8..9 => {
                let next = signing_key(&mut self.random);
                let record = self.next().key(next.public_key());
                self.signed(record);
                self.key = next;
            }
            9..11 => self.retain(),
            11..14 => {
                let emitter = self.next();
                let (count, from) = (self.random.u64(1..50), self.emitter.time);
                let gap = emitter.gap(Interval {
                    count,
                    from,
                    to: from,
                });
                let at = self.random.usize(..self.running.len());
                self.append(at, gap);
            }
            _ => {
                let at = self.random.usize(..self.running.len());
                for part in parts(self.admission()) {
                    self.append(at, part);
                }
            }
        }
    }

    fn trail(random: Rng, steps: usize) -> Trail {
        let mut maker = Self::new(random);
        for _ in 0..steps {
            maker.step();
        }
        let outside = maker.checkpoint();
        Trail {
            lines: maker.lines,
            outside,
            key: maker.key,
        }
    }
}

/// Form in which lines are kept.
#[derive(Clone, Copy, Debug)]
enum Form {
    Plain,
    /// `kubectl logs --prefix --timestamps`, with lines of the program's log between.
    Kubectl,
    /// File of a CRI runtime, with split lines and with stderr.
    Cri,
    /// `jq -cS`, here with the names in the opposite order.
    Reordered,
    /// `jq`.
    Indented,
    Nested,
    Quoted,
}

const FORMS: [Form; 7] = [
    Form::Plain,
    Form::Kubectl,
    Form::Cri,
    Form::Reordered,
    Form::Indented,
    Form::Nested,
    Form::Quoted,
];

fn reversed(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields
                .into_iter()
                .map(|(name, value)| (name, reversed(value)));
            let mut fields: Vec<_> = fields.collect();
            fields.reverse();
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(reversed).collect()),
        other => other,
    }
}

fn written(line: &str, form: Form, random: &mut Rng) -> String {
    let value = || serde_json::from_str::<Value>(line).unwrap();
    let time = "2026-11-28T12:00:00.123456789Z";
    match form {
        Form::Plain => line.to_owned(),
        Form::Kubectl => {
            let log = r#"{"timestamp":"2026-11-28T12:00:00Z","level":"INFO","message":"admission","chain":"x"}"#;
            format!("{log}\n[pod/serve-0/webhook] {time} {line}\n{time} serving")
        }
        Form::Cri => {
            let at = line.floor_char_boundary(random.usize(..line.len()));
            let (head, tail) = line.split_at(at);
            format!("{time} stdout P {head}\n{time} stderr F chain prev {{\n{time} stdout F {tail}")
        }
        Form::Reordered => reversed(value()).to_string(),
        Form::Indented => serde_json::to_string_pretty(&value()).unwrap(),
        Form::Nested => json!({"kubernetes": {"pod": "serve-0"}, "log": value()}).to_string(),
        Form::Quoted => json!({"log": format!("{line}\n"), "stream": "stdout"}).to_string(),
    }
}

fn verified(input: &[u8], outside: &[String]) -> TrailReport {
    let mut verifier = Verifier::new(VerifyOptions::default());
    for checkpoint in outside {
        verifier.trust(checkpoint.as_bytes()).unwrap();
    }
    for line in input.split(|byte| *byte == b'\n') {
        verifier.push(line);
    }
    verifier.finish()
}

fn damage(report: &TrailReport) -> BTreeSet<&'static str> {
    let kinds = report.findings.iter().map(|finding| finding.kind);
    kinds
        .filter(|kind| kind.is_damage())
        .map(Kind::as_str)
        .collect()
}

#[test]
fn intact_trails_are_not_blamed() {
    for seed in 0..100 {
        let mut random = Rng::with_seed(seed);
        let trail = Maker::trail(random.fork(), 50);
        let form = FORMS[usize::try_from(seed).unwrap() % FORMS.len()];
        let mut input = String::new();
        for line in &trail.lines {
            input += &written(line, form, &mut random);
            input.push('\n');
            // A killed process leaves a line without its end.
            if random.u8(..) < 4 {
                input += &line[..line.floor_char_boundary(line.len() / 2)];
                input.push('\n');
            }
        }
        for outside in [&trail.outside[..], &[]] {
            let report = verified(input.as_bytes(), outside);
            let found = damage(&report);
            assert!(
                found.is_empty(),
                "seed {seed}, {form:?}: {:#?}",
                report.findings
            );
            assert_eq!(report.verdict(), Verdict::Intact);
            assert_eq!(report.records, trail.lines.len() as u64);
            assert!(
                report
                    .chains
                    .iter()
                    .all(|chain| chain.intact_to == chain.last)
            );
            assert!(report.chains.iter().all(|chain| chain.confirmed_to > 0));
        }
    }
}

/// Edit of one trail, and the names of which at least one has to be found.
struct Edit {
    name: &'static str,
    input: Vec<u8>,
    expected: &'static [Kind],
}

fn joined(lines: &[String]) -> Vec<u8> {
    (lines.join("\n") + "\n").into_bytes()
}

fn chain_of(line: &str) -> (String, u64) {
    let value: Value = serde_json::from_str(line).unwrap();
    let id = value["chain"]["id"].as_str().unwrap().to_owned();
    (id, value["chain"]["seq"].as_u64().unwrap())
}

/// Places of the lines of one chain that has at least `least` of them.
fn chain_lines(trail: &Trail, least: usize, random: &mut Rng) -> Vec<usize> {
    let mut chains: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, line) in trail.lines.iter().enumerate() {
        chains.entry(chain_of(line).0).or_default().push(at);
    }
    let chains: Vec<Vec<usize>> = chains
        .into_values()
        .filter(|at| at.len() >= least)
        .collect();
    chains[random.usize(..chains.len())].clone()
}

/// Changes one value somewhere in the JSON, or adds or removes a field.
fn change(value: &mut Value, random: &mut Rng) {
    match value {
        Value::Object(fields) => match random.u8(..10) {
            0 => {
                fields.insert("added".to_owned(), json!("x"));
            }
            1 => {
                let name = fields
                    .keys()
                    .nth(random.usize(..fields.len()))
                    .unwrap()
                    .clone();
                fields.shift_remove(&name);
            }
            _ => {
                let at = random.usize(..fields.len());
                change(fields.values_mut().nth(at).unwrap(), random);
            }
        },
        Value::Array(items) => {
            let at = random.usize(..items.len());
            change(&mut items[at], random);
        }
        Value::String(text) => {
            // Another text of the same kind, so that the rest of the line can be read.
            let digit = if text.ends_with('0') { "1" } else { "0" };
            text.pop();
            text.push_str(digit);
        }
        Value::Number(number) => *value = json!(number.as_u64().unwrap() + random.u64(1..9)),
        other => *other = json!("x"),
    }
}

/// Links, signs and writes a changed record again, as an intruder with another key would.
fn forged(line: &str, prev: &str, key: Option<&SigningKey>) -> (String, String) {
    let mut value: Value = serde_json::from_str(line).unwrap();
    value["chain"]["prev"] = json!(prev);
    let fields = value.as_object_mut().unwrap();
    if let (Some(_), Some(key)) = (fields.shift_remove("signature"), key) {
        let signature = key.sign(sorted(fields).as_bytes());
        fields.insert("signature".to_owned(), json!(signature));
    }
    let json = sorted(fields);
    let hash = Digest::of(json.as_bytes()).to_string();
    (json, hash)
}

/// JSON with sorted names.
fn sorted(fields: &Map<String, Value>) -> String {
    fn sort(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let fields: BTreeMap<_, _> = fields.iter().collect();
                let fields = fields
                    .into_iter()
                    .map(|(name, value)| (name.clone(), sort(value)));
                Value::Object(fields.collect())
            }
            Value::Array(items) => Value::Array(items.iter().map(sort).collect()),
            other => other.clone(),
        }
    }
    sort(&Value::Object(fields.clone())).to_string()
}

/// Lines of a chain from `from` on as an intruder would have written them: other contents, and right links.
fn rewritten(trail: &Trail, lines: &[usize], key: &SigningKey, random: &mut Rng) -> Vec<String> {
    let first: Value = serde_json::from_str(&trail.lines[lines[0]]).unwrap();
    let mut prev = first["chain"]["prev"].as_str().unwrap().to_owned();
    let mut forgeries = Vec::new();
    for at in lines {
        let mut value: Value = serde_json::from_str(&trail.lines[*at]).unwrap();
        value["duration_us"] = json!(random.u64(20_000..90_000));
        let (json, hash) = forged(&value.to_string(), &prev, Some(key));
        forgeries.push(json);
        prev = hash;
    }
    forgeries
}

/// Names for a change of a line. The number and the chain of the first line after deleted ones have no line before them
/// that would confirm its place.
fn changed(trail: &Trail, at: usize) -> &'static [Kind] {
    let (chain, seq) = chain_of(&trail.lines[at]);
    let is_first = !trail.lines[..at]
        .iter()
        .any(|line| chain_of(line).0 == chain);
    if is_first && seq > 1 {
        &[Kind::Changed, Kind::Missing, Kind::Moved]
    } else {
        &[Kind::Changed]
    }
}

fn bit(trail: &Trail, random: &mut Rng) -> Edit {
    let mut lines: Vec<Vec<u8>> = trail
        .lines
        .iter()
        .map(|line| line.clone().into_bytes())
        .collect();
    let at = random.usize(..lines.len());
    let byte = random.usize(..lines[at].len());
    lines[at][byte] ^= 1 << random.u8(..8);
    let is_last = at + 1 == lines.len();
    Edit {
        name: "bit",
        input: lines.join(&b'\n'),
        // The last line of an input without its last quote or brace is one that was cut off.
        expected: if is_last {
            &[Kind::Changed, Kind::TailCut]
        } else {
            changed(trail, at)
        },
    }
}

fn field(trail: &Trail, random: &mut Rng) -> Edit {
    let mut lines = trail.lines.clone();
    let at = random.usize(..lines.len());
    let mut value: Value = serde_json::from_str(&lines[at]).unwrap();
    change(&mut value, random);
    lines[at] = sorted(value.as_object().unwrap());
    Edit {
        name: "field",
        input: joined(&lines),
        expected: changed(trail, at),
    }
}

fn delete(trail: &Trail, random: &mut Rng) -> Edit {
    let chain = chain_lines(trail, 1, random);
    let at = random.usize(..chain.len());
    let mut lines = trail.lines.clone();
    lines.remove(chain[at]);
    let is_tail = at + 1 == chain.len() && chain.len() > 1;
    Edit {
        name: "delete",
        input: joined(&lines),
        expected: if is_tail {
            &[Kind::TailCut]
        } else {
            &[Kind::Missing]
        },
    }
}

fn swap(trail: &Trail, random: &mut Rng) -> Edit {
    let chain = chain_lines(trail, 2, random);
    let first = random.usize(..chain.len() - 1);
    let second = random.usize(first + 1..chain.len());
    let mut lines = trail.lines.clone();
    lines.swap(chain[first], chain[second]);
    Edit {
        name: "swap",
        input: joined(&lines),
        expected: &[Kind::Moved],
    }
}

fn duplicate(trail: &Trail, random: &mut Rng) -> Edit {
    let mut lines = trail.lines.clone();
    let line = lines[random.usize(..lines.len())].clone();
    lines.insert(random.usize(..=lines.len()), line);
    Edit {
        name: "duplicate",
        input: joined(&lines),
        expected: &[Kind::Duplicate],
    }
}

/// Some lines of a chain in the middle become others, linked among each other.
fn splice(trail: &Trail, random: &mut Rng) -> Edit {
    let chain = chain_lines(trail, 3, random);
    let first = random.usize(..chain.len() - 1);
    let end = random.usize(first + 1..chain.len());
    let mut lines = trail.lines.clone();
    let forgeries = rewritten(trail, &chain[first..end], &trail.key, random);
    for (at, forgery) in chain[first..end].iter().zip(forgeries) {
        lines[*at] = forgery;
    }
    Edit {
        name: "splice",
        input: joined(&lines),
        expected: &[Kind::Changed],
    }
}

fn truncate(trail: &Trail, random: &mut Rng) -> Edit {
    let mut input = joined(&trail.lines);
    input.truncate(random.usize(..input.len() - 1));
    // Chains of which nothing is left are missing.
    Edit {
        name: "truncate",
        input,
        expected: &[Kind::TailCut, Kind::Missing],
    }
}

/// A chain has another end, beside the real one or instead of it.
fn fork(trail: &Trail, random: &mut Rng) -> Edit {
    let chain = chain_lines(trail, 3, random);
    let first = random.usize(..chain.len() - 1);
    let mut lines = trail.lines.clone();
    let forgeries = rewritten(trail, &chain[first..], &trail.key, random);
    if random.bool() {
        for (at, forgery) in chain[first..].iter().zip(forgeries) {
            lines[*at] = forgery;
        }
        // The checkpoint's line is the last one, which could have been changed alone.
        return Edit {
            name: "fork instead",
            input: joined(&lines),
            expected: &[Kind::TwoHistories, Kind::Changed],
        };
    }
    let at = random.usize(chain[first]..=lines.len());
    lines.splice(at..at, forgeries);
    Edit {
        name: "fork beside",
        input: joined(&lines),
        expected: &[Kind::TwoHistories],
    }
}

/// A signed record is signed by another key, with or without new links after it.
fn foreign_signature(trail: &Trail, random: &mut Rng) -> Edit {
    let is_signed = |line: &&String| line.contains(r#""signature":{"#);
    let count = trail.lines.iter().filter(is_signed).count();
    let chosen = trail
        .lines
        .iter()
        .filter(is_signed)
        .nth(random.usize(..count))
        .unwrap();
    let at = trail.lines.iter().position(|line| line == chosen).unwrap();
    let key = signing_key(random);
    let mut lines = trail.lines.clone();
    let value: Value = serde_json::from_str(chosen).unwrap();
    let mut prev = value["chain"]["prev"].as_str().unwrap().to_owned();
    let admin = chain_of(chosen).0;
    for line in &mut lines[at..] {
        if chain_of(line).0 == admin {
            (*line, prev) = forged(line, &prev, Some(&key));
        }
    }
    Edit {
        name: "foreign signature",
        input: joined(&lines),
        expected: &[Kind::ForeignSignature],
    }
}

const EDITS: [fn(&Trail, &mut Rng) -> Edit; 9] = [
    bit,
    field,
    delete,
    swap,
    duplicate,
    splice,
    truncate,
    fork,
    foreign_signature,
];

/// Makes edits at random. Returns a table of the names found for each kind of edit.
fn check_edits(count: u64) -> String {
    let mut named: BTreeMap<(&str, Vec<&str>), usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for (seed, edit) in (0..count).zip(EDITS.iter().cycle()) {
        let mut random = Rng::with_seed(seed);
        let steps = random.usize(10..40);
        let trail = Maker::trail(random.fork(), steps);
        let edit = edit(&trail, &mut random);
        let report = verified(&edit.input, &trail.outside);
        let found = damage(&report);
        if !edit
            .expected
            .iter()
            .any(|kind| found.contains(kind.as_str()))
        {
            failures.push(format!(
                "seed {seed}, {}: {:#?}",
                edit.name, report.findings
            ));
        }
        *named
            .entry((edit.name, found.into_iter().collect()))
            .or_default() += 1;
    }
    let count = failures.len();
    failures.truncate(5);
    assert!(
        failures.is_empty(),
        "{count} edits: {}",
        failures.join("\n")
    );
    let row = |((name, found), count): (&(&str, Vec<&str>), &usize)| {
        format!("{name:18} {count:5} {}", found.join(", "))
    };
    named.iter().map(row).collect::<Vec<_>>().join("\n")
}

#[test]
fn edits_are_found_and_named() {
    println!("{}", check_edits(180));
}

#[test]
#[ignore = "minutes; for changes of the verification"]
fn edits_are_found_and_named_ten_thousand_times() {
    println!("{}", check_edits(10_000));
}
