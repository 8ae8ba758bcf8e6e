#!/usr/bin/env bash
# Lint, types and tests: ./run_tests.sh [pytest arguments, such as -m slow]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
.ci/make_venv.sh dev
bin=.venv/bin
if [ $# -eq 0 ]; then
  "$bin/ruff" check .
  "$bin/ruff" format --check .
  "$bin/mypy"
fi
exec "$bin/python" -m pytest "$@"
