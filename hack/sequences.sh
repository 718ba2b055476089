#!/usr/bin/env bash
# Takes random steps on workloads, as their users do: many sequences on a simulated API server with optimised code, and
# some on a real API server.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

hack/tools/tools.sh build control-plane
SEQUENCES=${SEQUENCES:-10000} LIVE_SEQUENCES=${LIVE_SEQUENCES:-200} \
  cargo test --profile optimized --all-features --locked --test sequences -- --test-threads=1 --nocapture
