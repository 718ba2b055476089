#!/usr/bin/env bash
# Tests that need running containers, on a real one-node cluster (Linux and root), or on your own cluster (KUBECONFIG).
# usage: hack/test-cluster.sh [cluster|reload|dbt|replicas|power-cut]...   (all)
#        PROFILE=optimized hack/test-cluster.sh hostile    hostile reviews, only with optimised code
#        PROFILE=optimized hack/test-cluster.sh floods     floods of connections to each replica
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=hack/lib/target.sh
source "$ROOT/hack/lib/target.sh"
# shellcheck source=hack/lib/image.sh
source "$ROOT/hack/lib/image.sh"
# shellcheck source=hack/lib/demo.sh
source "$ROOT/hack/lib/demo.sh"
# shellcheck source=hack/lib/power-cut.sh
source "$ROOT/hack/lib/power-cut.sh"
NAMESPACE=floe-power-cut
target_choose
if [ "$TARGET" = plane ]; then
  echo "test-cluster: this needs root on Linux, or your own cluster: set KUBECONFIG" >&2
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
# Profile of the binary that other tests have built already.
export PROFILE=${PROFILE:-dev}
"$ROOT/hack/install.sh"
if [ "$TARGET" = node ]; then export KUBECTL=$ROOT/hack/cluster/kubectl; else export KUBECTL=${KUBECTL:-kubectl}; fi
BUSYBOX_IMAGE=$(target_busybox)
export BUSYBOX_IMAGE
cd "$ROOT"
in_network() { if [ "$TARGET" = node ]; then "$ROOT/hack/cluster/cluster.sh" exec "$@"; else "$@"; fi; }
# These tests are ignored by default, so that `cargo test` alone never needs root.
run() { "$@" -- --ignored; }
run_one() { in_network cargo test --locked --all-features --test cluster_replicas -- --ignored --nocapture "$1"; }

named=$#
[ $# -gt 0 ] || set -- cluster reload dbt replicas power-cut
for tests; do
  if [ "$tests" = hostile ] && [ "$PROFILE" = dev ]; then
    echo "test-cluster: hostile needs optimised code: set PROFILE=optimized" >&2
    exit 2
  fi
  case $tests in
    cluster) run cargo test --locked --all-features --test cluster ;;
    # Inside the node's network: these tests send requests to the API server, and one starts Reloader, or its model,
    # beside the API server.
    reload) run in_network cargo test --locked --all-features --test cluster_reload ;;
    dbt)
      # Imported only when it is needed: the image has 360 MB. DBT_IMAGE is one that your own cluster has.
      if [ -z "${DBT_IMAGE:-}" ]; then
        if [ "$TARGET" = own ]; then
          echo "dbt: set DBT_IMAGE to an image that your cluster has; hack/dbt/image.sh builds it" >&2
          # Left out only if it was not named.
          [ "$named" -eq 0 ] && continue
          exit 1
        fi
        read -r DBT_IMAGE archive < <("$ROOT/hack/dbt/image.sh")
        "$ROOT/hack/cluster/cluster.sh" load "$archive"
      fi
      export DBT_IMAGE
      run cargo test --locked --all-features --test cluster_dbt
      ;;
    replicas) run_one replicas_come_and_go ;;
    hostile) run_one hostile_reviews ;;
    floods) run_one floods_kill ;;
    power-cut)
      # Never on a user's own cluster.
      if [ "$TARGET" = node ]; then
        demo_namespace
        k -n "$NAMESPACE" apply -f hack/demo/secret.yaml
        power_cut
        k delete namespace "$NAMESPACE" --wait=false
      else
        echo "power-cut: only on the one-node cluster" >&2
      fi
      ;;
    *)
      echo "test-cluster: no tests named $tests" >&2
      exit 2
      ;;
  esac
done
