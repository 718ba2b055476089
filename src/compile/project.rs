//! Files of the dbt project and of the data product: the name of the profile, and the name of the product.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::jinja;
use super::manifest::{Diagnostics, FieldReader, SourceFile, is_product_name};
use super::plan::is_profile_name;
use crate::finding::Rule;
use crate::yaml::Node;

/// Name of the product's spec in the folder of a project.
const SPEC_FILE: &str = "floe.yaml";

const PROJECT_FILE: &str = "dbt_project.yml";

/// Names that files beside the manifest give.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ProjectNames {
    /// `metadata.name` of the product's spec.
    pub product: Option<String>,
    /// `profile` of `dbt_project.yml`, and the file.
    pub profile: Option<(String, Arc<str>)>,
}

/// Reads the spec and the dbt project. The project's folder is `project_dir`, else that of the spec, else the current
/// folder. In it, floe.yaml (unless another spec is named) and `dbt_project.yml` are read if they exist.
pub(crate) fn read<R: Read>(
    spec: Option<&Path>,
    project_dir: Option<&Path>,
    stdin: &mut Option<R>,
    diagnostics: &mut Diagnostics,
) -> ProjectNames {
    let folder = project_folder(spec, project_dir);
    let beside = folder.join(SPEC_FILE);
    let spec = match spec {
        Some(spec) => Some(spec.to_owned()),
        None => beside.exists().then_some(beside),
    };
    let project = folder.join(PROJECT_FILE);
    let project = project.exists().then_some(project);
    let mut read = |path: Option<PathBuf>, field: Field| {
        let file = SourceFile::open(&path?, stdin).map_err(|finding| diagnostics.add(finding));
        let file = file.ok()?;
        let node = file.parse().map_err(|finding| diagnostics.add(finding));
        let mut reader = FieldReader::new(&file, diagnostics);
        let name = field(&node.ok()?, &mut reader)?;
        Some((name, Arc::clone(&file.name)))
    };
    let product = read(spec, product_name).map(|(name, _)| name);
    ProjectNames {
        product,
        profile: read(project, profile_name),
    }
}

/// Reader of one name in a document.
type Field = fn(&Node, &mut FieldReader<'_>) -> Option<String>;

fn project_folder(spec: Option<&Path>, project_dir: Option<&Path>) -> PathBuf {
    let of_spec = || spec.filter(|spec| *spec != Path::new("-"))?.parent();
    project_dir
        .or_else(of_spec)
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// `metadata.name` of a spec.
fn product_name(spec: &Node, reader: &mut FieldReader<'_>) -> Option<String> {
    for (field, expected) in [("apiVersion", "floe.dev/v1"), ("kind", "FloeSpec")] {
        let value = spec.get(field);
        if value.and_then(Node::text) != Some(expected) {
            let at = value.unwrap_or(spec).position;
            reader.within(field, |reader| {
                let message =
                    format!("is not {expected}, so the file is not the spec of a product");
                reader.error(Rule::ManifestField, at, message);
            });
        }
    }
    let name = spec
        .get("metadata")
        .and_then(|metadata| metadata.get("name"));
    if let Some(name) = name
        .and_then(Node::text)
        .filter(|name| is_product_name(name))
    {
        return Some(name.to_owned());
    }
    let at = name.unwrap_or(spec).position;
    reader.within("metadata", |reader| {
        reader.within("name", |reader| {
            reader.error(
                Rule::ManifestField,
                at,
                "is not the name of a product: lower-case letters, digits and '-', starting with a letter, at most 63 characters",
            );
        });
    });
    None
}

/// `profile` of a dbt project.
fn profile_name(project: &Node, reader: &mut FieldReader<'_>) -> Option<String> {
    let node = project.get("profile")?;
    match node.text() {
        Some(name) if is_profile_name(name) => Some(name.to_owned()),
        text => {
            let message = if text.is_some_and(jinja::has_jinja) {
                "has Jinja, which is not rendered here; give the profile's name by --profile"
            } else {
                "is not the name of a profile: letters, digits, '_', '-', '.' and spaces, at most 128 characters; correct it, or give the name by --profile"
            };
            reader.within("profile", |reader| {
                reader.error(Rule::ManifestField, node.position, message);
            });
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_in(files: &[(&str, &str)], spec: Option<&str>) -> (ProjectNames, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let mut diagnostics = Diagnostics::default();
        let spec = spec.map(|name| folder.path().join(name));
        let dir = spec.is_none().then_some(folder.path());
        let mut stdin = Some(std::io::empty());
        let names = read(spec.as_deref(), dir, &mut stdin, &mut diagnostics);
        let messages = diagnostics
            .sorted()
            .iter()
            .map(ToString::to_string)
            .collect();
        (names, messages)
    }

    const SPEC: &str = "apiVersion: floe.dev/v1\nkind: FloeSpec\nmetadata: {name: customer-360}\n";

    #[test]
    fn names_come_from_the_files_of_the_project() {
        let project = "name: x\nprofile: customer_360\n";
        for spec in [None, Some("floe.yaml")] {
            let files = [("floe.yaml", SPEC), ("dbt_project.yml", project)];
            let (names, messages) = read_in(&files, spec);
            assert_eq!(messages, [""; 0]);
            assert_eq!(names.product.as_deref(), Some("customer-360"));
            assert_eq!(names.profile.unwrap().0, "customer_360");
        }
    }

    #[test]
    fn folder_without_files_has_no_names() {
        assert_eq!(read_in(&[], None), (ProjectNames::default(), Vec::new()));
    }

    #[rstest::rstest]
    #[case("kind: Manifest", &["apiVersion", "kind", "metadata.name"])]
    #[case("apiVersion: floe.dev/v1\nkind: FloeSpec\nmetadata: {name: A}", &["metadata.name"])]
    fn invalid_spec_is_reported(#[case] spec: &str, #[case] fields: &[&str]) {
        let (names, messages) = read_in(&[("floe.yaml", spec)], None);
        assert_eq!((names.product, messages.len()), (None, fields.len()));
        for field in fields {
            assert!(
                messages
                    .iter()
                    .any(|message| message.contains(&format!(": {field}: "))),
                "{messages:?}"
            );
        }
    }

    #[rstest::rstest]
    #[case("profile: \"{{ env_var('P') }}\"", "has Jinja")]
    #[case("profile: [a]", "is not the name")]
    #[case("profile: a: b", "not valid YAML")]
    fn invalid_profile_is_reported(#[case] project: &str, #[case] problem: &str) {
        let (names, messages) = read_in(&[("dbt_project.yml", project)], None);
        assert_eq!(names.profile, None);
        assert!(
            messages.len() == 1 && messages[0].contains(problem),
            "{messages:?}"
        );
    }
}
