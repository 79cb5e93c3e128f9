#!/usr/bin/env bash
# Build the package of each Lambda function: OUT/NAME.zip with condvest's own modules. What they need is in the layer.
# The same sources give the same bytes.
#
# usage: build_packages.sh [--out DIR] [--bootstrap]
#   --out DIR     where the zips go (default: build/lambda in the checkout)
#   --bootstrap   add the entry point for Runtime provided.al2023, on emulators that run no managed Python
#
# PYTHON names the Python that zips (default: python3).
set -euo pipefail

# shellcheck source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

out="$root/build/lambda" bootstrap=no
while (($# > 0)); do
  case $1 in
    --out) out=$(value_of "$@"); shift 2 ;;
    --bootstrap) bootstrap=yes; shift ;;
    --help) usage ;;
    *) fail "unknown option: $1; see --help" ;;
  esac
done
need "$python"

mkdir -p "$out"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

# All but the command line, the demonstration and the reading API: no handler loads these.
tar -C "$root/src" --exclude=__pycache__ --exclude=condvest/__main__.py \
  --exclude=condvest/analytics --exclude=condvest/cli --exclude=condvest/demo -cf - condvest | tar -C "$stage" -xf -
if [[ $bootstrap == yes ]]; then
  install -m 755 "$root/deploy/lambda/bootstrap" "$stage/bootstrap"
fi
# Modes differ between checkouts (umask); nothing of the package is executable but the entry point.
find "$stage/condvest" -type f -exec chmod 644 {} +

for name in "${functions[@]}"; do
  size=$("$python" "$root/deploy/lambda/zip_folder.py" pack "$stage" "$out/$name.zip")
  say "built $out/$name.zip: $((size / 1024)) KiB unzipped"
done
