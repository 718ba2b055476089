#!/usr/bin/env bash
# Real Kubernetes cluster with one node on this machine, which runs containers. See README.md.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib/common.sh
. "$HERE/lib/common.sh"
# shellcheck source-path=SCRIPTDIR source=lib/pki.sh
. "$HERE/lib/pki.sh"
# shellcheck source-path=SCRIPTDIR source=lib/cgroups.sh
. "$HERE/lib/cgroups.sh"

usage() {
  cat <<'X'
usage: cluster.sh up               start the cluster, and wait until its node is ready
       cluster.sh down [--keep]    stop it and delete everything; --keep: keep its data for the next "up"
       cluster.sh status           show what runs; fails unless everything is healthy
       cluster.sh kubectl ARGS...  kubectl (also: hack/cluster/kubectl ARGS...)
       cluster.sh load IMAGE.tar   import a container image
       cluster.sh logs [NAME]      show the logs of the cluster's programs, or one full log
       cluster.sh exec CMD...      run a command in the node's network, with the machine's files
       cluster.sh enter CMD...     run a command inside the node (ps, ctr)
       cluster.sh kubeconfig       print the path of the administrator's kubeconfig, for use in "exec"

FLOE_CLUSTER_NAME (floe-node) is the name of a cluster, FLOE_CLUSTER_DIR the folder of its state.
Exit code 3: this machine cannot run it.
X
}

# ------------------------------------------------------------------ the machine

unsupported() {
  say "$*"
  exit $UNSUPPORTED
}

check_machine() {
  local program
  [ "$(uname -s)" = Linux ] ||
    unsupported "the one-node cluster needs Linux. Use a cluster of your own instead: see hack/cluster/README.md"
  [ "$(id -u)" = 0 ] ||
    unsupported "the one-node cluster needs root, for namespaces, mounts and control groups. Use sudo, or a cluster of your own: see hack/cluster/README.md"
  for program in unshare nsenter setsid mount ip openssl python3 flock; do
    command -v $program >/dev/null || unsupported "the one-node cluster needs '$program', which is not on the PATH"
  done
  [ -n "$(cgroup_mounts)" ] || unsupported "the one-node cluster needs control groups, and none are mounted below /sys/fs/cgroup"
}

