#!/usr/bin/env bash
# Run an experiment on this machine: ./run_local.sh [EXPERIMENT] [flags]; -h lists them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/.ci/make_venv.sh"
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
exec "$here/.venv/bin/python" -m experiments.run "$@"
