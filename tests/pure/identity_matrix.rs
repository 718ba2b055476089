//! Attacks on identity in `tests/identity/matrix.tsv` against the tests: every row of a part that is built has a test
//! with its number in its name, as in `row_07_keys_in_headers_are_ignored`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use regex::Regex;

/// Parts whose rows have tests.
const BUILT: &[&str] = &["tokens", "keys", "cache", "provider", "authorization"];

/// Parts that come later.
const LATER: &[&str] = &["api"];

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Part of each row by its number. Numbers ascend, and have gaps.
fn rows() -> BTreeMap<u32, String> {
    let path = project().join("tests/identity/matrix.tsv");
    let table = std::fs::read_to_string(path).expect("the table is there");
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("number\tpart\tcase\toutcome"));
    let mut rows = BTreeMap::new();
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        let [number, part, case, outcome] = fields[..] else {
            panic!("four fields: {line}")
        };
        assert!(!case.is_empty() && !outcome.is_empty(), "{line}");
        assert!(BUILT.contains(&part) || LATER.contains(&part), "{line}");
        let number: u32 = number.parse().expect("a number");
        assert!(rows.keys().all(|other| *other < number), "{line}");
        rows.insert(number, part.to_owned());
    }
    rows
}

/// Numbers in the names of tests below a folder.
fn tested(folder: &Path, found: &mut BTreeSet<u32>) {
    let name = Regex::new(r"fn row_(\d\d)_\w+\(").expect("a valid expression");
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            tested(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let numbers = name.captures_iter(&text);
            found.extend(numbers.map(|number| number[1].parse::<u32>().expect("two digits")));
        }
    }
}

#[test]
fn rows_of_the_parts_that_are_built_have_tests() {
    let (rows, mut numbers) = (rows(), BTreeSet::new());
    for folder in ["src", "tests"] {
        tested(&project().join(folder), &mut numbers);
    }
    let unknown: Vec<&u32> = numbers
        .iter()
        .filter(|number| !rows.contains_key(number))
        .collect();
    assert!(
        unknown.is_empty(),
        "tests of rows that the table does not have: {unknown:?}"
    );
    let is_untested = |(number, part): &(&u32, &String)| {
        BUILT.contains(&part.as_str()) && !numbers.contains(number)
    };
    let untested: Vec<_> = rows.iter().filter(is_untested).collect();
    assert!(untested.is_empty(), "rows without a test: {untested:?}");
}
