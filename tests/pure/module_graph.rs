//! Module graph of the service crate and of the core: no use of a module above, no cycle, no undeclared file.
//!
//! The compiler checks the boundary between crates: the core (`crates/injection`) has no dependency with IO. This test
//! reads the `mod` and `use` lines of every file, and follows `pub use` to the file that defines a name. Test modules
//! are not part of the graph.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper of a test fails as the test does"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// Rooms of the service crate, lowest first; a room may use rooms of lower rows.
const SERVICE: &[&[&str]] = &[
    &["clock", "plugin", "refresh", "stack", "telemetry", "tls"],
    &["http_client", "kubernetes", "token_source", "yaml"],
    &["finding"],
    &["audit", "backend", "dbt", "identity", "literals", "server"],
    &["authz", "defaults", "recorder", "store"],
    &["attribution", "trail"],
    &["admission"],
    &["collector"],
    &["cli", "config"],
    &["consumers", "scan"],
    &[
        "compile",
        "controller",
        "doctor",
        "inject",
        "mutating_policy",
        "rotation",
    ],
    &["explain", "lint"],
    &["commands", "fuzzing"],
];

/// Folders and files of the core, lowest first.
const CORE: &[&[&str]] = &[
    &["excerpt", "keys", "limits"],
    &["view"],
    &["contract"],
    &["record"],
    &["reload"],
    &["plan"],
    &["patch"],
    &["workload"],
];

/// Path of a module without `crate`, as in `["backend", "layers", "cached"]`; empty for lib.rs.
type ModulePath = Vec<String>;

/// Declarations of one file.
struct Module {
    children: Vec<String>,
    /// Re-exported names, with the module that defines each.
    exports: BTreeMap<String, Vec<String>>,
    /// Absolute paths that its code uses.
    uses: Vec<Vec<String>>,
}

struct Graph {
    modules: BTreeMap<ModulePath, Module>,
}

/// Test module at the end of a file.
static TESTS: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?s)#\[cfg\(test\)\]\s*(?:pub(?:\(\w+\))? )?mod \w+ \{.*"));

/// Declaration of a test module in a file of its own.
static TEST_FILES: LazyLock<Regex> =
    LazyLock::new(|| regex(r"#\[cfg\((?:any\()?test[^\]]*\]\s*(?:pub(?:\(\w+\))? )?mod \w+;"));

/// Comment to the end of a line.
static COMMENTS: LazyLock<Regex> = LazyLock::new(|| regex(r"//[^\n]*"));

/// Text in quotes.
static TEXTS: LazyLock<Regex> = LazyLock::new(|| regex(r#"(?s)"(?:\\.|[^"\\])*""#));

/// Declaration of a module in a file of its own.
static DECLARED: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?m)^\s*(?:pub(?:\(\w+\))? )?mod (\w+);"));

/// `use` statement, with its visibility.
static STATEMENTS: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?s)(pub(?:\([\w:]+\))? )?\buse ([^;]+);"));

/// Path of at least two names.
static PATHS: LazyLock<Regex> = LazyLock::new(|| regex(r"\b[a-z_]\w*(?:::\w+)+"));

fn regex(text: &str) -> Regex {
    Regex::new(text).expect("a valid expression")
}

/// Code without test modules, comments and literals.
fn code_of(text: &str) -> String {
    let code = TESTS.replace(text, "");
    let code = TEST_FILES.replace_all(&code, "");
    let code = COMMENTS.replace_all(&code, "");
    TEXTS.replace_all(&code, "\"\"").into_owned()
}

/// Expands `a::{b, c::{d as e}}` to `a::b` and `a::c::d as e`.
fn expand(path: &str) -> Vec<String> {
    let path = path.trim();
    let Some((before, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut depth, mut part, mut parts) = (0, String::new(), Vec::new());
    for character in inner.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            _ => {}
        }
        part.push(character);
    }
    parts.push(part);
    parts
        .iter()
        .filter(|part| !part.trim().is_empty())
        .flat_map(|part| expand(&format!("{before}{}", part.trim())))
        .collect()
}

/// Path from the crate's root; `None` for paths into other crates.
fn absolute(module: &[String], children: &[String], path: &str) -> Option<Vec<String>> {
    let path = path.trim().trim_end_matches("::*");
    let mut names: Vec<&str> = path.split("::").filter(|name| *name != "self").collect();
    let mut base = module.to_vec();
    match names.first().copied() {
        Some("crate") => {
            base.clear();
            names.remove(0);
        }
        Some("super") => {
            while names.first() == Some(&"super") {
                base.pop();
                names.remove(0);
            }
        }
        Some(first) if children.iter().any(|child| child == first) => {}
        _ if path.starts_with("self::") => {}
        _ => return None,
    }
    base.extend(names.into_iter().map(str::to_owned));
    Some(base)
}

