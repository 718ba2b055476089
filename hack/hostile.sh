#!/usr/bin/env bash
# Sends hostile reviews to the program, built as optimised as what is counted by hack/instructions.sh, and holds answer,
# memory and processor time of each against its budget.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

hack/tools/tools.sh build control-plane
# One after the other: what one test takes would be counted with another's.
for tests in amplification hostile; do
    cargo test --profile count --all-features --locked --test "$tests" -- --ignored --test-threads=1 --nocapture
done
