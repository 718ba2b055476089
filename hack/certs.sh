#!/usr/bin/env bash
# Creates a CA and a serving certificate for trying the webhook out: hack/certs.sh DIR NAME…
# Writes ca.crt, tls.crt and tls.key into DIR; the names are DNS names, or IP:address. Valid for 30 days.
set -euo pipefail

dir=${1:?usage: hack/certs.sh DIR NAME…}
shift
[ $# -gt 0 ] || {
  echo "usage: hack/certs.sh DIR NAME…" >&2
  exit 2
}
command -v openssl >/dev/null || {
  echo "certs: openssl is needed; install it with your package manager" >&2
  exit 1
}

names=""
for name in "$@"; do
  case $name in IP:*) ;; *) name=DNS:$name ;; esac
  names=${names:+$names,}$name
done
mkdir -p "$dir"
umask 077
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1" 2>/dev/null; }
key "$dir/ca.key"
openssl req -x509 -new -key "$dir/ca.key" -days 30 -subj "/CN=floe-secrets-webhook-ca" -out "$dir/ca.crt"
key "$dir/tls.key"
# Version 3, because rustls and Go reject older versions.
openssl req -new -key "$dir/tls.key" -subj "/CN=floe-secrets-webhook" |
  openssl x509 -req -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -set_serial "0x$(openssl rand -hex 8)" -days 30 \
    -out "$dir/tls.crt" -extfile <(printf '%s\n' "basicConstraints=CA:FALSE" \
      "keyUsage=digitalSignature" "extendedKeyUsage=serverAuth" "subjectAltName=$names") 2>/dev/null
