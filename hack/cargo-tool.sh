#!/usr/bin/env bash
# Prints the path of a cargo tool of an exact version. Builds it into the cache first if it is missing.
# usage: hack/cargo-tool.sh CRATE VERSION [PROGRAM]    (PROGRAM: if its name is not that of the crate)
set -euo pipefail

name=${1:?usage: hack/cargo-tool.sh CRATE VERSION [PROGRAM]}
version=${2:?usage: hack/cargo-tool.sh CRATE VERSION [PROGRAM]}
program=${3:-$name}
cache=${FLOE_SECRETS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/floe-secrets-webhook}
root=$cache/cargo-tools/$name-$version
if [ ! -x "$root/bin/$program" ]; then
  mkdir -p "$cache/cargo-tools"
  echo "building $name $version (usually about 3 minutes, once)" >&2
  # A temporary target folder: in the project's own, dependencies would be rebuilt with other features.
  CARGO_TARGET_DIR=$root.build cargo install --quiet --locked --root "$root" --version "$version" "$name" >&2
  rm -rf "$root.build"
fi
echo "$root/bin/$program"
