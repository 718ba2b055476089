#!/usr/bin/env bash
# Prints krew's manifest for archives of hack/archive.sh: hack/krew/manifest.sh BASE_URL ARCHIVE...
# BASE_URL is where the archives will be downloaded from. Version, platforms and checksums are those of the archives.
set -euo pipefail

[ $# -ge 2 ] || {
  echo "usage: hack/krew/manifest.sh BASE_URL ARCHIVE..." >&2
  exit 2
}
base=${1%/}
shift

version=""
platforms=""
for archive in "$@"; do
  name=$(basename "$archive")
  [[ $name =~ ^floe-secrets_(v[0-9][^_]*)_([a-z]+)_([a-z0-9]+)\.tar\.gz$ ]] || {
    echo "manifest: $name is not the name of an archive such as floe-secrets_v1.0.0_linux_amd64.tar.gz" >&2
    exit 1
  }
  if [ -n "$version" ] && [ "$version" != "${BASH_REMATCH[1]}" ]; then
    echo "manifest: the archives have two versions, $version and ${BASH_REMATCH[1]}; build them from one checkout" >&2
    exit 1
  fi
  version=${BASH_REMATCH[1]}
  sum=$(sha256sum "$archive" | cut -d' ' -f1)
  platforms+="
    - selector:
        matchLabels:
          os: ${BASH_REMATCH[2]}
          arch: ${BASH_REMATCH[3]}
      uri: $base/$name
      sha256: $sum
      bin: kubectl-floe_secrets
      files:
        - from: \"*\"
          to: ."
done

cat <<X
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: floe-secrets
spec:
  version: $version
  shortDescription: Inject secrets by name into pods, and find pods without them
  description: |
    Works with manifests, and with clusters that have the webhook
    floe-secrets-webhook: injects the secrets that annotations name into
    manifests, finds pods and workloads that run without the secrets that
    they ask for, and checks an installation. No command reads the value
    of a secret.
  caveats: |
    Completion needs the script kubectl_complete-floe_secrets on the PATH:
      ln -s ~/.krew/store/floe-secrets/$version/kubectl_complete-floe_secrets ~/.krew/bin/
  platforms:${platforms}
X
