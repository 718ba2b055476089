#!/usr/bin/env bash
# Fails if the offline commands (`--no-default-features`) would be built with crates of Kubernetes, TLS or servers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

crates=$(cargo tree --locked --no-default-features --edges normal,build --prefix none --format '{p}' | cut -d' ' -f1 | sort -u)
# The core is always there: an empty list would pass otherwise.
grep -qx injection <<<"$crates" || {
  echo "offline: cargo tree does not list the core" >&2
  exit 1
}
if heavy=$(grep -xE 'kube.*|k8s-openapi|.*rustls.*|aws-lc-.*|hyper.*|axum.*|opentelemetry.*|x509-parser|rcgen' <<<"$crates"); then
  echo "offline: the build without the feature cluster has ${heavy//$'\n'/, }" >&2
  exit 1
fi
