#!/usr/bin/env bash
# Deploy condvest to an AWS account, or bring what is deployed up to date: build the layer and the packages, upload them, deploy
# the stacks of deploy/stack/ in order, push the image of the Batch jobs, and migrate the database's tables.
# Run it as often as you like: where nothing changed, nothing is done. It stops at the first error, and a next run goes on.
#
# usage: deploy.sh [--stage NAME] [--region REGION] [--arch ARCH] [--runtime RUNTIME] [--skip STACK]... [--parameter NAME=VALUE]...
#   --stage NAME             names the environment, and the bucket NAME-condvest-datalake (default: dev)
#   --region REGION          where (default: AWS_REGION, else ca-west-1)
#   --arch ARCH              arm64 or x86_64, for functions and jobs (default: arm64)
#   --runtime RUNTIME        python3.12, or provided.al2023 for emulators that run no managed Python: then the functions bring a
#                            bootstrap, and the layer is empty (default: python3.12)
#   --skip STACK             leave out storage, network, database, functions, batch, orchestration or monitoring; may be repeated.
#                            What another stack needs of it comes from --parameter, else from an earlier deployment, else that stack
#                            is left out as well, and named at the end. Without batch no container engine is needed.
#   --parameter NAME=VALUE   a parameter of any of the templates; may be repeated. It stays until another value is given.
#
# A template's parameter takes its value from --parameter, else from the options above, else from the output of that name of another
# stack, else it keeps the value it had, else its default.
# AWS_ENDPOINT_URL names a server in place of AWS.
set -euo pipefail

# shellcheck source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

stacks=(storage network database functions batch orchestration monitoring)
stage=dev arch=arm64 runtime=python3.12
skipped=" "   # names with a space around each
given=() known=()   # NAME=VALUE: from --parameter, from all other places
out="$root/build/lambda" tag=""

main() {
  read_options "$@"
  check_prerequisites
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  known=("Stage=$stage" "Architecture=$arch" "Runtime=$runtime")
  local stack
  for stack in "${stacks[@]}"; do
    case $stack in
      functions) is_skipped functions || upload_functions ;;
      batch) is_skipped batch || choose_image ;;
    esac
    deploy_stack "$stack"
    # The stack makes the repository; jobs that start before the image is there try again.
    [[ $stack != batch ]] || is_skipped batch || push_image
  done
  is_skipped functions || upgrade_database
  say_what_is_next
}

