"""Compiled profiles in real dbt, with the real adapters.

usage: check.py PROGRAM [WORD]    PROGRAM is floe-secrets-webhook; WORD selects cases whose names contain it

For each adapter and method of cases.py, with `--mask` and without: a manifest is compiled, its annotations are injected
into a pod by `inject`, and dbt parses the profile with exactly the variables of that pod. The credentials that dbt
loads have to have the expected values with the expected types. With `--mask`, no value of a masked variable may be in
what dbt prints or in its log.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from cases import CASES, WHOLE_KEYFILE, Secret
from traps import TRAPS

HERE = Path(__file__).resolve().parent
SECRET_NAME = "connection"
PROJECT = "name: trial\nprofile: trial\n"


class Failure(Exception):
    """A case that is not as expected."""


def with_references(tree, data, expected, path=""):
    """The config with references in place of its secrets. Fills the Secret's data, and the expected credentials."""
    if isinstance(tree, Secret):
        key = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-")
        data[key] = tree.value
        expected.append([path, tree.loaded()])
        return {"secretRef": {"name": SECRET_NAME, "key": key}}
    if isinstance(tree, dict):
        return {name: with_references(value, data, expected, f"{path}.{name}" if path else name)
                for name, value in tree.items()}
    if isinstance(tree, list):
        return [with_references(item, data, expected, f"{path}[{index}]") for index, item in enumerate(tree)]
    return tree


def manifest_of(case):
    """Manifest, data of the Secret, and expected credentials."""
    data, expected = {}, []
    config = with_references(case.config, data, expected)
    compute = {"type": case.adapter, "config": config}
    if case.connection:
        compute["connection_secret_ref"] = SECRET_NAME
        by_field = "field" in case.flags
        for name, secret in case.connection.items():
            data[name if by_field else f"{case.adapter}_{name}".upper()] = secret.value
            expected.append([name, secret.loaded()])
    manifest = {"apiVersion": "floe.dev/v1", "kind": "Manifest", "metadata": {
        "name": "trial", "version": "1.0.0", "owner": "test@example.com"}, "plugins": {"compute": compute}}
    return manifest, data, [[case.moved.get(path, path), value] for path, value in expected]


def program(arguments, stdin=""):
    done = subprocess.run(arguments, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, arguments[1:3]))} exits with {done.returncode}:\n{done.stderr}")
    return done.stdout


def injected(webhook, annotations, secrets, folder):
    """Variables of a pod with these annotations."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "dbt", "annotations": annotations},
           "spec": {"containers": [{"name": "dbt", "image": "dbt"}]}}
    file = folder / "secrets.yaml"
    file.write_text(yaml.safe_dump_all([
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
        for name, data in secrets.items()]))
    output = program([webhook, "inject", "-f", "-", "--secrets", file], yaml.safe_dump(pod))
    container = yaml.safe_load(output)["spec"]["containers"][0]
    variables = {}
    for source in container.get("envFrom", []):
        variables |= secrets[source["secretRef"]["name"]]
    for entry in container.get("env", []):
        reference = entry["valueFrom"]["secretKeyRef"]
        variables[entry["name"]] = secrets[reference["name"]][reference["key"]]
    return variables


def prepare(webhook, case, mask, folder):
    """The job of a case for load.py."""
    folder.mkdir(parents=True)
    manifest, data, expected = manifest_of(case)
    (folder / "dbt_project.yml").write_text(PROJECT)
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    flags = [*case.flags, *(["--mask"] if mask else [])]
    program([webhook, "compile", folder / "manifest.yaml", "--project-dir", folder, "--out", folder, *flags])
    profile = (folder / "profiles.yml").read_text()
    for key, value in data.items():
        # A short text such as a number is in other words by chance.
        if len(value) > 8 and value in profile:
            raise Failure(f"the profile has the value of {key}")
    asked = set(re.findall(r"env_var\('([^']+)'", profile))
    if "--env-from" in case.flags:
        # Keys of the Secret are the variables themselves, so masked ones have their prefix.
        prefix = "DBT_ENV_SECRET_"
        data = {prefix + key if prefix + key in asked else key: value for key, value in data.items()}
    annotations = yaml.safe_load((folder / "annotations.yaml").read_text()) or {}
    environment = injected(webhook, annotations, {SECRET_NAME: data}, folder)
    if asked != set(environment):
        raise Failure(f"the profile asks for {sorted(asked)}, the pod has {sorted(environment)}")
    return {"name": str(case) + (" (masked)" if mask else ""), "project": str(folder), "profiles": str(folder),
            "log": str(folder / "logs"), "environment": environment, "expected": expected, "debug": True}


def load(jobs, folder):
    """Results of load.py."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jobs.json").write_text(json.dumps(jobs))
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "DO_NOT_TRACK": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, HERE / "load.py", folder / "jobs.json", folder / "results.json"],
                          env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"load.py exits with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return json.loads((folder / "results.json").read_text())


