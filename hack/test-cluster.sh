#!/usr/bin/env bash
# Tests that need running containers, on a real one-node cluster (Linux and root), or on your own by KUBECONFIG.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=hack/lib/target.sh
source "$ROOT/hack/lib/target.sh"
target_choose
if [ "$TARGET" = plane ]; then
    echo "test-cluster: needs root on Linux, or a cluster of your own by KUBECONFIG" >&2
    exit 1
fi
was_up=no
if [ "$TARGET" = node ] && "$ROOT/hack/cluster/cluster.sh" status >/dev/null 2>&1; then was_up=yes; fi
cleanup() {
    if [ "$TARGET" = own ]; then
        "$ROOT/hack/install.sh" remove
    elif [ "$was_up" = no ]; then
        "$ROOT/hack/cluster/cluster.sh" down
    fi
}
trap cleanup EXIT
# The binary that the other tests built already.
PROFILE=${PROFILE:-dev} "$ROOT/hack/install.sh"
if [ "$TARGET" = node ]; then export KUBECTL=$ROOT/hack/cluster/kubectl; else export KUBECTL=${KUBECTL:-kubectl}; fi
BUSYBOX_IMAGE=$(target_busybox)
export BUSYBOX_IMAGE
cd "$ROOT"
# Ignored by default, so that `cargo test` alone never needs root.
cargo test --locked --all-features --test cluster -- --ignored --test-threads=4
# These ask the API server themselves, and one starts Reloader, or the model of it, beside it: inside the node's network.
in_network() { if [ "$TARGET" = node ]; then "$ROOT/hack/cluster/cluster.sh" exec "$@"; else "$@"; fi; }
in_network cargo test --locked --all-features --test cluster_reload -- --ignored
in_network cargo test --locked --all-features --test cluster_replicas -- --ignored
