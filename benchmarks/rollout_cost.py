"""Cost of a rollout, in dense training steps and compared with PocketFlow's.

    python -m benchmarks.rollout_cost [--full]

One process, one thread, ResNet-20 with its first weights on noise of CIFAR-10's shape: no number
here depends on the values. Every cost is a median of ratios to a dense training step (forward,
backward, SGD; batch 128) timed right before or after it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.pocketflow_rollout import PocketFlowRollout
    from ws_learner.data import Batch
    from ws_learner.search import RolloutEvaluator

__all__ = ["Options", "main"]

_MOST_STEPS_ROLLOUT, _MOST_STEPS_DATABASE, _LEAST_RATIO = 9.0, 100.0, 100.0
_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Options:
    """Cost of a rollout in dense training steps, compared with PocketFlow's.

    Attributes:
        rounds: Pairs timed for each of our costs.
        prune_ratio: Overall ratio of the candidates.
        full: Run one whole rollout of PocketFlow (minutes) instead of samples of its steps.
    """

    rounds: int = 5
    prune_ratio: float = 0.75
    full: bool = False


def main(options: Options) -> None:
    """Measure and print."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        _measure(_Bench(options, Path(cache)), full=options.full)


def _measure(bench: _Bench, *, full: bool) -> None:
    database = bench.database()
    _print("layer database / dense step", database, most=_MOST_STEPS_DATABASE)
    ours = {steps: bench.ours(steps) for steps in (0, bench.default_steps)}
    for steps, cost in ours.items():
        most = _MOST_STEPS_ROLLOUT if steps == 0 else None
        _print(f"our rollout, {steps} fine-tuning steps / dense step", cost, most=most)
    theirs = bench.theirs_in_full() if full else bench.theirs_from_samples()
    _print("PocketFlow's rollout / dense step", theirs)
    for steps, cost in ours.items():
        met = "met" if theirs / cost >= _LEAST_RATIO else "MISSED"
        print(
            f"PocketFlow's / our rollout with {steps} fine-tuning steps: {theirs / cost:.0f}x"
            f"  (at least {_LEAST_RATIO:.0f}x: {met})"
        )


def _print(what: str, cost: float, *, most: float | None = None) -> None:
    limit = ""
    if most is not None:
        limit = f"  (at most {most:.0f}: {'met' if cost <= most else 'MISSED'})"
    print(f"{what}: {cost:.2f}{limit}", flush=True)


