//! Properties of all pods and all annotations. `PROPTEST_CASES` sets the number of cases.
//!
//! Failed cases are kept in `tests/testdata/properties.regressions`, and run first.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failing helper fails the test"
)]

#[path = "support/additive.rs"]
mod additive;
#[path = "support/rfc6902.rs"]
mod rfc6902;

use std::collections::BTreeMap;

use injection::{
    AnnotationLayers, Annotations, BindOutcome, Decision, EnvValue, EnvVarName, InjectionPlan,
    InjectionRequest, PlanError, PlanInput, PlanTarget, PodView, Record, SecretBinding, SecretId,
    Sidecar, parse, plan, render, restarting_secrets,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree;
use proptest::test_runner::{FileFailurePersistence, TestRunner};
use serde::Deserialize;
use serde_json::{Map, Value, json};

const PREFIX: &str = "secrets.floe.dev/";
const LIST: &str = "secret.reloader.stakater.com/reload";

fn config() -> ProptestConfig {
    let kept = FileFailurePersistence::Direct("tests/testdata/properties.regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(kept)),
        ..ProptestConfig::default()
    }
}

// === parse, plan and render ===

type Bindings = BTreeMap<SecretId, BindOutcome>;

fn request_of(view: &PodView<'_>, defaults: &Annotations<'_>) -> Option<InjectionRequest> {
    let sources = AnnotationLayers {
        object: view.annotations(),
        namespace: Some(("ns", defaults)),
        service_account: None,
    };
    match parse(&sources) {
        Ok(Decision::Inject(request)) => Some(*request),
        Ok(Decision::Skip(_)) | Err(_) => None,
    }
}

fn plan_of(
    view: &PodView<'_>,
    request: &InjectionRequest,
    bindings: &Bindings,
    target: PlanTarget,
) -> Result<InjectionPlan, Vec<PlanError>> {
    let sidecars: [Sidecar; 1] = ["istio-proxy".parse().unwrap()];
    plan(&PlanInput {
        target,
        pod: view,
        namespace: "ns",
        request,
        bindings,
        sidecars: &sidecars,
        discloses: true,
    })
}

/// Decodes, parses and plans; `None` if the pod is skipped or rejected.
fn admit(pod: &Value, world: &World) -> Option<(InjectionPlan, Value)> {
    let view = PodView::deserialize(pod).unwrap();
    let defaults =
        Annotations::from_pairs(world.defaults.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let request = request_of(&view, &defaults)?;
    let plan = plan_of(&view, &request, &world.bindings, world.target).ok()?;
    let patch = serde_json::to_value(render(&plan, &[])).unwrap();
    Some((plan, patch))
}

fn patched(pod: &Value, patch: &Value) -> Value {
    let mut pod = pod.clone();
    json_patch::patch(
        &mut pod,
        &serde_json::from_value::<json_patch::Patch>(patch.clone()).unwrap(),
    )
    .unwrap();
    pod
}

// === pods, annotations and worlds ===

/// Bindings, defaults and target of a pod.
#[derive(Clone, Debug)]
struct World {
    bindings: Bindings,
    defaults: BTreeMap<String, String>,
    target: PlanTarget,
}

/// Few names, so that references often have the same ones.
const SECRETS: [&str; 5] = ["a", "b", "a-b", "a.b", "c"];
const KEYS: [&str; 5] = ["k", "b", "a.b", "a_b", "value"];
const VARIABLES: [&str; 6] = [
    "X",
    "Y",
    "FLOE_SECRET_A",
    "FLOE_SECRET_A_K",
    "FLOE_SECRET_B_K",
    "FLOE_SECRET_C_VALUE",
];
const CONTAINERS: [&str; 5] = ["app", "web", "istio-proxy", "init", "late"];

fn list(items: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    vec(items, 1..3).prop_map(|items| items.join(","))
}

fn source() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 1 => Just("kubernetes:"), 1 => Just("infisical:")]
}

