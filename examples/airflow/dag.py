"""A task in a pod of its own, with secrets by annotations."""

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG

with DAG(dag_id="orders", schedule=None) as dag:
    KubernetesPodOperator(
        task_id="dbt",
        name="orders-dbt",
        image="example.com/dbt:1.11",
        cmds=["dbt", "build"],
        annotations={
            "secrets.floe.dev/env-from": "warehouse",
            "secrets.floe.dev/env.DBT_TOKEN": "dbt/token",
            # Airflow fails the task of a refused pod. With "warn", the pod waits for its secret instead.
            "secrets.floe.dev/on-missing": "warn",
        },
        startup_timeout_seconds=600,
        do_xcom_push=True,
    )
