# Power cut of the one-node cluster: every process stops at once, keys and data are kept. Sourced; needs ROOT, target.sh,
# image.sh, demo.sh and NAMESPACE, with the webhook installed.
# shellcheck shell=bash
# shellcheck disable=SC2153 # NAMESPACE is the sourcing script's

# Creates a pod that asks for no secret, as a dry run: plain_pod NAMESPACE
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

# Creates a pod that asks for a secret, as a dry run, and prints the injected secret or the refusal.
asked_for() {
  manifest stream-pod.yaml | k -n "$NAMESPACE" create --dry-run=server -f - \
    -o jsonpath='{.spec.containers[0].envFrom[0].secretRef.name}' 2>&1
}

injects() { [ "$(asked_for)" = snowflake-credentials ]; }

# Cuts the power, with the Secret of the demo in NAMESPACE, and waits until everything is ready again.
power_cut() {
  local place answer since
  wait_until 30 "a pod to get its secret" injects
  "$ROOT/hack/cluster/cluster.sh" down --keep
  "$ROOT/hack/cluster/cluster.sh" up
  since=$SECONDS
  # The webhook does not run yet, or has just started: pods that the cluster itself needs must not wait for it.
  for place in kube-system floe-secrets-webhook default; do plain_pod "$place"; done
  # Refused, with a message that names the webhook, or injected; never admitted without its secret.
  answer=$(asked_for) || true
  case $answer in
    snowflake-credentials | *"failed calling webhook"*) echo "directly after the start: $answer" ;;
    *)
      echo "power cut: unexpected response for a pod that asks for a secret: $answer" >&2
      return 1
      ;;
  esac
  wait_until 180 "a pod to get its secret again" injects
  rolled_out floe-secrets-webhook
  echo "everything recovered by itself, $((SECONDS - since)) s after the API server and the node were ready"
}
