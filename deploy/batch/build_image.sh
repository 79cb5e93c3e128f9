#!/usr/bin/env bash
# Build the image of the Batch jobs and push it to its ECR repository, tagged with the commit and `latest`.
# An image of this commit that is there already is neither built nor pushed again. Prints the image's address.
#
# usage: build_image.sh [--arch arm64|x86_64] [--repository NAME] [--tag TAG] [--force] [--no-push] [--dry-run | --print-tag]
#   --arch ARCH         architecture of the jobs (default: arm64); another than this machine's needs emulation (binfmt, qemu)
#   --repository NAME   ECR repository (default: condvest-batch-resampler); the stack makes it
#   --tag TAG           what --print-tag printed before, so that both mean one image (default: made anew)
#   --force             build and push even if the repository has this commit
#   --no-push           build here only; no AWS account is asked
#   --dry-run           only print the commands
#   --print-tag         only print the tag: the commit and the architecture, with -changed where files differ from the commit
#
# CONTAINER_TOOL is docker or podman (default: docker), AWS_REGION the region (default: ca-west-1), AWS_ENDPOINT_URL a server in
# place of AWS.
set -euo pipefail

# shellcheck source=../common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

arch=arm64 repository=condvest-batch-resampler force=no push=yes dry_run=no tag="" prints_tag=no
while (($# > 0)); do
  case $1 in
    --arch) arch=$(value_of "$@"); shift 2 ;;
    --repository) repository=$(value_of "$@"); shift 2 ;;
    --tag) tag=$(value_of "$@"); shift 2 ;;
    --force) force=yes; shift ;;
    --no-push) push=no; shift ;;
    --dry-run) dry_run=yes; shift ;;
    --print-tag) prints_tag=yes; shift ;;
    --help) usage ;;
    *) fail "unknown option: $1; see --help" ;;
  esac
done
case $arch in
  arm64) platform=linux/arm64 ;;
  x86_64) platform=linux/amd64 ;;
  *) fail "--arch is $arch: the jobs run on arm64 or x86_64; name one of these" ;;
esac
tool=${CONTAINER_TOOL:-docker}
[[ $tool == docker || $tool == podman ]] || fail "CONTAINER_TOOL is $tool: it must be docker or podman"

if [[ -z $tag ]]; then
  tag=$(git -C "$root" rev-parse --short=12 HEAD)-$arch
  if [[ -n $(git -C "$root" status --porcelain -- src/condvest deploy/batch) ]]; then tag+=-changed; fi
fi
if [[ $prints_tag == yes ]]; then
  printf '%s\n' "$tag"
  exit
fi
# What no commit holds is built each time: the tag does not say what is in it.
if [[ $tag == *-changed ]]; then force=yes; fi

if [[ $dry_run == no ]]; then
  need "$tool" "install it, or name another by CONTAINER_TOOL"
  "$tool" info >/dev/null 2>&1 || fail "$tool has no engine to talk to; start it (\`$tool info\` says more)"
fi

# Where the image goes: address of the repository, and of the registry that has it.
if [[ $push == no ]]; then
  address=$repository
elif [[ $dry_run == yes ]]; then
  address="ACCOUNT.dkr.ecr.$AWS_REGION.amazonaws.com/$repository"
else
  need aws "install the AWS CLI"
  address=$(aws ecr describe-repositories --repository-names "$repository" \
    --query 'repositories[0].repositoryUri' --output text)
fi
image="$address:$tag"

is_pushed() {
  aws ecr describe-images --repository-name "$repository" --image-ids "imageTag=$tag" >/dev/null 2>&1
}

if [[ $push == yes && $force == no && $dry_run == no ]] && is_pushed; then
  say "$image is there already"
else
  run "$tool" build --platform "$platform" --file "$root/deploy/batch/Dockerfile" \
    --tag "$image" --tag "$address:latest" "$root" >&2
  if [[ $push == yes ]]; then
    if [[ $dry_run == yes ]]; then
      say "+ aws ecr get-login-password | $tool login --username AWS --password-stdin ${address%%/*}"
    else
      aws ecr get-login-password | "$tool" login --username AWS --password-stdin "${address%%/*}" >&2
    fi
    run "$tool" push "$image" >&2
    run "$tool" push "$address:latest" >&2
  fi
fi
printf '%s\n' "$image"