fn read_module(path: &[String], text: &str) -> Module {
    let code = code_of(text);
    let children: Vec<String> = DECLARED
        .captures_iter(&code)
        .map(|found| found[1].to_owned())
        .collect();
    let (mut exports, mut uses) = (BTreeMap::new(), Vec::new());
    for statement in STATEMENTS.captures_iter(&code) {
        for used in expand(&statement[2]) {
            let (path_of, alias) = used.split_once(" as ").unwrap_or((&used, ""));
            let Some(target) = absolute(path, &children, path_of) else {
                continue;
            };
            if statement.get(1).is_some() {
                let name = if alias.is_empty() {
                    target.last().cloned().unwrap_or_default()
                } else {
                    alias.to_owned()
                };
                exports.insert(name, target);
            } else {
                uses.push(target);
            }
        }
    }
    let rest = STATEMENTS.replace_all(&code, "");
    uses.extend(
        PATHS
            .find_iter(&rest)
            .filter_map(|found| absolute(path, &children, found.as_str())),
    );
    Module {
        children,
        exports,
        uses,
    }
}

impl Graph {
    /// Reads the modules below `root/lib.rs` by their declarations, and fails on undeclared files.
    fn read(root: &Path, test_only: &[&str]) -> Self {
        let mut modules = BTreeMap::new();
        let mut files: BTreeSet<PathBuf> = rust_files(root);
        files.remove(&root.join("main.rs"));
        let mut queue = vec![Vec::new()];
        while let Some(path) = queue.pop() {
            let file = if path.is_empty() {
                root.join("lib.rs")
            } else {
                root.join(path.join("/")).with_extension("rs")
            };
            let text = std::fs::read_to_string(&file)
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert!(files.remove(&file), "{} is declared twice", file.display());
            let module = read_module(&path, &text);
            for child in &module.children {
                queue.push([path.as_slice(), std::slice::from_ref(child)].concat());
            }
            modules.insert(path, module);
        }
        let is_test = |file: &PathBuf| {
            let below = file.strip_prefix(root).unwrap().with_extension("");
            let name = below.to_string_lossy().replace('/', "::");
            test_only
                .iter()
                .any(|test| name == *test || name.starts_with(&format!("{test}::")))
        };
        files.retain(|file| !is_test(file));
        assert!(files.is_empty(), "no module declares {files:?}");
        Self { modules }
    }

    /// Module that defines the target of a path.
    fn defining(&self, path: &[String], depth: usize) -> ModulePath {
        assert!(depth < 10, "exports of {path:?} lead in a circle");
        for length in (0..=path.len()).rev() {
            let (module, rest) = path.split_at(length);
            let Some(found) = self.modules.get(module) else {
                continue;
            };
            let Some((name, rest)) = rest.split_first() else {
                return module.to_vec();
            };
            return match found.exports.get(name) {
                Some(target) => self.defining(&[target.as_slice(), rest].concat(), depth + 1),
                None => module.to_vec(),
            };
        }
        Vec::new()
    }

    fn edges(&self) -> BTreeMap<ModulePath, BTreeSet<ModulePath>> {
        let targets = |(path, module): (&ModulePath, &Module)| {
            let mut targets: BTreeSet<ModulePath> = module
                .uses
                .iter()
                .map(|used| self.defining(used, 0))
                .collect();
            targets.remove(path);
            targets.remove(&Vec::new());
            (path.clone(), targets)
        };
        self.modules.iter().map(targets).collect()
    }
}

fn rust_files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.insert(path);
        }
    }
    found
}

/// Edges to a room of the same row or of a higher one.
fn upward(edges: &BTreeMap<ModulePath, BTreeSet<ModulePath>>, rows: &[&[&str]]) -> Vec<String> {
    let row = |path: &ModulePath| rows.iter().position(|row| row.contains(&path[0].as_str()));
    let mut found = Vec::new();
    for (from, targets) in edges.iter().filter(|(from, _)| !from.is_empty()) {
        assert!(row(from).is_some(), "{from:?} is in no row of this test");
        for to in targets.iter().filter(|to| to[0] != from[0]) {
            if row(to) >= row(from) {
                found.push(format!("{} uses {}", from.join("::"), to.join("::")));
            }
        }
    }
    found
}

