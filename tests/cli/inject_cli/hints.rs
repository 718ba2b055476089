//! Secrets that exist elsewhere: in another namespace, or under a name that kustomize generated.

use super::*;

fn secret(name: &str, namespace: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\nstringData: {{user: canary}}\n"
    )
}

const PLACE: &str = "standard input: document 1, Pod \"p\" in namespace \"default\":";

#[test]
fn missing_secret_of_another_namespace_gets_a_hint() {
    let secrets = [secret("db", "jobs"), secret("db", "etl")].concat();
    let files = [("s.yaml", secrets.as_str())];
    let output = inject(
        &files,
        &pod("secrets.floe.dev/refs: db/user"),
        &["-f", "-", "--secrets", "s.yaml"],
    );
    assert_eq!((output.code, output.stdout.as_str()), (1, ""));
    assert_eq!(
        output.stderr,
        format!(
            "error: {PLACE} secret \"db\" not found in namespace \"default\" (backend files; asked for by annotation secrets.floe.dev/refs). Create it or correct the annotation. A Secret of that name is known in namespaces \"etl\", \"jobs\", and pods read only those of their own: correct the object's namespace (-n sets that of objects that name none), or add the Secret here.\n"
        )
    );
    let warned = pod("secrets.floe.dev/refs: db/user, secrets.floe.dev/on-missing: warn");
    let output = inject(&files, &warned, &["-f", "-", "--secrets", "s.yaml"]);
    assert_eq!(output.code, 0);
    assert!(
        output.stderr.starts_with("warning: ")
            && output.stderr.contains("A Secret of that name is known in"),
        "{}",
        output.stderr
    );
}

#[test]
fn generated_name_is_used_as_kustomize_would() {
    let job = "\
apiVersion: batch/v1
kind: Job
metadata: {name: j}
spec:
  template:
    metadata:
      annotations: {secrets.floe.dev/env-from: db, secrets.floe.dev/refs: db/user, secrets.floe.dev/env.U: db/user}
    spec: {containers: [{name: main}]}
";
    let manifest = format!("{job}{}", secret("db-5h2f8k9t7m", "default"));
    let note = "note: standard input: document 1, Job \"j\" in namespace \"default\": secret \"db\" is \"db-5h2f8k9t7m\", as kustomize named it in these manifests\n";
    let unchecked =
        "note: no secret was looked for; check that they exist with --secrets FILE or --cluster\n";
    for (args, more) in [(&["--secrets", "s.yaml"][..], ""), (&[], unchecked)] {
        let output = inject(
            &[("s.yaml", SECRETS)],
            &manifest,
            &[&["-f", "-"], args].concat(),
        );
        assert_eq!(
            (output.code, output.stderr.as_str()),
            (0, format!("{note}{more}").as_str())
        );
        let template = printed(&output, "/spec/template");
        let container = &template["spec"]["containers"][0];
        assert_eq!(
            container["envFrom"],
            json!([{ "secretRef": { "name": "db-5h2f8k9t7m" } }])
        );
        let expected =
            ["FLOE_SECRET_DB_USER", "U"].map(|name| variable(name, "db-5h2f8k9t7m", "user"));
        assert_eq!(env_of(&template), json!(expected));
        let again = inject(
            &[("s.yaml", SECRETS)],
            &output.stdout,
            &[&["-f", "-"], args].concat(),
        );
        assert_eq!(
            (again.code, again.stdout.as_str()),
            (0, output.stdout.as_str())
        );
    }
    // Its keys are known.
    let missing = manifest.replace("db/user", "db/gone");
    let output = inject(
        &[("s.yaml", SECRETS)],
        &missing,
        &["-f", "-", "--secrets", "s.yaml"],
    );
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains("has no key \"gone\""),
        "{}",
        output.stderr
    );
}

#[test]
fn secret_of_exact_name_is_preferred() {
    let manifest = pod("secrets.floe.dev/refs: db/user")
        + &secret("db-5h2f8k9t7m", "default")
        + &secret("db", "default");
    let output = inject(
        &[("s.yaml", SECRETS)],
        &manifest,
        &["-f", "-", "--secrets", "s.yaml"],
    );
    assert_eq!(output.stderr, "");
    assert_eq!(
        env_of(&printed(&output, "")),
        json!([variable("FLOE_SECRET_DB_USER", "db", "user")])
    );
}

