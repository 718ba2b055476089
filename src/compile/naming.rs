//! Naming convention for the secrets that a manifest asks for.

use std::collections::BTreeSet;

use super::demand::Demand;
use crate::finding::{FileFinding, FindingSeverity, Rule};
use injection::NameConvention;

/// Findings about secrets whose names do not follow the convention, one for each secret at its first place.
pub(crate) fn violations<'d>(
    demands: impl IntoIterator<Item = &'d Demand>,
    convention: &NameConvention,
) -> Vec<FileFinding> {
    let mut seen = BTreeSet::new();
    demands
        .into_iter()
        .filter(|demand| !convention.matches(demand.reference.secret.name.as_str()))
        .filter(|demand| seen.insert(&demand.reference.secret))
        .map(|demand| FileFinding {
            rule: Rule::SecretNameConvention,
            severity: FindingSeverity::Error,
            place: demand.place.clone(),
            message: format!(
                "the name of secret \"{}\" does not follow the naming convention \"{convention}\". Rename the secret and correct the reference.",
                demand.reference.secret
            ),
            excerpt: None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::adapter::FieldType;
    use crate::compile::demand::Delivery;
    use crate::finding::Place;

    fn demand(reference: &str, field: &str) -> Demand {
        Demand {
            variable: "A".parse().unwrap(),
            reference: reference.parse().unwrap(),
            delivery: Delivery::Alias,
            field: field.to_owned(),
            field_type: FieldType::Text,
            place: Place {
                file: "manifest.yaml".into(),
                position: None,
                field: field.to_owned(),
            },
        }
    }

    #[test]
    fn secret_against_the_convention_is_found_once() {
        let demands = [
            demand("db/user", "user"),
            demand("db/password", "password"),
            demand("db-prod-credentials/password", "token"),
        ];
        let found = violations(&demands, &"floe".parse().unwrap());
        let [finding] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!(finding.place.field, "user");
        assert!(finding.message.contains("secret \"db\"") && finding.message.contains("{service}"));
        assert_eq!(violations(&demands, &"*".parse().unwrap()), []);
    }
}
