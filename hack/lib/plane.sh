# Control plane without nodes, with the webhook as a process beside it. Sourced by demo.sh; needs ROOT and target.sh.
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
  # Only this machine can reach the port.
  "$target/${profile/#dev/debug}/floe-secrets-webhook" serve --kubeconfig "$PLANE_KUBECONFIG" --tls-cert "$dir/tls.crt" \
    --tls-key "$dir/tls.key" --listen 127.0.0.1:$port --ops-listen 127.0.0.1:18080 --shutdown-delay 0s \
    --trusted-callers=true >"$dir/webhook.log" 2>&1 &
  PLANE_WEBHOOK_PID=$!
  wait_until 30 "the webhook (its log: $dir/webhook.log)" grep -q '"serving"' "$dir/webhook.log"
  k apply -f "$ROOT/manifests/webhook/namespace.yaml" >&2
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

plane_stop() {
  [ -z "${PLANE_WEBHOOK_PID:-}" ] || kill "$PLANE_WEBHOOK_PID" 2>/dev/null || true
  exec 7>&-
  [ -z "${PLANE_PID:-}" ] || wait "$PLANE_PID" 2>/dev/null || true
}
