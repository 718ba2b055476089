//! `--out` and `--check`.

use std::fs;

use super::*;

const FILES: [&str; 6] = [
    "annotations.yaml",
    "kustomization.yaml",
    "namespace.yaml",
    "patch.yaml",
    "profiles.yml",
    "serviceaccount.yaml",
];

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn out_has_every_form_and_a_second_run_changes_nothing() {
    let folder = folder_of(&[("m.yaml", &postgres(REFERENCE))]);
    let out = folder.path().join("deep/out");
    let args = ["m.yaml", "--out", "deep/out"];
    let first = compile_in(folder.path(), b"", &args);
    assert_eq!(
        (first.code, first.stdout.as_str()),
        (0, ""),
        "{}",
        first.stderr
    );
    assert_eq!(names(&out), FILES);
    let times = || -> Vec<_> {
        FILES
            .iter()
            .map(|name| fs::metadata(out.join(name)).unwrap().modified().unwrap())
            .collect()
    };
    let before = times();
    let second = compile_in(folder.path(), b"", &args);
    assert_eq!(
        second.stderr.matches("unchanged ").count(),
        FILES.len(),
        "{}",
        second.stderr
    );
    assert_eq!(times(), before);
    let check = compile_in(
        folder.path(),
        b"",
        &["m.yaml", "--out", "deep/out", "--check"],
    );
    assert_eq!(
        (check.code, check.stdout.as_str()),
        (0, ""),
        "{}",
        check.stderr
    );
}

#[test]
fn check_shows_a_masked_diff_of_stale_and_missing_files() {
    let folder = folder_of(&[("m.yaml", &postgres(REFERENCE))]);
    let out = folder.path().join("out");
    assert_eq!(
        compile_in(folder.path(), b"", &["m.yaml", "--out", "out"]).code,
        0
    );
    let profile = out.join("profiles.yml");
    let ours = fs::read_to_string(&profile).unwrap();
    let line = ours
        .lines()
        .find(|line| line.contains("FLOE_SECRET_DB_PASSWORD"))
        .unwrap();
    let field = line.split(':').next().unwrap();
    let theirs = ours.replace(line, &format!("{field}: CaNaRy # CaNaRy\nCaNaRy: x"));
    fs::write(&profile, &theirs).unwrap();
    fs::remove_file(out.join("patch.yaml")).unwrap();
    let run = compile_in(folder.path(), b"", &["m.yaml", "--out", "out", "--check"]);
    assert_eq!(run.code, 1);
    assert!(!format!("{run:?}").contains("CaNaRy"), "{run:?}");
    assert!(
        run.stdout.contains(&format!("-{field}: …\n-…\n+{line}\n")),
        "{}",
        run.stdout
    );
    assert!(
        run.stderr.contains("profiles.yml: is stale")
            && run.stderr.contains("patch.yaml: is missing"),
        "{}",
        run.stderr
    );
    // A check writes nothing.
    assert_eq!(fs::read_to_string(&profile).unwrap(), theirs);
    assert!(!out.join("patch.yaml").exists());
}

#[test]
fn plugin_without_references_leaves_no_file_unnoticed() {
    let catalog = |value: &str| {
        format!(
            "{}  catalog:\n    type: polaris\n    config:\n      token: {value}\n",
            postgres(REFERENCE)
        )
    };
    let folder = folder_of(&[("m.yaml", &catalog("{secretRef: {name: polaris}}"))]);
    assert_eq!(
        compile_in(folder.path(), b"", &["m.yaml", "--out", "out"]).code,
        0
    );
    let leftover = folder.path().join("out/annotations-catalog.yaml");
    let text = fs::read_to_string(&leftover).unwrap();
    assert!(
        text.contains("polaris") && !text.contains("db/password"),
        "{text}"
    );
    let profile = fs::read_to_string(folder.path().join("out/profiles.yml")).unwrap();
    assert!(!profile.contains("POLARIS"), "{profile}");

    fs::write(folder.path().join("m.yaml"), postgres(REFERENCE)).unwrap();
    let check = compile_in(folder.path(), b"", &["m.yaml", "--out", "out", "--check"]);
    assert_eq!(check.code, 1);
    assert!(
        check
            .stderr
            .contains("annotations-catalog.yaml: its plugin has no references any more"),
        "{}",
        check.stderr
    );
    let write = compile_in(folder.path(), b"", &["m.yaml", "--out", "out"]);
    assert!(
        write.code == 0
            && write
                .stderr
                .contains("warning: out/annotations-catalog.yaml"),
        "{}",
        write.stderr
    );
    assert!(leftover.exists());
}

#[test]
fn folder_that_cannot_be_written_is_reported() {
    let manifest = postgres(REFERENCE);
    let folder = folder_of(&[("m.yaml", &manifest), ("out", "a file")]);
    let run = compile_in(folder.path(), b"", &["m.yaml", "--out", "out"]);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("error: out: cannot be created"),
        "{}",
        run.stderr
    );
    let folder = folder_of(&[("m.yaml", &manifest)]);
    fs::create_dir_all(folder.path().join("out/profiles.yml")).unwrap();
    let run = compile_in(folder.path(), b"", &["m.yaml", "--out", "out"]);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("out/profiles.yml: cannot be written"),
        "{}",
        run.stderr
    );
    let check = compile_in(folder.path(), b"", &["m.yaml", "--out", "out", "--check"]);
    assert_eq!(check.code, 2, "{}", check.stderr);
}
