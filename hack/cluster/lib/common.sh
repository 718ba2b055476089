# shellcheck shell=bash
# Settings and helpers, for cluster.sh and node.sh.
# shellcheck disable=SC2034 # they use these variables

CACHE=${FLOE_SECRETS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/floe-secrets-webhook}
NAME=${FLOE_CLUSTER_NAME:-floe-node}
STATE=${FLOE_CLUSTER_DIR:-$CACHE/cluster/$NAME}
case $STATE in /*) ;; *) STATE=$PWD/$STATE ;; esac

# All clusters use the same addresses: each has a network of its own.
NODE_IP=10.10.0.1
# The address of the Service "kubernetes". There is no kube-proxy, so the API
# server itself listens there, on the Service's port.
SERVICE_IP=10.96.0.1
SERVICE_RANGE=10.96.0.0/16
POD_RANGE=10.244.0.0/24

# The machine cannot run the cluster. The exit code differs from that of a failure, and no test is skipped for it.
UNSUPPORTED=3

say() { echo "cluster: $*" >&2; }
die() {
  say "$*"
  exit 1
}

STARTED=
elapsed() { # a line with the seconds since the first call
  local now=${EPOCHREALTIME/[.,]/}
  STARTED=${STARTED:-$now}
  local ms=$(((now - STARTED) / 1000))
  printf '%4d.%02d s  %s\n' $((ms / 1000)) $((ms % 1000 / 10)) "$*" >&2
}

# Fails when the command does not succeed in time.
poll() { # poll SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.1
  done
}
