#!/usr/bin/env bash
# Run an experiment on Ray: ./run_distributed.sh -n=K [EXPERIMENT] [flags]; -h lists them.
# Without RAY_ADDRESS it starts a Ray of its own on this machine, and ends it afterwards.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/.ci/make_venv.sh"
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
exec "$here/.venv/bin/python" -m experiments.distributed "$@"