check_settings() {
  # The name of a node and of a control group, and part of paths.
  [[ $NAME =~ ^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$ ]] ||
    die "invalid FLOE_CLUSTER_NAME '$NAME': expected up to 40 lower case letters, digits and dashes"
  case $(realpath -m "$STATE")/ in
    /run/* | /var/* | /opt/*) die "the cluster's folder $STATE cannot be below /run, /var or /opt, which are different inside the node: set FLOE_CLUSTER_DIR" ;;
  esac
  # "down" deletes only folders with this marker.
  if [ -d "$STATE" ] && [ ! -e "$STATE/.floe-cluster" ] && [ -n "$(ls -A "$STATE")" ]; then
    die "$STATE contains other files: set FLOE_CLUSTER_DIR to a folder that does not exist"
  fi
}

# Allows one "up" or "down" at a time. Locks the folder itself, so that no file is left.
lock() {
  mkdir -p "$(dirname "$STATE")"
  exec 9<"$(dirname "$STATE")"
  flock 9
}

# ------------------------------------------------------------------- the node

# Prints the start time of a process. With the id it identifies the process even
# after the id was reused.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; } # start_time PID

# Sets UNSHARE, the process that holds the namespaces, and NODE, the first one inside.
running() {
  local started
  [ -e "$STATE/process" ] || return 1
  read -r UNSHARE started <"$STATE/process"
  [ -n "$started" ] && [ "$(start_time "$UNSHARE")" = "$started" ] || return 1
  # It has one child. (The file has no line end, so read fails.)
  read -r NODE <"/proc/$UNSHARE/task/$UNSHARE/children" || [ -n "$NODE" ]
}

need_running() {
  running || die "the cluster '$NAME' is not up. Start it: hack/cluster/cluster.sh up"
}

environment() {
  export PATH=$STATE/bin:$PATH KUBECONFIG=$STATE/pki/admin.conf
  # All clusters have the same address, so they must not share the cache of kubectl.
  export KUBECACHEDIR=$STATE/tmp/kubectl
}

# Runs a command in the node's network, with the machine's files and folders.
# (Entering the namespace of processes would fork, and a signal to this script would
# not reach the command.)
in_network() { nsenter --target "$NODE" --net -- "$@"; }

# Runs a command in all namespaces of the node. (ip netns exec would hide the control groups.)
in_node() { nsenter --target "$NODE" --net --mount --uts --ipc --pid -- "$@"; }

# ------------------------------------------------------------------------ up

link_programs() {
  local names=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl
    containerd containerd-shim-runc-v2 ctr bridge host-local loopback runc)
  local files file
  # A kubelet must not be newer than its API server: all from one version.
  files=$(unset KUBEBUILDER_ASSETS && "$HERE/../tools/tools.sh" path "${names[@]}")
  mkdir -p "$STATE/bin"
  touch "$STATE/.floe-cluster"
  while IFS= read -r file; do
    file=$(realpath "$file")
    case $file in
      # These folders are different inside the node.
      /run/* | /var/* | /opt/*) cp -f "$file" "$STATE/bin/" ;;
      *) ln -sfn "$file" "$STATE/bin/" ;;
    esac
  done <<<"$files"
}

write_configuration() {
  local file
  mkdir -p "$STATE"/{etc/cni,images,log,tmp,sysctl,opt/cni,var/lib,var/log,var/tmp}
  chmod 1777 "$STATE/var/tmp"
  rm -rf "$STATE/pids" && mkdir "$STATE/pids"
  ln -sfn /run "$STATE/var/run"
  ln -sfn /run/lock "$STATE/var/lock"
  : >"$STATE/etc/resolv.conf"
  for file in bridge.conflist containerd.toml kubelet.yaml; do
    sed -e "s|@STATE@|$STATE|g" -e "s|@NAME@|$NAME|g" -e "s|@NODE_IP@|$NODE_IP|g" -e "s|@POD_RANGE@|$POD_RANGE|g" \
      "$HERE/etc/$file" >"$STATE/etc/$file"
  done
  mv "$STATE/etc/bridge.conflist" "$STATE/etc/cni/10-bridge.conflist"
}

start_node() {
  # All processes, also of containers, end with the first process of these namespaces.
  FLOE_CLUSTER_NAME=$NAME FLOE_CLUSTER_DIR=$STATE \
    setsid unshare --net --mount --propagation private --uts --ipc --pid --fork --kill-child --mount-proc \
    bash "$HERE/node.sh" >"$STATE/log/node.log" 2>&1 </dev/null 9<&- &
  echo "$! $(start_time $!)" >"$STATE/process"
  poll 10 running || {
    cat "$STATE/log/node.log" >&2
    die "the namespaces could not be created"
  }
  running
}

# Prints the names of programs that were started and have exited.
ended() {
  # shellcheck disable=SC2016 # for the inner shell
  in_node sh -c 'cd "$0"; for name in *; do kill -0 "$(cat "$name")" 2>/dev/null || echo "$name"; done' "$STATE/pids"
}

reached() { # reached WHAT SECONDS COMMAND...: waits, and reports WHAT
  local what=$1 seconds=$2 dead
  shift 2
  if poll "$seconds" "$@"; then
    elapsed "$what"
    return
  fi
  running || {
    tail -n 5 "$STATE/log/node.log" >&2
    die "the node has exited; see hack/cluster/cluster.sh logs"
  }
  dead=$(ended | tr '\n' ' ')
  die "timed out after $seconds s, waiting for: $what.${dead:+ These programs have exited: ${dead% }.} See hack/cluster/cluster.sh logs, and stop the cluster with hack/cluster/cluster.sh down"
}

import() { # import IMAGE.tar
  # By standard input: the path may be a different file inside the node.
  in_node ctr --namespace k8s.io images import --local - <"$1" >>"$STATE/log/import.log" 2>&1 ||
    {
      tail -n 3 "$STATE/log/import.log" >&2
      die "importing $1 failed"
    }
}

import_images() {
  local image
  for image in pause busybox; do
    "$HERE/images.sh" $image "$STATE/images/$image.tar" >/dev/null
    import "$STATE/images/$image.tar"
  done
}

ready() { in_network kubectl get --raw /readyz >/dev/null 2>&1; }

# After a restart, the API server still has the node's old state, so the heartbeat
# has to be newer. (The kubelet's lease shows it too, but 10 seconds later.)
node_ready() { # node_ready SINCE
  local status reported
  read -r status reported < <(in_network kubectl get node "$NAME" --output \
    'jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status} {.lastHeartbeatTime}{"\n"}{end}' 2>/dev/null)
  [ "$status" = True ] && [[ ! $reported < $1 ]]
}

well() { ready && node_ready "" && [ -z "$(ended)" ]; }

already_up() {
  running || return 1
  environment
  poll 10 well || die "the cluster '$NAME' runs, but is not healthy. See hack/cluster/cluster.sh status, and stop it with hack/cluster/cluster.sh down"
  say "'$NAME' is up"
}

up() {
  local since again=
  check_machine
  check_settings
  if already_up; then return; fi
  # Built before the lock is taken, because it may take minutes.
  "$HERE/../tools/tools.sh" build node
  lock
  if already_up; then return; fi
  if cgroups_in_use; then
    die "a cluster named '$NAME' already runs from a folder other than $STATE: set FLOE_CLUSTER_NAME"
  fi
  elapsed "starting '$NAME' in $STATE"
  link_programs
  environment
  if [ -d "$STATE/etcd" ]; then again=", with the data of the last run"; fi
  make_pki "$STATE/pki"
  write_configuration
  elapsed "keys and configuration$again"
  make_cgroups
  since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  start_node
  reached "containerd ready" 30 in_node ctr version
  import_images
  elapsed "images imported"
  reached "API server ready" 120 ready
  reached "node ready" 60 node_ready "$since"
  # Pods are refused until their namespace has its service account.
  reached "service account created" 30 in_network kubectl --namespace default get serviceaccount default
  say "'$NAME' is up. Use it: hack/cluster/kubectl get nodes"
}

# ---------------------------------------------------------------------- down

down() {
  local keep=$1
  check_machine
  check_settings
  lock
  elapsed "stopping '$NAME'"
  if running; then
    # All processes end at once with the first one, as in a power cut. On SIGTERM an
    # API server could wait for its etcd forever.
    kill -9 "$NODE" 2>/dev/null || true
    poll 30 test ! -d "/proc/$UNSHARE" || die "process $UNSHARE does not exit"
  fi
  rm -f "$STATE/process"
  # The control groups may belong to a cluster of this name in another folder.
  if ! cgroups_in_use; then remove_cgroups; fi
  if [ "$keep" = no ] && [ -d "$STATE" ]; then
    rm -rf --one-file-system "$STATE"
  fi
  elapsed "down"
}

# -------------------------------------------------------------------- status

status() {
  check_machine
  if ! running; then
    echo "'$NAME' is down"
    return 1
  fi
  environment
  # shellcheck disable=SC2016 # for the inner shell
  in_node sh -c 'cd "$0"; for name in *; do
    memory=$(awk "/VmRSS/ { print int(\$2 / 1024) }" /proc/$(cat "$name")/status 2>/dev/null)
    printf "%-24s %s\n" "$name" "${memory:-ended}${memory:+ MiB}"
  done' "$STATE/pids"
  if well; then
    echo "'$NAME' is up, in $STATE"
  else
    echo "'$NAME' is not healthy"
    return 1
  fi
}

logs() {
  local file
  if [ $# -gt 0 ]; then
    [ -f "$STATE/log/$1.log" ] || die "no log of '$1'"
    cat "$STATE/log/$1.log"
    return
  fi
  [ -d "$STATE/log" ] || die "no logs: the cluster '$NAME' has no data"
  for file in "$STATE"/log/*.log; do
    echo "== $(basename "$file" .log)"
    tail -n 15 "$file"
  done
}

command=${1:-}
[ $# -eq 0 ] || shift
case "$command" in
  up) up ;;
  down)
    case "${*:-}" in
      "") down no ;;
      --keep) down yes ;;
      *)
        usage >&2
        exit 2
        ;;
    esac
    ;;
  status) status ;;
  kubectl | exec | enter | load)
    [ $# -gt 0 ] || [ "$command" = kubectl ] || {
      usage >&2
      exit 2
    }
    check_machine
    need_running
    environment
    case "$command" in
      kubectl) exec nsenter --target "$NODE" --net -- kubectl "$@" ;;
      exec) exec nsenter --target "$NODE" --net -- "$@" ;;
      enter) in_node "$@" ;;
      load) import "$1" ;;
    esac
    ;;
  logs) logs "$@" ;;
  kubeconfig) echo "$STATE/pki/admin.conf" ;;
  *)
    usage >&2
    exit 2
    ;;
esac
