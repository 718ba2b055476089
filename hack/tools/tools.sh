#!/usr/bin/env bash
# Builds the programs that the tests and the one-node cluster run: Kubernetes, etcd,
# containerd and others, from their Go modules into a cache; PostgreSQL comes from Maven. See usage().
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${FLOE_SECRETS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/floe-secrets-webhook}/tools

usage() {
  cat <<'X'
usage: tools.sh path NAME...     print the path of each program, one per line; build missing programs
       tools.sh build GROUP...   build all programs of a group: control-plane, node (includes control-plane), chart or database
       tools.sh list             list the programs, their versions, and which are built

Programs are cached in ${FLOE_SECRETS_CACHE:-${XDG_CACHE_HOME:-~/.cache}/floe-secrets-webhook}/tools.
KUBERNETES_VERSION=1.30 selects the control plane of that version, the oldest supported one.
KUBEBUILDER_ASSETS, if set (and KUBERNETES_VERSION is not), is searched first.
X
}

# ---------------------------------------------------------------- the tables

# One folder with a go.mod per tool, because their dependencies disagree.
# folder | module that defines the tool's version | build tags | -X settings of the linker
# In the settings, @V@, @MAJOR@ and @MINOR@ stand for that version.
tools() {
  # Without the version stamp, Kubernetes reports v0.0.0 and clients reject it.
  local kube=k8s.io/component-base/version ctrd=github.com/containerd/containerd/v2 prom=github.com/prometheus
  # Kubernetes version that Helm renders for without a cluster: that of its client, as in Helm's own releases.
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
shfmt|mvdan.cc/sh/v3||
krew|sigs.k8s.io/krew||-X sigs.k8s.io/krew/internal/version.gitTag=@V@
promtool|$prom/prometheus|remove_all_sd|-X $prom/common/version.Version=@V@
X
}

# name | tool's folder, or "debian" or "maven" | Go package, Debian package or Maven artifact | group | seconds it usually takes (2 cores, nothing cached)
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
shfmt|shfmt|mvdan.cc/sh/v3/cmd/shfmt|lint|15
krew|krew|sigs.k8s.io/krew/cmd/krew|plugin|30
validate-krew-manifest|krew|sigs.k8s.io/krew/cmd/validate-krew-manifest|plugin|10
shellcheck|debian|shellcheck|lint|5
runc|debian|runc|node|5
busybox|debian|busybox-static|node|5
valgrind|debian|valgrind|measure|10
postgres|maven|io.zonky.test.postgres:embedded-postgres-binaries-linux:18.1.0|database|15
initdb|maven|io.zonky.test.postgres:embedded-postgres-binaries-linux:18.1.0|database|15
X
}

# Prints the programs of a group. The group node includes control-plane.
programs_of_group() { # programs_of_group GROUP
  local names
  names=$(programs | awk -F'|' -v group="$1" '$4 == group || (group == "node" && $4 == "control-plane") { print $1 }')
  [ -n "$names" ] || die "no such group: $1 (groups: $(programs | cut -d'|' -f4 | sort -u | tr '\n' ' '))"
  echo "$names"
}

field() { # field NAME NUMBER: a column of the programs' table
  programs | awk -F'|' -v name="$1" -v column="$2" '$1 == name { print $column }'
}

# ------------------------------------------------------------------- helpers

say() { echo "tools: $*" >&2; }
die() {
  say "$*"
  exit 1
}

sha256() { if command -v sha256sum; then sha256sum; else shasum -a 256; fi | tail -n 1 | cut -c1-64; }

