//! Manifests in the shapes that floe's own pages have, against checked-in outputs, and these in the real kubectl.
//!
//! `UPDATE_GOLDEN=1` writes the outputs anew.

use std::fs;

use super::*;

/// Manifest, and arguments beside it.
const CASES: [(&str, &[&str]); 4] = [
    ("demo", &["--spec", "demo-floe.yaml"]),
    (
        "quickstart",
        &["--spec", "demo-floe.yaml", "--profile", "customer_360"],
    ),
    ("snowflake", &["--targets", "dev,prod"]),
    ("references", &["--mask"]),
];

fn compile_case(name: &str, more: &[&str], out: &Path) -> Compiled {
    let manifest = format!("valid/{name}.yaml");
    let args = [&[manifest.as_str(), "--out", out.to_str().unwrap()], more].concat();
    let run = compile_in(&testdata(), b"", &args);
    assert_eq!(run.code, 0, "{name}: {}", run.stderr);
    run
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a setting of the test run")]
fn manifests_compile_to_the_checked_in_outputs() {
    for (name, more) in CASES {
        let out = TempDir::new().unwrap();
        let run = compile_case(name, more, out.path());
        let messages = run.stderr.replace(out.path().to_str().unwrap(), "OUT");
        fs::write(out.path().join("messages.txt"), messages).unwrap();
        let golden = testdata().join("golden").join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            drop(fs::remove_dir_all(&golden));
            fs::create_dir_all(&golden).unwrap();
            for entry in fs::read_dir(out.path()).unwrap() {
                let path = entry.unwrap().path();
                fs::copy(&path, golden.join(path.file_name().unwrap())).unwrap();
            }
        }
        let list = |folder: &Path| {
            let mut names: Vec<_> = fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            names
        };
        assert_eq!(list(&golden), list(out.path()), "{name}");
        for file in list(&golden) {
            let read = |folder: &Path| fs::read_to_string(folder.join(&file)).unwrap();
            assert_eq!(
                read(out.path()),
                read(&golden),
                "{name}: {}",
                file.display()
            );
        }
    }
}

#[test]
fn floe_pages_have_the_fields_of_their_secrets() {
    let golden = |path: &str| fs::read_to_string(testdata().join("golden").join(path)).unwrap();
    let demo = golden("demo/profiles.yml");
    assert!(
        demo.contains("/tmp/floe/customer_360.duckdb") && demo.contains("settings"),
        "{demo}"
    );
    assert!(!demo.contains("demo-secret"), "{demo}");
    let snowflake = golden("snowflake/profiles.yml");
    for field in ["ACCOUNT", "USER", "PASSWORD", "SCHEMA"] {
        assert!(
            snowflake.contains(&format!("env_var('SNOWFLAKE_{field}')")),
            "{snowflake}"
        );
    }
}

#[test]
fn kubectl_applies_every_form() {
    let kubectl = tool("hack/tools/tools.sh", &["path", "kubectl"]);
    let out = TempDir::new().unwrap();
    compile_case("snowflake", &[], out.path());
    let objects = [
        (
            "namespace",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: some}\n",
            "/metadata/annotations",
        ),
        (
            "serviceaccount",
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: some}\n",
            "/metadata/annotations",
        ),
        (
            "patch",
            "apiVersion: batch/v1\nkind: Job\nmetadata: {name: some}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}\n",
            "/spec/template/metadata/annotations",
        ),
    ];
    for (form, object, path) in objects {
        let file = out.path().join("object.yaml");
        fs::write(&file, object).unwrap();
        let output = Command::new(&kubectl)
            .args(["patch", "--local", "-o", "json", "-f"])
            .arg(&file)
            .arg("--patch-file")
            .arg(out.path().join(format!("{form}.yaml")))
            .env("KUBECONFIG", out.path().join("none"))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{form}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_annotated(&serde_json::from_slice(&output.stdout).unwrap(), path, form);
    }
}

fn assert_annotated(object: &serde_json::Value, path: &str, form: &str) {
    let annotations = object
        .pointer(path)
        .unwrap_or_else(|| panic!("{form}: {object}"));
    let password = annotations["secrets.floe.dev/env.SNOWFLAKE_PASSWORD"].as_str();
    assert_eq!(
        password,
        Some("snowflake-credentials/SNOWFLAKE_PASSWORD"),
        "{form}: {object}"
    );
}

#[test]
fn kustomize_component_annotates_every_workload() {
    let kubectl = tool("hack/tools/tools.sh", &["path", "kubectl"]);
    let folder = TempDir::new().unwrap();
    compile_case("snowflake", &[], &folder.path().join("component"));
    let template = "{metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}";
    let manifests = format!(
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: c}}\nspec: {{schedule: '0 * * * *', jobTemplate: {{spec: {{template: {template}}}}}}}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\nspec: {{selector: {{matchLabels: {{a: b}}}}, template: {template}}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\n"
    );
    fs::create_dir(folder.path().join("app")).unwrap();
    fs::write(folder.path().join("app/all.yaml"), manifests).unwrap();
    fs::write(
        folder.path().join("app/kustomization.yaml"),
        "resources: [all.yaml]\ncomponents: [../component]\n",
    )
    .unwrap();
    let output = Command::new(&kubectl)
        .arg("kustomize")
        .arg(folder.path().join("app"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let count = text
        .matches(
            "secrets.floe.dev/env.SNOWFLAKE_PASSWORD: snowflake-credentials/SNOWFLAKE_PASSWORD",
        )
        .count();
    assert_eq!(count, 2, "{text}");
    assert!(!text.contains("name: any"), "{text}");
}
