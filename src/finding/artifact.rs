//! Paths of files in reports: relative to the working directory, which is a repository's root in CI.

use std::path::{Component, Path, PathBuf};

/// Path relative to the working directory with `/` between its parts, if the file is below it; otherwise unchanged.
pub(super) fn relative_path(file: &str) -> String {
    let base = std::env::current_dir().unwrap_or_default();
    relative_to(&base, file)
}

fn relative_to(base: &Path, file: &str) -> String {
    let mut parts = PathBuf::new();
    for component in base.join(file).components() {
        match component {
            Component::CurDir => {}
            // A parent of a link is not known without following it, which only concerns paths that leave the folder.
            Component::ParentDir => {
                parts.pop();
            }
            component => parts.push(component),
        }
    }
    match parts.strip_prefix(base) {
        Ok(below) => below.to_string_lossy().into_owned(),
        Err(_) => file.to_owned(),
    }
}

/// Digits of percent-encoding.
const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// URI reference of a file: relative if the file is below the working directory.
pub(super) fn uri(file: &str) -> String {
    let path = relative_path(file);
    let mut uri = String::new();
    if path.starts_with('/') {
        uri.push_str("file://");
    }
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~') {
            uri.push(char::from(byte));
        } else {
            let high = HEX.get(usize::from(byte >> 4));
            let low = HEX.get(usize::from(byte & 15));
            uri.push('%');
            uri.extend(high.into_iter().chain(low).map(|digit| char::from(*digit)));
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_the_working_directory_are_relative() {
        let base = Path::new("/repo");
        for (file, relative) in [
            ("a/b.yaml", "a/b.yaml"),
            ("./a//b.yaml", "a/b.yaml"),
            ("a/../b.yaml", "b.yaml"),
            ("/repo/a.yaml", "a.yaml"),
            ("../b.yaml", "../b.yaml"),
            ("/tmp/b.yaml", "/tmp/b.yaml"),
            ("standard input", "standard input"),
        ] {
            assert_eq!(relative_to(base, file), relative, "{file}");
        }
    }

    #[test]
    fn uris_are_escaped() {
        assert_eq!(uri("standard input"), "standard%20input");
        assert_eq!(uri("ä:%.yaml"), "%C3%A4%3A%25.yaml");
        assert_eq!(uri("/nowhere/a b"), "file:///nowhere/a%20b");
    }
}
