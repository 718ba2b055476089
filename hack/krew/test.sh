#!/usr/bin/env bash
# Checks the plugin's archive and manifest with krew's validator, and installs the plugin by krew without a network:
# hack/krew/test.sh BINARY. The validator downloads the archive from a server on loopback.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
[ $# -eq 1 ] || {
  echo "usage: hack/krew/test.sh BINARY" >&2
  exit 2
}
fail() {
  echo "krew: $*" >&2
  exit 1
}

{
  read -r krew
  read -r validator
  read -r kubectl
} < <("$ROOT/hack/tools/tools.sh" path krew validate-krew-manifest kubectl)
folder=$(mktemp -d)
server=""
finish() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
  rm -rf "$folder"
}
trap finish EXIT

# kubectl finds krew as its plugin.
mkdir -p "$folder/bin" "$folder/dist" "$folder/krew"
ln -s "$kubectl" "$folder/bin/kubectl"
ln -s "$krew" "$folder/bin/kubectl-krew"
export PATH=$folder/krew/bin:$folder/bin:$PATH HOME=$folder KREW_NO_UPGRADE_CHECK=1

case $(uname -m) in
  x86_64) arch=amd64 ;;
  aarch64 | arm64) arch=arm64 ;;
  *) fail "$(uname -m) is not a platform of the plugin" ;;
esac
archive=$("$ROOT/hack/archive.sh" "$1" "$(uname -s | tr '[:upper:]' '[:lower:]')" "$arch" "$folder/dist")

# The server writes its port into a fifo as soon as it listens.
mkfifo "$folder/port"
python3 -c '
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
with open(sys.argv[2], "w") as fifo:
    fifo.write(str(server.server_port) + "\n")
server.serve_forever()
' "$folder/dist" "$folder/port" 2>"$folder/server.log" &
server=$!
# Opened for reading and writing, so that a server that does not start is not waited for.
exec 3<>"$folder/port"
read -r -t 20 -u 3 port || fail "the server did not start: $(cat "$folder/server.log")"
exec 3>&-

"$ROOT/hack/krew/manifest.sh" "http://127.0.0.1:$port" "$archive" >"$folder/floe-secrets.yaml"
"$validator" -manifest "$folder/floe-secrets.yaml" || fail "the manifest is not valid"
kill "$server"
server=""

# Without the server: from the archive alone.
export KREW_ROOT=$folder/krew
kubectl krew install --manifest "$folder/floe-secrets.yaml" --archive "$archive" </dev/null
[ -x "$KREW_ROOT/bin/kubectl-floe_secrets" ] || fail "krew did not link the plugin"
usage=$(kubectl floe-secrets --help)
grep -q 'Usage: kubectl floe-secrets' <<<"$usage" || fail "the installed plugin prints another usage line: $usage"
ls "$KREW_ROOT"/store/floe-secrets/*/LICENSE >/dev/null || fail "the licence is not installed"
echo "krew: the manifest is valid, and the plugin was installed and run"