def traces(value):
    """Texts by which a value is recognised in a log. A short one is in other words by chance."""
    texts = [value, repr(value)[1:-1], json.dumps(value)[1:-1]]
    if "\n" in value:
        texts += [line for line in value.splitlines() if line and not line.startswith("-----")]
    return [text for text in texts if len(text) >= 8]


def leaks(job, printed):
    """Names of masked variables whose values dbt printed or logged."""
    files = list(Path(job["log"]).glob("*.log*"))
    if not files:
        raise Failure("dbt wrote no log")
    seen = printed + "".join(file.read_text(errors="replace") for file in files)
    masked = {name: value for name, value in job["environment"].items() if name.startswith("DBT_ENV_SECRET")}
    return [name for name, value in masked.items() if any(text in seen for text in traces(value))]


def run_adapter(webhook, adapter, cases, folder):
    """Lines about each case of an adapter, and whether all of them are as expected."""
    lines, jobs, is_good = [], [], True
    for number, (case, mask) in enumerate(cases):
        try:
            jobs.append(prepare(webhook, case, mask, folder / str(number)))
        except Failure as failure:
            lines.append(f"FAILED  {case}{' (masked)' if mask else ''}: {failure}")
            is_good = False
    try:
        results = load(jobs, folder / "dbt") if jobs else []
    except Failure as failure:
        return [*lines, f"FAILED  {adapter}: {failure}"], False
    for job, result in zip(jobs, results, strict=True):
        problems = ([result["error"]] if result["error"] else []) + result["differences"]
        try:
            problems += [f"{name} is in dbt's output or log" for name in leaks(job, result["printed"])]
        except Failure as failure:
            problems.append(str(failure))
        if not job["expected"] and "none" not in job["name"]:
            problems.append("nothing is expected")
        is_good = is_good and not problems
        verdict = "FAILED " if problems else "ok     "
        lines.append(f"{verdict} {job['name']}: {len(job['environment'])} variables{''.join(f'{chr(10)}        {p}' for p in problems)}")
    return lines, is_good


def run_traps(traps, folder):
    """Lines about profiles that `compile` never writes, and whether dbt treats all of them as expected."""
    jobs = []
    for number, trap in enumerate(traps):
        project = folder / str(number)
        project.mkdir(parents=True)
        (project / "dbt_project.yml").write_text(PROJECT)
        profile = {"trial": {"target": "dev", "outputs": {"dev": trap.output}}}
        (project / "profiles.yml").write_text(yaml.safe_dump(profile, sort_keys=False))
        jobs.append({"name": trap.name, "project": str(project), "profiles": str(project), "log": str(project / "logs"),
                     "environment": trap.environment, "expected": trap.expected, "debug": trap.debug})
    lines, is_good = [], True
    for trap, result in zip(traps, load(jobs, folder / "dbt"), strict=True):
        problem = trap.verdict(result)
        is_good = is_good and problem is None
        lines.append(f"{'FAILED ' if problem else 'ok     '} trap: {trap.name}{f': {problem}' if problem else ''}")
    return lines, is_good


def main():
    webhook, word = Path(sys.argv[1]).resolve(), " ".join(sys.argv[2:])
    todo = {}
    for case in [*CASES, WHOLE_KEYFILE]:
        masked = [False] if case is WHOLE_KEYFILE else [False, True]
        todo.setdefault(case.adapter, []).extend((case, mask) for mask in masked if word in str(case))
    is_good = True
    with tempfile.TemporaryDirectory(prefix="floe-adapters-") as folder, ThreadPoolExecutor(2) as pool:
        folder = Path(folder)
        runs = [pool.submit(run_adapter, webhook, adapter, cases, folder / adapter)
                for adapter, cases in todo.items() if cases]
        traps = [trap for trap in TRAPS if word in trap.name]
        if traps:
            runs.append(pool.submit(run_traps, traps, folder / "traps"))
        if not runs:
            sys.exit(f"check: no case has {word!r} in its name")
        for run in runs:
            lines, is_run_good = run.result()
            print("\n".join(lines), flush=True)
            is_good = is_good and is_run_good
    sys.exit(0 if is_good else "check: dbt and the compiled profiles disagree")


main()
