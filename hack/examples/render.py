"""Objects that Dagster and Airflow create for the examples, made by their own packages.

usage: render.py [--check]    writes examples/dagster/run-job.json and examples/airflow/task-pod.json, or compares them
"""

import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def plain(made):
    """What a client sends to the API server."""
    from kubernetes.client import ApiClient

    return ApiClient().sanitize_for_serialization(made)


def dagster_job():
    """The Job of a run, by the calls that dagster-k8s' run launcher makes."""
    from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job, get_user_defined_k8s_config

    job = module(EXAMPLES / "dagster/definitions.py").defs.resolve_job_def("orders")
    run = "0f6f5c1e-6f1c-4ad2-b1d9-3c7ec6c0ef7a"
    made = construct_dagster_k8s_job(
        job_config=DagsterK8sJobConfig(job_image="example.com/orders:1", dagster_home="/opt/dagster/dagster_home"),
        args=["dagster", "api", "execute_run"],
        job_name=f"dagster-run-{run}",
        pod_name=f"dagster-run-{run}",
        component="run_worker",
        user_defined_k8s_config=get_user_defined_k8s_config(job.tags),
        labels={"dagster/job": "orders", "dagster/run-id": run, "dagster/code-location": "orders"},
    )
    return plain(made)


def airflow_pod():
    """The pod of a task, by the operator itself. Only the connection to a cluster is left out."""
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    task = module(EXAMPLES / "airflow/dag.py").dag.get_task("dbt")
    assert isinstance(task, KubernetesPodOperator)
    # A random suffix would differ each time.
    task.random_name_suffix = False
    task.__dict__["hook"] = SimpleNamespace(
        is_in_cluster=True,
        get_namespace=lambda: "airflow",
        get_xcom_sidecar_container_image=lambda: None,
        get_xcom_sidecar_container_resources=lambda: None,
        get_xcom_sidecar_container_security_context=lambda: None,
    )
    return plain(task.build_pod_request_obj())


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit("usage: render.sh [--check]")
    check = sys.argv[1:] == ["--check"]
    stale = []
    for name, make in (("dagster/run-job.json", dagster_job), ("airflow/task-pod.json", airflow_pod)):
        text = json.dumps(make(), indent=2, sort_keys=True) + "\n"
        file = EXAMPLES / name
        if not check:
            file.write_text(text)
        elif not file.is_file() or file.read_text() != text:
            stale.append(f"examples/{name}")
    if stale:
        sys.exit(f"render: {', '.join(stale)} differ from what the packages make. Run hack/examples/render.sh.")


# Airflow writes its configuration into this folder when it is imported.
with tempfile.TemporaryDirectory(prefix="airflow-") as home:
    os.environ["AIRFLOW_HOME"] = home
    main()