fn reference() -> impl Strategy<Value = String> {
    let key = prop_oneof![3 => select(&KEYS[..]).prop_map(|key| format!("/{key}")), 1 => Just("/*".to_owned()), 2 => Just(String::new())];
    (source(), select(&SECRETS[..]), key)
        .prop_map(|(source, name, key)| format!("{source}{name}{key}"))
}

fn choice() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("*".to_owned()),
        list(select(&["a*", "web*", "?nit", "*", "app"][..]).prop_map(str::to_owned))
    ]
}

/// Annotations that are mostly valid.
fn contract() -> impl Strategy<Value = BTreeMap<String, String>> {
    let secret =
        (source(), select(&SECRETS[..])).prop_map(|(source, name)| format!("{source}{name}"));
    let aliased = (source(), select(&SECRETS[..]), select(&KEYS[..]))
        .prop_map(|(s, name, key)| format!("{s}{name}/{key}"));
    let fixed = (
        option::weighted(0.7, list(secret)),
        option::weighted(0.7, list(reference())),
        option::weighted(0.3, choice()),
        option::weighted(0.3, choice()),
        option::weighted(0.8, Just("warn".to_owned())),
        option::weighted(0.2, prop_oneof![record(), any::<String>()]),
        option::weighted(
            0.3,
            select(&["auto", "reloader", "infisical", "off"][..]).prop_map(str::to_owned),
        ),
    );
    (fixed, btree_map(select(&VARIABLES[..]), aliased, 0..3)).prop_map(
        |((env_from, refs, containers, init_containers, on_missing, injected, reload), aliases)| {
            let fixed = [
                ("env-from", env_from),
                ("refs", refs),
                ("containers", containers),
                ("init-containers", init_containers),
                ("on-missing", on_missing),
                ("injected", injected),
                ("reload", reload),
            ];
            let fixed = fixed
                .into_iter()
                .filter_map(|(key, value)| Some((format!("{PREFIX}{key}"), value?)));
            fixed
                .chain(
                    aliases
                        .into_iter()
                        .map(|(name, value)| (format!("{PREFIX}env.{name}"), value)),
                )
                .collect()
        },
    )
}

/// A forged record.
fn record() -> impl Strategy<Value = String> {
    let added = (
        subsequence(&SECRETS[..], 0..3),
        subsequence(&VARIABLES[..], 0..3),
    )
        .prop_map(|(env_from, env)| json!({ "envFrom": env_from, "env": env }));
    let containers = || btree_map(select(&CONTAINERS[..]), added.clone(), 0..3);
    (containers(), containers()).prop_map(|(containers, init)| {
        json!({ "containers": containers, "initContainers": init }).to_string()
    })
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map(hostile_key(), inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn hostile_key() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z~/]{0,6}",
        ".{0,6}",
        select(&["~1", "~0", "a~1b/c", "secrets.floe.dev~1refs"][..]).prop_map(str::to_owned)
    ]
}

/// Fields of a newer Kubernetes, with names that differ from the known ones.
fn unknown_fields() -> impl Strategy<Value = Map<String, Value>> {
    let key = hostile_key().prop_map(|key| format!("new{key}"));
    let some = btree_map(key, anything(), 1..3).prop_map(|map| map.into_iter().collect());
    prop_oneof![3 => Just(Map::new()), 1 => some]
}

fn object(known: Vec<(&str, Option<Value>)>, unknown: Map<String, Value>) -> Value {
    let known = known
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(unknown.into_iter().chain(known).collect())
}

/// Absent, null, empty or filled.
fn maybe_list(items: impl Strategy<Value = Value>) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        2 => Just(None),
        1 => Just(Some(Value::Null)),
        4 => vec(items, 0..4).prop_map(|items| Some(Value::from(items))),
    ]
}

