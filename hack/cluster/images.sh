#!/usr/bin/env bash
# Builds container images from files of this machine, for `cluster.sh load` or any
# other containerd. No registry and no container engine are needed.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  cat <<'X'
usage: images.sh pause OUT.tar                 localhost/pause:local, which holds a pod's namespaces
       images.sh busybox OUT.tar               localhost/busybox:local, a shell and the usual commands
       images.sh webhook BINARY OUT.tar NAME   an image of our own binary with the libraries it needs
X
}

die() {
  echo "images: $*" >&2
  exit 1
}

mkimage() { python3 "$HERE/mkimage.py" "$@"; }

busybox_file() { "$HERE/../tools/tools.sh" path busybox; }

pause() { # pause OUT.tar
  # It only has to run, and to exit on SIGTERM or SIGINT.
  mkimage "$1" localhost/pause:local --add "$(busybox_file):/bin/busybox" --user 65535:65535 \
    --entrypoint '["/bin/busybox", "sh", "-c", "trap exit TERM INT; while :; do busybox sleep 3600 & wait; done"]'
}

busybox() { # busybox OUT.tar
  local file applet links=()
  file=$(busybox_file)
  for applet in $("$file" --list); do
    [ "$applet" = busybox ] || links+=(--link "/bin/$applet:busybox")
  done
  mkimage "$1" localhost/busybox:local --add "$file:/bin/busybox" "${links[@]}" \
    --text $'/etc/passwd:root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' \
    --text $'/etc/group:root:x:0:\nnobody:x:65534:\n' \
    --cmd '["/bin/sh"]'
}

webhook() { # webhook BINARY OUT.tar NAME
  local binary=$1 library certificates=/etc/ssl/certs/ca-certificates.crt adds=()
  [ -x "$binary" ] || die "no such program: $binary"
  adds+=(--add "$binary:/usr/local/bin/floe-secrets-webhook")
  # Libraries and the loader keep their paths: the loader searches for them there.
  # A static program has none.
  for library in $(ldd "$binary" 2>/dev/null | grep -oE '/[^ ]+' | sort -u); do
    adds+=(--add "$library:$library")
  done
  if [ -f $certificates ]; then adds+=(--add "$certificates:$certificates"); fi
  mkimage "$2" "$3" "${adds[@]}" \
    --text $'/etc/passwd:root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n' \
    --text $'/etc/group:root:x:0:\nnonroot:x:65532:\n' \
    --user 65532:65532 --entrypoint '["/usr/local/bin/floe-secrets-webhook"]'
}

case "${1:-} $#" in
  "pause 2") pause "$2" ;;
  "busybox 2") busybox "$2" ;;
  "webhook 4") webhook "$2" "$3" "$4" ;;
  *)
    usage >&2
    exit 2
    ;;
esac
