//! Secrets against which the demands of a profile are checked: those in the files of `--secrets`, whose values are read
//! and dropped, or those of the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use injection::{KeyChoice, SecretKey, SecretName, SecretSource};

use super::demand::{Delivery, Demand};
use super::live_secrets::LiveSecrets;
use super::manifest::{Diagnostics, ManifestFiles, shown_path, unreadable};
use super::request::CompileRequest;
use crate::finding::{FileFinding, FindingSeverity, Rule};
use crate::yaml::{self, Node, Position, YamlLimits};

/// Limit of files behind all `--secrets`.
pub(crate) const MAX_SECRET_FILES: usize = 1000;

/// Limits of one file, which may be an export of a namespace.
pub(crate) const LIMITS: YamlLimits = YamlLimits {
    bytes: 8 << 20,
    depth: 64,
    nodes: 500_000,
    aliases: 1_000,
    key_bytes: YamlLimits::HAND_WRITTEN.key_bytes,
};

/// Key names by the Secret's name, whatever its namespace.
type SecretKeys = BTreeMap<String, BTreeSet<String>>;

/// Reports demands of all plugins for Kubernetes Secrets that do not exist. Nothing is checked without `--secrets` and
/// `--cluster`.
pub(super) fn check(
    request: &CompileRequest,
    demands: &[&Demand],
    files: &ManifestFiles,
    diagnostics: &mut Diagnostics,
) {
    let (known, origin) = if let Some(live) = &request.cluster {
        let origin = format!("namespace {:?} of the cluster", live.namespace());
        (read_cluster(live.as_ref(), demands, diagnostics), origin)
    } else if request.secrets.is_empty() {
        return;
    } else {
        let known = read_files(&request.secrets, diagnostics);
        (known, "the files of --secrets".to_owned())
    };
    // Secrets that could not be read are not missing.
    let Some(known) = known else { return };
    let missing = demands
        .iter()
        .filter_map(|demand| missing(demand, &known, &origin));
    diagnostics.extend(files.with_excerpts(missing.collect()));
}

/// Secrets of the files; `None` if one of them cannot be read.
fn read_files(paths: &[PathBuf], diagnostics: &mut Diagnostics) -> Option<SecretKeys> {
    let mut known = SecretKeys::new();
    let mut is_complete = true;
    for path in expand(paths, diagnostics) {
        if let Err(finding) = read_file(&path, &mut known) {
            is_complete = false;
            diagnostics.add(finding);
        }
    }
    is_complete.then_some(known)
}

/// Secrets of the cluster that are asked for, one after the other; `None` after the first that cannot be read: the next
/// ones would mostly fail in the same way, each after its time limit.
fn read_cluster(
    live: &dyn LiveSecrets,
    demands: &[&Demand],
    diagnostics: &mut Diagnostics,
) -> Option<SecretKeys> {
    let secrets = demands.iter().map(|demand| &demand.reference.secret);
    let names: BTreeSet<&SecretName> = secrets
        .filter(|secret| secret.source == SecretSource::Kubernetes)
        .map(|secret| &secret.name)
        .collect();
    let mut known = SecretKeys::new();
    for name in names {
        match live.keys(name) {
            Ok(keys) => known.extend(keys.map(|keys| (name.to_string(), keys))),
            Err(message) => {
                diagnostics.add(unreadable(&Arc::from("--cluster"), None, message));
                return None;
            }
        }
    }
    Some(known)
}

fn missing(demand: &Demand, known: &SecretKeys, origin: &str) -> Option<FileFinding> {
    let reference = &demand.reference;
    if reference.secret.source != SecretSource::Kubernetes {
        return None;
    }
    let name = &reference.secret.name;
    let default = SecretKey::default_key();
    let key = match &reference.key {
        KeyChoice::Key(key) => key,
        KeyChoice::Default => &default,
        KeyChoice::All => return None,
    };
    let message = match known.get(name.as_str()) {
        None => format!(
            "secret {:?} is not in {origin}. Create it, or correct the reference.",
            name.as_str()
        ),
        Some(_) if demand.delivery == Delivery::Whole => return None,
        Some(keys) if !keys.contains(key.as_str()) => format!(
            "secret {:?} has no key {:?} in {origin}, and {} needs it. Add the key, or correct the reference.",
            name.as_str(),
            key.as_str(),
            demand.variable
        ),
        Some(_) => return None,
    };
    Some(FileFinding {
        rule: Rule::SecretMissing,
        severity: FindingSeverity::Error,
        place: demand.place.clone(),
        message,
        excerpt: None,
    })
}

/// Files behind the paths: of a folder, those that end in .json, .yaml or .yml, in the order of their names.
fn expand(paths: &[PathBuf], diagnostics: &mut Diagnostics) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        match entries(path) {
            Ok(found) => files.extend(found),
            Err(error) => {
                let message = format!("cannot be read: {error}");
                diagnostics.add(unreadable(&shown_path(path), None, message));
            }
        }
    }
    limit_files(&mut files, diagnostics);
    files
}

/// Files of a folder, one more than allowed at most. Pipes are left out: one without a writer would be waited for.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // A file that cannot be read is reported later.
        let is_other = || fs::metadata(&path).is_ok_and(|found| !found.is_file());
        if has_manifest_extension(&path) && !is_other() {
            found.push(path);
        }
        if found.len() > MAX_SECRET_FILES {
            break;
        }
    }
    found.sort();
    Ok(found)
}

/// Cuts the list of files at its limit.
fn limit_files(files: &mut Vec<PathBuf>, diagnostics: &mut Diagnostics) {
    if files.len() > MAX_SECRET_FILES {
        files.truncate(MAX_SECRET_FILES);
        let message = format!("more than {MAX_SECRET_FILES} files; name fewer");
        diagnostics.add(unreadable(&Arc::from("--secrets"), None, message));
    }
}

