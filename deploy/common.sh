# shellcheck shell=bash disable=SC2034
# What the scripts of this folder share; they source it. stdout is for results that another script reads, all else goes to stderr.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
functions=(daily-ohlcv-fetcher daily-meta-fetcher consolidate-bronze-daily record-session)
# Both names: the first version of the AWS CLI knows only the second.
export AWS_REGION=${AWS_REGION:-${AWS_DEFAULT_REGION:-ca-west-1}}
export AWS_DEFAULT_REGION=$AWS_REGION AWS_PAGER=""

say() { printf '%s\n' "$*" >&2; }

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# Print the comment at the head of the script, and end.
usage() {
  awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"
  exit 0
}

# Print the value of the option in $1, which is $2.
value_of() {
  [[ $# -ge 2 && -n $2 ]] || fail "$1 needs a value; see --help"
  printf '%s\n' "$2"
}

# Refuse to go on without a program.
need() {
  command -v "$1" >/dev/null || fail "there is no program $1 on PATH${2:+; $2}"
}

# Say a command, then run it; with dry_run=yes only say it.
run() {
  { printf '+' && printf ' %q' "$@" && printf '\n'; } >&2
  if [[ ${dry_run:-no} == no ]]; then "$@"; fi
}
