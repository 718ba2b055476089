# Image of the webhook of this checkout, on the cluster's nodes. Sourced; needs ROOT and target.sh.
# PROFILE is a cargo profile other than optimized. IMAGE is an image that the cluster can pull, instead of a built one.
# shellcheck shell=bash

say() { printf '[%4d s] %s\n' "$SECONDS" "$*" >&2; }

# Builds the image, imports it on the cluster's nodes and prints its name.
image() {
  local profile=${PROFILE:-optimized} folder name tar context binary
  folder=${CARGO_TARGET_DIR:-$ROOT/target}
  # The target folder has the profile's name, except that of `dev`, which is `debug`.
  binary=$folder/${profile/#dev/debug}/floe-secrets-webhook
  if [ -n "${IMAGE:-}" ]; then
    echo "$IMAGE"
    return
  fi
  say "building the binary, profile $profile (the first time usually 4 to 10 minutes, then seconds)"
  (cd "$ROOT" && cargo build --profile "$profile" --locked >&2)
  # Tagged by content, so that a changed binary restarts the pods and an unchanged one is not imported again.
  name=localhost/floe-secrets-webhook:$(sha256sum "$binary" | cut -c1-12)
  tar=$folder/image.tar
  say "building the image $name"
  "$ROOT/hack/cluster/images.sh" webhook "$binary" "$tar" "$name" >&2
  case $TARGET in
    node) "$ROOT/hack/cluster/cluster.sh" load "$tar" >&2 ;;
    own)
      context=$(k config current-context)
      case $context in
        kind-*) kind load image-archive "$tar" --name "${context#kind-}" >&2 ;;
        k3d-*) k3d image import "$tar" --cluster "${context#k3d-}" >&2 ;;
        minikube) minikube image load "$tar" >&2 ;;
        *)
          echo "install: context $context is not a kind, k3d or minikube cluster. Push an image of the webhook" >&2
          echo "to a registry that its nodes can reach, and set IMAGE=registry/name:tag." >&2
          return 1
          ;;
      esac
      ;;
  esac
  echo "$name"
}

# Starts the one-node cluster if it is the target.
cluster_up() {
  if [ "$TARGET" = node ]; then
    say "starting the one-node cluster (building it the first time usually takes 10 to 15 minutes)"
    "$ROOT/hack/cluster/cluster.sh" up >&2
  fi
}

# Creates a certificate in the Secrets that the webhook and `admin` mount, if there is none, and prints the path of its
# CA: certificate NAMESPACE
certificate() {
  local namespace=$1 certs=${CARGO_TARGET_DIR:-$ROOT/target}/certs name=floe-secrets-webhook
  if ! k -n "$namespace" get secret $name-tls $name-admin-tls >/dev/null 2>&1 || [ ! -e "$certs/ca.crt" ]; then
    "$ROOT/hack/certs.sh" "$certs" "$name.$namespace.svc" "$name-admin.$namespace.svc"
    k -n "$namespace" create secret tls $name-tls --cert "$certs/tls.crt" --key "$certs/tls.key" \
      --dry-run=client -o yaml | k apply -f - >&2
    k -n "$namespace" create secret generic $name-admin-tls --from-file "$certs/tls.crt" --from-file "$certs/tls.key" \
      --from-file "$certs/ca.crt" --dry-run=client -o yaml | k apply -f - >&2
  fi
  echo "$certs/ca.crt"
}

# Writes the CA into the webhook configuration: trust CA-FILE. The manifests and the chart have no caBundle: an empty one
# would conflict with the issuer of the certificate.
trust() {
  local ca index count patch="" configuration=zz-floe-secrets-webhook
  ca=$(base64 -w0 <"$1")
  count=$(k get mutatingwebhookconfiguration "$configuration" -o jsonpath='{.webhooks[*].name}' | wc -w)
  for ((index = 0; index < count; index++)); do
    patch+=${patch:+,}'{"op":"add","path":"/webhooks/'$index'/clientConfig/caBundle","value":"'$ca'"}'
  done
  k patch mutatingwebhookconfiguration "$configuration" --type=json -p "[$patch]" >&2
}

# Waits until both Deployments are rolled out: rolled_out NAMESPACE
rolled_out() {
  local deployment
  for deployment in floe-secrets-webhook floe-secrets-controller; do
    k -n "$1" rollout status "deployment/$deployment" --timeout=120s >&2
  done
}
