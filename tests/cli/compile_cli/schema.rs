//! The shipped JSON schema, by a real checker, against the parser: both accept and refuse the same manifests.

use std::fs;

use super::*;

fn fixtures(folder: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(testdata().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() > 5, "{folder}");
    paths
}

#[test]
fn schema_and_parser_agree_on_every_fixture() {
    let checker = tool("hack/tools/python.sh", &["path", "check-jsonschema"]);
    let schema = checkout().join("schemas/manifest.json");
    for (folder, is_valid) in [("valid", true), ("invalid", false)] {
        let paths = fixtures(folder);
        let output = Command::new(&checker)
            .args(["--output-format", "json", "--schemafile"])
            .arg(&schema)
            .args(&paths)
            .output()
            .unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.success(), is_valid, "{report}");
        for path in &paths {
            let shown = path.to_str().unwrap();
            let errors = report["errors"].as_array().unwrap();
            let by_schema = !errors.iter().any(|error| error["filename"] == shown);
            let stem = path.file_name().unwrap().to_str().unwrap();
            let args = [shown, "--spec", "demo-floe.yaml", "-o", "annotations"];
            let run = compile_in(&testdata(), b"", &args);
            // A refusal by a rule about adapters or literals would say nothing about the form.
            let by_form = ["[manifest-field]", "[manifest-environment]", "[reference]"];
            let is_refused = by_form.iter().any(|rule| run.stderr.contains(rule));
            assert_eq!(is_refused, run.code != 0, "{stem}: {}", run.stderr);
            let by_parser = run.code == 0;
            assert_eq!(
                (by_schema, by_parser),
                (is_valid, is_valid),
                "{stem}: {}",
                run.stderr
            );
        }
    }
}

#[test]
fn meta_schema_accepts_the_schema() {
    let checker = tool("hack/tools/python.sh", &["path", "check-jsonschema"]);
    let output = Command::new(&checker)
        .arg("--check-metaschema")
        .arg(checkout().join("schemas/manifest.json"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
