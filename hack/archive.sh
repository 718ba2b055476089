#!/usr/bin/env bash
# Writes the archive of the kubectl plugin for one platform: hack/archive.sh BINARY OS ARCH DIR
# OS and ARCH are those of Go and krew: linux, darwin; amd64, arm64. The archive has the program under its plugin's name,
# the completion script and the licence. The same files result in the same bytes. Prints the path of the archive.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ $# -eq 4 ] || {
  echo "usage: hack/archive.sh BINARY OS ARCH DIR" >&2
  exit 2
}
binary=$1 os=$2 arch=$3 out=$4
[ -f "$binary" ] || {
  echo "archive: $binary is not a file; build it with 'make release'" >&2
  exit 1
}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
install -m 755 "$binary" "$folder/kubectl-floe_secrets"
install -m 755 "$ROOT/hack/krew/kubectl_complete-floe_secrets" "$folder/"
install -m 644 "$ROOT/LICENSE" "$folder/"
mkdir -p "$out"
archive=$out/floe-secrets_v${version}_${os}_${arch}.tar.gz
tar -C "$folder" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf - \
  LICENSE kubectl-floe_secrets kubectl_complete-floe_secrets | gzip -n >"$archive"
echo "$archive"
