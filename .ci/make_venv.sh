#!/usr/bin/env bash
# Make .venv from pyproject.toml and constraints.txt if it is missing or stale.
# Usage: .ci/make_venv.sh [EXTRA ...]   extras as in pyproject.toml, such as dev
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras=$(printf '%s\n' all "$@" $(cat .venv/extras 2>/dev/null) | sed '/^$/d' | sort -u | paste -sd,)
stamp=$(cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)-${extras}
[ "$(cat .venv/stamp 2>/dev/null)" = "$stamp" ] && exit 0

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "error: $python is missing or older than 3.11; install Python 3.11 or set PYTHON=/path/to/python3" >&2
  exit 2
fi
# One set-up at a time; a second caller waits and then finds it done.
exec 9>"${TMPDIR:-/tmp}/make-venv-$(pwd | sha256sum | cut -c1-12).lock"
flock 9
[ "$(cat .venv/stamp 2>/dev/null)" = "$stamp" ] && exit 0
echo "setting up .venv${extras:+ with extras $extras} (about two minutes, once)" >&2
interrupted() { echo "set-up interrupted; the same command goes on" >&2; exit "$1"; }
trap 'interrupted 130' INT
trap 'interrupted 143' TERM
rm -f .venv/stamp
# Debian splits ensurepip off; the system's pip can fill an empty environment as well.
[ -x .venv/bin/python ] || "$python" -m venv .venv 2>/dev/null || "$python" -m venv --without-pip --clear .venv
if .venv/bin/python -m pip --version >/dev/null 2>&1; then
  pip=(.venv/bin/python -m pip)
else
  pip=("$python" -m pip --python .venv/bin/python)
fi
# On a terminal pip shows its bars; in a log a line per package is enough.
show=(--progress-bar on); [ -t 2 ] || show=(--progress-bar off)
if ! "${pip[@]}" install --disable-pip-version-check "${show[@]}" \
    -c constraints.txt -e ".${extras:+[$extras]}" 1>&2; then
  echo "error: set-up failed (see above); mend it and give the same command again" >&2
  exit 2
fi
printf '%s' "$extras" | tr ',' '\n' > .venv/extras
printf '%s' "$stamp" > .venv/stamp
