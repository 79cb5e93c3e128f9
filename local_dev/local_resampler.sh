#!/usr/bin/env bash
# Run the resampler on this machine, without a container, on the lake that the environment or `.env` names.
#
# usage: local_resampler.sh [--compose] [--force-full] [--intervals 3,5,...]
#   --compose      take the lake in the S3 server of docker-compose.yml (`docker compose -f local_dev/docker-compose.yml up -d`)
#   --force-full   trust no manifest or checkpoint: build all anew
#   --intervals    which to build (default: RESAMPLING_INTERVALS, else all)
#
# LAKE_URL             the lake: a folder or s3://bucket/prefix (default: ./lake); S3_BUCKET instead of it means s3://$S3_BUCKET
# RESAMPLING_INTERVALS which intervals, for example 3,5,8 (default: 3,5,8,13,21,34)
# AWS_ENDPOINT_URL     an S3 server in place of AWS, with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; AWS_REGION
# PYTHON               a Python that has condvest (default: that of .venv, which `make setup` makes)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}

options=()
for word in "$@"; do
  case $word in
    --help)
      awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"
      exit 0
      ;;
    --compose)
      export LAKE_URL=s3://lake AWS_ENDPOINT_URL=http://127.0.0.1:8333 AWS_REGION=ca-west-1
      export AWS_ACCESS_KEY_ID=condvest AWS_SECRET_ACCESS_KEY=only-on-this-machine
      unset AWS_SESSION_TOKEN
      ;;
    *) options+=("$word") ;;
  esac
done
if ! command -v "$python" >/dev/null; then
  printf '%s: there is no %s; run "make setup", or name a Python that has condvest by PYTHON\n' "$(basename "$0")" "$python" >&2
  exit 1
fi

printf 'resampling %s\n' "${LAKE_URL:-${S3_BUCKET:-the lake of .env, else ./lake}}" >&2
exec "$python" -m condvest resample ${options[@]+"${options[@]}"}