/// Modules that reach themselves, each with the modules on the way.
fn cycles(edges: &BTreeMap<ModulePath, BTreeSet<ModulePath>>) -> Vec<String> {
    let mut remaining: BTreeMap<&ModulePath, BTreeSet<&ModulePath>> = edges
        .iter()
        .map(|(from, to)| (from, to.iter().collect()))
        .collect();
    // Modules that use none of the remaining ones are in no cycle.
    loop {
        let done: Vec<&ModulePath> = remaining
            .iter()
            .filter(|(_, to)| to.iter().all(|to| !remaining.contains_key(*to)))
            .map(|(from, _)| *from)
            .collect();
        if done.is_empty() {
            break;
        }
        for module in done {
            remaining.remove(module);
        }
    }
    // Modules that none of the remaining ones uses are only on the way to one.
    loop {
        let used: BTreeSet<&ModulePath> = remaining.values().flatten().copied().collect();
        let before = remaining.len();
        remaining.retain(|module, _| used.contains(*module));
        if remaining.len() == before {
            break;
        }
    }
    let inside: BTreeSet<&ModulePath> = remaining.keys().copied().collect();
    remaining
        .iter()
        .map(|(from, to)| {
            let to = to.iter().filter(|to| inside.contains(*to));
            let to: Vec<String> = to.map(|to| to.join("::")).collect();
            format!("{} uses {}", from.join("::"), to.join(", "))
        })
        .collect()
}

fn check(graph: &Graph, rows: &[&[&str]]) {
    let rooms: BTreeSet<&str> = graph.modules[&Vec::new()]
        .children
        .iter()
        .map(String::as_str)
        .collect();
    let listed: BTreeSet<&str> = rows.iter().flat_map(|row| row.iter().copied()).collect();
    assert_eq!(rooms, listed, "the rows of this test against lib.rs");
    let edges = graph.edges();
    assert_eq!(upward(&edges, rows), [""; 0], "uses of modules above");
    assert_eq!(cycles(&edges), [""; 0], "cycles");
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn service_rooms_use_only_rooms_below() {
    let test_only = [
        "admission::handler::tests",
        "attribution::owners::tests",
        "attribution::resolver::tests",
        "attribution::rules::tests",
        "attribution::task::tests",
        "attribution::test_support",
        "audit::test_support",
        "audit::verify::tests",
        "authz::static_reviewer",
        "backend::conformance",
        "backend::kubernetes::fake_api",
        "backend::kubernetes::tests",
        "backend::layers::cached::tests",
        "backend::memory",
        "backend::static_binder",
        "collector::tests",
        "commands::audit::verify::tests",
        "commands::config::tests",
        "compile::adapter::tests",
        "compile::guarantee::tests",
        "compile::manifest::tests",
        "compile::plan::tests",
        "compile::profile::tests",
        "controller::retry::reconciler::tests",
        "dbt::profile::tests",
        "dbt::template::tests",
        "defaults::tests",
        "doctor::test_support",
        "finding::test_support",
        "http_client::test_server",
        "http_client::tests",
        "identity::client_credentials::tests",
        "identity::conformance",
        "identity::discovery::test_support",
        "identity::document::tests",
        "identity::jose::test_support",
        "identity::jose::tests",
        "identity::kubernetes::test_support",
        "identity::oidc::tests",
        "identity::memory",
        "lint::tests",
        "recorder::refusals::tests",
        "recorder::shipping::tests",
        "recorder::spool::tests",
        "recorder::tests",
        "literals::tests",
        "store::conformance",
        "store::sqlite::tests",
        "telemetry::logs::thread_log",
        "token_source::tests",
        "trail::tests",
    ];
    let graph = Graph::read(&project().join("src"), &test_only);
    assert!(graph.modules.len() > 100, "{}", graph.modules.len());
    let edges = graph.edges();
    let uses = |from: &str, to: &str| {
        let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
        edges[&path(from)].contains(&path(to))
    };
    assert!(
        uses("admission::pipeline", "admission::authorize")
            && uses("scan::scanner", "kubernetes::objects"),
        "paths and exports are followed"
    );
    check(&graph, SERVICE);
}

/// The client of HTTP has one place, where its rules are.
#[test]
fn http_client_alone_names_its_library() {
    let root = project().join("src");
    for file in rust_files(&root) {
        let below = file.strip_prefix(&root).unwrap().to_string_lossy();
        let is_client = below == "http_client.rs" || below.starts_with("http_client/");
        let code = code_of(&std::fs::read_to_string(&file).unwrap());
        assert!(
            is_client || !code.contains("reqwest"),
            "{below} names reqwest: use crate::http_client"
        );
    }
}

#[test]
fn core_folders_use_only_folders_below() {
    let graph = Graph::read(&project().join("crates/injection/src"), &[]);
    check(&graph, CORE);
}

#[test]
fn cycles_and_upward_uses_are_found() {
    let path = |name: &str| vec![name.to_owned()];
    let edges = BTreeMap::from([
        (path("high"), BTreeSet::from([path("low")])),
        (path("low"), BTreeSet::from([path("high")])),
        (path("other"), BTreeSet::from([path("low")])),
    ]);
    assert_eq!(cycles(&edges), ["high uses low", "low uses high"]);
    let rows: &[&[&str]] = &[&["low"], &["high", "other"]];
    assert_eq!(upward(&edges, rows), ["low uses high"]);
}
