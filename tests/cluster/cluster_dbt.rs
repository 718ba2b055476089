//! Real dbt in pods of a real node: profiles that `compile` wrote, with the variables of their annotations. The image
//! has dbt-core 1.11, its adapters for DuckDB and PostgreSQL, and a PostgreSQL server (`hack/dbt/image.sh`).
//!
//! `make test-cluster` installs the webhook and sets `KUBECTL`, `DBT_IMAGE` and `BUSYBOX_IMAGE`. These tests are ignored
//! otherwise: they need root or a cluster. With `DBT2_BIN`, the image has dbt 2 too, and the same runs on it.

#![expect(
    clippy::indexing_slicing,
    reason = "serde_json values are indexed; a panic fails the test"
)]

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::command_output::CommandOutput;
use testbed::tools::project_root;
use testbed::unique;

/// Time limit of every wait. dbt itself takes up to ten seconds for each command on two busy cores.
const WAIT_TIMEOUT: Duration = Duration::from_mins(3);

/// Value that no log may have.
const PASSWORD: &str = "canary-p 007$(HOME)'\"";

#[expect(
    clippy::disallowed_methods,
    reason = "the script that starts these tests sets the cluster"
)]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn required_setting(name: &str) -> String {
    setting(name).unwrap_or_else(|| panic!("{name} is not set; run `make test-cluster`"))
}

/// Programs of dbt in the image.
fn dbt_programs() -> Vec<&'static str> {
    match setting("DBT2_BIN") {
        Some(_) => vec!["dbt", "dbt2"],
        None => vec!["dbt"],
    }
}

/// Namespace of one test, deleted on drop.
struct Namespace(String);

impl Namespace {
    fn new(stem: &str) -> Self {
        let made = Self(unique(stem));
        run(&["create", "namespace", &made.0], "");
        made.wait("the namespace's service account", |ns| {
            ns.try_get("serviceaccount/default")
        });
        made
    }

    fn kubectl(&self, args: &[&str], stdin: &str) -> String {
        run(&[&["-n", &self.0], args].concat(), stdin)
    }

    fn try_get(&self, what: &str) -> Option<Value> {
        let output = try_run(&["-n", &self.0, "get", what, "-o", "json"], "");
        (output.code == 0).then(|| serde_json::from_str(&output.stdout).expect("JSON"))
    }

    /// Polls until there is a value; panics with what the namespace has.
    fn wait<T>(&self, what: &str, probe: impl Fn(&Self) -> Option<T>) -> T {
        let end = Instant::now() + WAIT_TIMEOUT;
        loop {
            if let Some(found) = probe(self) {
                return found;
            }
            if Instant::now() >= end {
                let pods = try_run(&["-n", &self.0, "describe", "pods"], "").text();
                panic!("not within {WAIT_TIMEOUT:?}: {what}\n{pods}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn secret(&self, name: &str, data: &Value) {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        self.kubectl(&["apply", "-f", "-"], &secret.to_string());
    }

    /// Output of a Job's container, after it has ended, and its exit code.
    fn finished(&self, job: &str) -> (String, i64) {
        let code = self.wait(&format!("job {job} ends"), |ns| {
            let label = format!("job-name={job}");
            let args = ["-n", &ns.0, "get", "pods", "-l", &label, "-o", "json"];
            let pods: Value = serde_json::from_str(&try_run(&args, "").stdout).ok()?;
            let status = &pods["items"].get(0)?["status"]["containerStatuses"].get(0)?;
            status["state"]["terminated"]["exitCode"].as_i64()
        });
        (self.kubectl(&["logs", &format!("job/{job}")], ""), code)
    }

    /// Applies an example with the image of this test. `edit` changes its text.
    fn apply_example(&self, folder: &str, edit: impl Fn(String) -> String) {
        let folder = project_root().join("examples").join(folder);
        let rendered = run(&["kustomize", &folder.display().to_string()], "");
        let image = required_setting("DBT_IMAGE");
        assert!(rendered.contains("example.com/dbt:1.11"), "{rendered}");
        let text = rendered.replace("example.com/dbt:1.11", &image);
        self.kubectl(&["apply", "-f", "-"], &edit(text));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        try_run(&["delete", "namespace", &self.0, "--wait=false"], "");
    }
}

fn run(args: &[&str], stdin: &str) -> String {
    let output = try_run(args, stdin);
    assert_eq!(output.code, 0, "kubectl {args:?}: {}", output.stderr);
    output.stdout
}

fn try_run(args: &[&str], stdin: &str) -> CommandOutput {
    let mut command = Command::new(required_setting("KUBECTL"));
    command.args(args);
    CommandOutput::run(command, stdin)
}

/// The example's command, with another program of dbt.
fn with_program(text: &str, program: &str) -> String {
    text.replace(
        "dbt debug && dbt run",
        &format!("{program} debug && {program} run"),
    )
}

/// Starts PostgreSQL in a pod, and returns the address at which other pods reach it.
fn start_postgresql(ns: &Namespace) -> String {
    // The password comes from the same Secret that dbt gets it from.
    let script = "printf %s \"$POSTGRES_PASSWORD\" >/tmp/password
initdb --pgdata /tmp/data --username loader --auth scram-sha-256 --pwfile /tmp/password --no-locale --encoding UTF8 --no-sync
echo 'host all all all scram-sha-256' >>/tmp/data/pg_hba.conf
exec postgres -D /tmp/data -c listen_addresses='*' -c unix_socket_directories=/tmp -c fsync=off";
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "postgresql",
            "annotations": {"secrets.floe.dev/env.POSTGRES_PASSWORD": "server/password"},
        },
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
            "name": "postgresql", "image": required_setting("DBT_IMAGE"), "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-ec", script],
            "readinessProbe": {"exec": {"command": ["pg_isready", "-h", "127.0.0.1"]}, "periodSeconds": 1},
        }]},
    });
    ns.secret("server", &json!({"password": PASSWORD}));
    ns.kubectl(&["create", "-f", "-"], &pod.to_string());
    ns.wait("PostgreSQL is ready", |ns| {
        let status = ns.try_get("pod/postgresql")?["status"].take();
        let is_ready = status["containerStatuses"][0]["ready"] == true;
        is_ready.then(|| status["podIP"].as_str().map(str::to_owned))?
    })
}

