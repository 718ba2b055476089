#!/usr/bin/env bash
# Prints the folder of Keycloak, for tests of identity providers. A missing one is downloaded by Maven, checked and
# prepared, in ${FLOE_SECRETS_CACHE:-${XDG_CACHE_HOME:-~/.cache}/floe-secrets-webhook}/tools. Needs Java 17 or newer.
set -euo pipefail

CACHE=${FLOE_SECRETS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/floe-secrets-webhook}/tools
VERSION=26.7.0
SHA256=f771df0aa1e4820f57d56f7d6d015beb6415487b43f8de7e5a6d48f8a7fe118a
# Build options of Keycloak. All others are given at each start.
OPTIONS="--db=dev-file --health-enabled=true"
MAVEN_PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:3.8.1
# Seconds that it usually takes (2 cores, nothing cached).
USUAL=60

say() { echo "keycloak: $*" >&2; }
die() {
  say "$*"
  exit 1
}

sha256() { if command -v sha256sum; then sha256sum; else shasum -a 256; fi | tail -n 1 | cut -c1-64; }

check_programs() {
  local version
  command -v mvn >/dev/null || die "mvn is not on the PATH, and Keycloak is an artifact of Maven. Install Maven"
  command -v java >/dev/null || die "java is not on the PATH. Install Java 17 or newer"
  version=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
  [ "${version:-0}" -ge 17 ] || die "java is version ${version:-unknown}, and Keycloak needs 17 or newer"
}

# Downloads and unpacks Keycloak, and builds it for the options of the tests: later starts then take seconds.
prepare() { # prepare FOLDER
  local folder=$1 out=$1/.building.$$ archive=keycloak-quarkus-dist-$VERSION.tar.gz start=$SECONDS
  [ -e "$folder/complete" ] && return
  check_programs
  say "downloading and preparing Keycloak $VERSION (176 MB): usually $USUAL s on 2 cores"
  rm -rf "$folder"/.building.* "$folder/keycloak"
  mkdir "$out"
  (cd "$out" && mvn -q -B "$MAVEN_PLUGIN:copy" "-DoutputDirectory=$out" \
    "-Dartifact=org.keycloak:keycloak-quarkus-dist:$VERSION:tar.gz" >&2) || {
    rm -rf "$out"
    die "Maven could not download Keycloak $VERSION. See its message above"
  }
  [ "$(sha256 <"$out/$archive")" = "$SHA256" ] || {
    rm -rf "$out"
    die "$archive is not the file that this script names (SHA-256). Delete it from Maven's repository and try again"
  }
  say "downloaded after $((SECONDS - start)) s"
  tar -xzf "$out/$archive" -C "$out"
  # shellcheck disable=SC2086 # options have no spaces
  "$out/keycloak-$VERSION/bin/kc.sh" build $OPTIONS >"$out/log" 2>&1 || {
    cat "$out/log" >&2
    rm -rf "$out"
    die "Keycloak could not be prepared"
  }
  mv "$out/keycloak-$VERSION" "$folder/keycloak"
  rm -rf "$out"
  touch "$folder/complete"
  say "Keycloak $VERSION is ready after $((SECONDS - start)) s"
}

key=$(echo "$SHA256 $OPTIONS" | sha256)
folder=$CACHE/keycloak-$VERSION-${key:0:16}
mkdir -p "$folder"
(
  # One caller at a time prepares it, the others wait.
  if command -v flock >/dev/null; then
    exec 9>"$folder/.lock"
    flock 9
  fi
  prepare "$folder"
)
echo "$folder/keycloak"