class _Bench:
    """The pieces of work, each timed in pairs with a dense training step."""

    def __init__(self, options: Options, cache: Path) -> None:
        import torch

        from benchmarks.noise import noise_data
        from experiments.models.resnet_cifar import resnet_cifar
        from ws_learner.config import RolloutConfig
        from ws_learner.pruning import layer_table

        torch.manual_seed(0)
        self._options, self._cache = options, cache
        self._data = noise_data()
        self._model = resnet_cifar(20)
        self._layers = layer_table(self._model, torch.zeros(1, 3, 32, 32))
        self.default_steps = RolloutConfig().nb_iters_ft
        self._evaluator = self._make_evaluator(cache=cache)
        self._batches = list(self._placed(_BATCH, augment=False))
        self._step = self._dense_step()

    def ours(self, steps: int) -> float:
        """Our rollout with `steps` fine-tuning steps, a new candidate every time."""
        import numpy as np

        evaluator = self._evaluator
        if steps != evaluator.config.nb_iters_ft:
            evaluator = self._make_evaluator(steps, cache=self._cache)
        rng = np.random.default_rng(0)
        sizes = np.array([row.weights for row in self._layers])

        def score() -> None:
            ratios = np.clip(rng.normal(self._options.prune_ratio, 0.05, sizes.shape), 0, 0.995)
            failed = evaluator.score(np.round(ratios * sizes).astype(np.int64)).failed
            if failed:
                raise RuntimeError(failed)

        return self._cost(score, rounds=self._options.rounds)

    def database(self) -> float:
        """Gram matrices and solutions of all layers at all levels, from scratch."""
        return self._cost(self._make_evaluator, rounds=2, warmup=0)

    def theirs_from_samples(self) -> float:
        """PocketFlow's rollout, put together from its kinds of step."""
        from benchmarks import pocketflow_rollout as pocketflow

        rollout, batches = self._pocketflow(), cycle(self._batches)

        def regress() -> None:
            for layer in range(len(self._layers)):
                rollout.regression_step(layer, next(batches)[0])

        regression = self._cost(regress, rounds=3)
        tuning = self._cost(lambda: rollout.fine_tuning_step(*next(batches)), rounds=10)
        examination = self._cost(lambda: rollout.evaluate([next(batches)]), rounds=10)
        print(
            "PocketFlow's rollout is extrapolated from samples of its steps (--full runs it): "
            f"{pocketflow.REGRESSION_STEPS} regression steps of all {len(self._layers)} layers at "
            f"{regression:.2f} dense steps, {pocketflow.FINE_TUNING_STEPS} fine-tuning steps at "
            f"{tuning:.2f}, 2 x {pocketflow.EVALUATION_BATCHES} evaluation batches at "
            f"{examination:.2f}"
        )
        return (
            pocketflow.REGRESSION_STEPS * regression
            + pocketflow.FINE_TUNING_STEPS * tuning
            + 2 * pocketflow.EVALUATION_BATCHES * examination
        )

    def theirs_in_full(self) -> float:
        """PocketFlow's rollout, every step of it, with fresh augmented batches."""
        rollout = self._pocketflow()
        train, validation = self._placed(_BATCH, augment=True), self._placed(_BATCH, augment=True)
        return self._once(lambda: rollout.run(train, validation))

    def _cost(self, work: Callable[[], object], *, rounds: int, warmup: int = 1) -> float:
        from benchmarks.paired import paired

        return paired(work, self._step, rounds=rounds, warmup=warmup).median

    def _once(self, work: Callable[[], object]) -> float:
        """One long piece of work over the mean of 20 dense steps before and 20 after it."""
        start = time.perf_counter()
        _repeat(self._step, 20)
        middle = time.perf_counter()
        work()
        late = time.perf_counter()
        _repeat(self._step, 20)
        return (late - middle) / ((middle - start + time.perf_counter() - late) / 40)

    def _dense_step(self) -> Callable[[], None]:
        import torch
        from torch.nn import functional

        model = deepcopy(self._evaluator.dense).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        batches = cycle(self._batches)

        def step() -> None:
            inputs, targets = next(batches)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(functional.cross_entropy(model(inputs), targets))
            optimizer.step()

        return step

    def _make_evaluator(
        self, steps: int | None = None, *, cache: Path | None = None
    ) -> RolloutEvaluator:
        from torch.nn import functional

        from ws_learner.config import RolloutConfig
        from ws_learner.search import RolloutEvaluator
        from ws_learner.training import top_k_accuracy

        config = RolloutConfig()
        if steps is not None:
            config = replace(config, nb_iters_ft=steps)
        return RolloutEvaluator(
            self._model,
            self._data,
            layers=self._layers,
            loss=functional.cross_entropy,
            metric=top_k_accuracy,
            config=config,
            seed=0,
            cache_dir=cache,
            device="cpu",
        )

    def _pocketflow(self) -> PocketFlowRollout:
        from benchmarks.pocketflow_rollout import PocketFlowRollout

        ratios = [self._options.prune_ratio] * len(self._layers)
        return PocketFlowRollout(self._evaluator.dense, layers=self._layers, ratios=ratios)

    def _placed(self, size: int, *, augment: bool) -> Iterator[Batch]:
        """Batches of the training split, in the evaluator's memory layout; endless if augmented."""
        from ws_learner.core import choose_device

        chosen, epoch = choose_device("fp32", "cpu"), 0
        while epoch == 0 or augment:
            reader = self._data.train.batches(size, seed=epoch, augment=augment, drop_last=True)
            for inputs, targets in reader:
                yield chosen.place(inputs), targets
            epoch += 1


def _repeat(work: Callable[[], object], times: int) -> None:
    for _ in range(times):
        work()


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
