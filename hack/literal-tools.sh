#!/usr/bin/env bash
# Counts what the detector for literal secrets, gitleaks and detect-secrets find in the corpus. See usage().
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

GITLEAKS=v8.30.1
DETECT_SECRETS=1.5.0
TOOLS=${FLOE_SECRETS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/floe-secrets-webhook}/literal-tools

usage() {
  cat <<X
usage: hack/literal-tools.sh

Renders tests/testdata/literals as YAML, one field and value per line, and prints for each detector how many of the
200 literals it finds and how many of the 200 harmless values it reports: the lines with at least one report.
gitleaks $GITLEAKS (a Go module) and detect-secrets $DETECT_SECRETS (PyPI) are installed once into
$TOOLS.
LITERALS_TEST, if set, is the built test program of the library; otherwise cargo builds it.
X
}

install_tools() {
  mkdir -p "$TOOLS"
  [ -x "$TOOLS/bin/gitleaks" ] || GOBIN=$TOOLS/bin go install "github.com/zricethezav/gitleaks/v8@$GITLEAKS"
  if [ ! -x "$TOOLS/venv/bin/detect-secrets" ]; then
    python3 -m venv "$TOOLS/venv"
    "$TOOLS/venv/bin/pip" install --quiet "detect-secrets==$DETECT_SECRETS"
  fi
}

# Writes secrets.yaml and harmless.yaml, and the counts of our own detector.
render() {
  export LITERALS_OUT=$1
  local args=(--exact literals::tests::corpus_is_written_for_other_detectors --ignored)
  if [ -n "${LITERALS_TEST:-}" ]; then
    "$LITERALS_TEST" "${args[@]}" >/dev/null
  else
    cargo test --quiet --locked --lib -- "${args[@]}" >/dev/null
  fi
}

# Lines of a file that gitleaks reports.
gitleaks_lines() {
  "$TOOLS/bin/gitleaks" stdin --no-banner --log-level error --exit-code 0 --report-format json --report-path - <"$1" |
    python3 -c 'import json, sys; print(len({f["StartLine"] for f in json.load(sys.stdin) or []}))'
}

# Lines of a file that detect-secrets reports, with all of its plugins. No key is sent to a vendor to verify it.
detect_secrets_lines() {
  (cd "$(dirname "$1")" && "$TOOLS/venv/bin/detect-secrets" scan --no-verify "$(basename "$1")") |
    python3 -c 'import json, sys; print(len({f["line_number"] for r in json.load(sys.stdin)["results"].values() for f in r}))'
}

main() {
  [ $# -eq 0 ] || {
    usage
    exit 2
  }
  install_tools
  local out
  out=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$out'" EXIT
  render "$out"
  local found reported
  found=$(cat "$out/secrets.found")
  reported=$(cat "$out/harmless.found")
  local row="%-30s %10s %10s\n"
  # shellcheck disable=SC2059 # the format is above
  {
    printf "$row" detector literals harmless
    printf "$row" floe-secrets-webhook "$found" "$reported"
    printf "$row" "gitleaks $GITLEAKS" "$(gitleaks_lines "$out/secrets.yaml")" "$(gitleaks_lines "$out/harmless.yaml")"
    printf "$row" "detect-secrets $DETECT_SECRETS" "$(detect_secrets_lines "$out/secrets.yaml")" \
      "$(detect_secrets_lines "$out/harmless.yaml")"
  }
}

main "$@"
