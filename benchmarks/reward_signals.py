"""Which reward ranks profiles better, exp(-KL) or 1 - total variation?

    python -m benchmarks.reward_signals [--out DIR]

On digits, a dense network of each seed is pruned to 24 profiles at 90 and at 95 %, drawn as in
`benchmarks.reward_quality`; each is scored as a rollout scores it, without training, and then
really pruned, by gradual pruning for two epochs. On ResNet-20 the profiles and accuracies are
those of `experiments/results/reward_quality/trained.csv`. The table holds Spearman correlations of
the rewards with the trained accuracy. About ten minutes on one thread.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.cifar_task import Task, load_task
from benchmarks.reward_quality import draw_around
from ws_learner.config import WeightSparseConfig
from ws_learner.core import one_thread, say, write_text

if TYPE_CHECKING:
    from torch import Tensor, nn

    from envs import IntArray
    from ws_learner.search import RolloutEvaluator

__all__ = ["Options", "main", "signals", "spearman_rows"]

SIGNALS = ("exp(-KL)", "1 - TV", "accuracy")
_SHARED = Path("experiments/results/reward_quality/trained.csv")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Comparison of two rewards.

    Attributes:
        profiles: Profiles of each digits network and target.
        targets: Overall prune ratios on digits.
        seeds: Digits networks.
        nb_epochs: Epochs of gradual pruning on digits.
        images: Search images behind a reward.
        out: Folder of the tables.
    """

    profiles: int = 24
    targets: tuple[float, ...] = (0.9, 0.95)
    seeds: int = 3
    nb_epochs: float = 2.0
    images: int = 400
    out: Path = Path("runs/reward_signals")


def main(options: Options) -> None:
    """Score, train, correlate."""
    rows: list[dict[str, Any]] = []
    with one_thread():
        for seed in range(options.seeds):
            task = _digits(seed)
            for target in options.targets:
                rows += _digits_rows(task, target, seed=seed, options=options)
                say(f"digits, seed {seed}, {target}: {len(rows)} profiles so far")
        rows += _cifar_rows(options)
    frame = pd.DataFrame(rows)
    write_text(options.out / "signals.csv", frame.to_csv(index=False, float_format="%.6f"))
    table = spearman_rows(frame)
    text = table.to_csv(index=False, float_format="%.3f")
    write_text(options.out / "signal_correlations.csv", text)
    print(table.to_markdown(index=False, floatfmt=".2f"))


def signals(outputs: Tensor, dense: Tensor, targets: Tensor) -> dict[str, float]:
    """Both rewards and the accuracy of (B, C) logits, beside the dense network's."""
    import torch

    ours, theirs = outputs.double().log_softmax(1), dense.double().log_softmax(1)
    kl = (theirs.exp() * (theirs - ours)).sum(1).mean()
    variation = (theirs.exp() - ours.exp()).abs().sum(1).mean() / 2
    right = (outputs.argmax(1) == targets).double().mean()
    return dict(zip(SIGNALS, map(float, (torch.exp(-kl), 1 - variation, right)), strict=True))


