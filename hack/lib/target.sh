# Which cluster the scripts work on, and how to reach it. Sourced; needs ROOT, the top of the checkout.
#
#   own    the user's, by KUBECONFIG
#   node   a real one-node cluster of hack/cluster (Linux and root)
#   plane  a control plane alone: nothing runs a container there
#
# TARGET in the environment chooses one.
#
# shellcheck shell=bash

target_choose() {
    if [ -n "${TARGET:-}" ]; then
        case $TARGET in own | node | plane) ;; *) echo "TARGET is own, node or plane" >&2; exit 2 ;; esac
    elif [ -n "${KUBECONFIG:-}" ]; then
        TARGET=own
    elif [ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ]; then
        TARGET=node
    else
        TARGET=plane
    fi
}

# kubectl, against whatever was chosen.
k() {
    case $TARGET in
        node) "$ROOT/hack/cluster/kubectl" "$@" ;;
        own) "${KUBECTL:-kubectl}" "$@" ;;
        plane) KUBECONFIG=$PLANE_KUBECONFIG "$KUBECTL" "$@" ;;
    esac
}

# A shell image that the target's nodes have or can pull.
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
            echo "gave up after $seconds s: $what" >&2
            return 1
        fi
        sleep 0.2
    done
}
