"""Milliseconds of a network in an engine, from tables of its layers by inputs and outputs kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ws_learner.core import AnyPath, UserError, as_path, one_thread, say, track, warn, write_json
from ws_learner.deploy.copies import copy_of
from ws_learner.deploy.costs.network_ms import shrunk_ms
from ws_learner.deploy.costs.single_layers import LAYER_ENGINES, LayerShape, layer_ms
from ws_learner.deploy.runtime.codegen.cpu import cpu_key
from ws_learner.deploy.shrinking.tracing import call_model
from ws_learner.pruning import CoupledUnits, LayerWidth, layer_widths, zero_units

__all__ = ["EngineUnitCosts", "engine_unit_costs"]

_POINTS = 16
_FORMAT = 1
_SLOPE = (0.5, 2.0)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

Measure = Callable[[nn.Module], float]


class EngineUnitCosts:
    """Predicted milliseconds by the units that sets keep; a `search.structured` `UnitCosts`.

    The sum of the layers' times is brought in line with whole networks: `offset` plus `slope`
    times the sum plus `rest` for each activation, see `engine_unit_costs`.

    Attributes:
        unit: `latency@ENGINE`.
        digest: SHA-256 of all numbers that predictions depend on.
        levels: For each set, the numbers of units that may be kept.
        dense_ms: Measured time of the dense network.
    """

    def __init__(
        self,
        layers: Sequence[_LayerTable],
        *,
        engine: str,
        levels: Sequence[Sequence[int]],
        dense_ms: float,
    ) -> None:
        self.unit = f"latency@{engine}"
        self.levels = tuple(tuple(own) for own in levels)
        self.dense_ms = dense_ms
        self._layers = tuple(layers)
        self._full = tuple(own[-1] for own in self.levels)
        self._fit = np.array([0.0, 1.0, 0.0])

    def terms(self, kept: Sequence[int]) -> tuple[float, float]:
        """Sum of the layers' milliseconds, and millions of values that they make."""
        time = sum(layer.ms(kept) for layer in self._layers)
        return time, sum(layer.values(kept) for layer in self._layers) / 1e6

    def calibrate(self, kept: Sequence[Sequence[int]], measured: Sequence[float]) -> None:
        """Fit offset, slope and rest to whole networks, each relative to its time."""
        rows = np.array([[1.0, *self.terms(state)] for state in kept])
        times = np.array(measured)
        self._fit = _fitted(rows / times[:, None])

    @property
    def digest(self) -> str:
        """See the class."""
        facts = [self.unit, self.levels, self._fit.tolist()]
        facts += [[layer.name, layer.table.tolist()] for layer in self._layers]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def total(self, kept: Sequence[int]) -> float:
        """Predicted milliseconds of the network whose set s keeps `kept[s]` units."""
        time, values = self.terms(kept)
        return float(self._fit @ (1.0, time, values))


def _fitted(rows: Any) -> Any:
    """Offset, which may be below zero; factor of the layers, within 2; time per value, from 0."""
    from scipy.optimize import lsq_linear

    bounds = ([-np.inf, *_SLOPE[:1], 0.0], [np.inf, *_SLOPE[1:], np.inf])
    return lsq_linear(rows, np.ones(len(rows)), bounds=bounds).x


class _LayerTable:
    """Times of one layer on a grid of inputs and outputs kept, in between linear."""

    def __init__(self, name: str, shape: LayerShape, made: int, sides: Any) -> None:
        self.name, self.shape, self._made = name, shape, made
        self.inputs: LayerWidth = sides[0]
        self.outputs: LayerWidth = sides[1]
        self.axes: tuple[Any, Any] = (np.zeros(1), np.zeros(1))
        self.table: Any = np.zeros((1, 1))
        self._known: dict[tuple[int, int], float] = {}

    def set_grid(self, levels: Sequence[Sequence[int]], points: int) -> None:
        """Choose the widths to measure: those that the sets' levels make."""
        self.axes = tuple(_axis(side, levels, points) for side in (self.inputs, self.outputs))

    def ms(self, kept: Sequence[int]) -> float:
        """Milliseconds at the widths that are left."""
        at = (self.inputs.at(kept), self.outputs.at(kept))
        if at not in self._known:
            self._known[at] = _bilinear(self.table, self.axes, at)
        return self._known[at]

    def values(self, kept: Sequence[int]) -> float:
        """Number of values that the layer makes."""
        return float(self._made * self.outputs.at(kept))


