#!/usr/bin/env bash
# stable-baselines3 2.9.2: a tuple attribute of an algorithm is a list after save and load.
#
# Guess: `save` keeps plain Python values as they are, since it can pickle what JSON cannot hold.
# Seen: what JSON can write is written as JSON, so a tuple comes back as a list, without a warning;
# a tuple that holds something JSON cannot write is pickled and stays a tuple.
#
# Fails if this version's behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.13.0 stable-baselines3==2.9.2 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - <<'PYTHON'
import stable_baselines3
from stable_baselines3 import DDPG

agent = DDPG("MlpPolicy", "Pendulum-v1", device="cpu")
agent.targets = (0.5, 0.9)
agent.mixed = (0.5, frozenset({0.9}))
agent.save("agent.zip")
loaded = DDPG.load("agent.zip", device="cpu")
print("stable-baselines3", stable_baselines3.__version__)
print("plain tuple:", type(loaded.targets).__name__, loaded.targets)
print("tuple with a set:", type(loaded.mixed).__name__, loaded.mixed)
assert loaded.targets == [0.5, 0.9]
assert loaded.mixed == (0.5, frozenset({0.9}))
PYTHON