def spearman_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Correlation of each signal with `trained`, over all profiles and among the better half.

    Args:
        frame: Columns network, target, seed, trained and one per signal; a row per profile.

    Returns:
        A row per network, target and seed, in the order of `frame`.
    """
    from scipy.stats import spearmanr

    rows = []
    for key, part in frame.groupby(["network", "target", "seed"], sort=False):
        row: dict[str, Any] = dict(zip(("network", "target", "seed"), key, strict=True))
        top = part.sort_values("trained", ascending=False, kind="stable")[: len(part) // 2]
        for signal in SIGNALS:
            row[signal] = float(spearmanr(part[signal], part["trained"]).statistic)
        for signal in SIGNALS:
            row[f"{signal}, top"] = float(spearmanr(top[signal], top["trained"]).statistic)
        rows.append(row)
    return pd.DataFrame(rows)


class _Scored:
    """Rewards of profiles on fixed search images, each network built as a rollout builds it."""

    def __init__(self, task: Task, config: WeightSparseConfig, *, seed: int, images: int) -> None:
        import torch

        self.evaluator: RolloutEvaluator = task.evaluator(config, seed=seed)
        self._inputs, self._targets = next(task.experiment.data.search.batches(images, seed=seed))
        self._power = config.ws_score_power
        with torch.inference_mode():
            self._dense = self.evaluator.dense(self._inputs)

    def of(self, zeros: IntArray) -> dict[str, float]:
        import torch

        from ws_learner.search import as_scored

        sizes = np.array([row.weights for row in self.evaluator.layers])
        network = self.evaluator.network(as_scored(zeros, sizes, power=self._power))
        with torch.inference_mode():
            return signals(network(self._inputs), self._dense, self._targets)


def _digits(seed: int) -> Task:
    """A trained digits network and its layer table."""
    from experiments.cnn_at_digits import Options as Digits
    from experiments.cnn_at_digits import build
    from ws_learner.core import RunDir, choose_device
    from ws_learner.pruning import layer_table
    from ws_learner.training import train_dense

    made = build(Digits(), seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        train_dense(
            made.model,
            made.data,
            loss=made.loss,
            metric=made.metric,
            recipe=made.dense_recipe,
            compute=choose_device("fp32", "cpu"),
            seed=seed,
            run=RunDir(Path(folder)),
        )
    example, _ = next(made.data.train.batches(2))
    return Task(made, layer_table(made.model.eval(), example))


def _digits_rows(task: Task, target: float, *, seed: int, options: Options) -> list[dict[str, Any]]:
    config = WeightSparseConfig(ws_prune_ratio=target)
    scored = _Scored(task, config, seed=seed, images=options.images)
    names, profiles = draw_around(task, config, scored.evaluator, count=options.profiles, seed=seed)
    facts = {"network": "digits", "target": target, "seed": seed}
    return [
        facts
        | {"profile": name, "trained": _trained(task, zeros, config, seed=seed, options=options)}
        | scored.of(zeros)
        for name, zeros in zip(names, profiles, strict=True)
    ]


def _trained(
    task: Task, zeros: IntArray, config: WeightSparseConfig, *, seed: int, options: Options
) -> float:
    """Accuracy on the select and the test split after gradual pruning to a profile."""
    from ws_learner.core import choose_device
    from ws_learner.report import MetricsLog
    from ws_learner.training import TrainingPhase, build_training_loss, evaluate, train_sparse

    made, compute = task.experiment, choose_device("fp32", "cpu")
    network: nn.Module = copy.deepcopy(made.model)
    counts = {row.name: count for row, count in zip(task.layers, zeros.tolist(), strict=True)}
    with tempfile.TemporaryDirectory() as folder:
        phase = TrainingPhase(
            phase="sparse",
            data=made.data,
            criterion=build_training_loss(made.loss, teacher=None, config=config),
            metric=made.metric,
            recipe=replace(made.sparse_recipe, nb_epochs=options.nb_epochs),
            compute=compute,
            seed=seed,
            log=MetricsLog(Path(folder) / "metrics.csv"),
            checkpoint=Path(folder) / "sparse.pt",
        )
        network, _ = train_sparse(network, counts, phase=phase, config=config)
    splits = (made.data.select, made.data.test)
    each = [evaluate(network, split, made.metric, compute=compute) for split in splits]
    return float(np.average(each, weights=[len(split) for split in splits]))


def _cifar_rows(options: Options) -> list[dict[str, Any]]:
    """Rewards of the profiles that `benchmarks.reward_quality` trained to."""
    done = pd.read_csv(_SHARED)
    target = float(done["target"].iloc[0])
    scored = _Scored(
        load_task(), WeightSparseConfig(ws_prune_ratio=target), seed=0, images=options.images
    )
    facts = {"network": "ResNet-20", "target": target, "seed": 0}
    return [
        facts
        | {"profile": row["name"], "trained": row["accuracy"]}
        | scored.of(np.array([int(word) for word in row["zeros"].split()]))
        for row in _records(done)
    ]


def _records(frame: pd.DataFrame) -> Sequence[dict[str, Any]]:
    rows: list[Any] = frame.to_dict("records")
    return rows


if __name__ == "__main__":
    import tyro

    say("reward signals: about ten minutes on one thread")
    main(tyro.cli(Options, description=__doc__))
