"""Sensitivity of the layers: each pruned alone, in closed form, without training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from envs import FloatArray, IntArray, LayerRow
from ws_learner.config import LEVELS, RolloutConfig, WeightSparseConfig, parse_pattern_spec
from ws_learner.core import (
    AnyPath,
    Inputs,
    OutputKind,
    UserError,
    as_path,
    as_whole,
    check_kind,
    check_output_kind,
    one_thread,
    say,
    track,
)
from ws_learner.data import DataSplits, as_splits
from ws_learner.pruning import table_for_settings
from ws_learner.search.problem import build_rollout_config
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.sensitivity_table import Sensitivity
from ws_learner.training import (
    Loss,
    check_network,
    check_splits,
    first_batch,
    network_answers,
    resolve_output_kind,
)

__all__ = ["sensitivity"]

_EXAMPLES = 64


def sensitivity(
    model: nn.Module,
    data: Any,
    *,
    loss: Loss | None = None,
    patterns: Sequence[str] = ("unstructured",),
    ratios: Sequence[float] = (0.5, 0.75, 0.9),
    outputs: OutputKind | None = None,
    config: WeightSparseConfig | None = None,
    seed: int = 0,
    cache_dir: AnyPath | None = None,
) -> Sensitivity:
    """Measure how much zeros in each layer hurt; nothing is trained, targets are not needed.

    Each layer is pruned alone by magnitude, what is left is regressed in closed form, and the
    network's outputs are compared with the dense network's. A minute for ResNet-20. Layers that
    stay dense (exempt ones, and those that a pattern does not fit) have no rows.

    Args:
        model: The trained dense network; it is not changed.
        data: As for `prune`: `DataSplits`, a data set or `DataLoader`, or two or three of them.
        loss: The task loss; only tells what the outputs mean, if it is one of PyTorch's.
        patterns: What is pruned together, such as `unstructured`, `4x1` or `2:4`.
        ratios: Shares of zeros of a layer, each in (0, 1). N:M patterns have their own.
        outputs: What the outputs mean; None takes what the data say, or infers it. If it cannot
            be told, a line says so, and only the layers' own errors are measured.
        config: Which layers (`ws_include`, `ws_exclude`, `ws_exempt`, `ws_location`) and on how
            many examples (`ws_nb_smpls_rg`, `ws_nb_smpls_own`).
        seed: Seed of the draw of examples.
        cache_dir: Folder of the layer database, which later runs of the same network can share,
            such as `ws_learner.search.database_dir()`; None keeps it in memory.

    Raises:
        UserError: A pattern or ratio is none, no layer is left, or network and data do not fit.

    Example:
        >>> # found = sensitivity(model, loader, patterns=("unstructured", "4x1"))
        >>> # found.ranking[:3], found.figure("sensitivity.svg")
    """
    check_network(model)
    names, shares = _patterns(patterns), _ratios(ratios)
    seed = as_whole(seed, name="seed")
    folder = None if cache_dir is None else as_path(cache_dir, name="cache_dir")
    settings = config or WeightSparseConfig()
    check_kind(settings, WeightSparseConfig, name="config", give="a WeightSparseConfig")
    if outputs is not None:
        check_output_kind(outputs)
    splits = as_splits(data, seed=seed, outputs=outputs)
    check_splits(splits)
    inputs, kind = _first_look(model, splits, loss=loss, outputs=outputs)
    found: list[dict[str, object]] = []
    for name in names:
        fixed = parse_pattern_spec(name).fixed_ratio
        own = shares if fixed is None else (fixed,)
        chosen = replace(settings, ws_pattern=name, ws_qkv_pattern="")
        evaluator = RolloutEvaluator(
            model,
            splits,
            layers=table_for_settings(model, inputs, chosen),
            loss=_not_called,
            metric=_no_score,
            config=_rollouts(chosen, levels=own if folder is None else LEVELS),
            seed=seed,
            cache_dir=folder,
            outputs=kind or "values",  # then only the layer database is read
        )
        found += _measured(evaluator, name, own, compares=kind is not None)
    import pandas as pd

    return Sensitivity(table=pd.DataFrame(found))


def _patterns(given: Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise UserError(f"`patterns` {given}: give a list of patterns, such as ['4x1', '2:4']")
    found = dict.fromkeys(str(parse_pattern_spec(one)) for one in given)
    if not found:
        raise UserError("`patterns`: is empty; give some, such as ['unstructured', '4x1']")
    return tuple(found)


def _ratios(given: Sequence[float]) -> tuple[float, ...]:
    try:
        found = tuple(sorted({float(one) for one in given}))
    except (TypeError, ValueError):
        found = ()
    if not found or not all(0 < one < 1 for one in found):
        raise UserError(
            f"`ratios` {given}: must be shares of zeros between 0 and 1, such as (0.5, 0.75, 0.9)"
        )
    return found


def _first_look(
    model: nn.Module, splits: DataSplits, *, loss: Loss | None, outputs: OutputKind | None
) -> tuple[Inputs, OutputKind | None]:
    """An example, and what the outputs mean; None, with a line, if that cannot be told."""
    inputs, targets = first_batch(splits, _EXAMPLES, seed=0)
    answers = network_answers(model, inputs)
    given = outputs or splits.outputs
    try:
        kind = resolve_output_kind(
            given, answers, targets, num_classes=splits.num_classes, loss=loss
        )
    except UserError as error:
        if given is not None:
            raise
        say(f"no divergences and slopes, only the layers' own errors: {error}")
        return inputs, None
    if given is None and kind != "classes":
        say(f"the outputs are taken for {kind}; give `outputs` if they are not")
    return inputs, kind


def _rollouts(config: WeightSparseConfig, *, levels: tuple[float, ...]) -> RolloutConfig:
    plain = build_rollout_config(config)
    batches = math.ceil(plain.nb_smpls_own / plain.batch_size_eval)
    return replace(
        plain,
        rg_solver="closed-form",
        nb_iters_ft=0,
        nb_iters_feval=batches,
        nb_smpls_slope=plain.nb_smpls_own,
        reward_signal="kl",
        levels=levels,
    )


def _measured(
    evaluator: RolloutEvaluator, pattern: str, ratios: Sequence[float], *, compares: bool
) -> Iterator[dict[str, object]]:
    layers, database = evaluator.layers, evaluator.database
    zeros = np.zeros((len(layers), len(ratios)), dtype=np.int64)
    for layer, row in enumerate(layers):
        for place, ratio in enumerate(ratios):
            if not row.exempt:
                zeros[layer, place] = database.fitted(layer, round(ratio * row.weights))
    own = evaluator.divergences_alone(zeros) if compares else None
    slopes = _slopes(evaluator, zeros) if compares else None
    with one_thread():
        for layer, row in enumerate(layers):
            for place, ratio in enumerate(ratios):
                if row.exempt:
                    continue
                yield _about(row) | {
                    "pattern": pattern,
                    "ratio": ratio,
                    "zeros": int(zeros[layer, place]),
                    "error": database.error(layer, int(zeros[layer, place])),
                    "divergence": math.nan if own is None else float(own[layer, place]),
                    "slope": math.nan if slopes is None else float(slopes[layer, place]),
                }


def _about(row: LayerRow) -> dict[str, object]:
    return {
        "layer": row.name,
        "kind": row.kind,
        "role": row.role,
        "weights": row.weights,
        "macs": row.macs,
    }


def _slopes(evaluator: RolloutEvaluator, zeros: IntArray) -> FloatArray:
    """(L, J) slopes with all layers at the same ratio; NaN where the network fails."""
    found = np.full(zeros.shape, np.nan)
    with track("slopes", total=zeros.shape[1]) as progress:
        for place in range(zeros.shape[1]):
            try:
                slopes = evaluator.slopes(zeros[:, place])
            except Exception as error:  # as in a search, a network may fail when it is pruned
                say(f"no slopes, as the network fails with all layers pruned: {error}")
            else:
                found[:, place] = np.nan if slopes is None else slopes
            progress.advance()
    return found


def _not_called(outputs: Tensor, targets: Tensor) -> Tensor:
    raise AssertionError("nothing is trained")


def _no_score(outputs: Tensor, targets: Tensor) -> Tensor:
    return torch.zeros(len(outputs))
