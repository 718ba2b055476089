//! Pods of the floe platform, as its charts and Dagster's launcher create them.

use rstest::rstest;
use serde_json::Value;

use crate::admission::{Admission, PREFIX};
use injection::SkipReason;

/// Reads `tests/testdata/pods/<name>.json`: the pod as the API server sends it.
fn rendered(name: &str) -> Value {
    let path = format!(
        "{}/tests/testdata/pods/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Defaults of a namespace, for pods whose charts cannot set annotations.
const DEFAULTS: [(&str, &str); 2] = [
    ("env-from", "snowflake-credentials"),
    ("refs", "polaris/credential"),
];

#[rstest]
#[case::dbt_job("floe-jobs-dbt", "dbt", &["snowflake-credentials"], &["POLARIS_ENDPOINT='http://polaris:8181/api/catalog'"])]
#[case::dbt_cron_job("floe-jobs-dbt-cronjob", "dbt", &["snowflake-credentials", "configmap:dbt-settings"], &["POLARIS_ENDPOINT='http://polaris:8181/api/catalog'"])]
#[case::ingestion("floe-jobs-ingestion", "ingestion", &["snowflake-credentials"], &[])]
#[case::custom("floe-jobs-custom", "reconcile", &["snowflake-credentials"], &["MODE='full'"])]
#[case::run_worker("dagster-run-worker", "dagster", &["snowflake-credentials"], &[
    "DAGSTER_HOME='/opt/dagster/dagster_home'",
    "DAGSTER_PG_PASSWORD=dagster-postgresql-secret/postgresql-password",
    "DAGSTER_RUN_JOB_NAME='customer_360'",
])]
#[case::step_worker("dagster-step-worker", "dagster", &["snowflake-credentials"], &[
    "DAGSTER_HOME='/opt/dagster/dagster_home'",
    "DAGSTER_PG_PASSWORD=dagster-postgresql-secret/postgresql-password",
    "DAGSTER_RUN_JOB_NAME='customer_360'",
    "DAGSTER_RUN_STEP_KEY='stg_customers'",
])]
#[case::cube_api("cube-api", "cube-api", &["snowflake-credentials", "configmap:floe-cube", "floe-cube"], &[])]
#[case::cube_refresh("cube-refresh-worker", "cube-refresh-worker", &["snowflake-credentials", "configmap:floe-cube", "floe-cube"], &["CUBEJS_REFRESH_WORKER='true'"])]
fn platform_pod_is_injected_by_the_defaults_of_its_namespace(
    #[case] name: &str,
    #[case] container: &str,
    #[case] env_from: &[&str],
    #[case] env: &[&str],
) {
    let admitted = Admission::of(rendered(name)).namespace(&DEFAULTS).injects();
    assert_eq!(admitted.env_from(container), env_from);
    let with_injected: Vec<&str> = env
        .iter()
        .copied()
        .chain(["FLOE_SECRET_POLARIS_CREDENTIAL=polaris/credential"])
        .collect();
    assert_eq!(admitted.env(container), with_injected);
    assert!(admitted.warnings.is_empty(), "{:?}", admitted.warnings);
    assert_eq!(
        admitted.record()["containers"]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        [container]
    );
}

#[rstest]
#[case("floe-jobs-dbt")]
#[case("dagster-run-worker")]
#[case("cube-api")]
#[case("helm-test")]
fn platform_pod_without_requests_is_not_changed(#[case] name: &str) {
    assert_eq!(
        Admission::of(rendered(name)).accepts(),
        SkipReason::NotRequested
    );
    assert_eq!(
        Admission::of(rendered(name))
            .namespace(&[("inject", "false"), ("env-from", "a")])
            .accepts(),
        SkipReason::OptedOut
    );
}

/// Fields that Pod Security `restricted` checks. `Admission` compares the rest of the pod with the original.
#[test]
fn fields_of_pod_security_are_not_changed() {
    let before = rendered("floe-jobs-dbt");
    let after = Admission::of(before.clone())
        .namespace(&DEFAULTS)
        .injects()
        .pod;
    for field in [
        "securityContext",
        "serviceAccountName",
        "automountServiceAccountToken",
        "volumes",
        "restartPolicy",
    ] {
        assert!(!before["spec"][field].is_null(), "{field}");
        assert_eq!(before["spec"][field], after["spec"][field], "{field}");
    }
    for field in ["securityContext", "volumeMounts", "resources", "command"] {
        assert_eq!(
            before["spec"]["containers"][0][field], after["spec"]["containers"][0][field],
            "{field}"
        );
    }
}

#[test]
fn dagster_run_requests_secrets_by_its_tags() {
    let mut pod = rendered("dagster-run-worker");
    let annotations = [
        ("env.AWS_ACCESS_KEY_ID", "s3/access-key"),
        ("env.DAGSTER_PG_PASSWORD", "other/password"),
    ];
    for (key, value) in annotations {
        pod["metadata"]["annotations"][format!("{PREFIX}{key}")] = value.into();
    }
    let admitted = Admission::of(pod).injects();
    assert_eq!(
        admitted.env("dagster"),
        [
            "DAGSTER_HOME='/opt/dagster/dagster_home'",
            "DAGSTER_PG_PASSWORD=dagster-postgresql-secret/postgresql-password",
            "DAGSTER_RUN_JOB_NAME='customer_360'",
            "AWS_ACCESS_KEY_ID=s3/access-key",
        ]
    );
    assert_eq!(
        admitted.warnings,
        ["container \"dagster\" already sets DAGSTER_PG_PASSWORD; it was left as it is"]
    );
}

#[test]
fn existing_secret_of_a_cube_pod_is_not_added_again() {
    let admitted = Admission::of(rendered("cube-api"))
        .namespace(&[("env-from", "floe-cube,warehouse")])
        .injects();
    assert_eq!(
        admitted.env_from("cube-api"),
        ["warehouse", "configmap:floe-cube", "floe-cube"]
    );
}

#[test]
fn helm_test_pod_is_injected_by_the_defaults_of_its_namespace() {
    let admitted = Admission::of(rendered("helm-test"))
        .namespace(&DEFAULTS)
        .injects();
    for container in ["polaris", "otel"] {
        assert_eq!(admitted.env_from(container), ["snowflake-credentials"]);
    }
}
