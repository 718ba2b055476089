#!/usr/bin/env bash
# Renders manifests/webhook and manifests/webhook-cert-manager from the chart: hack/render-manifests.sh
# With --check it changes nothing, and fails if they differ from what it would write.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
NAME=floe-secrets-webhook
HEADER="# Rendered from charts/$NAME by hack/render-manifests.sh: change it there."

render() { # render OUT HELM-ARGUMENTS…
  "$HELM" template $NAME "$ROOT/charts/$NAME" --namespace $NAME --no-hooks --output-dir "$1" "${@:2}" >/dev/null
}

# Prints a rendered file of the chart as a plain manifest, without the labels for Helm and for the chart's version.
plain() { # plain TEMPLATE
  echo "$HEADER"
  grep -vE '^# Source: |^ +(helm.sh/chart|app.kubernetes.io/managed-by): ' "$1" | sed '1{/^---$/d}' | cat -s
}

kustomization() {
  printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n'
  printf '  - %s\n' "$@"
}

write() { # write FOLDER: the manifests, into FOLDER/webhook and FOLDER/webhook-cert-manager
  local rendered file files=()
  rendered=$(mktemp -d)
  render "$rendered/plain" --values "$ROOT/manifests/values.yaml"
  render "$rendered/defaults"
  mkdir -p "$1/webhook" "$1/webhook-cert-manager"
  # Files that earlier versions rendered.
  grep -lsF -- "$HEADER" "$1"/webhook*/*.yaml | while read -r file; do rm "$file"; done || true
  for file in "$rendered/plain/$NAME"/templates/*.yaml; do
    plain "$file" >"$1/webhook/${file##*/}"
    files+=("${file##*/}")
  done
  {
    echo "$HEADER"
    kustomization namespace.yaml "${files[@]}"
  } >"$1/webhook/kustomization.yaml"
  plain "$rendered/defaults/$NAME/templates/certificate.yaml" >"$1/webhook-cert-manager/certificate.yaml"
  {
    echo "$HEADER"
    kustomization ../webhook certificate.yaml
    cat <<X
patches:
  - target:
      kind: MutatingWebhookConfiguration
    patch: |
      apiVersion: admissionregistration.k8s.io/v1
      kind: MutatingWebhookConfiguration
      metadata:
        name: zz-$NAME
        annotations:
          cert-manager.io/inject-ca-from: $NAME/$NAME-tls
  # After the certificate's files.
  - target:
      kind: Deployment
      name: $NAME
    patch: |
      - op: test
        path: /spec/template/spec/containers/0/args/5
        value: --tls-key=/tls/tls.key
      - op: add
        path: /spec/template/spec/containers/0/args/6
        value: --tls-certificate=$NAME-tls
  - target:
      kind: Deployment
      name: $NAME-admin
    patch: |
      - op: test
        path: /spec/template/spec/containers/0/args/4
        value: --tls-key=/tls/tls.key
      - op: add
        path: /spec/template/spec/containers/0/args/5
        value: --tls-certificate=$NAME-admin-tls
X
  } >"$1/webhook-cert-manager/kustomization.yaml"
  rm -r "$rendered"
}

HELM=$("$ROOT/hack/tools/tools.sh" path helm)
case ${1:-} in
  "") write "$ROOT/manifests" ;;
  --check)
    copy=$(mktemp -d)
    trap 'rm -r "$copy"' EXIT
    cp -r "$ROOT/manifests/." "$copy"
    write "$copy"
    diff -ru "$ROOT/manifests" "$copy" || {
      echo "the manifests differ from what the chart renders; run: hack/render-manifests.sh" >&2
      exit 1
    }
    ;;
  *)
    echo "usage: hack/render-manifests.sh [--check]" >&2
    exit 2
    ;;
esac