read_options() {
  while (($# > 0)); do
    case $1 in
      --stage) stage=$(value_of "$@"); shift 2 ;;
      --region) AWS_REGION=$(value_of "$@"); AWS_DEFAULT_REGION=$AWS_REGION; shift 2 ;;
      --arch) arch=$(value_of "$@"); shift 2 ;;
      --runtime) runtime=$(value_of "$@"); shift 2 ;;
      --skip) skip "$(value_of "$@")"; shift 2 ;;
      --parameter) given+=("$(value_of "$@")"); shift 2 ;;
      --help) usage ;;
      *) fail "unknown option: $1; see --help" ;;
    esac
  done
  [[ $stage =~ ^[a-z][a-z0-9-]{0,15}$ ]] \
    || fail "--stage is $stage: up to 16 small letters, digits and hyphens, beginning with a letter"
  [[ $arch == arm64 || $arch == x86_64 ]] || fail "--arch is $arch: it must be arm64 or x86_64"
  [[ $runtime == python3.12 || $runtime == provided.al2023 ]] || fail "--runtime is $runtime: it must be python3.12 or provided.al2023"
  local pair
  for pair in ${given[@]+"${given[@]}"}; do
    [[ $pair =~ ^[A-Za-z][A-Za-z0-9]*= ]] || fail "--parameter is $pair: it must be NAME=VALUE"
    cat "$root"/deploy/stack/*.yaml | declared Parameters | grep -q "^${pair%%=*} " \
      || fail "--parameter is $pair: no template in deploy/stack has a parameter ${pair%%=*}"
  done
}

skip() {
  [[ " ${stacks[*]} " == *" $1 "* ]] || fail "--skip is $1: there is no such stack; name one of: ${stacks[*]}"
  skipped+="$1 "
}

is_skipped() { [[ $skipped == *" $1 "* ]]; }

check_prerequisites() {
  need aws "install the AWS CLI"
  need "$python"
  if ! is_skipped batch; then
    local tool=${CONTAINER_TOOL:-docker}
    need "$tool" "it builds the image of the Batch jobs; install it, or --skip batch"
    "$tool" info >/dev/null 2>&1 || fail "$tool has no engine to talk to; start it, or --skip batch"
  fi
  local account
  account=$(aws sts get-caller-identity --query Account --output text) \
    || fail "AWS does not say who you are; configure the AWS CLI: aws configure"
  say "deploying stage $stage to account $account, region $AWS_REGION"
}

# Print the names in a section of the template on stdin: `NAME required` or `NAME optional`, which means that it has a default.
declared() {
  awk -v wanted="$1:" '
    function tell() { if (name != "") print name, kind; name = "" }
    /^[A-Za-z]/ { tell(); section = $1 }
    section == wanted && /^  [A-Za-z0-9]+:/ { tell(); name = $1; sub(":.*", "", name); kind = "required" }
    name != "" && /[ {]Default:/ { kind = "optional" }
    END { tell() }'
}

# Print the value of a parameter as the options or another stack have it; fails where none has.
value_known() {
  local pair found="" status=1
  for pair in "${known[@]}" ${given[@]+"${given[@]}"}; do
    if [[ ${pair%%=*} == "$1" ]]; then found=${pair#*=} status=0; fi
  done
  printf '%s\n' "$found"
  return $status
}

# Print what a query finds in a stack; nothing where there is no such stack. Whatever else AWS says ends the deployment.
look_up() {
  local found
  if found=$(aws cloudformation describe-stacks --stack-name "$1" --query "$2" --output text 2>"$work/error"); then
    printf '%s\n' "$found"
  elif ! grep -q 'does not exist' "$work/error"; then
    fail "AWS does not say how the stack $1 is: $(tr -s '\n' ' ' <"$work/error")"
  fi
}

# Take the outputs of a stack that is deployed; says nothing where it is not.
take_outputs() {
  local name value found
  found=$(look_up "$1" 'Stacks[0].Outputs[].[OutputKey,OutputValue]')
  while IFS=$'\t' read -r name value; do
    if [[ -n $value ]]; then known+=("$name=$value"); fi
  done <<<"$found"
}

# Print which stack has an output of this name; fails where none has.
maker_of() {
  local stack
  for stack in "${stacks[@]}"; do
    if declared Outputs <"$root/deploy/stack/$stack.yaml" | grep -q "^$1 "; then
      printf '%s\n' "$stack"
      return
    fi
  done
  return 1
}

# Leave a stack out for want of a parameter, if that is so because another one is skipped; else there is nothing to go on with.
leave_out() {
  local maker
  if maker=$(maker_of "$2") && is_skipped "$maker"; then
    say "leaving out the stack $1: it needs the parameter $2 of $maker, which is skipped; give it by --parameter $2=..."
    skipped+="$1 "
  else
    fail "the stack $1 needs the parameter $2, and nothing says what it is; give it by --parameter $2=..."
  fi
}

deploy_stack() {
  local name="$stage-condvest-$1" template="$root/deploy/stack/$1.yaml"
  local parameter kind value kept overrides=()
  if ! is_skipped "$1"; then
    kept=$(look_up "$name" 'Stacks[0].Parameters[].ParameterKey')
    kept=" ${kept//[$'\t\n']/ } "
    while read -r parameter kind; do
      if value=$(value_known "$parameter"); then
        overrides+=("$parameter=$value")
      elif [[ $kind == required && $kept != *" $parameter "* ]]; then
        leave_out "$1" "$parameter"
        break
      fi
    done < <(declared Parameters <"$template")
  fi
  if ! is_skipped "$1"; then
    say "deploying the stack $name"
    aws cloudformation deploy --stack-name "$name" --template-file "$template" --no-fail-on-empty-changeset \
      --capabilities CAPABILITY_NAMED_IAM --parameter-overrides "${overrides[@]}" >&2
  fi
  take_outputs "$name"
}

# The job definitions name the image by its tag, which is the one that is pushed.
choose_image() {
  tag=$("$root/deploy/batch/build_image.sh" --arch "$arch" --print-tag)
  known+=("ImageTag=$tag")
}

push_image() { "$root/deploy/batch/build_image.sh" --arch "$arch" --tag "$tag" >/dev/null; }

upload_functions() {
  local bootstrap=() layer="$out/layer-$arch.zip" bucket
  if [[ $runtime == provided.al2023 ]]; then
    bootstrap=(--bootstrap) layer="$work/layer-empty.zip"
    mkdir "$work/empty" && printf 'The Python of the bootstrap has all that the functions need.\n' >"$work/empty/README"
    "$python" "$root/deploy/lambda/zip_folder.py" pack "$work/empty" "$layer" >/dev/null
  elif [[ $layer -nt $root/deploy/lambda/layer_requirements.txt && $layer -nt $root/deploy/lambda/build_layer.sh ]]; then
    say "$layer is up to date"
  else
    "$root/deploy/lambda/build_layer.sh" --arch "$arch" --out "$out" >&2
  fi
  "$root/deploy/lambda/build_packages.sh" --out "$work" ${bootstrap[@]+"${bootstrap[@]}"}
  bucket=$(value_known ArtifactsBucket) || fail "nothing says where packages go; give it by --parameter ArtifactsBucket=..."
  upload LayerKey "$layer"
  upload FetcherKey "$work/daily-ohlcv-fetcher.zip"
  upload MetaKey "$work/daily-meta-fetcher.zip"
  upload ConsolidateKey "$work/consolidate-bronze-daily.zip"
  upload RecordKey "$work/record-session.zip"
}

# Upload a zip under a key that holds its digest, unless it is there; the key becomes the value of a parameter.
upload() {
  local key digest
  digest=$("$python" -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest()[:16])' "$2")
  key="lambda/$(basename "$2" .zip)-$digest.zip"
  if ! aws s3api head-object --bucket "$bucket" --key "$key" >/dev/null 2>&1; then
    say "uploading $key"
    aws s3 cp --only-show-errors "$2" "s3://$bucket/$key" >&2
  fi
  known+=("$1=$key")
}

upgrade_database() {
  say "migrating the tables of the database"
  printf '{"mode": "upgrade"}' >"$work/event.json"
  local failed
  failed=$(aws lambda invoke --function-name record-session --payload "fileb://$work/event.json" \
    --cli-read-timeout 900 --query FunctionError --output text "$work/answer.json")
  [[ $failed == None ]] || fail "record-session could not migrate the database: $(cat "$work/answer.json")"
}

say_what_is_next() {
  local secret machine
  if [[ $skipped == " " ]]; then say "deployed."; else say "deployed, without:${skipped% }."; fi
  if secret=$(value_known ProviderKeySecretArn); then
    say "Put the provider's key (in the file key.txt, without an end of line) in its secret, if it is not there yet:"
    say "  aws secretsmanager put-secret-value --region $AWS_REGION --secret-id $secret --secret-string file://key.txt"
  fi
  if machine=$(value_known StateMachineArn); then
    say "Start the first backfill; it goes in chunks, and may be started again at any time:"
    say "  aws stepfunctions start-execution --region $AWS_REGION --state-machine-arn $machine \\"
    say "    --input '{\"from\": \"2020-01-02\"}'"
  fi
}

main "$@"