at_least() { # at_least HAVE WANT: compares versions
  [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

in_words() { # seconds, for people
  if [ "$1" -lt 90 ]; then echo "$1 s"; else echo "$((($1 + 30) / 60)) min"; fi
}

# Removes the folders of interrupted builds. A folder's name ends with the process id of the build: without flock,
# another build may be running, and its folder is kept.
remove_leftovers() { # remove_leftovers FOLDER
  local left
  for left in "$1"/.building.*; do
    if [ -e "$left" ] && ! kill -0 "${left##*.}" 2>/dev/null; then rm -rf "$left"; fi
  done
}

# Runs a function while holding the folder's lock, so that two callers never build
# the same program twice. Without flock there is no lock.
locked() { # locked FOLDER COMMAND...
  local folder=$1
  shift
  mkdir -p "$folder"
  (
    if command -v flock >/dev/null; then
      exec 9>"$folder/.lock"
      if ! flock --nonblock 9; then
        say "waiting for another process that builds $(basename "$folder")"
        flock 9
      fi
    fi
    remove_leftovers "$folder"
    "$@"
  )
}

# Usual build time, in seconds, of the programs after the current one. Set by `ensure`.
LEFT_AFTER=0

left_in_words() { # empty for the last program
  [ "$LEFT_AFTER" -eq 0 ] || echo "; then about $(in_words "$LEFT_AFTER") for the others"
}

# Waits for a build and reports its progress every 30 s. Returns the build's status.
report_while() { # report_while PID USUAL NAMES
  local pid=$1 usual=$2 names=$3 start=$SECONDS next=$((SECONDS + 30)) left after
  while kill -0 "$pid" 2>/dev/null; do
    if [ "$SECONDS" -ge "$next" ]; then
      left=$((usual - (SECONDS - start))) after=$LEFT_AFTER
      # If the machine is slower than that of the table, or busy, the others take longer as well.
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

# Sets GOTOOLCHAIN for one tool: the installed Go if it is new enough. Otherwise
# Go's own rule applies, which usually downloads the version in go.mod.
choose_toolchain() { # choose_toolchain TOOL
  local want have
  command -v go >/dev/null ||
    die "building $1 needs Go, and 'go' is not on the PATH. Install it from https://go.dev/dl/"
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

# Prints one flag per line. CGO is off and paths are trimmed, so the binaries are the
# same on every machine and need no shared libraries.
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

# Sets REPLY to the tool's folder in the cache. Its name has a hash of everything
# that determines its content. The result is kept, because go is run twice for it.
tool_folder() { # tool_folder TOOL
  local key known=folder_${1//[^a-z0-9]/_}
  if [ -z "${!known:-}" ]; then
    key=$(
      choose_toolchain "$1"
      cd "$HERE/$1"
      {
        cat go.mod go.sum
        if [ -f main.go ]; then cat main.go; fi
        build_flags "$1"
        go version
      } | sha256
    )
    printf -v "$known" %s "$CACHE/$1-$(version_of "$1")-${key:0:16}"
  fi
  REPLY=${!known}
}

# Builds the missing programs of a tool with one go command: they share packages,
# and they are linked at the same time.
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
  # Go names a program after the last element of its package's path. The name of a
  # single program may differ.
  local output=$out/
  [ ${#missing[@]} -eq 1 ] && output=$out/${missing[0]}
  (
    choose_toolchain "$tool"
    cd "$HERE/$tool"
    CGO_ENABLED=0 GOFLAGS='' GOWORK=off go build "${flags[@]}" -o "$output" "${packages[@]}" >&2
  ) &
  report_while $! "$usual" "${missing[*]}" || {
    rm -rf "$out"
    die "building $tool failed"
  }
  # cert-manager needs its CustomResourceDefinitions.
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

# runc, busybox and valgrind are C, or need C libraries: the machine's own are used,
# or the distribution's packages, unpacked into the cache. Nothing is installed.
debian_folder() { echo "$CACHE/$1-debian"; } # debian_folder NAME

usable() { # usable NAME FILE
  [ -x "$2" ] || return 1
  case $1 in
    # An image of it has no libraries, so only a static one works.
    busybox) ! ldd "$2" 2>/dev/null | grep -q '=>' && "$2" true ;;
    # runc needs libseccomp, which every system with apt has, because apt needs it too.
    *) "$2" --version >/dev/null 2>&1 ;;
  esac
}

on_path() { # on_path NAME: prints the machine's own program
  # The PATH of an ordinary user does not have the sbin folders.
  local file
  file=$(PATH=$PATH:/usr/sbin:/sbin command -v "$1") && usable "$1" "$file" && echo "$file"
}

get_debian() { # get_debian NAME FOLDER
  local name=$1 folder=$2 package out file
  [ -x "$folder/$name" ] && return
  package=$(field "$name" 3)
  { command -v apt-get && command -v dpkg-deb; } >/dev/null ||
    die "no usable $name on the PATH, and no apt to download Debian's package $package. Install $name$(
      [ "$name" = busybox ] && echo ' (a statically linked one)'
    )."
  say "downloading $name from the package $package: usually $(in_words "$(field "$name" 5)")"
  out=$folder/.building.$$
  mkdir "$out"
  if ! (cd "$out" && apt-get -q download "$package" >log 2>&1); then
    # A new container often has no package lists.
    if [ "$(id -u)" = 0 ]; then apt-get -q update >&2 || true; fi
    (cd "$out" && apt-get -q download "$package" >log 2>&1) || {
      cat "$out/log" >&2
      rm -rf "$out"
      die "apt-get could not download $package. Run 'apt-get update' as root and try again, or install $name."
    }
  fi
  dpkg-deb -x "$out"/*.deb "$out/files"
  if [ "$name" = valgrind ]; then
    # valgrind has several files; only this variable lets it find its tools.
    mv "$out/files" "$folder/files"
    file=$out/$name
    printf '#!/bin/sh\nVALGRIND_LIB=%s exec %s "$@"\n' "'$folder/files/usr/libexec/valgrind'" \
      "'$folder/files/usr/bin/valgrind.bin'" >"$file"
    chmod +x "$file"
  else
    file=$(find "$out/files" -type f -name "$name" -perm -100 | head -n 1)
  fi
  usable "$name" "$file" || {
    rm -rf "$out"
    die "$name from the package $package does not run on this machine. Install $name."
  }
  mv "$file" "$folder/$name"
  rm -rf "$out"
}

# ------------------------------------------------------------ Maven's archives

# PostgreSQL as built for embedding: a jar with bin/, lib/ and share/ in an archive. Maven checks its sum.
maven_folder() { # maven_folder NAME
  local artifact
  artifact=$(field "$1" 3)
  echo "$CACHE/postgresql-${artifact##*:}"
}

get_maven() { # get_maven NAME FOLDER
  local name=$1 folder=$2 artifact out cpu
  [ -x "$folder/bin/$name" ] && return
  { command -v mvn && command -v python3; } >/dev/null ||
    die "downloading $name needs Maven and Python, and 'mvn' or 'python3' is not on the PATH. Install them."
  case $(uname -m) in
    x86_64) cpu=amd64 ;;
    aarch64 | arm64) cpu=arm64v8 ;;
    *) die "Maven has no $name for $(uname -m)" ;;
  esac
  artifact=$(field "$name" 3)
  artifact=${artifact%:*}-$cpu:${artifact##*:}
  say "downloading $artifact: usually $(in_words "$(field "$name" 5)")"
  out=$folder/.building.$$
  mkdir "$out"
  mvn -q org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy -Dartifact="$artifact" \
    -DoutputDirectory="$out" >"$out/log" 2>&1 || {
    cat "$out/log" >&2
    rm -rf "$out"
    die "Maven could not download $artifact"
  }
  python3 - "$out" <<'X'
import glob, io, sys, tarfile, zipfile

folder = sys.argv[1]
with zipfile.ZipFile(glob.glob(f"{folder}/*.jar")[0]) as jar:
    name = next(name for name in jar.namelist() if name.endswith(".txz"))
    archive = io.BytesIO(jar.read(name))
with tarfile.open(fileobj=archive, mode="r:xz") as files:
    files.extractall(f"{folder}/files", filter="data")
X
  mv "$out"/files/* "$folder"
  rm -rf "$out"
}

# -------------------------------------------------------------------- lookup

# Sets REPLY to the path at which a program is or will be. KUBEBUILDER_ASSETS is
# searched first.
locate() { # locate NAME
  local name=$1 tool
  tool=$(field "$name" 2)
  [ -n "$tool" ] || die "no such program: $name (see: tools.sh list)"
  if [ "$(field "$name" 4)" = control-plane ] && [ -z "${KUBERNETES_VERSION:-}" ] &&
    [ -x "${KUBEBUILDER_ASSETS:-/nonexistent}/$name" ]; then
    REPLY=$(cd "$KUBEBUILDER_ASSETS" && pwd)/$name
  elif [ "$tool" = debian ]; then
    REPLY=$(on_path "$name") || REPLY=$(debian_folder "$name")/$name
  elif [ "$tool" = maven ]; then
    REPLY=$(maven_folder "$name")/bin/$name
  else
    tool_folder "$tool"
    REPLY=$REPLY/$name
  fi
}

# Builds missing programs, and prints the path of every program.
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
    elif [ "$tool" = maven ]; then
      for name in "${missing[@]}"; do
        folder=$(maven_folder "$name")
        locked "$folder" get_maven "$name" "$folder"
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
      "$CACHE"/*)
        case $tool in
          debian) version=Debian ;;
          maven) version=$(field "$name" 3) version=${version##*:} ;;
          *) version=$(version_of "$tool") ;;
        esac
        ;;
      *) version="own" ;;
    esac
    if [ -x "$REPLY" ]; then built=built; else built="not built"; fi
    printf '%-24s %-9s %-9s %s\n' "$name" "$version" "$built" "$REPLY"
  done
}

[ -d "$HERE/kubernetes${KUBERNETES_VERSION:+-$KUBERNETES_VERSION}" ] ||
  die "unknown KUBERNETES_VERSION=$KUBERNETES_VERSION (known: $(cd "$HERE" && echo kubernetes-*); unset: the newest)"

case "${1:-}" in
  path)
    shift
    [ $# -gt 0 ] || {
      usage >&2
      exit 2
    }
    ensure "$@"
    ;;
  build)
    shift
    [ $# -gt 0 ] || {
      usage >&2
      exit 2
    }
    names=""
    for group in "$@"; do names+=" $(programs_of_group "$group")"; done
    # All groups together, so that the reported remaining time includes all of them.
    # shellcheck disable=SC2046,SC2086 # names have no spaces
    ensure $(printf '%s\n' $names | sort -u) >/dev/null
    ;;
  list) list ;;
  *)
    usage >&2
    exit 2
    ;;
esac
