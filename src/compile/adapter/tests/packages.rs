//! The table against `tests/testdata/adapters/packages.json`, which `make test-adapters` reads from the packages of the
//! adapters: fields, types, required fields, and what `dbt debug` prints.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::compile::adapter::{ADAPTERS, Adapter};

#[derive(Deserialize)]
struct Packages {
    adapters: BTreeMap<String, Package>,
}

/// Credentials of an adapter, as its package defines them.
#[derive(Deserialize)]
struct Package {
    /// Fields, each with `text`, `number`, `boolean` or `other`.
    fields: BTreeMap<String, String>,
    required: Vec<String>,
    printed: Vec<String>,
    aliases: BTreeMap<String, String>,
}

impl Package {
    /// Name of a field in the credentials.
    fn canonical<'a>(&'a self, name: &'a str) -> &'a str {
        self.aliases.get(name).map_or(name, String::as_str)
    }

    fn kind(&self, name: &str) -> Option<&str> {
        self.fields.get(self.canonical(name)).map(String::as_str)
    }
}

/// Fields that no package has, and that are right all the same.
const NOT_OF_PACKAGES: &[(&str, &str)] = &[
    // Written by floe; `compile` moves the first two to `settings`.
    ("duckdb", "access_mode"),
    ("duckdb", "memory_limit"),
    ("duckdb", "timeout_seconds"),
    // Chooses the class of the credentials, of which each has one method.
    ("trino", "method"),
];

fn packages() -> Packages {
    let text = include_str!("../../../../tests/testdata/adapters/packages.json");
    serde_json::from_str(text).unwrap()
}

/// First name of a path, without an index.
fn top_level(path: &str) -> &str {
    let name = path.split('.').next().unwrap_or(path);
    name.trim_end_matches("[]")
}

/// Compares each adapter with its package, and fails with all differences at once.
#[track_caller]
fn differences(of: impl Fn(&Adapter, &Package) -> Vec<String>) {
    let packages = packages().adapters;
    let mut found = Vec::new();
    for adapter in ADAPTERS {
        let package = &packages[adapter.kind];
        found.extend(
            of(adapter, package)
                .into_iter()
                .map(|difference| format!("{} {difference}", adapter.kind)),
        );
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn table_has_the_adapters_of_the_packages() {
    let mut names: Vec<&str> = ADAPTERS.iter().map(|adapter| adapter.kind).collect();
    names.sort_unstable();
    let packages = packages().adapters;
    assert_eq!(
        names,
        packages.keys().map(String::as_str).collect::<Vec<_>>()
    );
}

#[test]
fn table_has_only_fields_of_the_packages() {
    differences(|adapter, package| {
        let is_known = |path: &&str| {
            let name = top_level(path);
            package.kind(name).is_some() || NOT_OF_PACKAGES.contains(&(adapter.kind, name))
        };
        let mut unknown: Vec<String> = adapter
            .fields()
            .filter(|path| !is_known(path))
            .map(|path| format!("{path}: the package has no such field"))
            .collect();
        unknown.sort();
        unknown.dedup();
        unknown
    });
}

#[test]
fn required_fields_are_those_of_the_packages() {
    differences(|adapter, package| {
        let listed: Vec<&str> = adapter
            .required
            .iter()
            .map(|name| package.canonical(name))
            .collect();
        let is_missing = |name: &&String| !listed.contains(&name.as_str());
        package
            .required
            .iter()
            .filter(is_missing)
            .map(|name| format!("{name}: required by the package"))
            .collect()
    });
}

#[test]
fn types_are_those_of_the_packages() {
    differences(|adapter, package| {
        let mut wrong = Vec::new();
        for (list, expected) in [(adapter.numbers, "number"), (adapter.booleans, "boolean")] {
            for path in list.iter().filter(|path| !path.contains('.')) {
                if package
                    .kind(path)
                    .is_some_and(|kind| kind != expected && kind != "other")
                {
                    wrong.push(format!("{path}: not a {expected} in the package"));
                }
            }
        }
        for path in adapter.plain.iter().chain(adapter.secret) {
            if package
                .kind(path)
                .is_some_and(|kind| matches!(kind, "number" | "boolean"))
            {
                wrong.push(format!("{path}: not text in the package"));
            }
        }
        wrong
    });
}

#[test]
fn text_fields_are_those_of_the_packages() {
    differences(|adapter, package| {
        let fields = adapter.required.iter().chain(adapter.plain);
        let is_top_level = |path: &&&str| package.kind(path).is_some() && !path.contains('[');
        fields
            .filter(is_top_level)
            .filter(|path| adapter.is_text(path) != (package.kind(path) == Some("text")))
            .map(|path| format!("{path}: {:?} in the package", package.kind(path)))
            .collect()
    });
}

#[test]
fn printed_secrets_are_those_of_the_packages() {
    differences(|adapter, package| {
        let printed: Vec<&str> = package
            .printed
            .iter()
            .map(|name| package.canonical(name))
            .collect();
        let is_listed = |name: &str| {
            adapter
                .printed
                .iter()
                .any(|path| package.canonical(top_level(path)) == name)
        };
        let secrets = adapter
            .secret
            .iter()
            .map(|path| package.canonical(top_level(path)));
        secrets
            .filter(|name| printed.contains(name) && !is_listed(name))
            .map(|name| format!("{name}: dbt debug prints it"))
            .collect()
    });
}
