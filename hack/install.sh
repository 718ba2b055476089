#!/usr/bin/env bash
# Installs the webhook of this checkout on a cluster by the plain manifests: hack/install.sh [remove]
# PROFILE names another cargo profile than release; IMAGE an image that the cluster can pull instead of ours.
# The cluster: KUBECONFIG's, else the one-node cluster of hack/cluster, which it starts (Linux and root).
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=hack/lib/target.sh
source "$ROOT/hack/lib/target.sh"
NAMESPACE=floe-secrets-webhook
CONFIGURATION=zz-floe-secrets-webhook

say() { printf '[%4d s] %s\n' "$SECONDS" "$*" >&2; }

remove() {
    k delete mutatingwebhookconfiguration "$CONFIGURATION" --ignore-not-found
    k kustomize "$ROOT/manifests/webhook" | k delete --ignore-not-found -f -
}

# Builds the image, brings it to the cluster's nodes and prints its name.
image() {
    local profile=${PROFILE:-release} folder name tar context binary
    folder=${CARGO_TARGET_DIR:-$ROOT/target}
    # Cargo's one exception: the profile `dev` builds into `debug`.
    binary=$folder/${profile/#dev/debug}/floe-secrets-webhook
    if [ -n "${IMAGE:-}" ]; then
        echo "$IMAGE"
        return
    fi
    say "building the binary, profile $profile (the first time usually 4 to 10 minutes, then seconds)"
    (cd "$ROOT" && cargo build --profile "$profile" --locked >&2)
    # By content, so that a changed binary rolls the pods and an unchanged one is not imported again.
    name=localhost/floe-secrets-webhook:$(sha256sum "$binary" | cut -c1-12)
    tar=$folder/image.tar
    say "making the image $name"
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
                    echo "install: context $context is neither kind, k3d nor minikube. Push an image of the webhook" >&2
                    echo "to a registry that its nodes reach and say IMAGE=registry/name:tag." >&2
                    return 1
                    ;;
            esac
            ;;
    esac
    echo "$name"
}

install() {
    local image certs=${CARGO_TARGET_DIR:-$ROOT/target}/certs ca index count patch=""
    if [ "$TARGET" = node ]; then
        say "starting the one-node cluster (building it the first time usually takes 10 to 15 minutes)"
        "$ROOT/hack/cluster/cluster.sh" up >&2
    fi
    image=$(image)
    say "installing the webhook"
    k apply -f "$ROOT/manifests/webhook/namespace.yaml" >&2
    if ! k -n "$NAMESPACE" get secret floe-secrets-webhook-tls >/dev/null 2>&1 || [ ! -e "$certs/ca.crt" ]; then
        "$ROOT/hack/certs.sh" "$certs" "$NAMESPACE.$NAMESPACE.svc"
        k -n "$NAMESPACE" create secret tls floe-secrets-webhook-tls --cert "$certs/tls.crt" --key "$certs/tls.key" \
            --dry-run=client -o yaml | k apply -f - >&2
    fi
    k kustomize "$ROOT/manifests/webhook" |
        sed "s|image: floe-secrets-webhook:.*|image: $image|" | k apply -f - >&2
    # The manifests carry no CA: an empty one would be fought over by whoever issues the certificate.
    ca=$(base64 -w0 <"$certs/ca.crt")
    count=$(k get mutatingwebhookconfiguration "$CONFIGURATION" -o jsonpath='{.webhooks[*].name}' | wc -w)
    for ((index = 0; index < count; index++)); do
        patch+=${patch:+,}'{"op":"add","path":"/webhooks/'$index'/clientConfig/caBundle","value":"'$ca'"}'
    done
    k patch mutatingwebhookconfiguration "$CONFIGURATION" --type=json -p "[$patch]" >&2
    k -n "$NAMESPACE" rollout status deployment/floe-secrets-webhook --timeout=120s >&2
    k -n "$NAMESPACE" rollout status deployment/floe-secrets-controller --timeout=120s >&2
    say "the webhook serves"
}

target_choose
if [ "$TARGET" = plane ]; then
    echo "install: needs a cluster that runs containers: set KUBECONFIG, or be root on Linux" >&2
    exit 3
fi
case ${1:-} in
    "") install ;;
    remove) remove ;;
    *) echo "usage: hack/install.sh [remove]" >&2; exit 2 ;;
esac