/// The data of `warehouse-credentials`, without a key.
fn credentials(host: &str, without: &str) -> Value {
    let mut data = json!({
        "POSTGRES_HOST": host, "POSTGRES_PORT": "5432", "POSTGRES_USER": "loader",
        "POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DBNAME": "postgres",
    });
    data.as_object_mut().expect("a map").remove(without);
    data
}

fn assert_dbt_succeeded(log: &str, code: i64) {
    assert_eq!(code, 0, "{log}");
    for line in ["All checks passed!", "Completed successfully", "PASS=1"] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert!(!log.contains("canary"), "{log}");
}

/// One test, so that PostgreSQL starts once: the example runs; without a key, the pod is refused with the key's name;
/// without annotations, dbt refuses the profile.
#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn dbt_job_runs_on_postgresql_and_a_missing_key_refuses_its_pod() {
    let ns = Namespace::new("dbt-postgres");
    ns.secret(
        "warehouse-credentials",
        &credentials("unused", "POSTGRES_PASSWORD"),
    );
    ns.apply_example("dbt-job", |text| text);
    let message = ns.wait("the refusal in the Job's events", |ns| {
        let events = ns.try_get("events")?;
        let messages = events["items"].as_array()?.iter().filter_map(|event| {
            let is_refusal = event["reason"] == "FailedCreate";
            is_refusal.then(|| event["message"].as_str())?
        });
        messages.map(str::to_owned).next()
    });
    assert!(
        message.contains("has no key \"POSTGRES_PASSWORD\""),
        "{message}"
    );
    ns.kubectl(&["delete", "job", "orders", "--cascade=foreground"], "");

    let host = start_postgresql(&ns);
    ns.secret("warehouse-credentials", &credentials(&host, ""));
    for program in dbt_programs() {
        ns.apply_example("dbt-job", |text| with_program(&text, program));
        let (log, code) = ns.finished("orders");
        assert_dbt_succeeded(&log, code);
        ns.kubectl(&["delete", "job", "orders", "--cascade=foreground"], "");
    }
    let query = format!(
        "PGPASSWORD=\"$POSTGRES_PASSWORD\" psql -h {host} -U loader -d postgres -tAc \
         'select count(*), max(status) from analytics.orders'"
    );
    let rows = ns.kubectl(&["exec", "postgresql", "--", "sh", "-c", &query], "");
    assert_eq!(rows.trim(), "2|paid");

    // The same profile in a pod whose variables nobody asked for.
    for program in dbt_programs() {
        ns.apply_example("dbt-job", |text| without_annotations(&text, program));
        let (log, code) = ns.finished("orders");
        assert!(
            log.contains("Env var required but not provided: 'POSTGRES_"),
            "{log}"
        );
        assert_eq!(code, 2, "{log}");
        ns.kubectl(&["delete", "job", "orders", "--cascade=foreground"], "");
    }
}

