#!/usr/bin/env bash
# Put the present code on one Lambda function that is deployed already, and publish it as a version.
# Settings, layer and roles belong to the stack: deploy/deploy.sh.
#
# usage: deploy_lambda.sh NAME [--bootstrap]
#   NAME          daily-ohlcv-fetcher, daily-meta-fetcher, consolidate-bronze-daily or record-session
#   --bootstrap   package with the entry point for Runtime provided.al2023 (emulators)
#
# Prints the number of the version. AWS_REGION is the region (default: ca-west-1), AWS_ENDPOINT_URL a server in place of AWS.
set -euo pipefail

# shellcheck source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

name="" options=()
while (($# > 0)); do
  case $1 in
    --bootstrap) options+=(--bootstrap); shift ;;
    --help) usage ;;
    -*) fail "unknown option: $1; see --help" ;;
    *) [[ -z $name ]] || fail "one function at a time, not $name and $1"; name=$1; shift ;;
  esac
done
[[ -n $name ]] || fail "which function? Name one of: ${functions[*]}"
[[ " ${functions[*]} " == *" $name "* ]] || fail "there is no function $name; name one of: ${functions[*]}"
need aws "install the AWS CLI"

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$root/deploy/lambda/build_packages.sh" --out "$out" ${options[@]+"${options[@]}"}

say "updating the code of $name in $AWS_REGION"
aws lambda update-function-code --function-name "$name" --zip-file "fileb://$out/$name.zip" \
  --query CodeSha256 --output text >&2
aws lambda wait function-updated-v2 --function-name "$name"
version=$(aws lambda publish-version --function-name "$name" --query Version --output text)
say "published version $version of $name"
printf '%s\n' "$version"
