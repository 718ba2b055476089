#!/usr/bin/env bash
# Demo of the chart on a cluster that runs containers: install, test, use, the audit trail, upgrade under a stream of
# creates, uninstall.
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

# Creates a volume on the one-node cluster, and prints values for what that cluster lacks: it has no StorageClass, no DNS
# and no kube-proxy. The name of the collector becomes an address of the node, which forward_collector forwards.
node_values() {
  "$ROOT/hack/cluster/cluster.sh" enter install -d -o 65532 -g 65532 "$NODE_FOLDER"
  k delete persistentvolume floe-audit --ignore-not-found >&2
  k apply -f - >&2 <<X
apiVersion: v1
kind: PersistentVolume
metadata: {name: floe-audit}
spec:
  capacity: {storage: 5Gi}
  accessModes: [ReadWriteOnce]
  claimRef: {name: $RELEASE-audit, namespace: $OURS}
  hostPath: {path: $NODE_FOLDER}
X
  echo "hostAliases: [{ip: $NODE_ADDRESS, hostnames: [$RELEASE-admin.$OURS.svc]}]"
}

# Forwards connections from an address of the node to the pod of admin, one pod after the other.
forward_collector() {
  local forward
  trap 'kill "$forward" 2>/dev/null; exit' TERM
  while true; do
    "$ROOT/hack/cluster/kubectl" -n "$OURS" port-forward --address "$NODE_ADDRESS" "deployment/$RELEASE-admin" 9444:9444 &
    forward=$!
    wait "$forward" || sleep 0.5
  done >/dev/null 2>&1
}

# Runs the program in the pod of admin, on its store: trail COMMAND ARGUMENTS…
trail() {
  k -n "$OURS" exec "deployment/$RELEASE-admin" -- floe-secrets-webhook audit "$1" --store /var/lib/floe-audit/audit.db \
    "${@:2}"
}

# Whether the admission of each pod of the demo is stored once, and the trail is intact.
trail_is_complete() {
  local uid lines
  lines=$(trail export) || return 1
  for uid in $(k -n "$NAMESPACE" get pods -o jsonpath='{.items[*].metadata.annotations.audit\.floe\.dev/event}'); do
    [ "$(grep -c "^{\"action\":\"pod.admit\".*\"outcome\":\"success\".*\"admission_uid\":\"$uid\"" <<<"$lines")" = 1 ] ||
      return 1
  done
  k -n "$OURS" exec -i "deployment/$RELEASE-admin" -- floe-secrets-webhook audit verify <<<"$lines"
}

cd "$ROOT"
NODE_ADDRESS=$(sed -n 's/^NODE_IP=//p' hack/cluster/lib/common.sh)
NODE_FOLDER=/var/lib/floe-audit
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
forwarding=""
stop_forwarding() {
  [ -z "$forwarding" ] || kill "$forwarding" 2>/dev/null || true
  forwarding=""
}
cleanup() {
  local status=$?
  stop_streams
  stop_forwarding
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
  if [ "$TARGET" = node ]; then
    k delete persistentvolume floe-audit --ignore-not-found --wait=false
    "$ROOT/hack/cluster/cluster.sh" enter rm -rf "$NODE_FOLDER"
  fi
}
trap cleanup EXIT

cluster_up
image=$(image)

title "1. A namespace that admits only restricted pods"
k apply -f manifests/webhook/namespace.yaml
if [ "$TLS_MODE" = existing ]; then ca=$(certificate "$OURS"); fi

title "2. helm install: two replicas and admin, as real restricted pods"
values=$(mktemp)
cat >"$values" <<X
image:
  repository: ${image%:*}
  tag: ${image##*:}
tls:
  mode: $TLS_MODE
audit:
  output: stdout
networkPolicy:
  podCIDRs: [$(ranges=$(pod_cidrs) && echo "${ranges// /, }")]
X
if [ "$TARGET" = node ]; then
  node_values >>"$values"
  forward_collector &
  forwarding=$!
fi
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

title "4a. The audit trail: who asked for the secret"
wait_until 60 "the record of each pod" trail_is_complete
trail query --secret "$NAMESPACE/snowflake-credentials"

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
  --set-string podAnnotations.demo/upgraded=yes --set-string admin.podAnnotations.demo/upgraded=yes --wait --timeout 3m >/dev/null
# Old replicas still complete the requests that they accepted.
old_gone() { [ -z "$(k -n "$OURS" get pods -o jsonpath='{.items[*].metadata.deletionTimestamp}')" ]; }
wait_until 90 "the old replicas to be gone" old_gone
stop_streams
NAMESPACE=$OURS show get pods
echo "creates meanwhile: $(wc -l <"$answers"), of which not injected: $(grep -vc '^yes$' "$answers" || true)"
if grep -v '^yes$' "$answers" >&2; then exit 1; fi
wait_until 60 "the record of each pod, in the same store" trail_is_complete

# Never on a user's own cluster.
if [ "$TARGET" = node ]; then
  title "5a. The node loses its power"
  power_cut
  wait_until 120 "the record of each pod, in the same store" trail_is_complete
fi

title "6. helm uninstall"
helm uninstall "$RELEASE" -n "$OURS" --wait
stop_forwarding
# The certificate that this script created.
if [ "$TLS_MODE" = existing ]; then k -n "$OURS" delete secret floe-secrets-webhook-tls floe-secrets-webhook-admin-tls; fi
claim_left() { [ "$(ours)" = "$OURS PersistentVolumeClaim $RELEASE-audit" ]; }
wait_until 60 "all objects of the installation to be deleted, except the history" claim_left || {
  ours >&2
  exit 1
}
NAMESPACE=$OURS show delete persistentvolumeclaim "$RELEASE-audit"
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
