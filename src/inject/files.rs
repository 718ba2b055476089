//! Files behind `-f` and `--secrets`, in kubectl's order.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::unreadable::UnreadableInput;

/// Extensions of the files that are read in a folder. A file that is named itself may have any.
const EXTENSIONS: [&str; 3] = ["json", "yaml", "yml"];

/// Limit of files of one run. A folder with more is probably a mistake.
pub(crate) const MAX_FILES: usize = 10_000;

/// Limit of bytes of one input. It is held in memory, and its objects take several times as much.
pub(crate) const MAX_INPUT_BYTES: u64 = 256 << 20;

/// Replaces folders in `paths` by their files in the order of their names, and with `recursive` by those of their
/// subfolders too. `-` stays.
///
/// # Errors
/// One for each path that cannot be read or has no files.
pub(crate) fn expand(paths: &[PathBuf], recursive: bool) -> (Vec<PathBuf>, Vec<UnreadableInput>) {
    let (mut files, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        if path == Path::new("-") || !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        match collect(path, recursive, &mut files) {
            Err(error) => errors.push(unreadable(path, format!("cannot be read: {error}"))),
            Ok(()) if files.len() == before => {
                let deeper = if recursive {
                    ""
                } else {
                    "; -R also reads the folders in it"
                };
                errors.push(unreadable(
                    path,
                    format!("has no file that ends in .json, .yaml or .yml{deeper}"),
                ));
            }
            Ok(()) => {}
        }
        if files.len() > MAX_FILES {
            errors.push(unreadable(
                path,
                format!("has more than {MAX_FILES} files; name a folder with fewer"),
            ));
            break;
        }
    }
    (files, errors)
}

fn unreadable(path: &Path, problem: String) -> UnreadableInput {
    UnreadableInput::of_input(path.display().to_string(), problem)
}

/// Adds the files of a folder. Links to folders are not followed, because they may be cyclic.
fn collect(folder: &Path, recursive: bool, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if files.len() > MAX_FILES {
            break;
        }
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if recursive {
                collect(&path, recursive, files)?;
            }
        } else if path
            .extension()
            .is_some_and(|extension| EXTENSIONS.iter().any(|listed| extension == *listed))
        {
            files.push(path);
        }
    }
    Ok(())
}

/// Reads at most `limit` bytes.
///
/// # Errors
/// The problem, to follow the input's name.
pub(crate) fn read(mut from: impl Read, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = from
        .by_ref()
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
        Ok(bytes)
    } else {
        Err(format!("is longer than {limit} bytes; split it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path, files: &[PathBuf]) -> Vec<String> {
        files
            .iter()
            .map(|file| file.strip_prefix(folder).unwrap().display().to_string())
            .collect()
    }

    #[test]
    fn folder_expands_to_its_manifests_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "b.yaml",
            "a.yml",
            "c.json",
            "d.txt",
            "e.YAML",
            "f",
            ".hidden.yaml",
            "sub/a.yaml",
            "sub/deep/z.yml",
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink(folder.path(), folder.path().join("sub/loop")).unwrap();
        std::os::unix::fs::symlink("b.yaml", folder.path().join("zz.yaml")).unwrap();
        let paths = [folder.path().to_owned()];
        let (flat, errors) = expand(&paths, false);
        assert_eq!(
            (names(folder.path(), &flat), errors.len()),
            (
                [".hidden.yaml", "a.yml", "b.yaml", "c.json", "zz.yaml"]
                    .map(str::to_owned)
                    .to_vec(),
                0
            )
        );
        let (deep, errors) = expand(&paths, true);
        let expected = [
            ".hidden.yaml",
            "a.yml",
            "b.yaml",
            "c.json",
            "sub/a.yaml",
            "sub/deep/z.yml",
            "zz.yaml",
        ];
        assert_eq!(
            (names(folder.path(), &deep), errors.len()),
            (expected.map(str::to_owned).to_vec(), 0)
        );
    }

    #[test]
    fn paths_with_too_many_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let make = |n: usize| fs::write(folder.path().join(format!("{n}.yaml")), "").unwrap();
        (0..MAX_FILES).for_each(make);
        let paths = [folder.path().to_owned()];
        assert_eq!(expand(&paths, false).1, []);
        make(MAX_FILES);
        let (_, errors) = expand(&paths, false);
        assert!(
            errors[0]
                .to_string()
                .ends_with("has more than 10000 files; name a folder with fewer"),
            "{errors:?}"
        );
    }

    #[test]
    fn input_is_read_up_to_its_limit() {
        assert_eq!(
            read(io::repeat(b'x').take(10), 10).map(|bytes| bytes.len()),
            Ok(10)
        );
        assert_eq!(
            read(io::repeat(b'x'), 10),
            Err("is longer than 10 bytes; split it".to_owned())
        );
    }
}
