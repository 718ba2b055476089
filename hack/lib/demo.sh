# Functions that the demos share: output, manifests, and the state of the cluster. Sourced; needs ROOT, target.sh and
# NAMESPACE.
# shellcheck shell=bash

title() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() {
  printf '\033[2m$ kubectl -n %s %s\033[0m\n' "$NAMESPACE" "$*"
  k -n "$NAMESPACE" "$@"
}
manifest() { sed "s|BUSYBOX|$(target_busybox)|" "$ROOT/hack/demo/$1"; }

# Applies a manifest of the demo: apply_manifest FILE
apply_manifest() {
  printf '\033[2m$ kubectl -n %s apply -f %s\033[0m\n' "$NAMESPACE" "$1"
  manifest "$1" | k -n "$NAMESPACE" apply -f -
}

pod_of() { k -n "$NAMESPACE" get pod -l "job-name=$1" -o name | grep -q .; }
finished() { k -n "$NAMESPACE" wait --for=condition=complete --timeout=1s "job/$1"; }

# Creates an empty namespace for the demo, ready for pods.
demo_namespace() {
  k create namespace "$NAMESPACE" --dry-run=client -o yaml | k apply -f - >/dev/null
  wait_until 30 "the namespace's service account" k -n "$NAMESPACE" get serviceaccount default
  k -n "$NAMESPACE" delete job --all --ignore-not-found >/dev/null
  k -n "$NAMESPACE" delete secret api-credentials --ignore-not-found >/dev/null
}

# Prints the pod of a Job, as the API server admitted it: show_pod JOB
show_pod() {
  wait_until 30 "the Job's pod" pod_of "$1"
  show get pod -l "job-name=$1" -o \
    jsonpath='envFrom: {.items[0].spec.containers[0].envFrom}{"\n"}env:     {.items[0].spec.containers[0].env}{"\n"}label:   {.items[0].metadata.labels.secrets\.floe\.dev/injected}{"\n"}'
}

# Prints whether a one-node cluster is up already; if so, the demo does not stop it.
node_was_up() {
  if [ "$TARGET" = node ] && "$ROOT/hack/cluster/cluster.sh" status >/dev/null 2>&1; then echo yes; else echo no; fi
}

# Whether a command prints more than a header.
has_rows() { [ "$("$@" | wc -l)" -gt 1 ]; }

# Prints the records about a secret of the namespace, when there are some: trail_of SECRET
trail_of() {
  local store folder="" profile=${PROFILE:-optimized} program=${PROGRAM:-} query
  if [ "$TARGET" = plane ]; then
    # The store of the running `admin`.
    store=$PLANE_STORE
  else
    if [ -n "${IMAGE:-}" ]; then
      echo "No program was built, because IMAGE is set. In the pod of admin:"
      echo "  floe-secrets-webhook audit query --store /var/lib/floe-audit/audit.db --secret $NAMESPACE/$1"
      return
    fi
    # A copy, made from the logs of the webhook's pods: each record is on standard output, too.
    folder=$(mktemp -d)
    store=$folder/audit.db
    program=${CARGO_TARGET_DIR:-$ROOT/target}/${profile/#dev/debug}/floe-secrets-webhook
    k -n floe-secrets-webhook logs -l app.kubernetes.io/component=webhook --tail=-1 >"$folder/log"
    "$program" audit import --create --store "$store" "$folder/log" >/dev/null
  fi
  query=(audit query --store "$store" --since 1h --secret "$NAMESPACE/$1")
  wait_until 30 "the records about $1" has_rows "$program" "${query[@]}"
  printf '\033[2m$ floe-secrets-webhook %s\033[0m\n' "${query[*]}"
  "$program" "${query[@]}"
  if [ -n "$folder" ]; then
    echo "This is a copy, made from logs, in which nobody looks up owners: the pod's ASKED BY remains pending."
    echo "Who asked is the author of the Job's record. The store of admin has that beside the pod's record, too."
    rm -rf "$folder"
  fi
}
