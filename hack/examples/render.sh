#!/usr/bin/env bash
# Objects that Dagster and Airflow create for the examples, made by their own packages: render.sh [--check]
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=$("$HERE/../tools/python.sh" venv flows)
exec "$venv/bin/python" "$HERE/render.py" "$@"
