#!/usr/bin/env bash
# Lint, types and all quick tests, several files at once; with arguments: pytest, such as
# ./run_tests.sh -m slow tests/experiments/test_ray_faults.py
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
.ci/make_venv.sh dev
bin=.venv/bin
if [ $# -gt 0 ]; then
  exec "$bin/python" -m pytest "$@"
fi
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/mypy"
exec "$bin/python" -m pytest -n auto --maxprocesses 4 --dist loadfile --durations 25