fn has_manifest_extension(path: &Path) -> bool {
    path.extension()
        .is_some_and(|found| ["json", "yaml", "yml"].iter().any(|known| found == *known))
}

/// Adds the Secrets of one file.
fn read_file(path: &Path, known: &mut SecretKeys) -> Result<(), FileFinding> {
    let name = shown_path(path);
    let fail = |message: String| unreadable(&name, None, message);
    let file = File::open(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
    let limit = u64::try_from(LIMITS.bytes).unwrap_or(u64::MAX);
    let mut text = String::new();
    file.take(limit.saturating_add(1))
        .read_to_string(&mut text)
        .map_err(|error| fail(format!("cannot be read: {error}")))?;
    if text.len() > LIMITS.bytes {
        let bytes = LIMITS.bytes;
        return Err(fail(format!("is larger than {bytes} bytes; split it")));
    }
    for (first_line, document) in documents(&text) {
        let node = yaml::parse(document, LIMITS).map_err(|error| {
            let position = error.position.map(|at| Position {
                line: at.line + first_line,
                ..at
            });
            unreadable(&name, position, error.to_string())
        })?;
        add_object(&node, known);
    }
    Ok(())
}

/// Documents of a stream, each with the number of lines before it.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut first_line, mut offset) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let is_separator = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.trim().is_empty() || rest.trim_start().starts_with('#'));
        if is_separator {
            documents.push((first_line, text.get(start..offset).unwrap_or_default()));
            start = offset + line.len();
            first_line = number + 1;
        }
        offset += line.len();
    }
    documents.push((first_line, text.get(start..).unwrap_or_default()));
    documents
}

fn add_object(node: &Node, known: &mut SecretKeys) {
    let kind = node.get("kind").and_then(Node::text);
    if kind.is_some_and(|kind| kind.ends_with("List")) {
        let items = node.get("items").and_then(Node::items);
        items
            .unwrap_or_default()
            .iter()
            .for_each(|item| add_object(item, known));
    }
    let name = node
        .get("metadata")
        .and_then(|metadata| metadata.get("name"))
        .and_then(Node::text);
    if let (Some("Secret"), Some(name)) = (kind, name) {
        let keys = known.entry(name.to_owned()).or_default();
        for field in ["data", "stringData"] {
            let entries = node.get(field).and_then(Node::entries).unwrap_or_default();
            keys.extend(entries.iter().map(|entry| entry.key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::files::in_time;

    #[test]
    fn keys_are_read_from_documents_and_lists() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.yaml");
        let text = "# first\n---\nkind: Secret\nmetadata: {name: a}\ndata: {x: eA==}\nstringData: {y: z}\n--- # next\nkind: List\nitems:\n- {kind: Secret, metadata: {name: b}, data: {v: eA==}}\n- {kind: ConfigMap, metadata: {name: c}, data: {v: x}}\n";
        fs::write(&path, text).unwrap();
        let mut known = SecretKeys::new();
        read_file(&path, &mut known).unwrap();
        let listed: Vec<String> = known
            .iter()
            .map(|(name, keys)| {
                format!(
                    "{name}: {}",
                    keys.iter().cloned().collect::<Vec<_>>().join(",")
                )
            })
            .collect();
        assert_eq!(listed, ["a: x,y", "b: v"]);
    }

    #[test]
    fn files_and_bytes_are_limited() {
        let mut diagnostics = Diagnostics::default();
        let mut files = vec![PathBuf::from("f"); MAX_SECRET_FILES];
        limit_files(&mut files, &mut diagnostics);
        assert!(!diagnostics.has_errors());
        files.push(PathBuf::from("f"));
        limit_files(&mut files, &mut diagnostics);
        assert!(files.len() == MAX_SECRET_FILES && diagnostics.has_errors());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.yaml");
        fs::write(&path, "#".repeat(LIMITS.bytes)).unwrap();
        assert!(read_file(&path, &mut SecretKeys::new()).is_ok());
        fs::write(&path, "#".repeat(LIMITS.bytes + 1)).unwrap();
        let error = read_file(&path, &mut SecretKeys::new()).unwrap_err();
        assert!(error.message.contains("8388608 bytes"), "{error}");
    }

    #[test]
    fn broken_document_is_reported_with_its_line_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.yaml");
        fs::write(&path, "a: b\n---\na: [hunter2\nb: c\n").unwrap();
        let error = read_file(&path, &mut SecretKeys::new())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("s.yaml:4:") && error.ends_with("not valid YAML"),
            "{error}"
        );
        assert!(!error.contains("hunter2"));
    }

    #[test]
    fn pipes_of_a_folder_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(folder.path().join("pipe.yaml"))
            .status();
        assert!(made.unwrap().success());
        let secret = "kind: Secret\nmetadata: {name: db}\n";
        fs::write(folder.path().join("s.yaml"), secret).unwrap();
        fs::write(folder.path().join("s.txt"), "").unwrap();
        fs::create_dir(folder.path().join("d.yaml")).unwrap();
        let path = folder.path().to_owned();
        let keys = in_time(move || {
            let mut known = SecretKeys::new();
            for file in expand(&[path], &mut Diagnostics::default()) {
                read_file(&file, &mut known).unwrap();
            }
            known
        });
        assert_eq!(keys.keys().collect::<Vec<_>>(), ["db"]);
    }

    #[test]
    fn folder_is_read_up_to_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..MAX_SECRET_FILES + 10 {
            fs::write(folder.path().join(format!("{number}.yaml")), "").unwrap();
        }
        let found = entries(folder.path()).unwrap();
        assert_eq!(found.len(), MAX_SECRET_FILES + 1);
    }
}
