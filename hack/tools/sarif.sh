#!/usr/bin/env bash
# Prints the path of the JSON schema of SARIF 2.1.0, which OASIS publishes, from the copy in a pinned Go module.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${FLOE_SECRETS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/floe-secrets-webhook}/tools
MODULE=github.com/owenrumney/go-sarif/v3

# The module's version, and by go.sum its contents, are those of sarif/go.mod.
folder=$(cd "$HERE/sarif" && go mod download -json $MODULE | sed -n 's/^\t*"Dir": "\(.*\)",$/\1/p')
mkdir -p "$CACHE"
schema=$CACHE/sarif-2.1.0-$(basename "$folder").json
if [ ! -e "$schema" ]; then
  # The schema is the text of a constant, between backquotes.
  # shellcheck disable=SC2016
  sed -e '1,/^const schema = `/{s/^const schema = `//;t;d}' -e 's/^`$//' \
    "$folder/pkg/report/v210/sarif/schema.go" >"$schema.$$"
  mv "$schema.$$" "$schema"
fi
echo "$schema"
