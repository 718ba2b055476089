# Callers that may reach the webhook's port on the scripts' target cluster. Sourced; needs ROOT and target.sh.
# POD_CIDRS are the address ranges of the cluster's pods, separated by spaces or commas, if they cannot be determined.
# shellcheck shell=bash

# Prints the address ranges of the cluster's pods in one line: POD_CIDRS, or those of the only node if all pods have
# addresses in them, because not every network uses the node's ranges. Prints nothing if the ranges are not known, or if
# there are several nodes: an API server may then call pods of another node from the address of its node's tunnel, which
# is in the pods' range. Connections from a pod's own node are always admitted.
pod_cidrs() {
  local nodes ranges
  if [ -n "${POD_CIDRS:-}" ]; then
    echo "${POD_CIDRS//,/ }"
    return
  fi
  if [ "$TARGET" = node ]; then
    sed -n 's/^POD_RANGE=//p' "$ROOT/hack/cluster/lib/common.sh"
    return
  fi
  nodes=$(k get nodes -o jsonpath='{range .items[*]}{.spec.podCIDRs[*]}{"\n"}{end}')
  [ "$(wc -l <<<"$nodes")" = 1 ] || return 0
  ranges=$(xargs <<<"$nodes")
  if [ -n "$ranges" ] && pod_addresses | all_in "$ranges"; then echo "$ranges"; fi
}

# Prints the addresses of all pods that are not in the nodes' network.
pod_addresses() {
  k get pods --all-namespaces -o jsonpath='{range .items[*]}{.spec.hostNetwork}{" "}{.status.podIPs[*].ip}{"\n"}{end}' |
    awk '$1 != "true" { for (field = 1; field <= NF; field++) print $field }'
}

# Succeeds if there are addresses on stdin and all of them are in the ranges: all_in RANGES
all_in() {
  python3 -c '
import ipaddress, sys
ranges = [ipaddress.ip_network(text, strict=False) for text in sys.argv[1].split()]
addresses = [ipaddress.ip_address(line.strip()) for line in sys.stdin if line.strip()]
sys.exit(not (addresses and all(any(address in each for each in ranges) for address in addresses)))' "$1"
}

# Prints the IPv4 or the IPv6 ranges as a YAML list: ranges_of 4|6 RANGES
ranges_of() {
  local range list=""
  for range in $2; do
    case $range in *:*) [ "$1" = 6 ] || continue ;; *) [ "$1" = 4 ] || continue ;; esac
    list+=${list:+, }\"$range\"
  done
  echo "[$list]"
}

# Prints NetworkPolicy peers that exclude the ranges, as a YAML list: peers RANGES
peers() {
  local four six list=""
  four=$(ranges_of 4 "$1")
  six=$(ranges_of 6 "$1")
  if [ "$four" != "[]" ]; then list="{ipBlock: {cidr: 0.0.0.0/0, except: $four}}"; fi
  if [ "$six" != "[]" ]; then list+="${list:+, }{ipBlock: {cidr: \"::/0\", except: $six}}"; fi
  echo "[$list]"
}

# Prints the plain manifests, with the port closed to pods if their ranges are known: manifests_for RANGES
manifests_for() {
  local folder
  if [ -z "$1" ]; then
    k kustomize "$ROOT/manifests/webhook"
    return
  fi
  folder=$(mktemp -d)
  # The path of a base must be relative. The parent of / is / itself, so surplus .. have no effect.
  cat >"$folder/kustomization.yaml" <<X
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: ["../../../../../../../../../../../../..$ROOT/manifests/webhook"]
patches:
  - target: {kind: NetworkPolicy, name: floe-secrets-webhook}
    patch: |
      - op: add
        path: /spec/ingress/0/from
        value: $(peers "$1")
  - target: {kind: Deployment, name: floe-secrets-webhook}
    patch: |
      - op: test
        path: /spec/template/spec/containers/0/args/3
        value: --trusted-callers=false
      - op: replace
        path: /spec/template/spec/containers/0/args/3
        value: --trusted-callers=true
X
  k kustomize "$folder"
  rm -r "$folder"
}

# Reports whether the port is closed, and under which condition: tell_callers RANGES
tell_callers() {
  if [ -n "$1" ]; then
    say "a NetworkPolicy keeps pods ($1) away from the webhook's port, if the cluster's network enforces NetworkPolicies"
  else
    say "the address ranges of the cluster's pods are not known: any pod can reach the webhook's port, so name/* in"
    say "secrets.floe.dev/refs is refused. To close the port, set POD_CIDRS to your ranges, e.g. POD_CIDRS=10.244.0.0/16"
  fi
}
