#!/usr/bin/env bash
# Makes the virtual environments of Python programs that tests run, from pinned lists of packages into a cache.
# See usage().
set -euo pipefail
# A failed command within $(…) fails, too.
shopt -s inherit_errexit

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${FLOE_SECRETS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/floe-secrets-webhook}/tools

usage() {
  cat <<'X'
usage: python.sh venv NAME                   print the folder of the environment of python/NAME.txt
       python.sh path [--env NAME] PROGRAM   print the path of a program; the default environment is "tools"
       python.sh lock NAME                   write python/NAME.txt anew from python/NAME.in, with uv
       python.sh list                        list the environments, and which are made

A missing environment is made, in ${FLOE_SECRETS_CACHE:-${XDG_CACHE_HOME:-~/.cache}/floe-secrets-webhook}/tools.

A list is complete and pinned, so nothing is resolved when it is installed. It needs Python 3.11 to 3.13: `python3`, or
the program that PYTHON names. Packages come from the index that pip is configured for.
X
}

# environment | seconds that it usually takes (2 cores, nothing cached)
environments() {
  cat <<X
dbt|60
adapters|240
flows|150
tools|30
X
}

# ------------------------------------------------------------------- helpers

say() { echo "python: $*" >&2; }
die() {
  say "$*"
  exit 1
}

python_program() {
  local program=${PYTHON:-python3} version
  command -v "$program" >/dev/null || die "$program is not on the PATH. Install Python 3.11 or newer, or set PYTHON"
  version=$("$program" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  case $version in
    3.11 | 3.12 | 3.13) ;;
    *) die "$program is Python $version, and the packages need 3.11 to 3.13. Set PYTHON to another one" ;;
  esac
  "$program" -c 'import ensurepip' 2>/dev/null || die "$program cannot make environments. Install python3-venv"
  echo "$program"
}

# Sets REPLY to the folder of an environment. Its name has a hash of the list and of the Python version.
environment_folder() { # environment_folder NAME
  local list=$HERE/python/$1.txt python key
  [ -f "$list" ] || die "no such environment: $1 (see: python.sh list)"
  python=$(python_program)
  key=$({
    cat "$list"
    "$python" -c 'import sys; print(sys.version, sys.base_prefix)'
  } | sha256sum | cut -c1-16)
  REPLY=$CACHE/python-$1-$key
}

make_environment() { # make_environment NAME FOLDER
  local name=$1 folder=$2 usual start=$SECONDS
  [ -e "$folder/complete" ] && return
  usual=$(environments | awk -F'|' -v name="$name" '$1 == name { print $2 }')
  say "installing $(grep -c == "$HERE/python/$name.txt") packages of python/$name.txt: usually ${usual:-60} s on 2 cores"
  # Programs of an environment have its path in them, so it is made in place, and the marker comes last.
  local program
  program=$(python_program)
  "$program" -m venv --clear "$folder/venv" >&2
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-compile \
    --requirement "$HERE/python/$name.txt" >&2 || {
    rm -rf "$folder/venv"
    die "installing python/$name.txt failed"
  }
  touch "$folder/complete"
  say "installed python/$name.txt in $((SECONDS - start)) s"
}

# Prints the folder of an environment, and makes it if it is missing.
ensure() { # ensure NAME
  local REPLY
  environment_folder "$1"
  mkdir -p "$REPLY"
  (
    # One caller at a time makes it, the others wait.
    if command -v flock >/dev/null; then
      exec 9>"$REPLY/.lock"
      flock 9
    fi
    make_environment "$1" "$REPLY"
  ) || exit 1
  echo "$REPLY/venv"
}

path_of() { # path_of NAME PROGRAM
  local folder
  folder=$(ensure "$1")
  [ -x "$folder/bin/$2" ] || die "python/$1.txt has no program $2"
  echo "$folder/bin/$2"
}

lock() { # lock NAME
  command -v uv >/dev/null || die "uv is not on the PATH. Install it: https://docs.astral.sh/uv"
  uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
    "$HERE/python/$1.in" --output-file "$HERE/python/$1.txt"
}

list() {
  local name REPLY state
  for name in $(environments | cut -d'|' -f1); do
    environment_folder "$name"
    if [ -e "$REPLY/complete" ]; then state=made; else state="not made"; fi
    printf '%-12s %-9s %s\n' "$name" "$state" "$REPLY"
  done
}

case "${1:-} $#" in
  "venv 2") ensure "$2" ;;
  "path 2") path_of tools "$2" ;;
  "path 4")
    [ "$2" = --env ] || {
      usage >&2
      exit 2
    }
    path_of "$3" "$4"
    ;;
  "lock 2") lock "$2" ;;
  "list 1") list ;;
  *)
    usage >&2
    exit 2
    ;;
esac
