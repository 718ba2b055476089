# The one-node cluster loses its power: every process ends at once, keys and data stay. Sourced; needs ROOT, target.sh,
# image.sh, demo.sh and NAMESPACE, with the webhook installed.
# shellcheck shell=bash
# shellcheck disable=SC2153 # NAMESPACE is the sourcing script's

# A pod that asks for nothing, as far as the API server: plain_pod NAMESPACE
plain_pod() {
    k -n "$1" create --dry-run=server -o name -f - <<X
apiVersion: v1
kind: Pod
metadata: {name: plain}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: main
      image: $(target_busybox)
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
X
}

# What a pod that asks gets, as far as the API server.
asked_for() {
    manifest stream-pod.yaml | k -n "$NAMESPACE" create --dry-run=server -f - \
        -o jsonpath='{.spec.containers[0].envFrom[0].secretRef.name}' 2>&1
}

injects() { [ "$(asked_for)" = snowflake-credentials ]; }

# Cuts it, with the Secret of the demo in NAMESPACE, and waits until all is back.
power_cut() {
    local place answer since
    wait_until 30 "a pod to get its secret" injects
    "$ROOT/hack/cluster/cluster.sh" down --keep
    "$ROOT/hack/cluster/cluster.sh" up
    since=$SECONDS
    # Nothing of ours runs yet, or only just: what the cluster itself needs must not wait for it.
    for place in kube-system floe-secrets-webhook default; do plain_pod "$place"; done
    # Never without its secret: refused, by a sentence that names the webhook, or injected.
    answer=$(asked_for) || true
    case $answer in
        snowflake-credentials | *"failed calling webhook"*) echo "right after the start: $answer" ;;
        *) echo "power cut: a pod that asks was answered: $answer" >&2; return 1 ;;
    esac
    wait_until 180 "a pod to get its secret again" injects
    rolled_out floe-secrets-webhook
    echo "after a power cut everything is back by itself, $((SECONDS - since)) s after the API server and the node"
}
