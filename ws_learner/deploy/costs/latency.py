"""Milliseconds that a finished network takes per call in an engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ws_learner.core import Inputs, NumberFormat, UserError, say
from ws_learner.deploy.costs.engines import check_engine, engine_versions, installed_engines
from ws_learner.deploy.costs.formats import Formats
from ws_learner.deploy.costs.network_runs import NetworkRun, network_run
from ws_learner.deploy.costs.timing import Timing, clock_for, time_runs
from ws_learner.deploy.runtime.compile import check_threads, torch_threads

__all__ = [
    "Latency",
    "Pace",
    "dense_latency",
    "dense_paces",
    "fastest",
    "measure_latency",
    "measure_together",
]

_ROUNDS, _SERIES, _QUIET = 15, 4, 0.05
_PACE = "the pace"


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds of a whole network per call.

    With one thread this is the processor's time, else wall time.

    Attributes:
        median_ms: Median of the rounds.
        spread: Distance of the quartiles over the median.
        engine: That ran it.
        how: What it ran by, such as `compiled`, or `dense` where `wsr` found nothing faster.
        versions: Of the libraries that its speed depends on.
        rounds: Number of rounds, each of at least 5 ms.
        threads: That were used.
    """

    median_ms: float
    spread: float
    engine: str
    how: str
    versions: Mapping[str, str]
    rounds: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class Pace:
    """A network that is timed beside others, to know how fast the machine is meanwhile.

    Attributes:
        run: The network in the engine.
        latency: What it took when the pace was set.
    """

    run: NetworkRun
    latency: Latency


def measure_latency(
    model: nn.Module,
    example_inputs: Inputs,
    *,
    engine: str,
    dtype: NumberFormat | Mapping[str, NumberFormat] = "fp32",
    threads: int = 1,
    calibration: Iterable[Any] | None = None,
    pace: Pace | None = None,
) -> Latency:
    """Measure the network as this engine would run it in the field.

    Args:
        model: With its zeros; not changed. In evaluation mode, on the CPU, float32.
        example_inputs: Of the batch size that matters: a tensor, several in a sequence, or
            keywords.
        engine: `wsr` (`compile_sparse`), `torch`, `onnxruntime` or `openvino`.
        dtype: Of all layers, or of each by its name; those not named are fp32. With `wsr`, `int8`
            allows bytes where they are faster.
        threads: Of the engine.
        calibration: Inputs that the ranges of bytes are read from; the example by default.
        pace: Measured beside it. Milliseconds are then those at the speed that the machine had
            when the pace was set: shared machines change theirs by a fifth within minutes.

    Raises:
        UserError: The engine is not known or not installed, or cannot run the network.
    """
    found = measure_together(
        {"": (model, dtype)},
        example_inputs,
        engine=engine,
        threads=threads,
        calibration=calibration,
        pace=pace,
    )
    return found[""]


def measure_together(
    networks: Mapping[str, tuple[nn.Module, NumberFormat | Mapping[str, NumberFormat]]],
    example_inputs: Inputs,
    *,
    engine: str,
    threads: int = 1,
    calibration: Iterable[Any] | None = None,
    pace: Pace | None = None,
) -> dict[str, Latency]:
    """Measure several networks in turn, so that their ratios hold on a busy machine, too.

    Args:
        networks: By name, each with its `dtype`; see `measure_latency` for the rest.
        example_inputs: Of all.
        engine: That runs all.
        threads: Of the engine.
        calibration: Of all.
        pace: See `measure_latency`.

    Raises:
        UserError: As `measure_latency`.
    """
    check_engine(engine)
    check_threads(threads)
    formats = {name: Formats.read(dtype) for name, (_, dtype) in networks.items()}
    data = None if calibration is None else list(calibration)
    with torch_threads(threads):
        runs = {
            name: network_run(
                model,
                example_inputs,
                engine=engine,
                formats=formats[name],
                threads=threads,
                calibration=data,
            )
            for name, (model, _) in networks.items()
        }
        beside = {} if pace is None else {_PACE: pace.run}
        timings = _quiet_times(runs | beside, threads=threads)
    scale = 1.0 if pace is None else pace.latency.median_ms / timings[_PACE].median_ms
    return {
        name: _latency(runs[name], timings[name], engine=engine, threads=threads, scale=scale)
        for name in runs
    }


