# Target cluster of the scripts. Sourced; needs ROOT, the top folder of the checkout.
#
#   own    the user's cluster (KUBECONFIG)
#   node   a real one-node cluster of hack/cluster (Linux and root)
#   plane  a control plane without nodes: no container can run
#
# The environment variable TARGET selects one.
#
# shellcheck shell=bash

target_choose() {
  if [ -n "${TARGET:-}" ]; then
    case $TARGET in own | node | plane) ;; *)
      echo "TARGET must be own, node or plane" >&2
      exit 2
      ;;
    esac
  elif [ -n "${KUBECONFIG:-}" ]; then
    TARGET=own
  elif [ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ]; then
    TARGET=node
  else
    TARGET=plane
  fi
}

# Runs kubectl on the target.
k() {
  case $TARGET in
    node) "$ROOT/hack/cluster/kubectl" "$@" ;;
    own) "${KUBECTL:-kubectl}" "$@" ;;
    plane) KUBECONFIG=$PLANE_KUBECONFIG "$KUBECTL" "$@" ;;
  esac
}

# Prints a shell image that the target's nodes have or can pull.
target_busybox() {
  case $TARGET in
    own) echo "${BUSYBOX_IMAGE:-busybox:1.37}" ;;
    *) echo localhost/busybox:local ;;
  esac
}

# Polls a command until it succeeds: wait_until SECONDS WHAT COMMAND…
wait_until() {
  local seconds=$1 what=$2 deadline=$((SECONDS + $1))
  shift 2
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      echo "timed out after $seconds s, waiting for: $what" >&2
      return 1
    fi
    sleep 0.2
  done
}
