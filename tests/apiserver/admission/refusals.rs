//! Rejections and warnings, literally as real kubectl prints them; the events of their controllers; and the recovery of
//! rejected pods.

use std::fmt::Write as _;

use http::Method;
use serde_json::{Value, json};
use testbed::manifests::{
    container, deployment, find_container, job, pod, prefixed, sources, variables,
};
use testbed::shared_fixture::shared_fixture;
use testbed::webhook::{Registration, limited_to_namespaces};
use testbed::webhook_process::Launch;
use testbed::{free_ports, unique, wait_for};

/// Rejections that kubectl prints: annotation and sentence.
fn refusal(causes: &[(&str, String)]) -> String {
    let line = |(key, sentence): &(&str, String)| {
        format!("metadata.annotations[secrets.floe.dev/{key}]: {sentence}\n")
    };
    match causes {
        [cause] => format!("The request is invalid: {}", line(cause)),
        causes => causes.iter().fold(
            "The request is invalid: \n".to_owned(),
            |mut text, cause| {
                write!(text, "* {}", line(cause)).expect("text");
                text
            },
        ),
    }
}

fn missing(secret: &str, namespace: &str, key: &str) -> String {
    format!(
        "secret \"{secret}\" not found in namespace \"{namespace}\" (backend kubernetes; asked for by annotation \
         secrets.floe.dev/{key}). Create it or correct the annotation."
    )
}

