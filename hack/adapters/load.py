"""Loads profiles by dbt's own code, with the packages of this environment. check.py starts it, once per adapter.

usage: load.py JOBS.json RESULTS.json

A job has `project`, `profiles` and `log` (folders), `environment` (variables), `expected` (pairs of a path in the
credentials and a value) and `debug` (whether `dbt debug` runs as well). A result has the error, the differences, and
everything that dbt printed.
"""

import contextlib
import io
import json
import os
import re
import sys
from pathlib import Path

from dbt.cli.main import dbtRunner
from dbt.config.runtime import load_profile
from dbt.task.debug import DebugTask
from dbt_common.context import set_invocation_context

KEPT = dict(os.environ)


def value_at(credentials, path):
    """Value at a path such as `secrets[0].token`. The first name may be an alias of a field."""
    first, *rest = re.findall(r"[^.\[\]]+", path)
    value = getattr(credentials, getattr(type(credentials), "_ALIASES", {}).get(first, first))
    for part in rest:
        value = value[int(part)] if isinstance(value, (list, tuple)) else \
            value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def is_same(found, expected):
    """Equal, and of the same type: 7, "7", "007" and True are all different."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return found.keys() == expected.keys() and all(is_same(found[key], expected[key]) for key in expected)
    return type(found) is type(expected) and found == expected


def dbt(job, *command):
    """Runs a command of dbt, and returns its error; None if it succeeded."""
    options = ["--project-dir", job["project"], "--profiles-dir", job["profiles"], "--log-path", job["log"],
               "--no-use-colors", "--log-level-file", "debug", "--no-send-anonymous-usage-stats", "--no-version-check"]
    if command[0] == "parse":
        options += ["--target-path", job["log"] + "/target", "--no-partial-parse"]
    result = dbtRunner().invoke([*command, *options])
    if result.success:
        return None
    return f"{type(result.exception).__name__}: {result.exception}" if result.exception else "failed without an exception"


def run(job):
    os.environ.clear()
    os.environ.update(KEPT | job["environment"])
    error = dbt(job, "parse")
    differences = []
    if error is None and job["expected"]:
        set_invocation_context(os.environ)
        credentials = load_profile(job["project"], {}).credentials
        for path, expected in job["expected"]:
            found = value_at(credentials, path)
            if not is_same(found, expected):
                differences.append(f"{path} is {found!r} ({type(found).__name__}), expected {expected!r}")
    if error is None and job["debug"]:
        error = dbt(job, "debug")
    return {"name": job["name"], "error": error, "differences": differences}


def captured(job):
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(printed):
        result = run(job)
    return result | {"printed": printed.getvalue()}


# There are no warehouses here: only the connection itself is left out of `dbt debug`.
DebugTask.attempt_connection = staticmethod(lambda profile: None)

jobs = json.loads(Path(sys.argv[1]).read_text())
Path(sys.argv[2]).write_text(json.dumps([captured(job) for job in jobs]))