def _axis(side: LayerWidth, levels: Sequence[Sequence[int]], points: int) -> Any:
    if not side.shares:
        return np.array([side.fixed])
    parts = [np.array(levels[place]) * each for place, each in side.shares]
    widths = parts[0] if len(parts) == 1 else np.unique(np.concatenate(_sums(parts)))
    widths = np.unique(widths + side.fixed)
    chosen = np.linspace(0, len(widths) - 1, min(points, len(widths))).round().astype(int)
    return widths[chosen]


def _sums(parts: Sequence[Any]) -> list[Any]:
    """Sums where all parts shrink alike; what lies between is interpolated."""
    shares = np.linspace(0, 1, _POINTS)
    scaled = [np.quantile(part, shares, method="nearest") for part in parts]
    return [np.sum(scaled, axis=0)]


def _bilinear(table: Any, axes: tuple[Any, Any], at: tuple[int, int]) -> float:
    rows = [float(np.interp(at[1], axes[1], row)) for row in table]
    return float(np.interp(at[0], axes[0], rows))


def engine_unit_costs(
    model: nn.Module,
    example: Any,
    sets: Sequence[CoupledUnits],
    *,
    engine: str,
    threads: int = 1,
    measure: Measure | None = None,
    points: int = _POINTS,
    cache_dir: AnyPath | None = None,
) -> EngineUnitCosts:
    """Measure each kind of layer on a grid of widths in the engine, and a few whole networks.

    Engines work in blocks of channels, so that times are staircases: ONNX Runtime with AVX-512
    takes as long for 17 outputs as for 32. A set may therefore keep any of `points` numbers of
    units, and these are measured, not interpolated. As HALP (Shen et al., NeurIPS 2022) does for
    outputs, for both sides. Whole networks (dense, halves, quarters) then fit an offset, a factor
    of the layers' times, and a time per value for norms, additions and activations.

    Args:
        model: The dense network; not changed.
        example: Arguments of a forward pass, of the batch size that matters.
        sets: Coupled units of the network.
        engine: `onnxruntime`, `openvino` or `torch`.
        threads: Of the engine; with one the processor's time counts.
        measure: Milliseconds of a network after its zero units have been removed; `shrunk_ms` by
            default.
        points: Most widths per side of a layer, at least 2. Slow layers get half of them.
        cache_dir: Folder of the measured times; None measures again.

    Raises:
        UserError: The engine is unknown or missing, or the network cannot be shrunk or exported.
    """
    if engine not in LAYER_ENGINES:
        raise UserError(f"`engine` {engine!r}: must be one of {', '.join(LAYER_ENGINES)}")
    if points < 2:
        raise UserError(f"`points` {points}: must be at least 2")
    run = measure or (lambda network: shrunk_ms(network, example, engine=engine, threads=threads))
    levels = [_levels(one.units, points) for one in sets]
    layers = _layers(model, example, layer_widths(model, sets))
    cache = _Cache(None if cache_dir is None else as_path(cache_dir), engine, threads)
    with one_thread():
        _measure_layers(layers, levels, points, cache, engine=engine, threads=threads)
        states = _probes(levels)
        times = [run(_at(model, sets, state)) for state in states]
    costs = EngineUnitCosts(layers, engine=engine, levels=levels, dense_ms=times[0])
    costs.calibrate(states, times)
    return costs


