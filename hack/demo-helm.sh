#!/usr/bin/env bash
# Demo of the chart on a cluster that runs containers: install, test, use, upgrade under a stream of creates, uninstall.
# The cluster is that of KUBECONFIG, or else the one-node cluster of hack/cluster, which the script starts (Linux, root).
# TLS_MODE is the chart's tls.mode: self-managed, or existing, with a certificate that this script creates.
# PROFILE is a cargo profile other than optimized. IMAGE is an image that the cluster can pull, instead of a built one.
# POD_CIDRS are the address ranges of the cluster's pods, if the script cannot determine them (hack/lib/callers.sh).
# KEEP=1 keeps everything at the end.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=hack/lib/target.sh
source "$ROOT/hack/lib/target.sh"
# shellcheck source=hack/lib/image.sh
source "$ROOT/hack/lib/image.sh"
# shellcheck source=hack/lib/callers.sh
source "$ROOT/hack/lib/callers.sh"
# shellcheck source=hack/lib/demo.sh
source "$ROOT/hack/lib/demo.sh"
# shellcheck source=hack/lib/power-cut.sh
source "$ROOT/hack/lib/power-cut.sh"
NAMESPACE=floe-demo
RELEASE=floe-secrets-webhook
OURS=floe-secrets-webhook
TLS_MODE=${TLS_MODE:-self-managed}
case $TLS_MODE in
  self-managed | existing) ;;
  *)
    echo "demo-helm: TLS_MODE must be self-managed or existing" >&2
    exit 2
    ;;
esac

helm() {
  printf '\033[2m$ helm %s\033[0m\n' "$*" >&2
  case $TARGET in
    node) "$ROOT/hack/cluster/cluster.sh" exec "$HELM" "$@" ;;
    own) "$HELM" "$@" ;;
  esac
}

# Runs our program with the cluster's kubeconfig, unless IMAGE is set: then no program was built.
doctor() {
  local profile=${PROFILE:-optimized} program
  program=${CARGO_TARGET_DIR:-$ROOT/target}/${profile/#dev/debug}/floe-secrets-webhook
  if [ -n "${IMAGE:-}" ]; then return; fi
  printf '\033[2m$ floe-secrets-webhook doctor\033[0m\n'
  case $TARGET in
    node) "$ROOT/hack/cluster/cluster.sh" exec "$program" doctor ;;
    own) "$program" doctor ;;
  esac
}

# Lists the objects in the cluster that the installation created, except namespaces and events.
ours() {
  local kinds
  kinds=$(k api-resources --verbs=list -o name | grep -v '^events' | paste -sd,)
  k get "$kinds" -A --no-headers --ignore-not-found \
    -o custom-columns=NS:.metadata.namespace,KIND:.kind,NAME:.metadata.name |
    awk -v ns="$OURS" '($1 == ns || $3 ~ /floe-secrets/) && $3 != "kube-root-ca.crt" && $3 != "default" &&
            $2 != "Namespace" { print $1, $2, $3 }'
}

cd "$ROOT"
target_choose
if [ "$TARGET" = plane ]; then
  echo "demo-helm: this needs a cluster that runs containers: set KUBECONFIG, or run as root on Linux" >&2
  exit 3