fn env_entry() -> impl Strategy<Value = Value> {
    let literal = prop_oneof![
        ".{0,6}",
        select(&VARIABLES[..]).prop_map(|name| format!("x$({name})")),
        select(&VARIABLES[..]).prop_map(|name| format!("$$({name})$")),
    ];
    let secret = (select(&SECRETS[..]), select(&KEYS[..]))
        .prop_map(|(name, key)| json!({ "secretKeyRef": { "name": name, "key": key } }));
    let content = prop_oneof![
        literal.prop_map(|value| ("value", Some(Value::from(value)))),
        secret.prop_map(|from| ("valueFrom", Some(from))),
        Just((
            "valueFrom",
            Some(json!({ "fieldRef": { "fieldPath": "metadata.name" } }))
        )),
        Just(("value", None)),
    ];
    (select(&VARIABLES[..]), content, unknown_fields()).prop_map(|(name, content, unknown)| {
        object(vec![("name", Some(name.into())), content], unknown)
    })
}

fn env_source() -> impl Strategy<Value = Value> {
    let kind = select(&["secretRef", "configMapRef"][..]);
    let prefix =
        option::weighted(0.3, select(&["", "P_"][..])).prop_map(|prefix| prefix.map(Value::from));
    (kind, select(&SECRETS[..]), prefix, unknown_fields()).prop_map(
        |(kind, name, prefix, unknown)| {
            object(
                vec![(kind, Some(json!({ "name": name }))), ("prefix", prefix)],
                unknown,
            )
        },
    )
}

fn container() -> impl Strategy<Value = Value> {
    (
        select(&CONTAINERS[..]),
        maybe_list(env_entry()),
        maybe_list(env_source()),
        unknown_fields(),
    )
        .prop_map(|(name, env, env_from, unknown)| {
            object(
                vec![
                    ("name", Some(name.into())),
                    ("env", env),
                    ("envFrom", env_from),
                ],
                unknown,
            )
        })
}

/// Reload annotations by the author.
fn reloaders() -> impl Strategy<Value = BTreeMap<String, String>> {
    let key = select(
        &[
            LIST,
            "reloader.stakater.com/auto",
            "secrets.exclude.reloader.stakater.com/reload",
            "secrets.infisical.com/auto-reload",
        ][..],
    );
    let value = select(&["true", "false", "a", "a,b", r"a\.b", ""][..]);
    prop_oneof![
        4 => Just(BTreeMap::new()),
        1 => btree_map(key.prop_map(str::to_owned), value.prop_map(str::to_owned), 1..3),
    ]
}

fn pod() -> impl Strategy<Value = Value> {
    let foreign = || btree_map(hostile_key(), ".{0,6}", 0..3);
    let annotations = prop_oneof![
        1 => Just(None),
        1 => Just(Some(Value::Null)),
        8 => (contract(), foreign(), reloaders()).prop_map(|(ours, foreign, reloaders)| {
            // Foreign annotations must not have the contract's prefix by accident; those of `hostile_key` do not.
            Some(Value::Object(foreign.into_iter().chain(reloaders).chain(ours).map(|(k, v)| (k, Value::from(v))).collect()))
        }),
    ];
    let labels = prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        foreign().prop_map(|map| Some(Value::Object(
            map.into_iter().map(|(k, v)| (k, Value::from(v))).collect()
        ))),
    ];
    let metadata =
        (annotations, labels, unknown_fields()).prop_map(|(annotations, labels, unknown)| {
            object(
                vec![("annotations", annotations), ("labels", labels)],
                unknown,
            )
        });
    let metadata = prop_oneof![1 => Just(None), 9 => metadata.prop_map(Some)];
    let spec = (
        maybe_list(container()),
        maybe_list(container()),
        unknown_fields(),
    )
        .prop_map(|(containers, init, unknown)| {
            object(
                vec![("containers", containers), ("initContainers", init)],
                unknown,
            )
        });
    (metadata, spec, unknown_fields()).prop_map(|(metadata, spec, unknown)| {
        object(vec![("metadata", metadata), ("spec", Some(spec))], unknown)
    })
}