def _levels(units: int, points: int) -> tuple[int, ...]:
    step = -(-units // points)
    return (*range(step, units, step), units)


def _layers(
    model: nn.Module, example: Any, widths: Mapping[str, tuple[LayerWidth, LayerWidth]]
) -> list[_LayerTable]:
    """The convolutions and linear layers that a set lies in, with the shapes they meet."""
    found: list[_LayerTable] = []
    network = copy_of(model).eval()
    modules = dict(network.named_modules())
    untimed: list[str] = []

    def note(name: str, module: nn.Module, given: Any, output: Tensor) -> None:
        shape = _shape(module, given[0])
        if shape is None:
            untimed.append(name)
            return
        made = output.numel() // output.shape[-1 - len(shape.kernel)]
        found.append(_LayerTable(name, shape, made, widths[name]))

    for name in widths:
        if isinstance(modules[name], (nn.Linear, nn.modules.conv._ConvNd)):
            modules[name].register_forward_hook(
                lambda module, given, output, name=name: note(name, module, given, output)
            )
    arguments = example if isinstance(example, Mapping | tuple) else _arguments(example)
    with torch.no_grad():
        call_model(network, arguments)
    if untimed:
        say(f"structured: of these layers the time counts as constant: {', '.join(untimed)}")
    return found


def _arguments(example: Any) -> tuple[Any, ...]:
    return (example,) if isinstance(example, Tensor) else tuple(example)


def _shape(module: nn.Module, given: Tensor) -> LayerShape | None:
    if isinstance(module, nn.Linear):
        return LayerShape("linear", (given.numel() // given.shape[-1],))
    if not isinstance(module, _CONVOLUTIONS) or module.groups not in (1, module.out_channels):
        return None
    sizes = given.shape[-len(module.kernel_size) :]
    batch = given.shape[0] if given.dim() == len(sizes) + 2 else 1
    padding = module.padding
    if isinstance(padding, str):
        half = tuple(
            d * (k - 1) // 2 for k, d in zip(module.kernel_size, module.dilation, strict=True)
        )
        padding = half if padding == "same" else tuple(0 for _ in module.kernel_size)
    return LayerShape(
        "conv" if module.groups == 1 else "depthwise",
        (batch, *sizes),
        module.kernel_size,
        module.stride,
        padding,
        module.dilation,
    )


def _measure_layers(
    layers: Sequence[_LayerTable],
    levels: Sequence[Sequence[int]],
    points: int,
    cache: _Cache,
    *,
    engine: str,
    threads: int,
) -> None:
    for layer in layers:
        layer.set_grid(levels, points)
    with track(f"layers in {engine}", total=len(layers)) as progress:
        for layer in layers:
            most = [int(axis[-1]) for axis in layer.axes]
            if cache.ms(layer.shape, most[0], most[1], engine=engine, threads=threads) > 1.0:
                layer.set_grid(levels, max(points // 2, 2))
            layer.table = np.array(
                [
                    [
                        cache.ms(layer.shape, int(i), int(o), engine=engine, threads=threads)
                        for o in layer.axes[1]
                    ]
                    for i in layer.axes[0]
                ]
            )
            cache.save()
            progress.advance()


def _probes(levels: Sequence[Sequence[int]]) -> list[list[int]]:
    """Numbers of kept units of the whole networks that are measured, the dense one first."""
    full = [own[-1] for own in levels]
    shares = [(1.0, 1.0), (0.5, 0.5), (0.25, 0.25), (0.75, 0.5), (0.5, 0.75), (0.75, 0.25)]

    def near(own: Sequence[int], share: float) -> int:
        return min(own, key=lambda count: abs(count - share * own[-1]))

    states = [[near(own, pair[place % 2]) for place, own in enumerate(levels)] for pair in shares]
    distinct = [state for n, state in enumerate(states) if state not in states[:n]]
    assert distinct[0] == full
    return distinct


def _at(model: nn.Module, sets: Sequence[CoupledUnits], kept: Sequence[int]) -> nn.Module:
    """A network with that many units of each set left."""
    network = copy_of(model).eval()
    gone = {one.name: range(count, one.units) for one, count in zip(sets, kept, strict=True)}
    zero_units(network, sets, gone)
    return network


class _Cache:
    """Measured times of single layers, in memory and in a file."""

    def __init__(self, folder: Path | None, engine: str, threads: int) -> None:
        facts = {"format": _FORMAT, "cpu": cpu_key(), "threads": threads}
        try:
            facts[engine] = version(engine)
        except PackageNotFoundError:
            raise UserError(f"`engine` {engine}: is not installed; pip install {engine}") from None
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        self._path = None if folder is None else folder / f"engine-layers-{key[:16]}.json"
        self._times: dict[str, float] = {}
        self._saved = 0
        if self._path is not None and self._path.exists():
            try:
                found = json.loads(self._path.read_text())
                self._times = {str(name): float(ms) for name, ms in found.items()}
            except (OSError, ValueError, AttributeError, TypeError) as error:
                warn(f"{self._path}: cannot be read ({error}); measuring again")
        self._saved = len(self._times)

    def ms(
        self, shape: LayerShape, inputs: int, outputs: int, *, engine: str, threads: int
    ) -> float:
        """The time of a layer, measured if it is not known."""
        key = json.dumps([asdict(shape), inputs, outputs])
        if key not in self._times:
            self._times[key] = layer_ms(shape, inputs, outputs, engine=engine, threads=threads)
        return self._times[key]

    def save(self) -> None:
        """Write what is new."""
        if self._path is not None and len(self._times) > self._saved:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, self._times)
            self._saved = len(self._times)
