//! Fingerprints of findings, by which code scanners recognise a finding after lines have moved.

use std::collections::BTreeMap;

use super::{FileFinding, artifact};

/// Fingerprints of findings. They depend on rule, file, field and message, and on nothing that changes when lines are
/// added elsewhere in the file. Findings that are equal in all four are numbered in their order.
pub(super) fn all(findings: &[FileFinding]) -> Vec<String> {
    let mut occurrences: BTreeMap<u64, usize> = BTreeMap::new();
    findings
        .iter()
        .map(|finding| {
            let place = &finding.place;
            let file = artifact::relative_path(&place.file);
            let parts = [
                finding.rule.id(),
                &file,
                place.field.as_str(),
                finding.message.as_str(),
            ];
            let hash = fnv(&parts);
            let occurrence = occurrences.entry(hash).or_default();
            *occurrence += 1;
            format!("{hash:016x}:{occurrence}")
        })
        .collect()
}

/// FNV-1a hash of texts, each followed by a byte that is in none of them. It is stable between versions and machines,
/// which the standard library's hashes are not.
fn fnv(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::test_support::finding;

    #[test]
    fn fingerprints_ignore_lines_and_number_equal_findings() {
        let (one, mut moved) = (finding("a.yaml", 3), finding("a.yaml", 90));
        assert_eq!(
            all(std::slice::from_ref(&one)),
            all(std::slice::from_ref(&moved))
        );
        let both = all(&[one.clone(), moved.clone()]);
        assert!(
            both[0].ends_with(":1") && both[1].ends_with(":2"),
            "{both:?}"
        );
        assert_eq!(both[0].split(':').next(), both[1].split(':').next());
        moved.place.field = "spec".to_owned();
        assert!(all(&[one, moved]).iter().all(|f| f.ends_with(":1")));
        // A changed hash would open every finding of every repository again.
        assert_eq!(fnv(&["a"]), 0x089b_c907_b544_c769);
    }
}