#[tokio::test]
async fn refusal_is_printed_literally() {
    let fixture = shared_fixture().await;
    let (cp, ns, elsewhere) = (
        fixture.cp,
        fixture.cp.namespace("refused").await,
        fixture.cp.namespace("elsewhere").await,
    );
    cp.secret(&ns.name, "db-creds", &["username", "password"], "x")
        .await;
    cp.secret(&ns.name, "secret-a", &["b"], "x").await;
    cp.secret(&ns.name, "secret-a-b", &["value"], "x").await;
    cp.secret(&elsewhere.name, "snowflake-credentials", &["k"], "x")
        .await;
    // Suggested names were used in this namespace before.
    cp.create_dry_run(&pod(
        &ns.name,
        "before",
        &prefixed(&json!({"env-from": "db-creds"})),
    ))
    .await
    .object();

    let no_secret = |secret: &str, key: &str| missing(secret, &ns.name, key);
    let about = |key: &str, problem: &str| format!("annotation secrets.floe.dev/{key}: {problem}.");
    let no_key = |key: &str, meant: &str, by: &str, near: &str| {
        format!(
            "secret \"db-creds\" in namespace \"{}\" has no key \"{key}\"{meant} (asked for by annotation \
             secrets.floe.dev/{by}). Add the key or correct the annotation.{near}",
            ns.name
        )
    };
    let cases: Vec<(Value, Vec<(&str, String)>)> = vec![
        // A secret of this name in another namespace does not count.
        (
            json!({"env-from": "snowflake-credentials"}),
            vec![("env-from", no_secret("snowflake-credentials", "env-from"))],
        ),
        (
            json!({"env-from": "db-cresd", "env.A": "absent/k"}),
            vec![
                ("env.A", no_secret("absent", "env.A")),
                ("env-from", no_secret("db-cresd", "env-from") + " Did you mean \"db-creds\"?"),
            ],
        ),
        (
            json!({"refs": "db-creds/pasword"}),
            vec![("refs", no_key("pasword", "", "refs", " Did you mean \"password\"?"))],
        ),
        (json!({"env.TOKEN": "db-creds/token"}), vec![("env.TOKEN", no_key("token", "", "env.TOKEN", ""))]),
        (
            json!({"refs": "db-creds"}),
            vec![("refs", no_key("value", ", which a reference without a key means", "refs", ""))],
        ),
        (
            json!({"envfrom": "db-creds"}),
            vec![(
                "envfrom",
                about(
                    "envfrom",
                    "unknown annotation; did you mean secrets.floe.dev/env-from? The annotations are env-from, refs, \
                     env.<VAR>, containers, init-containers, on-missing, reload, infisical.<name> and inject",
                ),
            )],
        ),
        (
            json!({"env-from": "UPPER has_underscore", "on-missing": "maybe", "refs": "Kubernetes:a", "inject": "yes",
                   "containers": "", "env.A-B": "db-creds/k", "env.C": "db-creds"}),
            vec![
                ("containers", about("containers", "is empty; name at least one, or remove the annotation")),
                ("env-from", about("env-from", "\"UPPER\" is not a Secret name: lower-case letters, digits, '-' and '.', starting and ending with a letter or digit, at most 253 characters")),
                ("env-from", about("env-from", "\"has_underscore\" is not a Secret name: lower-case letters, digits, '-' and '.', starting and ending with a letter or digit, at most 253 characters")),
                ("env.A-B", about("env.A-B", "\"A-B\" is not a variable name: letters, digits and '_', not starting with a digit")),
                ("env.C", about("env.C", "\"db-creds\" does not say which key; write name/key")),
                ("inject", about("inject", "\"yes\" is not one of true, false")),
                ("on-missing", about("on-missing", "\"maybe\" is not one of deny, warn")),
                ("refs", about("refs", "unknown source \"Kubernetes\"; the sources are kubernetes, infisical, external-secrets and env, in lower case")),
            ],
        ),
        (
            json!({"refs": "[{\"name\": \"db-creds\", \"namespace\": \"elsewhere\"}]"}),
            vec![("refs", about("refs", "is not a list of {source, name, key}: line 1 column 23: unknown field `namespace`, expected one of source, name, key"))],
        ),
        (
            json!({"refs": "secret-a/b secret-a-b"}),
            vec![(
                "refs",
                "secret-a/b (annotation secrets.floe.dev/refs) and secret-a-b (annotation secrets.floe.dev/refs) would \
                 both set the variable FLOE_SECRET_SECRET_A_B. Ask for one of them by \
                 secrets.floe.dev/env.<VAR> instead, under a name of its own."
                    .to_owned(),
            )],
        ),
        (
            json!({"env-from": "db-creds", "containers": "mian setup"}),
            vec![
                ("containers", "the pod has no containers \"mian\", \"setup\" (named by annotation secrets.floe.dev/containers). \"setup\" is an init container: name it in secrets.floe.dev/init-containers. It has: main, other.".to_owned()),
            ],
        ),
        (
            json!({"env-from": "db-creds", "init-containers": "main"}),
            vec![("init-containers", "the pod has no init container \"main\" (named by annotation secrets.floe.dev/init-containers). It is not an init container: name it in secrets.floe.dev/containers.".to_owned())],
        ),
        (
            json!({"env-from": "vault:db-creds"}),
            vec![("env-from", about("env-from", "source \"vault\" of \"vault:db-creds\" is not supported; use kubernetes, infisical or external-secrets"))],
        ),
        (
            json!({"refs": "infisical:db-creds/password"}),
            vec![("refs", about("refs", "source \"infisical\" of \"db-creds\" is not configured here; configured: kubernetes"))],
        ),
    ];
    for (short, causes) in cases {
        let mut pod = pod(&ns.name, &unique("refused"), &prefixed(&short));
        pod["spec"]["containers"]
            .as_array_mut()
            .expect("a list")
            .push(json!({"name": "other", "image": "none"}));
        pod["spec"]["initContainers"] = json!([{"name": "setup", "image": "none"}]);
        let refused = cp.kubectl_apply(&ns.name, &pod).await;
        assert_eq!((refused.code, &*refused.stdout), (1, ""), "{short}");
        assert_eq!(refused.stderr, refusal(&causes), "{short}");
        // Same response for other clients.
        let response = cp.create_dry_run(&pod).await;
        assert_eq!(
            (response.status, &response.body["reason"]),
            (422, &json!("Invalid")),
            "{short}"
        );
        assert!(
            response.body["details"].get("retryAfterSeconds").is_none(),
            "{response:?}"
        );
        let joined: Vec<&str> = causes
            .iter()
            .map(|(_, sentence)| sentence.as_str())
            .collect();
        let prefix = "admission webhook \"pods.secrets.floe.dev\" denied the request: ";
        assert_eq!(
            response.message(),
            format!("{prefix}{}", joined.join(" ")),
            "{short}"
        );
    }
}

