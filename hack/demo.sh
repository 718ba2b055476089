#!/usr/bin/env bash
# Demo of the injection, end to end, on a real API server, and on a real node if there is one. See README.md.
# KEEP=1 keeps everything at the end.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=hack/lib/target.sh
source "$ROOT/hack/lib/target.sh"
# shellcheck source=hack/lib/plane.sh
source "$ROOT/hack/lib/plane.sh"
# shellcheck source=hack/lib/demo.sh
source "$ROOT/hack/lib/demo.sh"
NAMESPACE=floe-demo

cd "$ROOT"
target_choose
case $TARGET in
  own) title "Your own cluster (KUBECONFIG)" ;;
  node) title "A real one-node cluster (kubelet, containerd, runc)" ;;
  plane)
    title "A control plane without nodes"
    echo "Without root on Linux or a KUBECONFIG, no container can run. The demo shows the pod as the API server"
    echo "admitted it, but not what its container prints. To see that too, run as root or set KUBECONFIG."
    ;;
esac

was_up=no
cleanup() {
  local status=$?
  if [ "${KEEP:-0}" = 1 ]; then
    echo "everything is kept (KEEP=1)"
    return
  fi
  title "Cleaning up"
  case $TARGET in
    plane) plane_stop ;;
    own) k delete namespace "$NAMESPACE" --ignore-not-found --wait=false && "$ROOT/hack/install.sh" remove >/dev/null ;;
    node)
      if [ "$was_up" = yes ]; then
        k delete namespace "$NAMESPACE" --ignore-not-found --wait=false
      else
        "$ROOT/hack/cluster/cluster.sh" down
      fi
      ;;
  esac
  [ "$status" = 0 ] || echo "the demo failed" >&2
}
trap cleanup EXIT

case $TARGET in
  plane) plane_start ;;
  *)
    was_up=$(node_was_up)
    "$ROOT/hack/install.sh"
    ;;
esac

demo_namespace

title "1. The manifest: a Job that names a secret"
manifest job.yaml
title "2. kubectl apply"
show apply -f hack/demo/secret.yaml
apply_manifest job.yaml

title "3. The pod, as the API server admitted it"
show_pod nightly-load

if [ "$TARGET" != plane ]; then
  title "4. The variables of the container (values masked)"
  wait_until 60 "the Job to complete" finished nightly-load
  show logs job/nightly-load
fi

title "5. A Job whose secret does not exist"
apply_manifest late-job.yaml
refusal() {
  k -n "$NAMESPACE" get events --field-selector involvedObject.name=late-load,reason=FailedCreate \
    -o jsonpath='{range .items[*]}{.message}{"\n"}{end}' | grep -m1 .
}
wait_until 30 "the refusal in the Job's events" refusal
echo "The Job has no pod. Its events have the reason:"
printf '  \033[33m%s\033[0m\n' "$(refusal)"

title "6. The secret is created, and the Job recovers by itself"
show apply -f hack/demo/late-secret.yaml
started=$SECONDS
wait_until 90 "the Job's pod" pod_of late-load
echo "The Job's pod was created $((SECONDS - started)) s after its secret."
if [ "$TARGET" != plane ]; then
  wait_until 60 "the Job to complete" finished late-load
  show logs job/late-load
fi

title "7. The audit trail: who asked for the secret"
trail_of snowflake-credentials

title "Done in $SECONDS s"
