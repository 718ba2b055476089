//! docs/REQUIREMENTS.md against the tests: every row has a test that exists, or says that it is open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Words of the last column for rows without a test.
const OPEN: [&str; 3] = ["not yet", "by the platform", "does not apply"];

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Folder or file of each test program, by its name in Cargo.toml, and of the unit tests.
fn programs() -> BTreeMap<String, PathBuf> {
    let manifest = read(&project().join("Cargo.toml"));
    let value = |line: &str, key: &str| {
        let value = line.strip_prefix(key)?.strip_prefix(" = \"")?;
        Some(value.trim_end_matches('"').to_owned())
    };
    let mut found = BTreeMap::from([
        ("lib".to_owned(), project().join("src")),
        (
            "injection".to_owned(),
            project().join("crates/injection/src"),
        ),
        (
            "cases".to_owned(),
            project().join("crates/injection/tests/cases"),
        ),
        (
            "properties".to_owned(),
            project().join("crates/injection/tests/properties.rs"),
        ),
    ]);
    for table in manifest.split("[[test]]").skip(1) {
        let name = table.lines().find_map(|line| value(line, "name"));
        let path = table.lines().find_map(|line| value(line, "path"));
        let path = path.expect("a test has a path");
        // A program of several files is a folder with main.rs.
        let path = path.strip_suffix("/main.rs").unwrap_or(&path);
        found.insert(name.expect("a test has a name"), project().join(path));
    }
    found
}

fn sources(path: &Path) -> String {
    if path.is_file() {
        return read(path);
    }
    let entries =
        std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let texts = entries.map(|entry| sources(&entry.expect("an entry").path()));
    texts.collect::<Vec<_>>().join("\n")
}

/// Rows of all tables: the identifier, and the last column.
fn rows(page: &str) -> Vec<(String, String)> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim().trim_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ID "));
    rows.map(|line| {
        let cells = cells(line);
        let cell = |cell: Option<&String>| cell.cloned().unwrap_or_default();
        (cell(cells.first()), cell(cells.last()))
    })
    .collect()
}

/// `program::function` names in code spans.
fn tests_of(cell: &str) -> Vec<(&str, &str)> {
    let spans = cell.split('`').skip(1).step_by(2);
    spans
        .filter_map(|span| Some((span.split("::").next()?, span.rsplit_once("::")?.1)))
        .collect()
}

#[test]
fn every_requirement_names_tests_that_exist_or_is_open() {
    let page = read(&project().join("docs/REQUIREMENTS.md"));
    let (programs, mut texts) = (programs(), BTreeMap::new());
    let mut wrong = Vec::new();
    let rows = rows(&page);
    for (id, cell) in &rows {
        let named = tests_of(cell);
        if named.is_empty() && !OPEN.iter().any(|open| cell.starts_with(open)) {
            wrong.push(format!(
                "{id}: {cell:?} has neither a test nor one of {OPEN:?}"
            ));
        }
        for (program, function) in named {
            let Some(path) = programs.get(program) else {
                wrong.push(format!("{id}: there is no test program {program:?}"));
                continue;
            };
            let text = texts
                .entry(program.to_owned())
                .or_insert_with(|| sources(path));
            // A suite that runs for several subjects is a macro.
            let definitions = [
                format!("fn {function}("),
                format!("conformance!({function},"),
            ];
            if !definitions.iter().any(|name| text.contains(name)) {
                wrong.push(format!("{id}: {program} has no test {function:?}"));
            }
        }
    }
    assert!(rows.len() > 70, "only {} rows", rows.len());
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn every_number_of_the_specification_has_a_row() {
    let page = read(&project().join("docs/REQUIREMENTS.md"));
    let ids: Vec<String> = rows(&page).into_iter().map(|(id, _)| id).collect();
    let requirements = [1..=4, 10..=13, 20..=24, 30..=34, 40..=43, 50..=52, 60..=63];
    let requirements = requirements
        .into_iter()
        .flatten()
        .map(|number| format!("FR-{number:03}"));
    let criteria = (1..=8).map(|number| format!("SC-{number:03}"));
    let scenarios = [(1, 3), (2, 4), (3, 4), (4, 4), (5, 3)];
    let scenarios = scenarios
        .into_iter()
        .flat_map(|(story, lines)| (1..=lines).map(move |line| format!("US{story}-AC{line}")));
    let edge_cases = [("EC1", 3), ("EC2", 2), ("EC3", 3), ("EC4", 3)];
    let edge_cases = edge_cases
        .into_iter()
        .flat_map(|(case, lines)| (1..=lines).map(move |line| format!("{case}.{line}")));
    let missing: Vec<String> = requirements
        .chain(criteria)
        .chain(scenarios)
        .chain(edge_cases)
        .filter(|id| !ids.contains(id))
        .collect();
    assert_eq!(missing, [""; 0]);
}