def dense_latency(
    model: nn.Module,
    example_inputs: Inputs,
    *,
    engines: Sequence[str] | None = None,
    threads: int = 1,
) -> Latency:
    """Measure the fastest dense float32 run of the network: what a share of latency refers to.

    For `wsr` that is the fastest of PyTorch's network and of `compile_sparse` on dense layers. A
    line says which engine it is if there are several.

    Args:
        model: The dense network.
        example_inputs: See `measure_latency`.
        engines: To compare; all that are installed by default.
        threads: Of each engine.

    Raises:
        UserError: As `measure_latency`, for engines that were named.
    """
    paces = dense_paces(model, example_inputs, engines=engines, threads=threads)
    return fastest(paces).latency


def dense_paces(
    model: nn.Module,
    example_inputs: Inputs,
    *,
    engines: Sequence[str] | None = None,
    threads: int = 1,
) -> dict[str, Pace]:
    """Measure the dense float32 network in several engines in turn, by engine.

    Args and errors: see `dense_latency`.
    """
    names = installed_engines() if engines is None else tuple(engines)
    for name in names:
        check_engine(name)
    check_threads(threads)
    with torch_threads(threads):
        networks = _networks(model, example_inputs, names, threads, may_fail=engines is None)
        timings = _quiet_times(networks, threads=threads)
    return {
        name: Pace(run=run, latency=_latency(run, timings[name], engine=name, threads=threads))
        for name, run in networks.items()
    }


def fastest(paces: Mapping[str, Pace]) -> Pace:
    """The pace of the fastest engine; a line says which one, if there are several."""
    best = min(paces.values(), key=lambda own: own.latency.median_ms)
    if len(paces) > 1:
        shown = ", ".join(f"{name} {own.latency.median_ms:.3g} ms" for name, own in paces.items())
        say(f"dense latency: {best.latency.engine} is fastest ({shown})")
    return best


def _networks(
    model: nn.Module,
    inputs: Inputs,
    names: Sequence[str],
    threads: int,
    *,
    may_fail: bool,
) -> dict[str, NetworkRun]:
    found, formats = {}, Formats.read("fp32")
    for name in names:
        try:
            found[name] = network_run(
                model, inputs, engine=name, formats=formats, threads=threads, calibration=None
            )
        except UserError as error:
            if not may_fail:
                raise
            say(f"dense latency: {name} is left out: {error}")
    if not found:
        raise UserError("dense latency: no engine can run this network")
    return found


def _quiet_times(networks: Mapping[str, NetworkRun], *, threads: int) -> dict[str, Timing]:
    """Times from a series of rounds that nothing disturbed, or the least disturbed of several."""
    runs = {name: own.run for name, own in networks.items()}
    clocks = {name: clock_for(run, threads=threads) for name, run in runs.items()}
    series = []
    for _ in range(_SERIES):
        series.append(time_runs(runs, threads=threads, rounds=_ROUNDS, clocks=clocks))
        if all(own.spread <= _QUIET for own in series[-1].values()):
            break
    return min(series, key=lambda own: max(timing.spread for timing in own.values()))


def _latency(
    network: NetworkRun, timing: Timing, *, engine: str, threads: int, scale: float = 1.0
) -> Latency:
    return Latency(
        median_ms=timing.median_ms * scale,
        spread=timing.spread,
        engine=engine,
        how=network.how,
        versions=engine_versions(engine),
        rounds=timing.rounds,
        threads=threads,
    )