/// Manifest without the annotations under our prefix, and with `dbt run` alone: `dbt debug` exits with 1.
fn without_annotations(text: &str, program: &str) -> String {
    let mut kept = String::new();
    for line in text.lines() {
        if !line.trim_start().starts_with("secrets.floe.dev/") {
            let _ = writeln!(kept, "{line}");
        }
    }
    kept.replace("dbt debug && dbt run", &format!("{program} run"))
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn dbt_cron_job_runs_on_duckdb_with_namespace_defaults() {
    let ns = Namespace::new("dbt-duckdb");
    ns.secret("partner-api", &json!({"token": "canary-token"}));
    let patch = project_root().join("examples/dbt-cronjob/compiled/namespace.yaml");
    let patch = patch.display().to_string();
    run(&["patch", "namespace", &ns.0, "--patch-file", &patch], "");
    for program in dbt_programs() {
        ns.apply_example("dbt-cronjob", |text| with_program(&text, program));
        ns.kubectl(
            &["create", "job", program, "--from=cronjob/floe-jobs-dbt"],
            "",
        );
        let (log, code) = ns.finished(program);
        assert_dbt_succeeded(&log, code);
    }
}

/// Applies an example that has an image of its own, with a shell that prints what the container has.
fn apply_with_shell(ns: &Namespace, files: &[&str], images: &[&str], script: &str) {
    let shell = required_setting("BUSYBOX_IMAGE");
    for file in files {
        let file = project_root().join("examples").join(file);
        let mut text = std::fs::read_to_string(file).expect("the example");
        for image in images {
            let command = format!("{shell}\n          command: [sh, -ec, \"{script}\"]");
            text = text.replace(image, if script.is_empty() { &shell } else { &command });
        }
        ns.kubectl(&["apply", "-f", "-"], &text);
    }
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn plain_job_prints_the_names_of_its_variables() {
    let ns = Namespace::new("plain-job");
    ns.secret(
        "warehouse",
        &json!({"WAREHOUSE_USER": "loader", "WAREHOUSE_PASSWORD": PASSWORD}),
    );
    ns.secret("lake", &json!({"token": "canary", "secret-key": "canary"}));
    apply_with_shell(&ns, &["plain-job/job.yaml"], &["busybox:1.37"], "");
    let (log, code) = ns.finished("load");
    assert_eq!(code, 0, "{log}");
    let names: Vec<&str> = log.lines().collect();
    for name in [
        "AWS_SECRET_ACCESS_KEY",
        "FLOE_SECRET_LAKE_TOKEN",
        "WAREHOUSE_PASSWORD",
        "WAREHOUSE_USER",
    ] {
        assert!(names.contains(&name), "{name}: {log}");
    }
    assert!(!log.contains("canary"), "{log}");
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn cube_containers_have_the_variables_of_their_service_account() {
    let ns = Namespace::new("cube");
    ns.secret("cube", &json!({"api-secret": "api"}));
    ns.secret(
        "warehouse",
        &json!({"user": "loader", "password": PASSWORD}),
    );
    let label = "secrets.floe.dev/inject=enabled";
    run(&["label", "namespace", &ns.0, label], "");
    let files = ["cube/serviceaccount.yaml", "cube/cube.yaml"];
    let script = "env | grep ^CUBEJS_ | sort; trap exit TERM; while :; do sleep 1; done";
    apply_with_shell(&ns, &files, &["cubejs/cube:v1.3"], script);
    for (deployment, more) in [
        ("cube-api", ""),
        ("cube-refresh-worker", "CUBEJS_REFRESH_WORKER=true\n"),
    ] {
        let expected = format!(
            "CUBEJS_API_SECRET=api\nCUBEJS_DB_PASS={PASSWORD}\nCUBEJS_DB_TYPE=postgres\nCUBEJS_DB_USER=loader\n{more}"
        );
        let log = ns.wait(&format!("{deployment} prints its variables"), |ns| {
            let deployment = format!("deployment/{deployment}");
            let log = try_run(&["-n", &ns.0, "logs", &deployment], "");
            (log.stdout.lines().count() >= expected.lines().count()).then_some(log.stdout)
        });
        assert_eq!(log, expected);
    }
}
