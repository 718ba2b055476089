#!/usr/bin/env bash
# Builds the test programs and runs three of them at a time, because they mostly wait for other programs. Programs that
# measure response times run alone. The output of each is in test-logs, in cargo's target folder.
# usage: hack/test.sh [PROGRAM[=FILTER,...]]...      (a test of Cargo.toml, cases or properties of the core, lib or injection; default: all, and doc tests)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

AT_ONCE=${TESTS_AT_ONCE:-3}
# Longest programs. They start first, so that none of them is left running when all others have ended.
LONGEST="chart controller doctor self_managed workloads registration admission attribution reload_e2e audit_faults no_leak reloader telemetry audit_kills"
ALONE="admission_load admission_faults outage connections audit_visibility"

if [ "${1:-}" = --one ]; then
  name=$2 program=$3 log=$4
  shift 4
  started=$SECONDS verdict=ok
  # The processor's time is what a program costs beside others; that of its counterparts counts where it waits for them.
  TIMEFORMAT='%0U+%0S'
  cpu=$({ time "$program" "$@" >"$log" 2>&1; } 2>&1) || verdict=FAILED
  result=$(grep '^test result' "$log" || echo "test result: FAILED. The program exited without a result")
  # Fails if no test matches the filter.
  if [ $# -gt 0 ] && grep -q ' 0 passed' "$log"; then verdict=FAILED; fi
  echo "$name: $verdict after $((SECONDS - started)) s (processor ${cpu:-?} s); $result"
  [ $verdict = ok ]
  exit
fi

# All programs that tests start are built before the first test: a build would take CPU time from tests.
hack/tools/tools.sh build control-plane chart database
hack/tools/python.sh venv tools >/dev/null
hack/tools/sarif.sh >/dev/null
logs=${CARGO_TARGET_DIR:-target}/test-logs
rm -rf "$logs"
mkdir -p "$logs"
CARGO_TERM_COLOR=never cargo test --workspace --all-features --locked --no-run 2>&1 | tee "$logs/build"
# A program has the name of its test, "lib" and "main" those of the service crate.
sed -n -e 's,^ *Executable unittests src/\(lib\|main\).rs (\(.*/floe_secrets_webhook-[0-9a-f]*\))$,\1 \2,p' \
  -e 's,^ *Executable .* (\(.*/\([a-z0-9_]*\)-[0-9a-f]*\))$,\2 \1,p' "$logs/build" |
  grep -v '^floe_secrets_webhook ' >"$logs/programs"
[ -s "$logs/programs" ] || {
  echo "test: cargo built no test programs" >&2
  exit 1
}

path_of() { awk -v name="$1" '$1 == name { print $2; found = 1 } END { exit !found }' "$logs/programs"; }

# Prints a line per program, the longest first: its name, its path, its log, and its filters.
wanted() {
  local all name path
  all=$*
  if [ $# -eq 0 ]; then
    all="$LONGEST $(awk '{ print $1 }' "$logs/programs" | grep -vxF "$(tr ' ' '\n' <<<"$LONGEST")")"
  fi
  for name in $all; do
    path=$(path_of "${name%%=*}") || {
      echo "test: no such test program: ${name%%=*}" >&2
      return 1
    }
    echo "${name%%=*} $path $logs/${name%%=*}.log$(sed -e 's/^[^=]*//' -e 's/[=,]/ /g' <<<"$name")"
  done
}
wanted "$@" >"$logs/wanted"

alone="^(${ALONE// /|}) "
run() { xargs -r -P "$1" -L 1 hack/test.sh --one; }
failed=0
{ grep -vE "$alone" "$logs/wanted" || true; } | run "$AT_ONCE" || failed=1
{ grep -E "$alone" "$logs/wanted" || true; } | run 1 || failed=1
if [ $# -eq 0 ]; then cargo test --workspace --all-features --locked --doc || failed=1; fi

for log in "$logs"/*.log; do
  if grep -q '^test result: ok' "$log" && ! grep -q '^test result: FAILED' "$log"; then continue; fi
  printf '\n=== %s\n' "$log"
  cat "$log"
done
exit $failed