/// Warnings without rejection: annotations | the author's `env` | output of kubectl, in this order.
#[tokio::test]
async fn warning_reaches_the_user() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("warned").await);
    let long = "K".repeat(230);
    cp.secret(
        &ns.name,
        "db-creds",
        &["a", "b", "c", "d", "e", "f", "g", &long],
        "x",
    )
    .await;
    cp.secret(&ns.name, "empty", &[], "x").await;
    let in_namespace = format!("in namespace \"{}\"", ns.name);
    let set = |names: &[&str]| -> Value {
        names
            .iter()
            .map(|name| json!({"name": name, "value": "mine"}))
            .collect()
    };
    let left = |name: &str| format!("container \"main\" already sets {name}; it was left as it is");
    let seven = ["A", "B", "C", "D", "E", "F", "G"];
    let mut aliases = json!({});
    for name in seven {
        aliases[format!("env.{name}")] = format!("db-creds/{}", name.to_lowercase()).into();
    }
    let long_name = format!("FLOE_SECRET_DB_CREDS_{long}");
    let cut: String = left(&long_name).chars().take(248).chain(['…']).collect();

    let cases: Vec<(Value, Value, Vec<String>)> = vec![
        (
            json!({"env-from": "absent", "refs": "db-creds/token", "on-missing": "warn"}),
            json!([]),
            vec![
                format!("secret \"absent\" not found {in_namespace}; the pod waits until it exists"),
                format!("secret \"db-creds\" {in_namespace} has no key \"token\"; the pod waits until it has"),
            ],
        ),
        (json!({"env.A": "db-creds/a"}), set(&["A"]), vec![left("A")]),
        (aliases, set(&seven), [&seven.map(left)[..4], &["and 3 more; the first are above".to_owned()]].concat()),
        (json!({"refs": format!("db-creds/{long}")}), set(&[&long_name]), vec![cut]),
        (
            json!({"env-from": "db-creds", "containers": "main nobody-*"}),
            json!([]),
            vec!["\"nobody-*\" (annotation secrets.floe.dev/containers) matches no container".to_owned()],
        ),
        (
            json!({"refs": "empty/*"}),
            json!([]),
            vec!["\"empty/*\" (annotation secrets.floe.dev/refs) brings in nothing: the secret has no keys".to_owned()],
        ),
        (
            json!({"env-from": "db-creds", "containers": "nobody-*"}),
            json!([]),
            vec![
                "no container is selected, so no secret was injected".to_owned(),
                "\"nobody-*\" (annotation secrets.floe.dev/containers) matches no container".to_owned(),
            ],
        ),
    ];
    for (short, env, warnings) in cases {
        let name = unique("warned");
        let mut pod = pod(&ns.name, &name, &prefixed(&short));
        pod["spec"]["containers"][0]["env"] = env;
        let applied = cp.kubectl_apply(&ns.name, &pod).await.expect_success();
        assert_eq!(applied.stdout, format!("pod/{name} created\n"));
        let printed: Vec<String> = warnings
            .iter()
            .map(|text| format!("Warning: {text}\n"))
            .collect();
        assert_eq!(applied.stderr, printed.concat(), "{short}");
        assert!(
            warnings.iter().all(|text| text.chars().count() < 250),
            "the API server would cut it"
        );
    }
}

/// Workloads that wait for a secret: a missing one is a complete event of their controller, and not a failure.
#[tokio::test]
async fn refused_workload_recovers_when_secret_exists() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("healing").await);
    let annotations = prefixed(&json!({"env-from": "late", "env.KEY": "late/key"}));
    let containers = json!([container()]);
    let started = std::time::Instant::now();
    // Applied with a warning: workloads are not rejected.
    let warning = format!(
        "Warning: secret \"late\" not found in namespace \"{}\"; pods are refused until it exists.\n",
        ns.name
    );
    for object in [
        job("load", &annotations, &containers),
        deployment("api", &annotations, &containers),
    ] {
        let applied = cp.kubectl_apply(&ns.name, &object).await.expect_success();
        assert_eq!(applied.stderr, warning);
    }
    let sentence = missing("late", &ns.name, "env-from");
    let expected_message = format!(
        "Error creating: admission webhook \"pods.secrets.floe.dev\" denied the request: {sentence}"
    );
    assert_eq!(
        cp.event(&ns.name, "ReplicaSet", "api-", "FailedCreate")
            .await,
        expected_message
    );
    assert_eq!(
        cp.event(&ns.name, "Job", "load", "FailedCreate").await,
        expected_message
    );
    // Output that a person reads.
    let described = cp
        .kubectl(&["-n", &ns.name, "describe", "job", "load"], "")
        .await
        .expect_success();
    assert!(described.stdout.contains(&sentence), "{}", described.stdout);

    let job_path = format!("/apis/batch/v1/namespaces/{}/jobs/load", ns.name);
    let unfailed = async || {
        let job = cp.request(Method::GET, &job_path, None).await.object();
        assert_eq!(job["status"]["failed"].as_u64().unwrap_or(0), 0, "{job}");
        let conditions = job["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        assert!(
            conditions
                .iter()
                .all(|condition| condition["type"] != "Failed"),
            "{job}"
        );
    };
    // With backoffLimit 0 a single failure would be final; a rejected pod does not count as one.
    wait_for("a second attempt of the Job", || async {
        let refused = fixture.webhook.admissions("owner", "Job/load");
        let in_namespace = refused
            .iter()
            .filter(|line| line["namespace"] == ns.name.as_str())
            .count();
        (in_namespace >= 2).then_some(())
    })
    .await;
    unfailed().await;
    assert!(
        cp.pods(&ns.name, "app=load").await.is_empty()
            && cp.pods(&ns.name, "app=api").await.is_empty()
    );
    let waited = started.elapsed();

    cp.secret(&ns.name, "late", &["key"], "x").await;
    let started = std::time::Instant::now();
    for selector in ["app=load", "app=api"] {
        let pod = cp.pod_of(&ns.name, selector).await;
        assert_eq!(sources(find_container(&pod, "main")), ["secret/late"]);
        assert_eq!(variables(find_container(&pod, "main")), ["KEY<late/key"]);
        println!(
            "{selector}: waited {waited:.1?}, healed {:.1?} after the secret",
            started.elapsed()
        );
    }
    unfailed().await;
}