fn bound(name: &'static str) -> impl Strategy<Value = BindOutcome> {
    let keys = subsequence(&KEYS[..], 0..=KEYS.len());
    let bound_name = prop_oneof![4 => Just(name), 1 => Just("managed-a")];
    prop_oneof![
        8 => (bound_name, option::weighted(0.95, keys)).prop_map(|(name, keys)| BindOutcome::Found(SecretBinding {
            secret_name: name.to_owned(),
            keys: keys.map(|keys| keys.into_iter().map(str::to_owned).collect()),
        })),
        1 => Just(BindOutcome::Missing { backend: "kubernetes", near: None }),
        1 => Just(BindOutcome::Unchecked),
    ]
}

fn world() -> impl Strategy<Value = World> {
    let ids: Vec<(SecretId, &'static str)> = ["kubernetes", "infisical"]
        .into_iter()
        .flat_map(|source| {
            SECRETS.map(|name| {
                (
                    SecretId {
                        source: source.parse().unwrap(),
                        name: name.parse().unwrap(),
                    },
                    name,
                )
            })
        })
        .collect();
    let bindings: Vec<_> = ids
        .into_iter()
        .map(|(id, name)| (Just(id), bound(name)))
        .collect();
    let defaults = prop_oneof![Just(BTreeMap::new()), contract()];
    let target = prop_oneof![4 => Just(PlanTarget::Pod), 1 => Just(PlanTarget::Manifest), 1 => Just(PlanTarget::Template)];
    (bindings, defaults, target).prop_map(|(bindings, defaults, target)| World {
        bindings: bindings.into_iter().collect(),
        defaults,
        target,
    })
}

/// Hostile annotations.
fn hostile_annotations() -> impl Strategy<Value = Vec<(String, String)>> {
    let known = select(
        &[
            "env-from",
            "refs",
            "containers",
            "init-containers",
            "on-missing",
            "reload",
            "inject",
            "injected",
        ][..],
    );
    let key = prop_oneof![
        3 => known.prop_map(|key| format!("{PREFIX}{key}")),
        2 => "[A-Za-z0-9._~/-]{0,20}".prop_map(|name| format!("{PREFIX}env.{name}")),
        1 => ".{0,12}".prop_map(|name| format!("{PREFIX}env.{name}")),
        1 => ".{0,12}".prop_map(|name| format!("{PREFIX}infisical.{name}")),
        1 => ".{0,70}".prop_map(|name| format!("{PREFIX}{name}")),
        1 => hostile_key(),
    ];
    let value = prop_oneof![
        3 => list(reference()),
        2 => "[a-zA-Z0-9.:/*,_ \\n-]{0,24}",
        1 => ".{0,24}",
        1 => any::<String>(),
        1 => vec(btree_map(select(&["source", "name", "key", "namespace"][..]), anything(), 0..4), 0..3)
            .prop_map(|documents| serde_json::to_string(&documents).unwrap()),
        1 => "[\\[\\]{}:,&*!|>\"'a-z \\n-]{0,30}".prop_map(|yaml| format!("- {yaml}")),
        1 => record(),
    ];
    vec((key, value), 0..6)
}

// === properties ===

/// Properties do not cover pods that are skipped or rejected, so most generated pods must be neither.
#[test]
fn most_generated_pods_are_injected() {
    let mut runner = TestRunner::deterministic();
    let mut injected = 0;
    for _ in 0..500 {
        let (pod, world) = (pod(), world()).new_tree(&mut runner).unwrap().current();
        injected += usize::from(admit(&pod, &world).is_some_and(|(plan, _)| !plan.is_empty()));
    }
    assert!(injected >= 150, "{injected} of 500");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn second_pass_adds_nothing(pod in pod(), world in world()) {
        if let Some((first, patch)) = admit(&pod, &world) {
            let once = patched(&pod, &patch);
            let (second, nothing) = admit(&once, &world).expect("an admitted pod is admitted again");
            prop_assert_eq!(nothing, json!([]), "after {:#}", once);
            prop_assert_eq!(&second.record, &None);
            if let Some(record) = first.record {
                let written = once["metadata"]["annotations"]["secrets.floe.dev/injected"].as_str().and_then(Record::read);
                prop_assert_eq!(written, Some(record));
            }
        }
    }

    #[test]
    fn entries_of_the_author_are_kept(pod in pod(), world in world()) {
        if let Some((plan, patch)) = admit(&pod, &world) {
            let after = patched(&pod, &patch);
            if let Err(difference) = additive::difference(&pod, &after) {
                prop_assert!(false, "{difference}\n{pod:#}\n{after:#}");
            }
            if plan.is_empty() {
                prop_assert_eq!(pod, after);
            }
        }
    }

    /// The list has only requested Secrets, and is written only if the pod gets entries.
    #[test]
    fn pod_list_has_only_requested_secrets(pod in pod(), world in world()) {
        if let Some((plan, patch)) = admit(&pod, &world) {
            let after = patched(&pod, &patch);
            let list_of = |pod: &Value| pod["metadata"]["annotations"][LIST].as_str().map(str::to_owned);
            if let Some(own) = list_of(&pod) {
                prop_assert_eq!(list_of(&after), Some(own));
                prop_assert!(plan.reload.is_empty());
            } else if let Some(list) = list_of(&after) {
                prop_assert!(world.target == PlanTarget::Pod && !plan.is_empty());
                prop_assert_eq!(&list, &plan.reload.join(","));
                let view = PodView::deserialize(&pod).unwrap();
                let defaults = Annotations::from_pairs(world.defaults.iter().map(|(k, v)| (k.as_str(), v.as_str())));
                let request = request_of(&view, &defaults).unwrap();
                let requested = restarting_secrets(&request, &world.bindings);
                let named: Vec<String> = list.split(',').map(|entry| entry.replace('\\', "")).collect();
                prop_assert!(named.iter().all(|name| requested.contains(name)), "{named:?} of {requested:?}");
            }
        }
    }

    #[test]
    fn patch_has_the_same_result_in_two_implementations(pod in pod(), world in world()) {
        if let Some((_, patch)) = admit(&pod, &world) {
            let mut ours = pod.clone();
            rfc6902::apply(&mut ours, &patch).map_err(TestCaseError::fail)?;
            prop_assert_eq!(ours, patched(&pod, &patch));
        }
    }

    #[test]
    fn patch_of_a_template_is_the_pods_patch_at_another_path(pod in pod(), world in world()) {
        let view = PodView::deserialize(&pod).unwrap();
        let defaults = Annotations::from_pairs(world.defaults.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        if let Some(request) = request_of(&view, &defaults)
            && let Ok(plan) = plan_of(&view, &request, &world.bindings, world.target)
        {
            let mut workload = json!({ "spec": { "template": pod } });
            let down = json_patch::Patch::from(render(&plan, &["spec", "template"]));
            json_patch::patch(&mut workload, &down).unwrap();
            let patch = serde_json::to_value(render(&plan, &[])).unwrap();
            prop_assert_eq!(&workload["spec"]["template"], &patched(&pod, &patch));
        }
    }

    #[test]
    fn patch_does_not_depend_on_the_decoder(pod in pod(), world in world()) {
        let bytes = serde_json::to_vec(&pod).unwrap();
        let defaults = Annotations::from_pairs(world.defaults.iter().rev().map(|(k, v)| (k.as_str(), v.as_str())));
        let from_bytes: PodView<'_> = serde_json::from_slice(&bytes).unwrap();
        let patch = request_of(&from_bytes, &defaults)
            .and_then(|request| plan_of(&from_bytes, &request, &world.bindings, world.target).ok())
            .map(|plan| (serde_json::to_vec(&render(&plan, &[])).unwrap(), plan.warnings));
        for _ in 0..3 {
            let again = admit(&pod, &world).map(|(plan, patch)| (serde_json::to_vec(&patch).unwrap(), plan.warnings));
            prop_assert_eq!(&again, &patch);
        }
    }

    #[test]
    fn added_variables_are_c_identifiers(
        pairs in hostile_annotations(),
        keys in vec(any::<String>(), 0..4),
        mut pod in pod(),
    ) {
        pod["metadata"] = json!({ "annotations": pairs.into_iter().collect::<BTreeMap<_, _>>() });
        let view = PodView::deserialize(&pod).unwrap();
        if let Some(request) = request_of(&view, &Annotations::default()) {
            let keys: std::collections::BTreeSet<String> = keys.into_iter().collect();
            let bindings = request.key_queries().into_iter().map(|(id, query)| {
                let keys = keys.iter().cloned().chain(query.keys.iter().map(ToString::to_string)).collect();
                (id.clone(), BindOutcome::Found(SecretBinding { secret_name: id.name.to_string(), keys: Some(keys) }))
            }).collect();
            if let Ok(plan) = plan_of(&view, &request, &bindings, PlanTarget::Pod) {
                for entry in plan.containers.iter().flat_map(|c| c.env_before.iter().chain(&c.env_after)) {
                    prop_assert!(entry.name.parse::<EnvVarName>().is_ok(), "{entry:?}");
                    prop_assert!(entry.name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'));
                    prop_assert!(entry.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
                }
            }
        }
    }

    #[test]
    fn error_of_an_annotation_is_one_sentence_that_names_it(pairs in hostile_annotations()) {
        let annotations = Annotations::from_pairs(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        if let Err(errors) = parse(&AnnotationLayers { object: Some(&annotations), ..AnnotationLayers::default() }) {
            for error in errors {
                let sentence = error.to_string();
                prop_assert!(sentence.starts_with(&format!("annotation {}", error.site.annotation())), "{sentence}");
                prop_assert!(!sentence.trim_end_matches(&error.site.key).contains('\n') || error.site.key.contains('\n'), "{sentence}");
            }
        }
    }

    #[test]
    fn view_does_not_panic_on_any_bytes(bytes in vec(any::<u8>(), 0..64), value in anything()) {
        let _ = serde_json::from_slice::<PodView<'_>>(&bytes);
        let _ = PodView::deserialize(&value);
        let _ = PodView::deserialize(&json!({ "metadata": value, "spec": { "containers": value } }));
    }

    /// Compared with the kubelet's own algorithm.
    #[test]
    fn literals_mention_what_the_kubelet_expands(text in "[$()AB x]{0,16}") {
        let encoded = serde_json::to_string(&text).unwrap();
        let literal: EnvValue<'_> = serde_json::from_str(&encoded).unwrap();
        prop_assert_eq!(literal.mentions().map(str::to_owned).collect::<Vec<_>>(), expanded(&text));
    }
}

/// A transcription of `expansion.Expand` in Kubernetes' `third_party/forked/golang/expansion`.
fn expanded(input: &str) -> Vec<String> {
    let input = input.as_bytes();
    let mut names = Vec::new();
    let mut cursor = 0;
    while cursor < input.len() {
        if input[cursor] == b'$' && cursor + 1 < input.len() {
            let rest = &input[cursor + 1..];
            let advance = match rest[0] {
                b'(' => match rest.iter().position(|b| *b == b')') {
                    Some(end) => {
                        names.push(String::from_utf8(rest[1..end].to_vec()).unwrap());
                        end + 1
                    }
                    None => 1,
                },
                // An escape, or no operator: the next byte is literal.
                _ => 1,
            };
            cursor += advance;
        }
        cursor += 1;
    }
    names
}
