#!/usr/bin/env bash
# First process of the node's namespaces: sets up file systems and network, and
# starts the programs. Only cluster.sh runs this.
set -uo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib/common.sh
. "$HERE/lib/common.sh"

# Mounts the machine's files, except for the folders in which the kubelet and
# containerd have fixed paths: /var/lib/{kubelet,containerd,cni}, /var/log/{pods,containers},
# /run/containerd, /opt/{cni,containerd}.
file_systems() {
  # Mounts of the machine propagate here, but not back. Then shared again for the
  # namespaces below: the volumes of a container may need that.
  mount --make-rslave /
  mount --make-rshared /
  mount -t tmpfs tmpfs /run
  mkdir -p /run/lock
  mount --bind "$STATE/var" /var
  mount --bind "$STATE/opt" /opt
}

# Sysctls of the whole machine that the kubelet sets. It gets plain files in their
# place, which already have the values that it requires.
sysctls() {
  local name value file
  while read -r name value; do
    file=$STATE/sysctl/${name//\//_}
    echo "$value" >"$file"
    mount --bind "$file" "/proc/sys/$name"
  done <<'X'
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
X
}

network() {
  hostname "$NAME"
  ip link set lo up
  ip addr add "$NODE_IP/32" dev lo
  ip addr add "$SERVICE_IP/32" dev lo
  echo 1 >/proc/sys/net/ipv4/ip_forward # of this network, not of the machine
}

start() { # start NAME ARGUMENTS...
  local name=$1
  "$@" >"log/$name.log" 2>&1 </dev/null &
  echo $! >"pids/$name"
}

start_etcd() {
  # The data of tests need not survive a power cut of the machine, only a simulated one.
  start etcd --data-dir etcd --unsafe-no-fsync --log-level warn
}

start_apiserver() {
  # shellcheck disable=SC2054 # Node,RBAC is one value
  local flags=(
    --etcd-servers http://127.0.0.1:2379
    --bind-address 0.0.0.0
    --advertise-address "$NODE_IP"
    --secure-port 443
    --tls-cert-file pki/apiserver.crt
    --tls-private-key-file pki/apiserver.key
    --client-ca-file pki/ca.crt
    --service-account-key-file pki/service-accounts.key
    --service-account-signing-key-file pki/service-accounts.key
    --service-account-issuer https://kubernetes.default.svc
    --authorization-mode Node,RBAC
    --enable-admission-plugins NodeRestriction
    --service-cluster-ip-range "$SERVICE_RANGE"
    --allow-privileged=true
    # Calls a webhook's Service at its pods' addresses, which needs no kube-proxy.
    --enable-aggregator-routing=true
    --kubelet-client-certificate pki/apiserver-to-kubelet.crt
    --kubelet-client-key pki/apiserver-to-kubelet.key
    --kubelet-certificate-authority pki/ca.crt
    # There is no DNS for the node's name.
    --kubelet-preferred-address-types InternalIP
  )
  start kube-apiserver "${flags[@]}"
}

start_controller_manager() {
  local flags=(
    --kubeconfig pki/controller-manager.conf
    --service-account-private-key-file pki/service-accounts.key
    --root-ca-file pki/ca.crt
    --cluster-signing-cert-file pki/ca.crt
    --cluster-signing-key-file pki/ca.key
    --leader-elect=false
    --bind-address 127.0.0.1
    --use-service-account-credentials
    # The usual limits make a burst of Jobs wait.
    --kube-api-qps 500
    --kube-api-burst 1000
  )
  start kube-controller-manager "${flags[@]}"
}

start_scheduler() {
  start kube-scheduler --kubeconfig pki/scheduler.conf --leader-elect=false --bind-address 127.0.0.1
}

start_kubelet() {
  start kubelet --config etc/kubelet.yaml --kubeconfig pki/kubelet.conf --hostname-override "$NAME" --node-ip "$NODE_IP"
}

# Starts the API server's clients when it is ready: they would back off for seconds if started before.
start_clients() {
  poll 120 kubectl --kubeconfig pki/admin.conf get --raw /readyz
  poll 30 test -S /run/containerd/containerd.sock
  start_controller_manager
  start_scheduler
  start_kubelet
  wait
}

export TMPDIR=$STATE/tmp HOME=$STATE
cd "$STATE" || exit 1
file_systems
sysctls
network
start_etcd
start containerd --config etc/containerd.toml
start_apiserver
start_clients &

# The first process has to reap ended processes without a parent, such as those of
# containers whose shim is gone.
while :; do
  wait -n
  sleep 1
done