/// The webhook's own read is rejected, or its API server is gone: never reported as a missing secret.
#[tokio::test]
async fn backend_failure_is_distinguished_from_missing_secret() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("no-verdict").await);
    cp.secret(&ns.name, "db-creds", &["k"], "x").await;
    let annotations = prefixed(&json!({"env-from": "db-creds"}));
    let powerless = cp.service_account(&ns.name, "powerless", &json!([])).await;
    let [nobody] = free_ports();
    let kubeconfig =
        std::fs::read_to_string(&powerless.kubeconfig).expect("a generated kubeconfig");
    let gone = kubeconfig.replace(&cp.server, &format!("https://127.0.0.1:{nobody}"));
    let gone = cp
        .folder
        .write("gone.kubeconfig", gone)
        .display()
        .to_string();
    let with_rights = powerless.kubeconfig.display().to_string();
    let forbidden = format!(
        "the secrets backend kubernetes does not allow reading secret \"db-creds\" in namespace \"{}\" (asked for by \
         annotation secrets.floe.dev/env-from). Ask the platform operator to let the webhook read it.",
        ns.name
    );
    let unavailable = format!(
        "the secrets backend kubernetes is unavailable; secret \"db-creds\" in namespace \"{}\" could not be checked \
         (asked for by annotation secrets.floe.dev/env-from)",
        ns.name
    );
    let cases: [(&str, &str, bool, String); 3] = [
        (
            &with_rights,
            "deny",
            false,
            format!("Forbidden|{forbidden}"),
        ),
        (
            &gone,
            "deny",
            false,
            format!(
                "ServiceUnavailable|{unavailable}. Try again in a moment; controllers do so by themselves."
            ),
        ),
        (
            &gone,
            "admit",
            true,
            format!("Warning: admitted without its secrets: {unavailable}\n"),
        ),
    ];
    for (kubeconfig, on_unavailable, admitted, expected_message) in cases {
        let launch = Launch::serve(cp, &powerless).set("--kubeconfig", kubeconfig);
        let webhook = launch
            .with(&["--on-unavailable", on_unavailable])
            .start()
            .await;
        // Sorted after the other webhook, which admits these pods.
        let registration = Registration::shared(
            cp,
            &limited_to_namespaces(webhook.service_configuration(), &[&ns.name]),
        )
        .await;
        let tried = cp
            .kubectl_apply(&ns.name, &pod(&ns.name, &unique("tried"), &annotations))
            .await;
        assert_eq!(tried.code == 0, admitted, "{tried:?}");
        let expected = match expected_message.split_once('|') {
            Some((reason, sentence)) => format!(
                "Error from server ({reason}): error when creating \"STDIN\": admission webhook \
                 \"pods.secrets.floe.dev\" denied the request: {sentence}\n"
            ),
            None => expected_message,
        };
        assert_eq!(tried.stderr, expected);
        drop(registration);
    }
}

/// The API server rejects such a field in its own kinds; a Rollout is stored as it was written.
#[tokio::test]
async fn field_of_wrong_type_is_named_to_rollout_author() {
    let fixture = shared_fixture().await;
    let (cp, ns) = (fixture.cp, fixture.cp.namespace("rollouts").await);
    cp.install_rollouts().await;
    let rollout = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
        "metadata": {"name": "etl", "namespace": ns.name, "annotations": prefixed(&json!({"env-from": "db"}))},
        "spec": {"template": {"spec": {"containers": [
            {"name": "main", "image": "none", "env": [{"name": "HOST", "value": "db"}, {"name": "PORT", "value": 54327}]},
        ]}}},
    });
    // The API server adds the new resource to the webhook's rules with a delay.
    let refused = wait_for("the webhook is called", || async {
        let output = cp
            .kubectl(
                &["create", "--dry-run=server", "-f", "-"],
                &rollout.to_string(),
            )
            .await;
        (output.code != 0).then_some(output)
    })
    .await;
    let sentence = "denied the request: spec.template.spec.containers[0].env[1].value (container \"main\", variable \"PORT\") \
                    is a number, and Kubernetes takes a string there; write it in quotes.\n";
    assert!(refused.stderr.ends_with(sentence), "{refused:?}");
    assert!(
        !refused.stderr.contains("54327") && !fixture.webhook.log().contains("54327"),
        "{refused:?}"
    );
}
