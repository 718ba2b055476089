# shellcheck shell=bash
# The cluster's keys and certificates, and a kubeconfig for everyone who needs
# one. All files go to the current folder. Elliptic curves, because those keys are made in no time.

make_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key" 2>/dev/null; }

# For servers and clients alike. Version 3 with a subject alternative name:
# modern TLS libraries refuse anything else.
make_certificate() { # make_certificate NAME SUBJECT ALTERNATIVE-NAMES
  make_key "$1"
  openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 8)" -days 365 -out "$1.crt" \
    -extfile <(
      cat <<X
basicConstraints=CA:FALSE
keyUsage=digitalSignature,keyEncipherment
extendedKeyUsage=serverAuth,clientAuth
subjectAltName=$3
X
    ) 2>/dev/null
  rm "$1.csr"
}

make_kubeconfig() { # make_kubeconfig NAME
  cat >"$1.conf" <<X
apiVersion: v1
kind: Config
clusters:
  - name: $NAME
    cluster: {server: "https://$NODE_IP", certificate-authority-data: $(base64 -w0 ca.crt)}
users:
  - name: $1
    user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}
contexts:
  - name: $NAME
    context: {cluster: $NAME, user: $1}
current-context: $NAME
X
}

make_client() { # make_client NAME SUBJECT
  make_certificate "$1" "$2" "DNS:$1"
  make_kubeconfig "$1"
}

make_pki() { # make_pki FOLDER: unless it has one
  local service=kubernetes.default.svc
  if [ -e "$1/complete" ]; then return; fi
  mkdir -p "$1"
  chmod 700 "$1"
  (
    cd "$1" || exit
    make_key ca
    openssl req -x509 -new -key ca.key -days 365 -subj "/CN=$NAME-ca" -out ca.crt
    make_key service-accounts
    make_certificate apiserver /CN=kube-apiserver \
      "DNS:kubernetes,DNS:kubernetes.default,DNS:$service,DNS:$service.cluster.local,DNS:localhost,IP:127.0.0.1,IP:$NODE_IP,IP:$SERVICE_IP"
    # How the API server calls the kubelet, for logs and exec.
    make_certificate apiserver-to-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client DNS:kube-apiserver
    make_client admin /O=system:masters/CN=admin
    make_client controller-manager /CN=system:kube-controller-manager
    make_client scheduler /CN=system:kube-scheduler
    make_certificate kubelet "/O=system:nodes/CN=system:node:$NAME" "DNS:$NAME,IP:$NODE_IP"
    make_kubeconfig kubelet
    touch complete
  )
}
