#!/usr/bin/env bash
# A real Kubernetes with one node on this machine: containers run. See README.md.
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
       cluster.sh down [--keep]    end it and remove everything; --keep: its data stays for the next "up"
       cluster.sh status           what runs; fails unless all is well
       cluster.sh kubectl ARGS...  kubectl (also: hack/cluster/kubectl ARGS...)
       cluster.sh load IMAGE.tar   import a container image
       cluster.sh logs [NAME]      logs of the cluster's programs, or one whole log
       cluster.sh exec CMD...      run a command in the node's network, else as usual
       cluster.sh enter CMD...     run a command inside the node (ps, ctr)
       cluster.sh kubeconfig       print the administrator's kubeconfig's path, for use in "exec"

FLOE_CLUSTER_NAME (floe-node) tells clusters apart, FLOE_CLUSTER_DIR is where one keeps its state.
Exit code 3: this machine cannot run it.
X
}

# ------------------------------------------------------------------ the machine

unsupported() { say "$*"; exit $UNSUPPORTED; }

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
  # It is a node's name, a control group's, and part of paths.
  [[ $NAME =~ ^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$ ]] ||
    die "FLOE_CLUSTER_NAME is '$NAME': it can have up to 40 small letters, digits and dashes"
  case $(realpath -m "$STATE")/ in
    /run/* | /var/* | /opt/*) die "the cluster's folder cannot be below /run, /var or /opt, which are different inside the node: set FLOE_CLUSTER_DIR (now $STATE)" ;;
  esac
  # Only such a folder is removed by "down".
  if [ -d "$STATE" ] && [ ! -e "$STATE/.floe-cluster" ] && [ -n "$(ls -A "$STATE")" ]; then
    die "$STATE has other files: set FLOE_CLUSTER_DIR to a folder that does not exist"
  fi
}

# One "up" or "down" at a time. The folder's own lock, so that no file is left.
lock() {
  mkdir -p "$(dirname "$STATE")"
  exec 9<"$(dirname "$STATE")"
  flock 9
}

# ------------------------------------------------------------------- the node

# When a process was started: with its id, that names it even after the id has
# been given to another one.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; } # start_time PID

# Sets UNSHARE, the process that holds the namespaces, and NODE, the first one inside.
running() {
  local started
  [ -e "$STATE/process" ] || return 1
  read -r UNSHARE started <"$STATE/process"
  [ -n "$started" ] && [ "$(start_time "$UNSHARE")" = "$started" ] || return 1
  # It has one child. (The file has no line's end, which read calls a failure.)
  read -r NODE <"/proc/$UNSHARE/task/$UNSHARE/children" || [ -n "$NODE" ]
}

need_running() {
  running || die "the cluster '$NAME' is not up. Start it: hack/cluster/cluster.sh up"
}

environment() {
  export PATH=$STATE/bin:$PATH KUBECONFIG=$STATE/pki/admin.conf
  # Every cluster has the same address, so they must not share what kubectl remembers.
  export KUBECACHEDIR=$STATE/tmp/kubectl
}

# In the node's network and otherwise on the machine: files, folders and signals
# are as usual. (Entering the namespace of processes would fork, and a signal for
# us would not reach the command.)
in_network() { nsenter --target "$NODE" --net -- "$@"; }

# Inside all of the node. (ip netns exec would hide the control groups.)
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
      # Other folders inside the node.
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
  # Everything ends with the first process of these namespaces, containers too.
  FLOE_CLUSTER_NAME=$NAME FLOE_CLUSTER_DIR=$STATE \
    setsid unshare --net --mount --propagation private --uts --ipc --pid --fork --kill-child --mount-proc \
    bash "$HERE/node.sh" >"$STATE/log/node.log" 2>&1 </dev/null 9<&- &
  echo "$! $(start_time $!)" >"$STATE/process"
  poll 10 running || { cat "$STATE/log/node.log" >&2; die "the namespaces could not be made"; }
  running
}

# Names of programs that were started and run no more.
ended() {
  # shellcheck disable=SC2016 # for the inner shell
  in_node sh -c 'cd "$0"; for name in *; do kill -0 "$(cat "$name")" 2>/dev/null || echo "$name"; done' "$STATE/pids"
}

reached() { # reached WHAT SECONDS COMMAND...: waits, and says that it is so
  local what=$1 seconds=$2 dead
  shift 2
  if poll "$seconds" "$@"; then
    elapsed "$what"
    return
  fi
  running || { tail -n 5 "$STATE/log/node.log" >&2; die "the node has ended; see hack/cluster/cluster.sh logs"; }
  dead=$(ended | tr '\n' ' ')
  die "not in $seconds s: $what.${dead:+ These have ended: $dead} See hack/cluster/cluster.sh logs, and end it with hack/cluster/cluster.sh down"
}

import() { # import IMAGE.tar
  # By the standard input: the file may be where the node has other files.
  in_node ctr --namespace k8s.io images import --local - <"$1" >>"$STATE/log/import.log" 2>&1 ||
    { tail -n 3 "$STATE/log/import.log" >&2; die "importing $1 failed"; }
}

import_images() {
  local image
  for image in pause busybox; do
    "$HERE/images.sh" $image "$STATE/images/$image.tar" >/dev/null
    import "$STATE/images/$image.tar"
  done
}

ready() { in_network kubectl get --raw /readyz >/dev/null 2>&1; }

# After a restart, the API server still has the node's old state: the report has
# to be newer. (The kubelet's lease would tell too, but comes 10 seconds late.)
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
  poll 10 well || die "the cluster '$NAME' runs, but is not well. See hack/cluster/cluster.sh status, and end it with hack/cluster/cluster.sh down"
  say "'$NAME' is up"
}

up() {
  local since again=
  check_machine
  check_settings
  if already_up; then return; fi
  # Before the lock, because it may take minutes.
  "$HERE/../tools/tools.sh" build node
  lock
  if already_up; then return; fi
  if cgroups_in_use; then
    die "a cluster named '$NAME' runs from another folder than $STATE: set FLOE_CLUSTER_NAME"
  fi
  elapsed "starting '$NAME' in $STATE"
  link_programs
  environment
  if [ -d "$STATE/etcd" ]; then again=", with the data of last time"; fi
  make_pki "$STATE/pki"
  write_configuration
  elapsed "keys and configuration$again"
  make_cgroups
  since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  start_node
  reached "containerd answers" 30 in_node ctr version
  import_images
  elapsed "images imported"
  reached "API server ready" 120 ready
  reached "node ready" 60 node_ready "$since"
  # Pods are refused until their namespace has it.
  reached "service account there" 30 in_network kubectl --namespace default get serviceaccount default
  say "'$NAME' is up. Use it: hack/cluster/kubectl get nodes"
}

# ---------------------------------------------------------------------- down

down() {
  local keep=$1
  check_machine
  check_settings
  lock
  elapsed "ending '$NAME'"
  if running; then
    # The end of the first process is the end of all the others, at once: what a
    # power cut is. Asked kindly, an API server could wait for its etcd for ever.
    kill -9 "$NODE" 2>/dev/null || true
    poll 30 test ! -d "/proc/$UNSHARE" || die "process $UNSHARE does not end"
  fi
  rm -f "$STATE/process"
  # Another folder's cluster of this name keeps its own.
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
    echo "'$NAME' is not well"
    return 1
  fi
}

logs() {
  local file
  if [ $# -gt 0 ]; then
    [ -f "$STATE/log/$1.log" ] || die "there is no log of '$1'"
    cat "$STATE/log/$1.log"
    return
  fi
  [ -d "$STATE/log" ] || die "there are no logs: the cluster '$NAME' has no data"
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
      *) usage >&2; exit 2 ;;
    esac
    ;;
  status) status ;;
  kubectl | exec | enter | load)
    [ $# -gt 0 ] || [ "$command" = kubectl ] || { usage >&2; exit 2; }
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
  *) usage >&2; exit 2 ;;
esac
