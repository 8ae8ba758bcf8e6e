#!/usr/bin/env bash
# nevergrad 1.0.12: an array with bounds 0 and 1 starts at 0 in every coordinate.
#
# Guess: `Array(shape=(6,)).set_bounds(0, 1)` is `Array(shape=(6,), lower=0, upper=1)`, and its first
# candidate is the middle. Seen: the first form keeps the starting value 0, which is the bound; the
# second starts at 0.5. A search over six layers' prune ratios so begins with the dense network, or
# the empty one.
#
# Fails if this version's behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q nevergrad==1.0.12 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - 2>"$folder/warnings" <<'PYTHON' || { cat "$folder/warnings"; exit 1; }
import nevergrad

seen = {}
for name, array in (
    ("set_bounds", nevergrad.p.Array(shape=(6,)).set_bounds(0, 1)),
    ("lower, upper", nevergrad.p.Array(shape=(6,), lower=0, upper=1)),
):
    first = nevergrad.optimizers.OnePlusOne(array, budget=40).ask().value
    seen[name] = [round(float(value), 6) for value in first]
print("first candidate:", seen)
assert seen == {"set_bounds": [0.0] * 6, "lower, upper": [0.5] * 6}, seen
PYTHON
