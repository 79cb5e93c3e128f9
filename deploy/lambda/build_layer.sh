#!/usr/bin/env bash
# Build the Lambda layer: OUT/layer-ARCH.zip with all that the functions need beside condvest itself, for one architecture.
# Any machine builds for any architecture: wheels are only downloaded and unpacked, and each is checked against its hash.
# With the Python of --python on PATH the layer also has byte code. The same requirements and the same Python (or none) give the
# same bytes. Prints the unzipped size of the layer and the largest function package, and fails above Lambda's limit for both
# together (250 MiB).
#
# usage: build_layer.sh [--arch arm64|x86_64] [--python X.Y] [--out DIR] [--requirements FILE]
#   --arch ARCH           architecture of the functions (default: arm64)
#   --python X.Y          Python of the functions' runtime (default: 3.12)
#   --out DIR             where the zips go (default: build/lambda in the checkout)
#   --requirements FILE   pinned requirements with hashes (default: layer_requirements.txt beside this script)
#
# PYTHON names the Python that runs pip (default: python3). LAYER_LIMIT_MIB is the limit (default: 250).
set -euo pipefail

# shellcheck source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

arch=arm64 version=3.12 out="$root/build/lambda" requirements="$root/deploy/lambda/layer_requirements.txt"
while (($# > 0)); do
  case $1 in
    --arch) arch=$(value_of "$@"); shift 2 ;;
    --python) version=$(value_of "$@"); shift 2 ;;
    --out) out=$(value_of "$@"); shift 2 ;;
    --requirements) requirements=$(value_of "$@"); shift 2 ;;
    --help) usage ;;
    *) fail "unknown option: $1; see --help" ;;
  esac
done
case $arch in
  arm64) machine=aarch64 ;;
  x86_64) machine=x86_64 ;;
  *) fail "--arch is $arch: Lambda has arm64 and x86_64; name one of these" ;;
esac
[[ $version =~ ^3\.[0-9]+$ ]] || fail "--python is $version: this is no version such as 3.12"
[[ -f $requirements ]] || fail "--requirements is $requirements: there is no such file"
limit_mib=${LAYER_LIMIT_MIB:-250}
[[ $limit_mib =~ ^[1-9][0-9]*$ ]] || fail "LAYER_LIMIT_MIB is $limit_mib: this is no whole number of MiB above 0"
need "$python"

mkdir -p "$out"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
site="$stage/python"

# Amazon Linux 2023 has glibc 2.34: wheels for it or for anything older, down to manylinux2014 (2.17).
platforms=()
for minor in {34..17}; do platforms+=(--platform "manylinux_2_${minor}_$machine"); done
platforms+=(--platform "manylinux2014_$machine")

say "downloading the wheels of $(basename "$requirements") for Python $version on $machine"
"$python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes \
  --only-binary=:all: --implementation cp --python-version "$version" "${platforms[@]}" \
  --target "$site" --requirement "$requirements" >&2

# What a function never loads. Everything in pyarrow is linked against its core libraries, substrait among them: they stay.
# Flight and Arrow's own S3 client are loaded by nothing else (the lake is read through obstore).
rm -rf "${site:?}/bin" "$site"/pyarrow/{include,includes,src}
find "$site" -type d \( -name tests -o -name __pycache__ \) -prune -exec rm -rf {} +
find "$site" -type f \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.pyi' -o -name '*.h' \) -delete
rm -f "$site"/pyarrow/{_flight.,_s3fs.,_pyarrow_cpp_tests.,libarrow_flight.,libarrow_python_flight.,libarrow_s3.}*so*
# The wheel has a library under three names; programs ask for libNAME.so.NNNN.
rm -f "$site"/pyarrow/libarrow*.so "$site"/pyarrow/libarrow*.so.*.*.*
# With byte code a cold start takes 0.6 s, without it 1.0 s (/opt is read-only there). Only the runtime's own Python can make
# it; it holds no times and no path of this machine, so the same Python gives the same bytes.
compiler=""
for candidate in "python$version" "$python"; do
  if [[ $("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) == "$version" ]]; then
    compiler=$candidate
    break
  fi
done
if [[ -n $compiler ]]; then
  "$compiler" -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$stage" -p /opt "$site" >&2
else
  say "there is no Python $version here: the layer has no byte code, and a cold start takes 0.4 s more"
fi
# Notes of the installation: they name the Python that installed.
rm -f "$site"/*.dist-info/{RECORD,INSTALLER,REQUESTED}
# Modes as they come from wheels differ by their makers, and shared libraries need not be executable.
find "$site" -type f -exec chmod 644 {} +

layer="$out/layer-$arch.zip"
layer_bytes=$("$python" "$root/deploy/lambda/zip_folder.py" pack "$stage" "$layer")

"$root/deploy/lambda/build_packages.sh" --out "$stage/packages"
read -r package_bytes package < <("$python" "$root/deploy/lambda/zip_folder.py" largest "$stage/packages"/*.zip)
total_bytes=$((layer_bytes + package_bytes))

mib() { awk -v bytes="$1" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'; }
printf '%s %s unzipped: layer %s + largest function %s (%s) = %s of %s MiB\n' "$(basename "$layer")" "$arch" \
  "$(mib "$layer_bytes")" "$(basename "$package" .zip)" "$(mib "$package_bytes")" "$(mib "$total_bytes")" "$limit_mib"
if ((total_bytes > limit_mib * 1048576)); then
  rm -f "$layer"
  fail "$(mib "$total_bytes") unzipped is above the limit of $limit_mib MiB: take something out of $(basename "$requirements")"
fi
