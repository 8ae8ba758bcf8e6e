#!/usr/bin/env bash
# dehb 0.1.2: the incumbent is the best value of any fidelity, also of the cheapest and noisiest.
#
# Guess: a multi-fidelity search returns what is best at the largest fidelity that it ran, as
# Hyperband's results are read. Seen: `get_incumbents` compares all evaluations alike. Here the
# fidelity is the number of examples of an evaluation, whose error falls with its root. 27 examples
# are evaluated more than ten times; the incumbent is the luckiest value of one example, far below
# 0, the least that a candidate is worth.
#
# Fails if this version's behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q dehb==0.1.2 ConfigSpace==1.2.2
cd "$folder"
"$folder/env/bin/python" - 2>"$folder/warnings" <<'PYTHON' || { cat "$folder/warnings"; exit 1; }
import numpy as np
from ConfigSpace import ConfigurationSpace
from dehb import DEHB

draw, calls = np.random.default_rng(0), []


def objective(config, fidelity, **_):
    noise = draw.normal() / np.sqrt(fidelity)  # as of a mean over so many examples
    calls.append((fidelity, (config["ratio"] - 0.7) ** 2 + noise))
    return {"fitness": calls[-1][1], "cost": fidelity}


space = ConfigurationSpace({"ratio": (0.0, 1.0)}, seed=0)
search = DEHB(
    f=objective, cs=space, dimensions=1, min_fidelity=1, max_fidelity=27, eta=3, n_workers=1, seed=0,
    output_path="out",
)
search.run(fevals=150)
_, value = search.get_incumbents()
fidelity = next(fidelity for fidelity, seen in calls if seen == value)
full = [seen for budget, seen in calls if budget == 27]
print(f"incumbent {value:.3f}, seen at fidelity {fidelity}")
print(f"best of {len(full)} at fidelity 27: {min(full):.3f}; the objective without noise is >= 0")
assert len(full) > 10 and fidelity == 1 and value < min(full), (len(full), fidelity, value)
PYTHON
