"""Command lines of small runs, an engine of known speed for their budgets, and their results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from envs import LayerRow
from tests.support.ray_hosts import ROOT
from ws_learner.config import Budget
from ws_learner.core import LayerChoice
from ws_learner.deploy.costs import cost_source
from ws_learner.deploy.costs.source import MeasuredCosts
from ws_learner.pruning import CoupledUnits, parameter_of
from ws_learner.search import WeightCosts

TINY = str(ROOT / "tests" / "support" / "tiny_experiment.py")
_SHORT = [
    *("--ws_nb_rlouts", "8", "--ws_nb_rlouts_min", "4", "--ws_rlouts_per_round", "4"),
    *("--ws_nb_smpls_rg", "100", "--ws_nb_smpls_bn", "50", "--ws_nb_iters_feval", "1"),
    *("--ddpg_nb_updates", "2", "--ws_nb_rescore", "3", "--ws_mask_update_step", "1"),
    *("--precision", "fp32", "--nb_epochs", "2", "--batch_size", "64", "--run_dir", "run"),
]
RUNS: dict[str, list[str]] = {
    "zeros": [TINY, *_SHORT, "--ws_prune_ratio", "0.8"],
    "macs": [TINY, *_SHORT, "--ws_budget", "macs=0.3"],
    "joint": [TINY, *_SHORT, "--ws_budget", "latency=0.5@wsr", "--ws_pattern", "auto"],
    "units": [TINY, *_SHORT, "--ws_budget", "latency=0.6@onnxruntime"],
}
"""Dense training, layer database, search, finalists, sparse training and report of each budget."""

KNOWN_SPEED = "tests.support.small_runs:known_speed"
_SPEED = {"unstructured": 0.9, "4x1": 0.6, "4x4": 0.4, "16x4": 0.35, "2:4": 0.8}
_OF_TIME = ("search_seconds", "train_seconds", "command", "sha256", "files_sha256")


class KnownCosts(MeasuredCosts):
    """Costs that follow from the weights, in place of a clock."""

    unit, digest, overhead = "latency@wsr", "known", 0.05
    layers: tuple[LayerRow, ...] = ()

    def table(
        self, budget: Budget, layers: Sequence[LayerRow], choices: Sequence[Sequence[LayerChoice]]
    ) -> Any:
        self.layers = tuple(layers)
        return self

    def cost(self, layer: int, choice: LayerChoice) -> float:
        return _milliseconds(self.layers[layer].weights, choice)

    def pace(self, budget: Budget, *, earlier: float | None = None) -> float | None:
        return None if budget.kind != "latency" else 1.0

    def dense(self, budget: Budget) -> float:
        if budget.engine == "wsr":
            return self.overhead + sum(1e-3 * row.weights for row in self.layers)
        return float(sum(parameter.numel() for parameter in self._model.parameters()))

    def unit_costs(self, budget: Budget, sets: Sequence[CoupledUnits]) -> Any:
        return WeightCosts(self._model, sets, unit="params")

    def measure(
        self, budget: Budget, network: nn.Module, choices: Mapping[str, LayerChoice]
    ) -> float:
        if not choices:  # whole units are zero
            return float(sum(int((p != 0).sum()) for p in network.parameters()))
        weights = {name: parameter_of(network, name) for name in choices}
        assert all(int((weights[n] == 0).sum()) >= one.zeros for n, one in choices.items())
        costs = (_milliseconds(weights[n].numel(), one) for n, one in choices.items())
        return 1.1 * (self.overhead + sum(costs))


def _milliseconds(weights: int, choice: LayerChoice) -> float:
    density = 1 - choice.zeros / weights
    sparse = 0.02 + _SPEED[choice.pattern] * density if choice.zeros else 1.0
    return 1e-3 * weights * min(sparse, 1.0)


def known_speed() -> None:
    """From now on, every run of this process costs what `KnownCosts` says."""
    cost_source.MeasuredCosts = KnownCosts  # type: ignore[misc, attr-defined]


def results(run: Path) -> dict[str, object]:
    """Bytes of the results, and the entries of the summary that are no times."""
    summary = json.loads((run / "summary.json").read_text())
    found: dict[str, object] = {
        name: (run / name).read_bytes() for name in ("ratios.csv", "model.safetensors")
    }
    for name in ("metrics.csv", "policy.safetensors"):
        if (run / name).exists():
            found[name] = (run / name).read_bytes()
    return found | {key: summary[key] for key in summary if key not in _OF_TIME}


def litter(folder: Path) -> list[str]:
    """Files that are neither a run's own nor whole: hidden ones but the locks."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob(".*")
        if path.is_file() and path.name != ".lock"
    )
