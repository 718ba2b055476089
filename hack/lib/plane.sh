# Control plane without nodes, with the webhook and `admin` as processes beside it. Sourced by demo.sh; needs ROOT and
# target.sh.
# shellcheck shell=bash

plane_start() {
  local target=${CARGO_TARGET_DIR:-$ROOT/target} profile=${PROFILE:-optimized} port=18443 index ca patch="" paths
  local dir=$target/plane
  mkdir -p "$dir"
  echo "building (the first time usually 10 to 15 minutes, mostly for the API server)"
  (cd "$ROOT" && cargo build --profile "$profile" --locked && cargo build --example control_plane --locked) >&2
  rm -f "$dir/in" "$dir/out"
  mkfifo "$dir/in"
  : >"$dir/out"
  "$target/debug/examples/control_plane" <"$dir/in" >"$dir/out" &
  PLANE_PID=$!
  # The control plane runs as long as this descriptor is open. It stops with this script, even if that is killed.
  exec 7>"$dir/in"
  wait_until 900 "the control plane" grep -q kubectl "$dir/out"
  PLANE_KUBECONFIG=$(sed -n 1p "$dir/out")
  KUBECTL=$(sed -n 2p "$dir/out")
  export PLANE_KUBECONFIG KUBECTL

  "$ROOT/hack/certs.sh" "$dir" IP:127.0.0.1
  PROGRAM=$target/${profile/#dev/debug}/floe-secrets-webhook
  PLANE_STORE=$dir/audit.db
  export PROGRAM PLANE_STORE
  k apply -f "$ROOT/manifests/webhook/namespace.yaml" -f "$ROOT/manifests/webhook/rbac.yaml" >&2
  plane_admin "$dir"
  # Only this machine can reach the port.
  "$PROGRAM" serve --kubeconfig "$PLANE_KUBECONFIG" --tls-cert "$dir/tls.crt" --tls-key "$dir/tls.key" \
    --listen 127.0.0.1:$port --ops-listen 127.0.0.1:18080 --shutdown-delay 0s --trusted-callers=true --audit stdout \
    --audit-collector https://127.0.0.1:19444 --audit-collector-ca "$dir/ca.crt" --audit-token "$dir/audit-token" \
    --audit-spool "$dir/spool" --pod-name "$PLANE_POD" --pod-uid "$PLANE_UID" >"$dir/webhook.log" 2>&1 &
  PLANE_WEBHOOK_PID=$!
  wait_until 30 "the webhook (its log: $dir/webhook.log)" grep -q '"serving"' "$dir/webhook.log"
  k apply -f "$ROOT/manifests/webhook/mutatingwebhookconfiguration.yaml" >&2
  ca=$(base64 -w0 <"$dir/ca.crt")
  read -ra paths < <(k get mutatingwebhookconfiguration zz-floe-secrets-webhook \
    -o jsonpath='{.webhooks[*].clientConfig.service.path}' && echo)
  for index in "${!paths[@]}"; do
    patch+=${patch:+,}'{"op":"replace","path":"/webhooks/'$index'/clientConfig","value":{"url":"https://127.0.0.1:'
    patch+=$port${paths[index]}'","caBundle":"'$ca'"}}'
  done
  k patch mutatingwebhookconfiguration zz-floe-secrets-webhook --type=json -p "[$patch]" >&2
}

# Starts `admin` with an empty store, and creates what the kubelet gives to a pod of the webhook: its name, its uid and its
# token for the audit trail. No pod runs: plane_admin DIR
plane_admin() {
  local dir=$1 namespace=floe-secrets-webhook account=floe-secrets-webhook
  rm -rf "$PLANE_STORE"* "$dir/spool"
  "$PROGRAM" admin --kubeconfig "$PLANE_KUBECONFIG" --tls-cert "$dir/tls.crt" --tls-key "$dir/tls.key" \
    --collector-listen 127.0.0.1:19444 --ops-listen 127.0.0.1:19080 --shutdown-delay 0s --store "$PLANE_STORE" \
    --own-namespace $namespace --senders $namespace/$account >"$dir/admin.log" 2>&1 &
  PLANE_ADMIN_PID=$!
  PLANE_POD=demo-replica
  k -n $namespace apply -f - >&2 <<EOF
apiVersion: v1
kind: Pod
metadata: {name: $PLANE_POD}
spec:
  serviceAccountName: $account
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: webhook
      image: none
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
EOF
  PLANE_UID=$(k -n $namespace get pod "$PLANE_POD" -o jsonpath='{.metadata.uid}')
  (
    umask 077
    k -n $namespace create token $account --audience floe-secrets-audit --bound-object-kind Pod \
      --bound-object-name "$PLANE_POD" --bound-object-uid "$PLANE_UID" >"$dir/audit-token"
  )
}

plane_stop() {
  local pid
  for pid in "${PLANE_WEBHOOK_PID:-}" "${PLANE_ADMIN_PID:-}"; do
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
  done
  exec 7>&-
  [ -z "${PLANE_PID:-}" ] || wait "$PLANE_PID" 2>/dev/null || true
}
