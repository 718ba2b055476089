"""A job whose runs get secrets: the annotations are a tag, which dagster-k8s copies to the pods of the job's runs."""

from dagster import Definitions, job, op

SECRETS = {
    "secrets.floe.dev/env-from": "warehouse",
    "secrets.floe.dev/env.DBT_TOKEN": "dbt/token",
}


@op
def build_models():
    """Runs dbt, which reads the variables."""


@job(tags={"dagster-k8s/config": {"pod_template_spec_metadata": {"annotations": SECRETS}}})
def orders():
    build_models()


defs = Definitions(jobs=[orders])
