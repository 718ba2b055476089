#!/bin/sh
# Runs every fuzz target for a number of seconds, from the kept corpus. Fails on the first crash.
# usage: hack/fuzz.sh [seconds=60] [target...]
#        hack/fuzz.sh build                   (all targets, without running them)
set -eu

cargo_fuzz_version=0.13.2
seconds=${1:-60}
[ $# -eq 0 ] || shift

cd "$(dirname "$0")/.."
cache=${FLOE_SECRETS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/floe-secrets-webhook}
PATH=$cache/bin:$PATH

if [ "$(cargo-fuzz --version 2>/dev/null || true)" != "cargo-fuzz $cargo_fuzz_version" ]; then
  cargo install cargo-fuzz --version "$cargo_fuzz_version" --locked --root "$cache"
fi

# Coverage and sanitizer flags are unstable, but the stable compiler has them, so no nightly is needed. Our code has no
# `unsafe`. The address sanitizer is used because it sees each allocation, and the limit of allocations is tested.
export RUSTC_BOOTSTRAP=1
# New inputs are kept for the next run, but not checked in.
found=$cache/fuzz
export CARGO_TARGET_DIR="${FUZZ_TARGET_DIR:-$PWD/fuzz/target}"

# With one codegen unit, cargo-fuzz's default, the build would take most of the time.
[ "$seconds" != build ] || exec cargo-fuzz build -s address --codegen-units 16

# shellcheck disable=SC2046 # one word per target
[ $# -gt 0 ] || set -- $(cargo-fuzz list)
for target; do
  mkdir -p "$found/$target"
  echo "fuzz $target: ${seconds} s"
  cargo-fuzz run -s address --codegen-units 16 "$target" "$found/$target" "fuzz/corpus/$target" -- \
    -dict=fuzz/dictionary -max_total_time="$seconds" -timeout=5 -malloc_limit_mb=32 -rss_limit_mb=1024 -max_len=65536 \
    -verbosity=0 -print_funcs=0
done
