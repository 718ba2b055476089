//! `compile`: a floe manifest in, a dbt profile without secrets and the annotations that make its variables exist out.
//!
//! [`manifest`] reads the files to a [`model::Manifest`]; [`plan`] turns it into a list of demands, the only source of
//! both outputs, and [`guarantee`] checks that they match. [`output`] has their forms, and [`check`] compares them with
//! files.

pub(crate) mod adapter;
mod annotations;
mod check;
mod demand;
mod files;
mod guarantee;
mod jinja;
mod live_secrets;
mod manifest;
pub(crate) mod mask;
pub(crate) mod model;
pub(crate) mod naming;
mod output;
pub(crate) mod plan;
mod profile;
mod project;
mod report;
mod request;
mod run;
mod secrets;

#[cfg(feature = "cluster")]
pub(crate) use self::live_secrets::LiveSecrets;
pub(crate) use self::manifest::manifest_schema;
pub(crate) use self::request::{CompileExitStatus, CompileRequest, OutputForm};
pub(crate) use self::run::compile;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::YamlLimits;

    #[test]
    fn docs_contain_the_bounds() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/COMPILE.md"))
            .unwrap();
        for (bound, number) in [
            (
                "Bytes of a manifest, its parent, floe.yaml or dbt_project.yml",
                YamlLimits::HAND_WRITTEN.bytes,
            ),
            (
                "Levels of maps and lists in each other",
                YamlLimits::HAND_WRITTEN.depth,
            ),
            (
                "Maps, lists and values, after aliases are replaced",
                YamlLimits::HAND_WRITTEN.nodes,
            ),
            ("Aliases", YamlLimits::HAND_WRITTEN.aliases),
            (
                "Findings of one severity that are shown; the rest is counted",
                manifest::MAX_FINDINGS,
            ),
            (
                "Bytes of a field's path in a message",
                manifest::MAX_FIELD_PATH,
            ),
            ("Expressions in one text", jinja::MAX_EXPRESSIONS),
            (
                "Custom patterns in one manifest",
                manifest::MAX_CUSTOM_PATTERNS,
            ),
            (
                "Characters of a product's or manifest's name",
                manifest::MAX_NAME,
            ),
            (
                "Bytes of a profile's or target's name",
                plan::MAX_PROFILE_NAME,
            ),
            ("Targets", plan::MAX_TARGETS),
            ("Bytes of a field's path below `config`", plan::MAX_PATH),
            (
                "Bytes of a field's name in `config` of compute",
                plan::MAX_NAME,
            ),
            ("Bytes of a profile", profile::MAX_PROFILE_BYTES),
            ("Names of one kind in the summary", report::MAX_LISTED),
            ("Lines of one diff", check::MAX_DIFF_LINES),
            (
                "Bytes of a file that is compared line by line; a larger one is stale without a diff",
                check::MAX_DIFF_BYTES,
            ),
            ("Files behind all `--secrets`", secrets::MAX_SECRET_FILES),
            ("Bytes of one file of Secrets", secrets::LIMITS.bytes),
        ] {
            let row = page
                .lines()
                .find(|line| line.starts_with(&format!("| {bound} |")));
            let documented = row.map(|row| {
                let number = row.rsplit('|').nth(1).unwrap_or_default();
                number.trim().replace(',', "")
            });
            assert_eq!(documented, Some(number.to_string()), "{bound}");
        }
    }
}
