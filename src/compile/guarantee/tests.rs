//! Mutations of either output: each has to be noticed.

use std::collections::BTreeMap;

use injection::KeyChoice;

use super::*;
use crate::compile::annotations::annotations;
use crate::compile::profile::{ProfileValue, profile};
use crate::finding::Place;

fn demand(variable: &str, reference: &str, delivery: Delivery, field_type: FieldType) -> Demand {
    Demand {
        variable: variable.parse().unwrap(),
        reference: reference.parse().unwrap(),
        delivery,
        field: variable.to_ascii_lowercase(),
        field_type,
        place: Place {
            file: "manifest.yaml".into(),
            position: None,
            field: String::new(),
        },
    }
}

fn demands() -> Vec<Demand> {
    vec![
        demand(
            "FLOE_SECRET_DB_PASSWORD",
            "db/password",
            Delivery::Reference,
            FieldType::Text,
        ),
        demand("FLOE_SECRET_DB", "db", Delivery::Reference, FieldType::Text),
        demand("PORT", "db/port", Delivery::Alias, FieldType::Number),
        demand(
            "FLAG",
            "infisical:db/flag",
            Delivery::Alias,
            FieldType::Boolean,
        ),
        demand(
            "KEY_FILE",
            "files/KEY_FILE",
            Delivery::EnvFrom,
            FieldType::Native,
        ),
    ]
}

const TARGETS: [&str; 2] = ["dev", "prod"];

fn output(demands: &[Demand]) -> Vec<(String, ProfileValue)> {
    let field =
        |(index, demand): (usize, &Demand)| (demand.field.clone(), ProfileValue::Demand(index));
    demands.iter().enumerate().map(field).collect()
}

/// Checks outputs made from the demands, after a mutation.
fn check(
    mutate_profile: impl FnOnce(String) -> String,
    mutate_annotations: impl FnOnce(&mut BTreeMap<String, String>),
) -> Result<(), String> {
    let demands = demands();
    let targets = TARGETS.map(str::to_owned);
    let names = ProfileNames {
        profile: "p",
        targets: &targets,
        default_target: "dev",
    };
    let text = mutate_profile(profile(&names, &output(&demands), &demands).unwrap());
    let mut set = annotations(&demands, None);
    mutate_annotations(&mut set);
    check_profile(&names, &text, &set, &demands, &[])
}

#[test]
fn outputs_of_one_list_match() {
    assert_eq!(check(|text| text, |_| {}), Ok(()));
}

#[rstest::rstest]
#[case::another_variable("env_var('PORT')", "env_var('PORTS')")]
#[case::variables_exchanged("env_var('FLOE_SECRET_DB_PASSWORD')", "env_var('FLOE_SECRET_DB')")]
#[case::filter_lost(" | as_number", "")]
#[case::filter_added("env_var('FLOE_SECRET_DB')", "env_var('FLOE_SECRET_DB') | upper")]
#[case::boolean_without_comparison(" | lower == 'true'", "")]
#[case::text_added(
    "\"{{ env_var('FLOE_SECRET_DB') }}\"",
    "\"{{ env_var('FLOE_SECRET_DB') }} \""
)]
#[case::literal("\"{{ env_var('FLOE_SECRET_DB') }}\"", "\"value of FLOE_SECRET_DB\"")]
#[case::default_added("env_var('FLOE_SECRET_DB')", "env_var('FLOE_SECRET_DBX', 'x')")]
#[case::field_renamed("      port:", "      ports:")]
#[case::profile_renamed("p:\n", "q:\n")]
#[case::target_renamed("    prod:", "    production:")]
#[case::default_target("target: \"dev\"", "target: \"prod\"")]
#[case::second_use("      port:", "      other: \"{{ env_var('PORT') }}\"\n      port:")]
#[case::broken("outputs:", "outputs")]
fn mutated_profile_is_noticed(#[case] from: &str, #[case] to: &str) {
    let mutated = |text: String| {
        assert!(text.contains(from), "{text}");
        text.replace(from, to)
    };
    assert!(check(mutated, |_| {}).is_err());
    // In one target alone, too.
    let in_the_last = |text: String| {
        let at = text.rfind(from).unwrap();
        format!("{}{}{}", &text[..at], to, &text[at + from.len()..])
    };
    assert!(check(in_the_last, |_| {}).is_err());
}

#[rstest::rstest]
#[case::secret("refs", "db/password", "db2/password")]
#[case::key("refs", "db/password", "db/passwords")]
#[case::lost_reference("refs", "db/password, ", "")]
#[case::source("refs", "db/password", "infisical:db/password")]
#[case::additional_reference("refs", "db/password", "db/password, db/user")]
#[case::all_keys("refs", "db/password", "db/*")]
#[case::additional_secret("env-from", "files", "files, db")]
#[case::lost_source("env.FLAG", "infisical:db", "db")]
#[case::alias_key("env.PORT", "db/port", "db/password")]
#[case::not_valid("env.PORT", "db/port", "db")]
fn mutated_annotation_is_noticed(#[case] key: &str, #[case] from: &str, #[case] to: &str) {
    let mutate = |set: &mut BTreeMap<String, String>| {
        let value = set.get_mut(&format!("{PREFIX}{key}")).unwrap();
        assert!(value.contains(from), "{value}");
        *value = value.replacen(from, to, 1);
    };
    assert!(check(|text| text, mutate).is_err());
}

#[rstest::rstest]
#[case("inject", "false")]
#[case("env.OTHER", "db/port")]
#[case("infisical.other", "prod:/x")]
#[case("containers", "none")]
#[case("unknown", "x")]
fn additional_annotation_is_noticed(#[case] key: &str, #[case] value: &str) {
    let add = |set: &mut BTreeMap<String, String>| {
        set.insert(format!("{PREFIX}{key}"), value.to_owned());
    };
    assert!(check(|text| text, add).is_err());
    let foreign = |set: &mut BTreeMap<String, String>| {
        set.insert("example.com/x".to_owned(), String::new());
    };
    assert!(check(|text| text, foreign).is_err());
}

#[test]
fn lost_annotation_is_noticed() {
    for key in annotations(&demands(), None).keys() {
        let remove = |set: &mut BTreeMap<String, String>| {
            set.remove(key);
        };
        assert!(check(|text| text, remove).is_err(), "{key}");
    }
}

#[test]
fn mutated_demand_is_noticed_by_either_output() {
    let (written, targets) = (demands(), TARGETS.map(str::to_owned));
    let names = ProfileNames {
        profile: "p",
        targets: &targets,
        default_target: "dev",
    };
    let text = profile(&names, &output(&written), &written).unwrap();
    let set = annotations(&written, None);
    for index in 0..written.len() {
        let mut changed = demands();
        changed[index].reference.key = KeyChoice::Key("another".parse().unwrap());
        assert!(
            check_profile(&names, &text, &set, &changed, &[]).is_err(),
            "{index}"
        );
        let mut changed = demands();
        changed[index].variable = "ANOTHER".parse().unwrap();
        assert!(
            check_profile(&names, &text, &set, &changed, &[]).is_err(),
            "{index}"
        );
        let mut changed = demands();
        changed.remove(index);
        assert!(
            check_profile(&names, &text, &set, &changed, &[]).is_err(),
            "{index}"
        );
    }
}
