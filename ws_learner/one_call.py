"""One call that prunes a network: what it needs to know, it finds in network and data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import nn

from ws_learner.config import ClusterConfig, Recipe, WeightSparseConfig, usual_recipe
from ws_learner.core import (
    ComputeDevice,
    OutputKind,
    RunDir,
    UserError,
    as_path,
    as_whole,
    check_kind,
    remember_messages,
    say,
    suggest,
    warn,
)
from ws_learner.data import as_splits, loader_batch_size
from ws_learner.learner import WeightSparseLearner
from ws_learner.report import (
    TrackerLike,
    check_trackers,
    headline,
    refuse_other_ending,
    track_run,
    write_report_file,
)
from ws_learner.training import Loss, Metric, Result, check_network, check_run_arguments, usual_task

__all__ = ["prune"]

_SMALL = 1_000_000
_NO_RATIO = (
    "`prune_ratio` None: give the share of zero weights, such as 0.9, or `ws_budget` in `config`"
)


@remember_messages()  # until the run has a folder
def prune(
    model: nn.Module,
    data: Any,
    prune_ratio: float | None,
    *,
    loss: Loss | None = None,
    metric: Metric | None = None,
    epochs: float | None = None,
    batch_size: int | None = None,
    lrn_rate: float | None = None,
    report: str | Path | None = None,
    outputs: OutputKind | None = None,
    recipe: Recipe | None = None,
    config: WeightSparseConfig | Mapping[str, Any] | None = None,
    run_dir: str | Path | None = None,
    seed: int = 0,
    workers: int | None = None,
    max_examples: int | None = None,
    teacher: nn.Module | None = None,
    compute: ComputeDevice | None = None,
    cluster: ClusterConfig | None = None,
    track: Sequence[TrackerLike] = (),
) -> Result:
    """Prune a trained network: search a ratio for each layer, train to the ratios, measure.

    The same call resumes a run that was interrupted, and reads a finished one again. Everything
    that can be refused is refused before the search starts.

    **Which examples play which part.** *train* trains the sparse network and calibrates; *search*
    scores candidate ratios; *select* chooses among the best; *test* is read once, at the end.

    | `data` | train | search, select | measured at the end on |
    |---|---|---|---|
    | one data set | 80 % of it | 10 % each | these 20 %: a validation, no test |
    | (train, validation) | train | half of validation each | validation: no test |
    | (train, validation, test) | train | half of validation each | test |
    | `DataSplits` | its train | its search, select | its test |

    Without a test set, `result.summary["measured_on"]` is `validation`, and so the report says:
    these examples helped to choose the ratios, though training never saw them. If the dense network
    was trained on what is held out of one data set, its own score there is too good.

    Each set is a `DataLoader` (its `collate_fn`, workers and batch size are kept), a map-style data
    set or an `IterableDataset` (read into memory); see `ws_learner.data.as_splits`.

    **What is chosen for you.** Loss and metric by what the outputs mean, see `usual_task`: cross
    entropy and accuracy; binary cross entropy and the share of right labels; mean squared and mean
    absolute error. The recipe by the sizes of data and network, see `usual_recipe`: AdamW, about
    1,500 steps in 2 to 40 epochs, peak rate 3e-3 up to 100,000 weights and lower above. Lines on
    standard error say what was chosen. A network whose dense training used much lower rates, or
    that loses more than it should, may want more `epochs` before anything else.

    Args:
        model: The trained dense network; it is not changed.
        data: As above.
        prune_ratio: Share of zero weights, in [0, 1], such as 0.9. None, if `config` has the
            layers' ratios as `ws_ratios`.
        loss: (outputs, targets) -> scalar; None chooses.
        metric: (outputs, targets) -> (B,) scores in [0, 1], or a `MetricSpec`; None chooses.
        epochs: Passes over the training examples; None chooses.
        batch_size: Examples per step; None takes the training `DataLoader`'s, or chooses.
        lrn_rate: Peak learning rate; None chooses.
        report: File that receives the report: a page to send if it ends in `.html`, else Markdown;
            a folder receives `report.md`. Every run has both in its own folder, too.
        outputs: What the outputs mean, see `OutputKind`; None tells it from shapes and targets.
        recipe: The whole training recipe, in place of `epochs`, `batch_size` and `lrn_rate`.
        config: More settings, as a `WeightSparseConfig` or its fields in a dict, such as
            {"ws_pattern": "2:4"}; its prune ratio is `prune_ratio`.
        run_dir: Folder of the run; by default runs/<network>-gradual-<hash>.
        seed: Of everything random.
        workers: Processes that score candidates; None: none beside this one for a network of less
            than a million weights, else one per core.
        max_examples: Examples of an `IterableDataset` to keep.
        teacher: Teacher for distillation, which {"enbl_dst": True} in `config` turns on; by default
            the dense network.
        compute: Device, precision and memory layout; by default chosen for this machine.
        cluster: Scores candidates and trains on Ray.
        track: Experiment trackers that follow the run, such as ["mlflow"] or ["tensorboard"], or
            objects with the methods of `ws_learner.report.Tracker`.

    Returns:
        The sparse network, of its own class with plain weights; the layer table; the summary with
        `dense_metric` and `sparse_metric`.

    Raises:
        UserError: Something does not fit or cannot be told; the line says what to give.

    Example:
        >>> # result = prune(model, (train_loader, validation_loader), 0.9, report="report.md")
    """
    check_network(model)
    check_trackers(track)
    file = _report_file(report)
    _refuse_both(recipe, epochs=epochs, batch_size=batch_size, lrn_rate=lrn_rate)
    settings = _config(config, prune_ratio)
    check_run_arguments(
        loss=loss,
        recipe=recipe,
        config=settings,
        teacher=teacher,
        compute=compute,
        cluster=cluster,
    )
    seed = as_whole(seed, name="seed")
    workers = None if workers is None else as_whole(workers, name="workers")
    batch_size = None if batch_size is None else as_whole(batch_size, name="batch_size", least=1)
    splits = as_splits(data, seed=seed, max_examples=max_examples, outputs=outputs)
    task = usual_task(model, splits, loss=loss, metric=metric, outputs=outputs)
    weights = sum(parameter.numel() for parameter in model.parameters())
    if recipe is None:
        recipe = usual_recipe(
            examples=len(splits.train),
            weights=weights,
            epochs=epochs,
            batch_size=batch_size or _loaders_batch(data, len(splits.train)),
            lrn_rate=lrn_rate,
        )
        say(
            f"training: {recipe.nb_epochs:g} epochs in batches of {recipe.batch_size}, "
            f"{recipe.optimizer} at {recipe.lrn_rate:g}"
        )
    recipe.steps_per_epoch(len(splits.train))  # refuses a batch larger than the split
    run = WeightSparseLearner(
        model,
        task.data,
        loss=task.loss,
        metric=task.metric,
        recipe=recipe,
        config=settings,
        run_dir=run_dir,
        seed=seed,
        workers=0 if workers is None and weights < _SMALL else workers,
        outputs=task.outputs,
        facts={"network": type(model).__name__},
        teacher=teacher,
        compute=compute,
        cluster=cluster,
        track=track,
    )
    result = run.fit()
    _tell(run.run, result, file)
    track_run(run.run.path, track)  # its report
    return result


def _refuse_both(recipe: Recipe | None, **parts: float | None) -> None:
    given = [name for name, value in parts.items() if value is not None]
    if recipe is not None and given:
        raise UserError(f"`{given[0]}`: is part of `recipe`, which is given, too; leave one out")


def _config(
    given: WeightSparseConfig | Mapping[str, Any] | None, prune_ratio: float | None
) -> WeightSparseConfig:
    """The settings; messages name the argument that was given."""
    try:
        return _settings(given, prune_ratio)
    except UserError as error:
        if prune_ratio is None:
            raise
        raise UserError(str(error).replace("`ws_prune_ratio`", "`prune_ratio`")) from error


def _settings(
    given: WeightSparseConfig | Mapping[str, Any] | None, prune_ratio: float | None
) -> WeightSparseConfig:
    if given is not None:
        kinds = (WeightSparseConfig, Mapping)
        check_kind(
            given, *kinds, name="config", give="a WeightSparseConfig, or its fields in a dict"
        )
    if isinstance(given, WeightSparseConfig):
        if prune_ratio is not None:
            return replace(given, ws_prune_ratio=prune_ratio)
        if given.ws_ratios is not None or given.budgets:
            return given
        raise UserError(_NO_RATIO)
    chosen = dict(given or {})
    known = {field.name for field in fields(WeightSparseConfig)}
    for name in chosen.keys() - known:
        raise UserError(f"`config` {name}: is no setting; {suggest(name, known)}")
    if prune_ratio is None and not any(chosen.get(name) for name in ("ws_ratios", "ws_budget")):
        raise UserError(_NO_RATIO)
    if prune_ratio is None:
        return WeightSparseConfig(**chosen)
    return WeightSparseConfig(**chosen | {"ws_prune_ratio": prune_ratio})


def _loaders_batch(data: Any, examples: int) -> int | None:
    """The training loader's batch size, as far as the training split has so many examples."""
    size = loader_batch_size(data)
    return None if size is None else min(size, examples)


def _report_file(report: str | Path | None) -> Path | None:
    """The file that receives the report; its folder is made now, so that it can be."""
    if report is None:
        return None
    path = as_path(report, name="report")
    path = path / "report.md" if path.is_dir() or not path.suffix else path
    refuse_other_ending(path, name="report")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"`report` {report}: cannot be written ({error.strerror})") from error
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"`report` {report}: its folder cannot be written; choose another")
    return path


def _tell(run: RunDir, result: Result, file: Path | None) -> None:
    if file is not None:
        write_report_file(run.path, file)
    warn(headline(result.summary).replace("*", ""))
    say(f"report: {file or run.path / 'report.md'}")
