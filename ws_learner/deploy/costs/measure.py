"""`measure_costs`: fill a table of costs by trials, or read it from the cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from envs import LayerRow
from ws_learner.core import AnyPath, Inputs, LayerChoice, UserError, as_path
from ws_learner.deploy.costs.cache import TimesFile, measuring_alone
from ws_learner.deploy.costs.engines import check_engine, engine_versions
from ws_learner.deploy.costs.machine import machine_key
from ws_learner.deploy.costs.overhead import fitted
from ws_learner.deploy.costs.random_zeros import DENSITIES, layer_pattern
from ws_learner.deploy.costs.specimens import Calls, find_specimens
from ws_learner.deploy.costs.table import CostTable, MeasuredLayer
from ws_learner.deploy.costs.trials import Trials
from ws_learner.deploy.costs.whole_networks import WholeNetworks
from ws_learner.deploy.runtime.compile import check_threads, torch_threads

__all__ = ["measure_costs"]


def measure_costs(
    model: nn.Module,
    example_inputs: Inputs,
    layers: Sequence[LayerRow],
    choices: Sequence[Sequence[LayerChoice]],
    *,
    engine: str = "wsr",
    threads: int = 1,
    cache_dir: AnyPath | None = None,
    densities: Sequence[float] = DENSITIES,
    calibration: Iterable[Any] | None = None,
) -> CostTable:
    """Measure what each choice of each layer costs in milliseconds, on this machine.

    Layers that are alike share one measurement, and everything measured is kept in a cache, so
    that a second call takes no time. Zeros are random. Only `wsr` leaves out zeros: with the
    other engines every pattern costs what the dense layer costs. Only one process of a machine
    measures at a time; a search on several workers measures before they start.

    Args:
        model: Not changed.
        example_inputs: Of the batch size that matters.
        layers: The layer table.
        choices: For each layer those that will be asked for; their patterns and formats count.
        engine: `wsr`, `torch`, `onnxruntime` or `openvino`.
        threads: Of the engine.
        cache_dir: Folder of the cache; by default `latency` in the download folder.
        densities: Shares of nonzero weights that are measured, in (0, 1); times between them
            are interpolated.
        calibration: Inputs for the ranges of bytes; the example by default.

    Raises:
        UserError: The engine is not known or not installed, a pattern goes across layers, or the
            engine cannot multiply bytes.
    """
    check_engine(engine)
    check_threads(threads)
    wanted = _wanted(layers, choices, engine)
    grid = _grid(densities)
    int8 = any(choice.dtype == "int8" for own in choices for choice in own)
    folder = None if cache_dir is None else as_path(cache_dir, name="cache_dir")
    file = TimesFile(folder, engine=engine, versions=engine_versions(engine), threads=threads)
    calls, found = find_specimens(model, example_inputs, layers)
    patterns = _patterns(calls, wanted)
    with torch_threads(threads), measuring_alone(file.folder):
        file.reload()
        trials = Trials(file, engine=engine, threads=threads, int8=int8, densities=grid)
        times = trials.hold(found, patterns)
        table = CostTable(
            engine=engine,
            machine=machine_key(),
            versions=engine_versions(engine),
            threads=threads,
            layers=tuple(
                MeasuredLayer(name=row.name, weights=row.weights, calls=dict(calls[row.name]))
                for row in layers
            ),
            times=times,
            floor=trials.floor(),
        )
        whole = WholeNetworks(
            model, example_inputs, table=table, specimens=found, file=file, calibration=calibration
        )
        return fitted(table, whole, choices)


def _wanted(
    layers: Sequence[LayerRow], choices: Sequence[Sequence[LayerChoice]], engine: str
) -> dict[str, list[str]]:
    """Patterns of each row, checked."""
    if len(layers) != len(choices):
        raise UserError(
            f"`choices`: there are {len(choices)} for {len(layers)} layers; give a sequence of "
            "choices for each layer"
        )
    if engine == "torch" and any(c.dtype == "int8" for own in choices for c in own):
        raise UserError(
            "`dtype` int8: PyTorch runs float32 networks here; use the engine wsr, onnxruntime or "
            "openvino"
        )
    wanted = {}
    for row, own in zip(layers, choices, strict=True):
        names = dict.fromkeys(choice.pattern for choice in own if choice.zeros)
        wanted[row.name] = [name for name in names if layer_pattern(name)]
    return wanted


def _grid(densities: Sequence[float]) -> tuple[float, ...]:
    grid = tuple(sorted(set(densities)))
    if not grid or not all(0 < density < 1 for density in grid):
        raise UserError(
            f"`densities` {tuple(densities)}: give shares of nonzero weights above 0 and below 1"
        )
    return grid


def _patterns(calls: Calls, wanted: dict[str, list[str]]) -> dict[str, list[str]]:
    """By signature, all patterns of the layers that have it."""
    found: dict[str, Counter[str]] = {}
    for name, own in calls.items():
        for signature in own:
            found.setdefault(signature, Counter()).update(wanted[name])
    return {signature: list(own) for signature, own in found.items()}
