"""One trial of a sweep: a training per rung, each whole, scored on the select split."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.cli.command import Command
from experiments.cli.flags import parse
from ws_learner.core import UserError, read_json, write_json

__all__ = ["read_answer", "run_rungs", "trial_arguments"]


def trial_arguments(values: Mapping[str, Any]) -> list[str]:
    """Settings as flags."""
    words: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no_{name}")
        else:
            many = value if isinstance(value, list | tuple) else [value]
            words += [f"--{name}", *map(str, many)]
    return words


def run_rungs(
    words: Sequence[str],
    values: Mapping[str, Any],
    *,
    budgets: Sequence[int],
    folder: Path,
    allocation: Path | None,
) -> Iterator[dict[str, Any]]:
    """Train with `values`, longer at each rung; yield what each came to.

    A rung that was done before is read from its file. Bad settings end the trial with their
    reason, and are not an error of the sweep.

    Args:
        words: The command line all trials share.
        values: Settings of this trial.
        budgets: Lengths of the trainings, the last one's being the whole recipe.
        folder: The trial's own.
        allocation: Ratios to use instead of finding them.
    """
    for rung, budget in enumerate(budgets):
        answer = folder / f"rung{rung}.json"
        if not answer.exists():
            try:
                command = parse([*words, *trial_arguments(values)])
                share = budget / budgets[-1]
                result = _train(command, share, run=folder / f"rung{rung}", allocation=allocation)
            except UserError as error:
                result = {"failed": str(error)}
            write_json(answer, result | {"budget": budget})
        yield read_answer(answer)


def read_answer(path: Path) -> dict[str, Any]:
    """What a rung came to.

    Raises:
        UserError: The file is damaged.
    """
    answer: Any = read_json(path)
    scored = isinstance(answer, dict) and isinstance(answer.get("score", 0.0), int | float)
    if not scored or not ({"failed", "score", "select_accuracy"} & answer.keys()):
        raise UserError(f"{path}: damaged (holds no result); delete it, and the rung runs again")
    return dict(answer)


def _train(command: Command, share: float, *, run: Path, allocation: Path | None) -> dict[str, Any]:
    from experiments.cli.adjust_training import adjust_training
    from experiments.cli.dense_weights import load_weights
    from experiments.run import build, dense_weights, make_learner
    from ws_learner.core import RunDir
    from ws_learner.training import as_metric, evaluate

    begun = time.monotonic()
    experiment = build(command)
    weights = dense_weights(command, experiment)
    if weights is not None:
        load_weights(experiment.model, weights)
    epochs = (command.run.nb_epochs or experiment.sparse_recipe.nb_epochs) * share
    flags = dataclasses.replace(command.run, nb_epochs=epochs, workers=0)
    command = adjust_training(dataclasses.replace(command, run=flags), experiment)
    with RunDir(run).locked():
        if allocation is not None:
            (run / "state").mkdir(exist_ok=True)
            shutil.copyfile(allocation, run / "state" / allocation.name)
        learner = make_learner(command, experiment, run=run)
        model = learner.prune()
        zeros = sum(int((value == 0).sum()) for value in _prunable(learner, model))
        count = sum(value.numel() for value in _prunable(learner, model))
    metric = as_metric(experiment.metric)
    found = evaluate(
        model, experiment.data.select, metric, compute=learner.compute, where="the select split"
    )
    return {
        "select_accuracy" if metric.accuracy else "select_metric": found,
        "score": found if metric.higher_is_better else -found,
        "prune_ratio": zeros / count,
        "epochs": epochs,
        "seconds": round(time.monotonic() - begun, 1),
    }


def _prunable(learner: Any, model: Any) -> list[Any]:
    state = model.state_dict()
    return [state[row.name] for row in learner.layers()]
