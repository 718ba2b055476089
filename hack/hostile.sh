#!/usr/bin/env bash
# Sends hostile reviews to the program, which is built with the profile of hack/instructions.sh, and checks the response,
# memory and CPU time of each against its budget.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

hack/tools/tools.sh build control-plane
# As in the pods of the chart.
MALLOC_MMAP_THRESHOLD_=$(grep -A 1 'name: MALLOC_MMAP_THRESHOLD_' manifests/webhook/deployment.yaml | sed -n 's/.*value: "\(.*\)"/\1/p')
export MALLOC_MMAP_THRESHOLD_=${MALLOC_MMAP_THRESHOLD_:?is not in manifests/webhook/deployment.yaml}
# One after the other: the memory and time of concurrent tests would be counted together.
for tests in amplification hostile; do
  cargo test --profile optimized --all-features --locked --test "$tests" -- --ignored --test-threads=1 --nocapture
done
