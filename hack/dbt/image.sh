#!/usr/bin/env bash
# Builds a container image with dbt, its adapters for DuckDB and PostgreSQL, and a PostgreSQL server, from the Python
# environment `dbt` of hack/tools/python. No registry and no container engine are needed.
# usage: hack/dbt/image.sh    prints the image's name and the path of its archive; both depend on the packages and the programs in it
# DBT2_BIN is a program of dbt 2 that is added as /usr/local/bin/dbt2.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
CACHE=${FLOE_SECRETS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/floe-secrets-webhook}/tools

say() { echo "dbt image: $*" >&2; }
die() {
  say "$*"
  exit 1
}

# Copies files to the same paths below the stage: copy_to_stage FILE...
copy_to_stage() {
  local file
  for file; do
    mkdir -p "$stage$(dirname "$file")"
    cp -L "$file" "$stage$file"
  done
}

# Prints the shared libraries that files need, and the loader, with their real folders.
libraries_of() { # libraries_of FILE...
  local library
  for file; do ldd "$file" 2>/dev/null || true; done | grep -oE '/[^ )]+\.so[^ )]*' | sort -u |
    while read -r library; do [ ! -e "$library" ] || echo "$library"; done
}

copy_python() {
  local python prefix version
  python=$(realpath "$venv/bin/python3")
  prefix=$("$python" -c 'import sys; print(sys.base_prefix)')
  version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
  copy_to_stage "$python"
  # The link of the environment names it without the version.
  [ -e "$stage$prefix/bin/python3" ] || ln -s "$(basename "$python")" "$stage$prefix/bin/python3"
  mkdir -p "$stage$prefix/lib" "$stage$venv"
  tar -C "$prefix/lib" -c --exclude=test --exclude=tests --exclude=__pycache__ --exclude=site-packages \
    --exclude='config-*' --exclude=idlelib --exclude=ensurepip "$version" | tar -C "$stage$prefix/lib" -x
  tar -C "$venv" -c --exclude=__pycache__ --exclude=tests --exclude=pip . | tar -C "$stage$venv" -x
  # Compiled once here: containers run with a read-only root and would compile at each start. The times of files are not
  # kept in the image, so they must not count.
  "$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$stage" \
    "$stage$prefix/lib/$version" "$stage$venv/lib" >/dev/null || true
}

copy_system() {
  local git busybox applet
  git=$(command -v git) || die "git is not on the PATH: dbt requires it. Install it."
  busybox=$("$ROOT/hack/tools/tools.sh" path busybox)
  mkdir -p "$stage/usr/bin" "$stage/etc" "$stage/usr/local/bin"
  # As on today's distributions, so that libraries are found under both names.
  for applet in bin sbin lib lib64; do
    mkdir -p "$stage/usr/$applet"
    ln -s "usr/$applet" "$stage/$applet"
  done
  cp -L "$git" "$stage/usr/bin/git"
  cp -L "$busybox" "$stage/usr/bin/busybox"
  for applet in $("$busybox" --list); do
    [ -e "$stage/usr/bin/$applet" ] || ln -s busybox "$stage/usr/bin/$applet"
  done
  # PostgreSQL looks up the name of its user.
  printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n' >"$stage/etc/passwd"
  printf 'root:x:0:\nnobody:x:65534:\n' >"$stage/etc/group"
  if [ -n "${DBT2_BIN:-}" ]; then
    cp -L "$DBT2_BIN" "$stage/usr/local/bin/dbt2"
    chmod 755 "$stage/usr/local/bin/dbt2"
  fi
}

copy_libraries() {
  local programs=("$stage/usr/bin/git" "$(realpath "$venv/bin/python3")") library
  if [ -n "${DBT2_BIN:-}" ]; then programs+=("$DBT2_BIN"); fi
  while IFS= read -r library; do programs+=("$library"); done < <(find "$stage" -type f \
    \( -name '*.so' -o -name '*.so.*' -o -path '*/pginstall/bin/*' \))
  libraries_of "${programs[@]}" | grep -v "^$stage" | while read -r library; do
    [ -e "$stage$library" ] || copy_to_stage "$library"
  done
}

build() { # build OUT.tar NAME
  local out=$1 name=$2 entry adds=() start=$SECONDS
  say "building $name: usually 60 s on 2 cores"
  stage=$(mktemp -d "$CACHE/dbt-stage.XXXXXX")
  trap 'rm -rf "$stage"' EXIT
  copy_system
  copy_python
  copy_libraries
  # A stable name for the programs of the environment, whose folder has a hash in its name.
  ln -s "$venv/bin" "$stage/dbt"
  local pginstall
  pginstall=$(find "$venv/lib" -type d -name pginstall | head -n 1)
  [ -n "$pginstall" ] || die "the environment has no PostgreSQL"
  ln -s "$pginstall/bin" "$stage/postgresql"
  for entry in "$stage"/*; do
    if [ -L "$entry" ]; then
      adds+=(--link "/$(basename "$entry"):$(readlink "$entry")")
    else
      adds+=(--add "$entry:/$(basename "$entry")")
    fi
  done
  python3 "$ROOT/hack/cluster/mkimage.py" "$out.part" "$name" "${adds[@]}" --user 65534:65534 --env HOME=/tmp \
    --env PATH=/dbt:/postgresql:/usr/local/bin:/usr/bin --env DO_NOT_TRACK=1 >&2
  mv "$out.part" "$out"
  say "built $name in $((SECONDS - start)) s"
}

venv=$("$ROOT/hack/tools/python.sh" venv dbt)
key=$({
  cat "$HERE/image.sh" "$ROOT/hack/cluster/mkimage.py"
  echo "$venv"
  sha256sum "$(command -v git)" | cut -d" " -f1
  if [ -n "${DBT2_BIN:-}" ]; then sha256sum <"$DBT2_BIN"; fi
} | sha256sum | cut -c1-12)
name=localhost/floe-dbt:$key
tar=$CACHE/dbt-image-$key.tar
[ -e "$tar" ] || build "$tar" "$name" >&2
echo "$name $tar"
