#!/usr/bin/env bash
# Installs the webhook of this checkout on a cluster with the plain manifests: hack/install.sh [remove]
# PROFILE is a cargo profile other than optimized. IMAGE is an image that the cluster can pull, instead of a built one.
# POD_CIDRS are the address ranges of the cluster's pods, if the script cannot determine them (hack/lib/callers.sh).
# The cluster is that of KUBECONFIG, or else the one-node cluster of hack/cluster, which the script starts (Linux, root).
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=hack/lib/target.sh
source "$ROOT/hack/lib/target.sh"
# shellcheck source=hack/lib/image.sh
source "$ROOT/hack/lib/image.sh"
# shellcheck source=hack/lib/callers.sh
source "$ROOT/hack/lib/callers.sh"
NAMESPACE=floe-secrets-webhook

remove() {
  k delete mutatingwebhookconfiguration zz-floe-secrets-webhook --ignore-not-found
  k kustomize "$ROOT/manifests/webhook" | k delete --ignore-not-found -f -
}

install() {
  local image ca ranges
  cluster_up
  image=$(image)
  say "installing the webhook"
  k apply -f "$ROOT/manifests/webhook/namespace.yaml" >&2
  ca=$(certificate "$NAMESPACE")
  ranges=$(pod_cidrs)
  tell_callers "$ranges"
  manifests_for "$ranges" |
    sed "s|image: floe-secrets-webhook:.*|image: $image|" | k apply -f - >&2
  trust "$ca"
  rolled_out "$NAMESPACE"
  say "the webhook is ready"
}

target_choose
if [ "$TARGET" = plane ]; then
  echo "install: this needs a cluster that runs containers: set KUBECONFIG, or run as root on Linux" >&2
  exit 3
fi
case ${1:-} in
  "") install ;;
  remove) remove ;;
  *)
    echo "usage: hack/install.sh [remove]" >&2
    exit 2
    ;;
esac
