#!/usr/bin/env bash
# Profiles of `compile` in real dbt with all adapters of its table: test.sh [WORD]   (only cases that contain it)
#        test.sh update    write the files below tests/testdata and the pods of the examples anew, from the packages
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
packages=$ROOT/tests/testdata/adapters/packages.json
renderings=$ROOT/tests/testdata/dbt/renderings.jsonl
venv=$("$ROOT/hack/tools/python.sh" venv adapters)
if [ "${1:-}" = update ]; then
  "$venv/bin/python" "$HERE/packages.py" "$packages"
  "$venv/bin/python" "$ROOT/hack/dbt/record-renderings.py" >"$renderings"
  exec "$ROOT/hack/examples/render.sh"
fi
cd "$ROOT"
# WEBHOOK_BIN is a program that is built already.
if [ -z "${WEBHOOK_BIN:-}" ]; then
  cargo build --locked
  WEBHOOK_BIN=${CARGO_TARGET_DIR:-target}/debug/floe-secrets-webhook
fi
if [ $# -eq 0 ]; then
  "$venv/bin/python" "$HERE/packages.py" "$packages" --check
  diff "$renderings" <("$venv/bin/python" "$ROOT/hack/dbt/record-renderings.py")
  "$ROOT/hack/examples/render.sh" --check
fi
exec "$venv/bin/python" "$HERE/check.py" "$WEBHOOK_BIN" "$@"
