#!/usr/bin/env bash
# Lint, format, types and tests; the first call makes .venv.
#
#   ./run_tests.sh            everything but the tests marked `slow` and `hosts`
#   ./run_tests.sh --fast     the same without the tests marked `long`: two processes, for use
#                             while editing; a minute on two free cores, half a minute more
#                             if mypy has no cache yet
#   ./run_tests.sh WORDS      pytest with these words, such as
#                             ./run_tests.sh -m slow tests/experiments/test_ray_faults.py
#
# `long` are tests of about a second or more, all that run a whole experiment in a subprocess, and
# all that start Ray. Mark a new one with @pytest.mark.long if `--durations=10` shows it at a
# second or more.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
.ci/make_venv.sh dev
bin=.venv/bin
fast=
if [ "${1-}" = --fast ]; then
  fast=1
  shift
fi
if [ $# -gt 0 ] && [ -z "$fast" ]; then
  exec "$bin/python" -m pytest "$@"
fi
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/mypy"
if [ -n "$fast" ]; then
  exec "$bin/python" -m pytest -n 2 --dist loadfile --durations 10 \
    -m "not long and not slow and not hosts" "$@"
fi
exec "$bin/python" -m pytest -n auto --maxprocesses 4 --dist loadfile --durations 25