#[rstest]
#[case::two_generations(
    &["db-5h2f8k9t7m", "db-mmmmmmmmmm"], &[],
    "The manifests have 2 of it with a hash of kustomize, \"db-5h2f8k9t7m\", \"db-mmmmmmmmmm\": leave one, or name it in the annotation."
)]
#[case::to_check_against(
    &[], &["db-5h2f8k9t7m"],
    "--secrets has \"db-5h2f8k9t7m\", a name with a hash of kustomize: give that Secret to -f together with what uses it, or name it in the annotation."
)]
fn generated_name_that_is_not_used_gets_a_hint(
    #[case] stream: &[&str],
    #[case] checks: &[&str],
    #[case] hint: &str,
) {
    let all = |names: &[&str]| {
        names
            .iter()
            .map(|name| secret(name, "default"))
            .collect::<String>()
    };
    let manifest = pod("secrets.floe.dev/refs: db/user") + &all(stream);
    let checks = SECRETS.to_owned() + &all(checks);
    let output = inject(
        &[("s.yaml", &checks)],
        &manifest,
        &["-f", "-", "--secrets", "s.yaml"],
    );
    assert_eq!((output.code, output.stdout.as_str()), (1, ""));
    assert!(
        output.stderr.starts_with(&format!(
            "error: {PLACE} secret \"db\" not found in namespace \"default\""
        )),
        "{}",
        output.stderr
    );
    assert!(
        output.stderr.ends_with(&format!(" {hint}\n")),
        "{}",
        output.stderr
    );
}

#[rstest]
#[case::none("", "db", None)]
#[case::a_namespace("namespace: jobs", "db", None)]
#[case::a_prefix("namePrefix: prod-", "db", Some("\"prod-db\""))]
#[case::a_prefix_that_is_written("namePrefix: prod-", "prod-db", None)]
#[case::a_suffix("nameSuffix: -v2", "db", Some("\"db-v2\""))]
fn output_of_the_real_kustomize_is_understood(
    #[case] more: &str,
    #[case] written: &str,
    #[case] hint: Option<&str>,
) {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let generator = "secretGenerator: [{name: db, literals: [user=canary]}]\n";
    write(
        "kustomization.yaml",
        &format!("resources: [job.yaml]\n{generator}{more}\n"),
    );
    write(
        "job.yaml",
        &format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: j}}\nspec:\n  template:\n    metadata: {{annotations: {{secrets.floe.dev/env-from: {written}}}}}\n    spec:\n      restartPolicy: Never\n      containers:\n      - {{name: main, image: i}}\n      - {{name: istio-proxy, image: i, envFrom: [{{secretRef: {{name: db}}}}]}}\n"
        ),
    );
    let built = run(
        Command::new(kubectl()),
        folder.path(),
        b"",
        &["kustomize", "."],
    );
    assert_eq!(built.code, 0, "{}", built.stderr);
    let output = inject(
        &[("s.yaml", SECRETS)],
        &built.stdout,
        &["-f", "-", "--secrets", "s.yaml"],
    );
    let Some(hint) = hint else {
        assert_eq!(output.code, 0, "{}", output.stderr);
        let objects = as_kubectl_reads(&output.stdout);
        let job = objects
            .iter()
            .find(|object| object["kind"] == "Job")
            .unwrap();
        let containers = &job["spec"]["template"]["spec"]["containers"];
        let by_kustomize = &containers[1]["envFrom"];
        assert_ne!(by_kustomize[0]["secretRef"]["name"], "db");
        assert_eq!(
            &containers[0]["envFrom"], by_kustomize,
            "the reference that kustomize itself rewrote"
        );
        return;
    };
    assert_eq!((output.code, output.stdout.as_str()), (1, ""));
    let message = format!(
        "The manifests have {hint} with a hash of kustomize, which may have put a prefix or suffix to the name: name that in the annotation.\n"
    );
    assert!(output.stderr.ends_with(&message), "{}", output.stderr);
}

#[test]
fn explain_names_the_annotation_of_a_generated_name() {
    let manifest = pod("secrets.floe.dev/env-from: db") + &secret("db-5h2f8k9t7m", "default");
    let output = inject(
        &[("s.yaml", SECRETS)],
        &manifest,
        &["-f", "-", "--secrets", "s.yaml", "--explain"],
    );
    let message =
        "takes every key of secret \"db-5h2f8k9t7m\" (annotation secrets.floe.dev/env-from)\n";
    assert!(output.stderr.contains(message), "{}", output.stderr);
}

#[test]
fn similar_generated_name_is_not_used() {
    for name in [
        "db-5h2f8k9t7",
        "db-production1",
        "db-0000000000",
        "other-5h2f8k9t7m",
    ] {
        let manifest = pod("secrets.floe.dev/refs: db/user") + &secret(name, "default");
        let output = inject(
            &[("s.yaml", SECRETS)],
            &manifest,
            &["-f", "-", "--secrets", "s.yaml"],
        );
        assert_eq!(output.code, 1, "{name}");
        assert!(!output.stderr.contains("kustomize"), "{}", output.stderr);
    }
}
