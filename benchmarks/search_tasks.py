"""Networks on which searches are measured, each with its data and dense weights.

    python -m benchmarks.search_tasks [NAME ...] [--ratio 0.9]

prints for each task its layers, the dense network's test accuracy, what the layer database and a
rollout cost on one thread, and the rewards of the profiles that need no rollout. Progressions
(`progression b`) also have the sum of own divergences by which `progression` chooses.

| name | network, data | dense test accuracy |
|---|---|---|
| `resnet20` | ResNet-20, CIFAR-10, the committed weights of all recorded tables | 89.41 % |
| `resnet20-new` | the same, the weights that runs start from | 92.37 % |
| `digits` | three convolutions, two dense layers, MNIST (`digit_recogniser.py`) | 99.06 % |
| `vgg-like` | six convolutions, three dense layers, CIFAR-10 (`keras_vgg.py`) | 80.14 % |
| `minilm` | MiniLM's encoder, TREC-6, fine-tuned on the first use (a minute) | 94.67 % |
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from benchmarks.cifar_task import Task, build_task, load_task
from envs import IntArray, OwnCurves, as_scored
from ws_learner.core import UserError, say
from ws_learner.search import AllocationContext, progression_at

__all__ = ["NAMES", "TaskName", "choose_task", "chosen_task", "load_search_task", "main"]

TaskName = Literal["resnet20", "resnet20-new", "digits", "vgg-like", "minilm"]
NAMES: tuple[TaskName, ...] = get_args(TaskName)
_CHOSEN = "WS_BENCHMARK_NETWORK"


@cache
def load_search_task(name: TaskName) -> Task:
    """Load data and weights; once per process. See the module for the names.

    Call it once before processes do so side by side: the first call may download or fine-tune.

    Raises:
        UserError: An unknown name, or a download is not possible.
    """
    if name == "resnet20":
        return load_task()
    if name == "resnet20-new":
        from experiments.resnet_at_cifar10 import Options, build

        experiment = build(Options(), seed=0)
        return build_task(experiment, experiment.checkpoint)
    if name == "digits":
        from benchmarks.digit_recogniser import load_digit_recogniser

        return build_task(load_digit_recogniser())
    if name == "vgg-like":
        from benchmarks.keras_vgg import load_vgg_like

        return build_task(load_vgg_like())
    if name == "minilm":
        from experiments.bert_at_trec import Options as Questions
        from experiments.bert_at_trec import build as build_questions

        experiment = build_questions(Questions(), seed=0)
        return build_task(experiment, _tuned_minilm(), include=["bert.encoder.*"])
    raise UserError(f"`name` {name!r}: must be one of {', '.join(NAMES)}")


def choose_task(name: TaskName) -> None:
    """Choose the network of this process and of those that it starts from now on."""
    os.environ[_CHOSEN] = name


def chosen_task() -> Task:
    """The chosen network; `resnet20` if none is."""
    name: Any = os.environ.get(_CHOSEN, NAMES[0])
    return load_search_task(name)


def _tuned_minilm() -> Path:
    """The fine-tuned dense network, trained as `bert_at_trec` does and cached."""
    from experiments.run import main as run
    from ws_learner.data import cache_folder

    folder = cache_folder() / "dense" / "minilm_at_trec"
    weights = folder / "model.safetensors"
    if not weights.exists():
        words = ["bert_at_trec", "--learner", "full-prec", "--seed", "0", "--workers", "0"]
        if code := run([*words, "--run_dir", str(folder)]):
            raise UserError(f"`minilm`: fine-tuning ended with code {code}, see above")
        shutil.rmtree(folder / "state", ignore_errors=True)  # the optimizer's, twice the weights
    return weights


def main(argv: Sequence[str] | None = None) -> int:
    """Print the costs; return 0, or 2 after bad input."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--ratio", type=float, default=0.9, help="overall prune ratio")
    given = parser.parse_args(argv)
    try:
        for name in given.names or NAMES:
            _measure(name, given.ratio)
    except UserError as error:
        say(f"error: {error}")
        return 2
    return 0


def _measure(name: TaskName, ratio: float) -> None:
    import torch

    from ws_learner.config import WeightSparseConfig
    from ws_learner.core import choose_device
    from ws_learner.search import CLOSED_FORM, RolloutEvaluator, build_rollout_config
    from ws_learner.training import evaluate

    torch.set_num_threads(1)
    task = load_search_task(name)
    found, config = task.experiment, WeightSparseConfig(ws_prune_ratio=ratio)
    right = evaluate(found.model, found.data.test, found.metric, compute=choose_device())
    weights = sum(row.weights for row in task.layers)
    print(f"{name}: {len(task.layers)} layers, {weights} weights, test accuracy {right:.4f}")
    begun = _now()
    evaluator = RolloutEvaluator(
        found.model, found.data, layers=task.layers, loss=found.loss, metric=found.metric,
        config=build_rollout_config(config), seed=0, cache_dir=None, device="cpu",
    )  # fmt: skip
    print(f"  evaluator with layer database: {_since(begun)}")
    begun = _now()
    evaluator.own_divergences()
    print(f"  own divergences of the layers: {_since(begun)}")
    context = task.context(config, evaluator)
    for profile in CLOSED_FORM:
        zeros = CLOSED_FORM[profile](context)
        begun = _now()
        print(f"  {profile:18} {evaluator.score(zeros).reward:.4f}  {_since(begun)}", flush=True)
    for slope in np.linspace(-0.4, 0.4, 9):
        zeros = progression_at(context, float(slope))
        reward, total = evaluator.score(zeros).reward, _summed_divergence(context, zeros)
        print(f"  progression {slope:+.1f}   {reward:.4f}  divergences {total:.3f}", flush=True)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(begun: tuple[float, float]) -> str:
    wall, spent = (now - then for now, then in zip(_now(), begun, strict=True))
    return f"{wall:.2f} s, {spent:.2f} s of processor time"


def _summed_divergence(context: AllocationContext, zeros: IntArray) -> float:
    measured = context.own()
    assert measured is not None
    sizes = context.weights
    scored = as_scored(zeros, sizes, power=context.score_power)
    point = np.log(np.maximum(sizes - scored, 0.5) / sizes)
    return float(OwnCurves(*measured, sizes)(point)[0].sum())


if __name__ == "__main__":
    sys.exit(main())
