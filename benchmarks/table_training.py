"""Trains a network to a given profile as the product does, and measures it; kept on disk."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.search_tasks import TaskName, load_search_task
from ws_learner.config import WeightSparseConfig
from ws_learner.core import choose_device, describe_machine, write_text

if TYPE_CHECKING:
    from torch import nn

    from envs import LayerRow
    from ws_learner import WeightSparseLearner

__all__ = ["dense_accuracy", "learner", "trained"]


def learner(
    network: TaskName, config: WeightSparseConfig, *, nb_epochs: float, seed: int, folder: Path
) -> WeightSparseLearner:
    """The product's learner on a network of `search_tasks`, in this process alone.

    Args:
        network: Dense network and data.
        config: Settings; the layers are those of the task.
        nb_epochs: Length of the sparse training.
        seed: Of search and training.
        folder: Run directory; what it holds is taken as made with the same arguments.
    """
    from ws_learner import WeightSparseLearner

    task = load_search_task(network)
    found = task.experiment
    return WeightSparseLearner(
        found.model,
        found.data,
        loss=found.loss,
        metric=found.metric,
        recipe=replace(found.sparse_recipe, nb_epochs=nb_epochs),
        run_dir=folder,
        claims=False,
        seed=seed,
        workers=0,
        outputs=found.outputs,
        config=replace(config, ws_include=tuple(row.name for row in task.layers)),
    )


def trained(
    network: TaskName,
    zeros: Sequence[int],
    *,
    target: float,
    seed: int,
    nb_epochs: float,
    work: Path,
    name: str,
) -> dict[str, Any]:
    """Prune gradually to a profile; what was measured before is read from `work`.

    Args:
        network: Dense network and data.
        zeros: (L,) zero counts.
        target: Overall prune ratio.
        seed: Of the training.
        nb_epochs: Length of the training.
        work: Folder of results and unfinished trainings.
        name: Of the unfinished training, so that two protocols that come to one profile at the
            same time do not share a folder.

    Returns:
        `accuracy` on the test split in [0, 1], `achieved` share of zeros and `kept_macs`, counted
        in the network, processor and wall seconds, and the machine.
    """
    facts = [network, list(zeros), target, seed, nb_epochs]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    path = work / "trained" / f"{digest}.json"
    if not path.exists():
        folder = path.with_name(f"{digest}-{name}")
        found = _train(network, zeros, target=target, seed=seed, nb_epochs=nb_epochs, folder=folder)
        write_text(path, json.dumps(found, indent=2) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def _train(
    network: TaskName,
    zeros: Sequence[int],
    *,
    target: float,
    seed: int,
    nb_epochs: float,
    folder: Path,
) -> dict[str, Any]:
    from ws_learner.training import evaluate

    task, compute = load_search_task(network), choose_device()
    layers, found = task.layers, task.experiment
    ratios = {row.name: n / row.weights for row, n in zip(layers, zeros, strict=True)}
    config = WeightSparseConfig(
        ws_prune_ratio=target, ws_prune_ratio_prtl="given", ws_ratios=ratios
    )
    begun, used = time.perf_counter(), time.process_time()
    model = learner(network, config, nb_epochs=nb_epochs, seed=seed, folder=folder).prune()
    accuracy = evaluate(model, found.data.test, found.metric, compute=compute)
    wall, spent = time.perf_counter() - begun, time.process_time() - used
    kept = _kept_weights(model, layers)
    if kept != [row.weights - n for row, n in zip(layers, zeros, strict=True)]:
        raise RuntimeError(f"{network}: the trained network has other zeros than its profile")
    machine = describe_machine(compute)
    return {
        "accuracy": accuracy,
        "achieved": 1 - sum(kept) / sum(row.weights for row in layers),
        "kept_macs": _kept_macs(kept, layers),
        "seconds": round(spent, 1),
        "wall_seconds": round(wall, 1),
        **{key: machine[key] for key in ("cpu", "threads", "bf16")},
    }


def _kept_weights(model: nn.Module, layers: Sequence[LayerRow]) -> list[int]:
    """Nonzero weights of each layer, counted."""
    state = model.state_dict()
    return [int(state[row.name].count_nonzero()) for row in layers]


def _kept_macs(kept: Sequence[int], layers: Sequence[LayerRow]) -> float:
    """Share of the multiply-accumulates with a nonzero weight."""
    used = sum(n / row.weights * row.macs for n, row in zip(kept, layers, strict=True))
    return used / sum(row.macs for row in layers)


def dense_accuracy(network: TaskName, work: Path) -> float:
    """Of the dense network on the test split; measured once."""
    from ws_learner.training import evaluate

    path = work / f"{network}-dense.txt"
    if not path.exists():
        found = load_search_task(network).experiment
        right = evaluate(found.model, found.data.test, found.metric, compute=choose_device())
        write_text(path, f"{right}\n")
    return float(path.read_text())
