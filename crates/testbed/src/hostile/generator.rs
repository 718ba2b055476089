//! Random reviews of an attacker.
//!
//! The generator knows the annotations, names, patterns, YAML, and the limits of the contract. The same seed gives the
//! same reviews.

use std::fmt::Write as _;

use fastrand::Rng;
use serde_json::{Value, json};

use super::{HostileReview, list, quoted, review};

/// Generator of random reviews.
pub struct Generator {
    random: Rng,
}

const PATHS: [&str; 5] = [
    "/admit/pods",
    "/admit/defaults/pods",
    "/admit/workloads",
    "/admit/defaults/workloads",
    "/admit/sources",
];
const KEYS: [&str; 13] = [
    "env-from",
    "refs",
    "containers",
    "init-containers",
    "on-missing",
    "reload",
    "inject",
    "injected",
    "inherited",
    "env.",
    "infisical.",
    "env-form",
    "",
];
/// Limit of a body at the admission port.
const MAX_BODY: usize = 8 << 20;

const LENGTHS: [usize; 9] = [0, 1, 8, 48, 63, 64, 253, 254, 2_000];
const COUNTS: [usize; 11] = [0, 1, 2, 10, 31, 33, 64, 65, 255, 257, 600];

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Rng::with_seed(seed),
        }
    }

    fn choose<T: Copy>(&mut self, options: &[T]) -> T {
        options[self.random.usize(..options.len())]
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.u32(..100) < percent
    }

    /// Mostly a small length; sometimes as long as a review may be.
    fn length(&mut self) -> usize {
        match self.random.u32(..1000) {
            0..900 => self.choose(&LENGTHS),
            900..990 => self.random.usize(..100_000),
            _ => self.random.usize(..2_000_000),
        }
    }

    fn count(&mut self) -> usize {
        match self.random.u32(..1000) {
            0..950 => self.choose(&COUNTS),
            950..998 => self.random.usize(..5_000),
            _ => self.random.usize(..130_000),
        }
    }

    fn name(&mut self) -> String {
        match self.random.u32(..6) {
            0 => format!("s-{}", self.random.u32(..70)),
            1 => format!("keys-{}", self.random.u32(..70)),
            2 => "a".repeat(self.length()),
            3 => format!(
                "{}-{}",
                "x".repeat(self.choose(&[8, 240])),
                self.random.u32(..1000)
            ),
            4 => [
                "../x", "A", "a..b", "a/b", "vault:a", "env:A/b", "é", "a\u{0}b", "\"", "\\",
            ][self.random.usize(..10)]
            .to_owned(),
            _ => "db".to_owned(),
        }
    }

    fn reference(&mut self) -> String {
        let name = self.name();
        match self.random.u32(..5) {
            0 => name,
            1 => format!("{name}/*"),
            2 => format!("{name}/key-{:04}", self.random.u32(..1200)),
            3 => format!("kubernetes:{name}/kye-{:04}", self.random.u32(..1200)),
            _ => format!("{name}/{}", "k".repeat(self.choose(&LENGTHS))),
        }
    }

    fn pattern(&mut self) -> String {
        let times = self.choose(&[1, 10, 31, 63, 120]);
        let part = self.choose(&["*a", "?", "a", "*", "**b", "a*?"]);
        format!("{}{}", part.repeat(times), self.choose(&["", "b", "*"]))
    }

    /// Text of `count` items that stops growing at `most` bytes.
    fn items(&mut self, max_bytes: usize, item: impl Fn(&mut Self) -> String) -> String {
        let (count, separator) = (self.count(), self.choose(&[",", " ", "\n", ",,"]));
        let mut text = String::new();
        for _ in 0..count {
            if text.len() > max_bytes {
                break;
            }
            text.push_str(&item(self));
            text.push_str(separator);
        }
        text
    }

    fn yaml(&mut self) -> String {
        let count = self.count();
        match self.random.u32(..6) {
            0 => format!(
                "- &a {}\n{}",
                "x".repeat(self.length()),
                "- *a\n".repeat(count)
            ),
            1 => format!(
                "a: &a [{}]\nb: &b [{}]\nc: [{}]",
                "x,".repeat(9),
                "*a,".repeat(9),
                "*b,".repeat(count)
            ),
            2 => "[".repeat(count),
            3 => (0..count).fold(String::new(), |mut text, n| {
                writeln!(text, "- {{name: s-{}, key: key-{n:04}}}", n % 64).ok();
                text
            }),
            4 => format!(
                "[{}]",
                list(count, |n| format!(r#"{{"name":"s-{}","key":"*"}}"#, n % 70))
            ),
            _ => format!("- name: |\n    {}\n", "y".repeat(self.length())),
        }
    }

    fn annotations(&mut self, max_bytes: usize) -> Value {
        let mut annotations = serde_json::Map::new();
        let count = self.choose(&[1, 2, 3, 5, 8, 300]);
        for _ in 0..count {
            let key = self.choose(&KEYS);
            let (key, value) = match key {
                "env-from" => (key.to_owned(), self.items(max_bytes, Self::name)),
                "refs" if self.chance(40) => (key.to_owned(), self.yaml()),
                "refs" => (key.to_owned(), self.items(max_bytes, Self::reference)),
                "containers" | "init-containers" => {
                    (key.to_owned(), self.items(max_bytes, Self::pattern))
                }
                "on-missing" => (
                    key.to_owned(),
                    self.choose(&["warn", "warn", "deny", "maybe"]).to_owned(),
                ),
                "reload" => (
                    key.to_owned(),
                    self.choose(&["auto", "reloader", "infisical", "off", "x"])
                        .to_owned(),
                ),
                "inject" => (
                    key.to_owned(),
                    self.choose(&["true", "false", ""]).to_owned(),
                ),
                "injected" => (key.to_owned(), self.record()),
                "inherited" => (key.to_owned(), self.inherited(max_bytes)),
                "env." => (format!("env.V{}", self.random.u32(..400)), self.reference()),
                "infisical." => (
                    format!("infisical.{}", self.name()),
                    format!("prod:/{}", "p/".repeat(self.choose(&COUNTS))),
                ),
                _ => (
                    format!("{key}{}", "z".repeat(self.length())),
                    "v".repeat(self.choose(&LENGTHS)),
                ),
            };
            annotations.insert(format!("secrets.floe.dev/{key}"), value.into());
        }
        if self.chance(20) {
            let list = self.items(max_bytes, |random| format!("{}\\.x", random.name()));
            annotations.insert(
                "secret.reloader.stakater.com/reload".to_owned(),
                list.into(),
            );
        }
        annotations.into()
    }

    /// Forged annotation of a template that inherits.
    fn inherited(&mut self, max_bytes: usize) -> String {
        let count = self.count();
        match self.random.u32(..4) {
            0 => {
                json!({"env-from": self.items(max_bytes, Self::name), "refs": self.items(max_bytes, Self::reference)}).to_string()
            }
            1 => format!("{{{}}}", list(count, |n| format!(r#""env.V{n}":"db/k""#))),
            2 => format!("{{{}}}", list(count, |n| format!(r#""k{n}":{{}}"#))),
            _ => "[".repeat(count),
        }
    }

    /// Forged statements of authors: the last applied configuration, and the fields that managers own.
    fn statements(&mut self) -> (String, String) {
        let (entries, managers) = (self.count(), self.choose(&[1, 2, 31, 33, 2_000]));
        let env = list(entries, |n| format!(r#"{{"name":"V{n}"}}"#));
        let sources = list(entries, |n| {
            format!(r#"{{"secretRef":{{"name":"s-{n}"}}}}"#)
        });
        let containers = |count| {
            list(count, |n| {
                format!(r#"{{"name":"c{n}","env":[{env}],"envFrom":[{sources}]}}"#)
            })
        };
        let applied = match self.random.u32(..4) {
            0 => containers(1),
            1 => containers(if entries > 300 { 1 } else { 64 }),
            2 => list(entries, |n| format!(r#"{{"name":"c{n}"}}"#)),
            _ => "1,".repeat(entries) + "1",
        };
        let applied =
            format!(r#"{{"spec":{{"template":{{"spec":{{"containers":[{applied}]}}}}}}}}"#);
        let owned = list(entries.min(200_000 / managers), |n| {
            format!(r#""k:{{\"name\":\"V{n}\"}}":{{}}"#)
        });
        let fields = format!(
            r#"{{"f:spec":{{"f:template":{{"f:spec":{{"f:containers":{{"k:{{\"name\":\"c0\"}}":{{"f:env":{{{owned}}}}}}}}}}}}}}}"#
        );
        let same = self.chance(50);
        let name_of = |n| {
            if same {
                "m".to_owned()
            } else {
                format!("m{n}")
            }
        };
        let managed = list(managers, |n| {
            format!(
                r#"{{"manager":"{}","operation":"Apply","time":"t","fieldsV1":{fields}}}"#,
                name_of(n)
            )
        });
        (applied, managed)
    }

    /// Forged record.
    fn record(&mut self) -> String {
        let count = self.count();
        let names = json!(["db"]);
        match self.random.u32(..4) {
            3 => json!({"containers": {"c0": {
                "env": (0..count).map(|n| format!("V{n}")).collect::<Vec<_>>(),
                "envFrom": (0..count).map(|n| format!("s-{n}")).collect::<Vec<_>>(),
            }}, "template": true})
            .to_string(),
            0 => json!({"restart": {"list": (0..count).map(|n| format!("s-{n}")).collect::<Vec<_>>()}}).to_string(),
            1 => format!(r#"{{"containers":{{{}}}}}"#, list(count, |n| format!(r#""c{n}":{{"envFrom":{names}}}"#))),
            _ => json!({"copied": {"refs": "a".repeat(self.length())}, "template": true}).to_string(),
        }
    }

    fn env(&mut self) -> String {
        let (count, kind) = (self.count(), self.random.u32(..5));
        list(count, |n| match kind {
            0 => "{}".to_owned(),
            1 => format!(
                r#"{{"name":"FLOE_SECRET_DB","value":"{}"}}"#,
                "$(".repeat(20)
            ),
            2 => format!(r#"{{"name":"E{n}","value":"$(FLOE_SECRET_S_{n})"}}"#),
            3 => format!(
                r#"{{"name":"V{n}","valueFrom":{{"secretKeyRef":{{"name":"db","key":"k"}}}}}}"#
            ),
            _ => "[]".to_owned(),
        })
    }

    fn spec(&mut self) -> String {
        let mut lists = String::new();
        for field in ["containers", "initContainers"] {
            if self.chance(80) {
                let (count, length, env) = (self.count().min(20_000), self.length(), self.env());
                let length = if count > 50 { length.min(64) } else { length };
                let env = if count > 3 && env.len() > 1000 {
                    String::new()
                } else {
                    env
                };
                let named = |n| {
                    format!(
                        r#"{{"name":"{}{n}","env":[{env}],"envFrom":[{{"secretRef":{{"name":"db"}}}}]}}"#,
                        "c".repeat(length)
                    )
                };
                let bare = self.chance(20);
                let items = list(count, |n| if bare { "{}".to_owned() } else { named(n) });
                write!(lists, r#""{field}":[{items}],"#).ok();
            }
        }
        let arguments = r#""","#.repeat(self.count());
        format!(
            r#"{{{lists}"serviceAccountName":{},"args":[{arguments}""]}}"#,
            quoted(&self.name())
        )
    }

    fn metadata(&mut self, max_bytes: usize) -> String {
        let owners = list(self.choose(&COUNTS), |n| {
            format!(r#"{{"kind":"Job","name":"j{n}"}}"#)
        });
        let generate = quoted(&"g".repeat(self.length()));
        let mut annotations = self.annotations(max_bytes);
        let mut managed = String::new();
        if self.chance(30) {
            let (applied, fields) = self.statements();
            annotations["kubectl.kubernetes.io/last-applied-configuration"] = applied.into();
            managed = format!(r#","managedFields":[{fields}]"#);
        }
        format!(
            r#"{{"generateName":{generate},"ownerReferences":[{owners}],"annotations":{annotations}{managed}}}"#
        )
    }

    /// Next review. It is never longer than a body may be, because longer ones are not read.
    pub fn next_review(&mut self) -> HostileReview {
        loop {
            let hostile = self.random_review();
            if hostile.body.len() <= MAX_BODY {
                return hostile;
            }
        }
    }

    fn random_review(&mut self) -> HostileReview {
        let max_bytes = match self.random.u32(..100) {
            0..80 => 20_000,
            80..98 => 200_000,
            _ => 1_500_000,
        };
        let path = self.choose(&PATHS);
        let (group, resource) = match path {
            "/admit/pods" | "/admit/defaults/pods" => ("", "pods"),
            "/admit/sources" => ("", self.choose(&["namespaces", "serviceaccounts"])),
            _ => self.choose(&[
                ("apps", "deployments"),
                ("apps", "statefulsets"),
                ("batch", "cronjobs"),
                ("batch", "jobs"),
            ]),
        };
        let object = self.object(path, max_bytes);
        let update = self.chance(30);
        let old = match self.random.u32(..3) {
            _ if !update => "null".to_owned(),
            0 => object.clone(),
            1 => object.replacen("\"args\":[", "\"args\":[\"changed\",", 1),
            _ => self.object(path, max_bytes),
        };
        let namespace = if self.chance(3) {
            self.name()
        } else {
            "jobs".to_owned()
        };
        let mut body = review(
            &namespace,
            group,
            resource,
            if update { "UPDATE" } else { "CREATE" },
            &object,
            &old,
        );
        if self.chance(2) {
            body = body.replacen(
                "00000000-0000-0000-0000-000000000000",
                &"u".repeat(self.length()),
                1,
            );
        }
        if self.chance(2) {
            body.truncate(body.floor_char_boundary(self.random.usize(..body.len())));
        }
        let query = self.choose(&[
            "?timeout=5s",
            "",
            "?timeout=0s",
            "?timeout=9999h",
            "?timeout=1ms&timeout=x",
        ]);
        HostileReview {
            description: format!("{path}{query}, {} bytes", body.len()),
            path: format!("{path}{query}"),
            body,
        }
    }

    fn object(&mut self, path: &str, max_bytes: usize) -> String {
        if path.ends_with("workloads") {
            let (own, job, template, spec) = (
                self.metadata(max_bytes),
                self.metadata(max_bytes),
                self.metadata(max_bytes),
                self.spec(),
            );
            let template = format!(r#"{{"metadata":{template},"spec":{spec}}}"#);
            return match self.random.u32(..3) {
                0 => format!(
                    r#"{{"metadata":{own},"spec":{{"jobTemplate":{{"metadata":{job},"spec":{{"template":{template}}}}}}}}}"#
                ),
                _ => format!(r#"{{"metadata":{own},"spec":{{"template":{template}}}}}"#),
            };
        }
        let (metadata, spec) = (self.metadata(max_bytes), self.spec());
        format!(r#"{{"metadata":{metadata},"spec":{spec}}}"#)
    }
}
