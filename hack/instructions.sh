#!/bin/sh
# Counts the instructions of the pure path per admission, and compares them with benches/instructions.txt.
# Unlike times, counts are stable, but only for one compiler and one processor architecture.
#
# handler-recorded is handler-injected with the audit trail. All threads are counted: the admission's, that of the
# recorder and that of standard output. Reviews come one after another, so that each record is a group of its own, which
# is the worst case. record-hash is the part of it for SHA-256: valgrind has none of the instructions of processors for
# it, which take about a microsecond for a record.
# usage: hack/instructions.sh [--update]
set -eu

cd "$(dirname "$0")/.."
budget=benches/instructions.txt
tolerance=5

valgrind=$(hack/tools/tools.sh path valgrind)

binary=$(cargo bench --profile optimized --quiet --locked --no-run --bench instructions --message-format=json |
  sed -n 's/.*"name":"instructions".*"executable":"\([^"]*\)".*/\1/p')

count() {
  "$valgrind" --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$1" "$2" 2>&1 |
    sed -n 's/.*Collected : //p'
}

failed=0
counted=$(mktemp)
trap 'rm -f "$counted"' EXIT
for case in injected skipped handler-injected handler-skipped handler-recorded record-hash; do
  # The difference of two runs excludes work that is done once.
  few=$(count "$case" 100)
  many=$(count "$case" 600)
  per=$(((many - few) / 500))
  echo "$case $per" >>"$counted"
  allowed=$(sed -n "s/^$case //p" "$budget")
  if [ "${1:-}" != --update ] && [ "$per" -gt $((allowed + allowed * tolerance / 100)) ]; then
    echo "$case: $per instructions per admission, more than $tolerance % above the budget of $allowed" >&2
    failed=1
  else
    echo "$case: $per instructions per admission (budget ${allowed:-none})"
  fi
done
[ "${1:-}" != --update ] || cp "$counted" "$budget"
exit $failed