fi
HELM=$("$ROOT/hack/tools/tools.sh" path helm)
was_up=$(node_was_up)
streams=()
stop_streams() {
  [ ${#streams[@]} -gt 0 ] || return 0
  kill "${streams[@]}" 2>/dev/null || true
  wait "${streams[@]}" 2>/dev/null || true
  streams=()
}
cleanup() {
  local status=$?
  stop_streams
  [ "$status" = 0 ] || echo "the demo failed" >&2
  if [ "${KEEP:-0}" = 1 ]; then
    echo "everything is kept (KEEP=1)"
    return
  fi
  title "Cleaning up"
  if [ "$TARGET" = node ] && [ "$was_up" = no ]; then
    "$ROOT/hack/cluster/cluster.sh" down
    return
  fi
  if helm status "$RELEASE" -n "$OURS" >/dev/null 2>&1; then helm uninstall "$RELEASE" -n "$OURS" --wait; fi
  k delete namespace "$NAMESPACE" "$OURS" --ignore-not-found --wait=false
}
trap cleanup EXIT

cluster_up
image=$(image)

title "1. A namespace that admits only restricted pods"
k apply -f manifests/webhook/namespace.yaml
if [ "$TLS_MODE" = existing ]; then ca=$(certificate "$OURS"); fi

title "2. helm install: two replicas, as real restricted pods"
values=$(mktemp)
cat >"$values" <<X
image:
  repository: ${image%:*}
  tag: ${image##*:}
tls:
  mode: $TLS_MODE
networkPolicy:
  podCIDRs: [$(ranges=$(pod_cidrs) && echo "${ranges// /, }")]
X
helm install "$RELEASE" charts/floe-secrets-webhook -n "$OURS" --values "$values" --wait --timeout 3m
if [ "$TLS_MODE" = existing ]; then trust "$ca"; fi
NAMESPACE=$OURS show get pods -o wide

title "3. helm test: a pod asks for a secret and gets it"
helm test "$RELEASE" -n "$OURS" --timeout 2m

title "3a. doctor: checks of the installation from outside"
doctor

title "4. A Job's container sees its variables (values masked)"
demo_namespace
show apply -f hack/demo/secret.yaml
apply_manifest job.yaml
show_pod nightly-load
wait_until 60 "the Job to complete" finished nightly-load
show logs job/nightly-load

title "5. helm upgrade under a stream of creates"
# Dry runs are sent to the webhook like other creates. Prints a line for each: yes, or no with the refusal. The refusal
# is empty if the pod was admitted without its secrets.
stream() {
  local answer
  while true; do
    answer=$(manifest stream-pod.yaml | k -n "$NAMESPACE" create --dry-run=server -f - \
      -o jsonpath='{.spec.containers[0].envFrom[0].secretRef.name}' 2>&1) || answer="refused: $answer"
    case $answer in
      snowflake-credentials) echo yes ;;
      *) echo "no: $answer" ;;
    esac
  done
}
answers=$(mktemp)
for _ in 1 2 3; do
  stream >>"$answers" 2>&1 &
  streams+=($!)
done
helm upgrade "$RELEASE" charts/floe-secrets-webhook -n "$OURS" --values "$values" --set replicas=3 \
  --set-string podAnnotations.demo/upgraded=yes --wait --timeout 3m >/dev/null
# Old replicas still complete the requests that they accepted.
old_gone() { [ -z "$(k -n "$OURS" get pods -o jsonpath='{.items[*].metadata.deletionTimestamp}')" ]; }
wait_until 90 "the old replicas to be gone" old_gone
stop_streams
NAMESPACE=$OURS show get pods
echo "creates meanwhile: $(wc -l <"$answers"), of which not injected: $(grep -vc '^yes$' "$answers" || true)"
if grep -v '^yes$' "$answers" >&2; then exit 1; fi

# Never on a user's own cluster.
if [ "$TARGET" = node ]; then
  title "5a. The node loses its power"
  power_cut
fi

title "6. helm uninstall"
helm uninstall "$RELEASE" -n "$OURS" --wait
# The certificate that this script created.
if [ "$TLS_MODE" = existing ]; then k -n "$OURS" delete secret floe-secrets-webhook-tls; fi
nothing_left() { [ -z "$(ours)" ]; }
wait_until 60 "all objects of the installation to be deleted" nothing_left || {
  ours >&2
  exit 1
}
echo "no object of the installation is left in the cluster"
show get pod -l job-name=nightly-load -o jsonpath='existing pods keep their secrets: {.items[0].spec.containers[0].envFrom}{"\n"}'
manifest stream-pod.yaml | k -n "$NAMESPACE" create --dry-run=server -f - -o name
rm -f "$values" "$answers"

title "Done in $SECONDS s"
