//! The pure core stays pure, and lower modules do not know upper ones.

use std::path::{Path, PathBuf};

/// What `src/injection` must not name: IO, clocks, the environment, and every module above it.
const NOT_IN_THE_CORE: [&str; 16] = [
    "tokio",
    "axum",
    "hyper",
    "kube::",
    "reqwest",
    "std::env",
    "std::fs",
    "std::net",
    "std::time",
    "std::io",
    "jiff",
    "async fn",
    "crate::backend",
    "crate::admission",
    "crate::server",
    "crate::app",
];

/// Module, and what it must not name.
const LAYERS: [(&str, &[&str]); 12] = [
    ("src/proxy", &["crate::"]),
    (
        "src/certificates",
        &[
            "tokio",
            "kube",
            "crate::api",
            "crate::server",
            "crate::app",
            "crate::controller",
        ],
    ),
    (
        "src/traces",
        &[
            "kube",
            "crate::backend",
            "crate::admission",
            "crate::server",
            "crate::app",
            "crate::controller",
        ],
    ),
    (
        "src/backend",
        &[
            "crate::admission",
            "crate::server",
            "crate::app",
            "crate::defaults",
            "crate::inject::",
        ],
    ),
    (
        "src/defaults",
        &[
            "crate::admission",
            "crate::server",
            "crate::app",
            "crate::inject::",
        ],
    ),
    (
        "src/admission",
        &["crate::server", "crate::app", "crate::inject::"],
    ),
    (
        "src/api",
        &[
            "crate::backend",
            "crate::admission",
            "crate::server",
            "crate::app",
            "crate::scan",
        ],
    ),
    (
        "src/scan",
        &[
            "crate::server",
            "crate::app",
            "crate::inject::",
            "crate::controller",
        ],
    ),
    (
        "src/cert_manager",
        &[
            "crate::admission",
            "crate::backend",
            "crate::server",
            "crate::app",
            "crate::doctor",
        ],
    ),
    (
        "src/doctor",
        &[
            "crate::server",
            "crate::app",
            "crate::inject::",
            "crate::controller",
            "crate::admission",
        ],
    ),
    (
        "src/controller",
        &["crate::server", "crate::app", "crate::inject::"],
    ),
    (
        "src/server",
        &[
            "crate::app",
            "crate::admission",
            "crate::inject::",
            "crate::backend",
        ],
    ),
];

fn sources(module: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(module)];
    let file = root.join(format!("{module}.rs"));
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.push(file);
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a source file");
        // What tests use is their own affair.
        let code = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default()
            .to_owned();
        (path, code)
    };
    found.into_iter().map(read).collect()
}

fn uses(code: &str, word: &str) -> bool {
    code.lines()
        .map(str::trim_start)
        .filter(|line| !line.starts_with("//"))
        .any(|line| line.contains(word))
}

#[test]
fn the_core_knows_no_io() {
    let sources = sources("src/injection");
    assert!(sources.len() > 5, "the core was not found");
    for (path, code) in sources {
        for word in NOT_IN_THE_CORE {
            assert!(!uses(&code, word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn lower_modules_do_not_know_upper_ones() {
    for (module, forbidden) in LAYERS {
        let sources = sources(module);
        assert!(!sources.is_empty(), "{module} was not found");
        for (path, code) in sources {
            for word in forbidden {
                assert!(!uses(&code, word), "{} names {word}", path.display());
            }
        }
    }
}
