"""Rollouts per minute on one and two Ray workers and in the default local run, side by side.

    python -m benchmarks.scaling [--rollouts 24] [--rounds 5]

ResNet-20 with its first weights on noise of CIFAR-10's shape, the default rollout; the timing
depends on no value. All pools run before timing starts. In every round each pool scores the
same candidates, in an order that changes from round to round, so a drifting machine cancels in
the ratios. Run it on free cores: it says how busy they were.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envs import IntArray
    from ws_learner.search import RolloutEvaluator, RolloutPool

__all__ = ["Options", "main", "noise_evaluator"]

LEAST = 1.7


@dataclass(frozen=True, kw_only=True)
class Options:
    """Scaling of rollouts.

    Attributes:
        rollouts: Rollouts of each pool in each round; they are scored eight at a time, as the
            default search asks for them.
        rounds: Rounds measured; one more runs before and is not counted.
        workers: Of the larger Ray pool and of the local one.
        out: Also write the numbers to this JSON file.
    """

    rollouts: int = 24
    rounds: int = 5
    workers: int = 2
    out: Path | None = None


def main(options: Options) -> None:
    """Measure and print."""
    from ws_learner.config import ClusterConfig
    from ws_learner.search import LocalPool, RayPool
    from ws_learner.training import ray_session

    evaluator = noise_evaluator()
    one, many = (ClusterConfig(workers=n) for n in (1, options.workers))
    slots = ClusterConfig(workers=1 + options.workers)  # both Ray pools are up all the time
    with ray_session(slots), ExitStack() as stack:
        pools: dict[str, RolloutPool] = {
            "ray 1": stack.enter_context(RayPool(evaluator, one)),
            f"ray {options.workers}": stack.enter_context(RayPool(evaluator, many)),
            f"local {options.workers}": stack.enter_context(LocalPool(evaluator, options.workers)),
        }
        seconds, busy = _measure(pools, evaluator, options)
    _report(seconds, busy, options)


def noise_evaluator() -> RolloutEvaluator:
    """The default rollout of ResNet-20, on one thread, without a file."""
    import torch

    from benchmarks.noise import noise_data
    from experiments.experiment import classification
    from experiments.models.resnet_cifar import resnet_cifar
    from experiments.resnet_at_cifar10 import SPARSE
    from ws_learner.config import WeightSparseConfig
    from ws_learner.pruning import layer_table
    from ws_learner.search import RolloutEvaluator, build_rollout_config

    torch.manual_seed(0)
    model = resnet_cifar(20)
    loss, metric = classification(SPARSE)
    with tempfile.TemporaryDirectory() as cache:
        return RolloutEvaluator(
            model,
            noise_data(),
            layers=layer_table(model, torch.zeros(1, 3, 32, 32)),
            loss=loss,
            metric=metric,
            config=build_rollout_config(WeightSparseConfig()),
            seed=0,
            cache_dir=Path(cache),
        )


def random_profiles(evaluator: RolloutEvaluator, count: int, *, seed: int) -> list[IntArray]:
    """Profiles around 75 %, all different."""
    import numpy as np

    rng = np.random.default_rng(seed)
    sizes = np.array([row.weights for row in evaluator.layers])
    ratios = rng.uniform(0.6, 0.9, size=(count, len(sizes)))
    return [(row * sizes).astype(np.int64) for row in ratios]


def _measure(
    pools: dict[str, RolloutPool], evaluator: RolloutEvaluator, options: Options
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of each round, and the share of them in which a worker was at a rollout."""
    seconds: dict[str, list[float]] = {name: [] for name in pools}
    busy: dict[str, list[float]] = {name: [] for name in pools}
    names = list(pools)
    for number in range(options.rounds + 1):
        work = random_profiles(evaluator, options.rollouts, seed=number)
        scores = []
        for name in names[number % len(names) :] + names[: number % len(names)]:
            begun = time.perf_counter()
            parts = [pools[name].evaluate(work[i : i + 8]) for i in range(0, len(work), 8)]
            elapsed = time.perf_counter() - begun
            scores.append([score for part in parts for score in part])
            if number:
                seconds[name].append(elapsed)
                workers = int(name.split()[1])
                busy[name].append(sum(s.seconds for s in scores[-1]) / (workers * elapsed))
        assert all(other == scores[0] for other in scores), "pools disagree"
    return seconds, busy


def _report(
    seconds: dict[str, list[float]], busy: dict[str, list[float]], options: Options
) -> None:
    one, many, local = seconds
    pace = {n: 60 * options.rollouts / statistics.median(s) for n, s in seconds.items()}
    speedup = _ratios(seconds[one], seconds[many])
    lost = [1 - ratio for ratio in _ratios(seconds[local], seconds[many])]
    load = os.getloadavg()[0]
    for name, value in pace.items():
        share = statistics.median(busy[name])
        print(f"{name} worker(s): {value:.0f} rollouts a minute, at work {share:.1%} of the time")
    met = "met" if statistics.median(speedup) >= LEAST else "MISSED"
    print(f"{many} over {one}: {_spread(speedup)}  (at least {LEAST}: {met})")
    print(f"share lost to Ray, {many} beside {local}: {_spread(lost)}")
    print(f"load average at the end {load:.1f} on {os.cpu_count()} cores")
    if options.out is not None:
        from ws_learner.core import write_json

        found: dict[str, Any] = {
            "seconds": seconds,
            "busy": busy,
            "rollouts_per_minute": pace,
            "speedup": speedup,
            "lost_to_ray": lost,
            "load": load,
            "rlouts": options.rollouts,
        }
        write_json(options.out, json.loads(json.dumps(found)))


def _ratios(a: list[float], b: list[float]) -> list[float]:
    return [x / y for x, y in zip(a, b, strict=True)]


def _spread(values: list[float]) -> str:
    """Median, and a 95 % interval of the mean (Student's t)."""
    if len(values) < 2:
        return f"{values[0]:.3f}"
    from scipy.stats import t

    error = statistics.stdev(values) / len(values) ** 0.5 * float(t.ppf(0.975, len(values) - 1))
    mean = statistics.mean(values)
    median = statistics.median(values)
    return f"{median:.3f} (mean {mean:.3f}, 95 % interval {mean - error:.3f} to {mean + error:.3f})"


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
