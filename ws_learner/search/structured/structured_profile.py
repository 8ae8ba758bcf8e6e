"""A structured profile within a budget: allocate, score variants, measure, correct."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from envs import FloatArray
from ws_learner.config import RolloutConfig
from ws_learner.core import UserError, choose_device, say, track, widened
from ws_learner.data import DataSplits
from ws_learner.pruning import CoupledUnits
from ws_learner.search.structured.unit_allocation import allocate_units
from ws_learner.search.structured.unit_costs import UnitCosts
from ws_learner.search.structured.unit_database import UnitDatabase
from ws_learner.search.structured.unit_rollouts import UnitRollouts
from ws_learner.training import Loss, Metric

__all__ = ["Correction", "StructuredProfile", "structured_profile"]

_STRENGTH = 1.0  # of the logarithm of a set's factor, from one variant to the next
_MARGIN = 0.99  # of the budget, so that noise does not carry the finished network over it

Measure = Callable[[nn.Module], float]
_BELOW = 0.999  # of a prediction that turned out too large, so that another network comes next


@dataclass(frozen=True, kw_only=True)
class Correction:
    """One step of predict, measure, correct.

    Attributes:
        allocated: Budget given to the allocation.
        predicted: Cost that was predicted for what it chose.
        measured: Cost of that network; NaN if it is not measured.
        kept: Units that each set keeps.
    """

    allocated: float
    predicted: float
    measured: float
    kept: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class StructuredProfile:
    """A network with whole units at zero.

    Attributes:
        model: Pruned, its readers regressed, batch norms recalibrated; `shrink` makes it small, and
            the method `pattern_lock` trains it.
        kept: Number of units that each set keeps, by name.
        gone: Numbers of the units that are zero, by name.
        budget: Most cost.
        predicted: Cost by the tables.
        measured: Measured cost, never above the budget; NaN if it is not measured.
        divergence: From the dense network on the search examples.
        corrections: The steps of predict, measure, correct.
        variants: Divergence of every variant that was scored, in order.
    """

    model: nn.Module
    kept: dict[str, int]
    gone: dict[str, tuple[int, ...]]
    budget: float
    predicted: float
    measured: float
    divergence: float
    corrections: tuple[Correction, ...]
    variants: tuple[float, ...] = field(default=())


def structured_profile(
    model: nn.Module,
    data: DataSplits,
    *,
    sets: Sequence[CoupledUnits],
    costs: UnitCosts,
    budget: float,
    loss: Loss,
    metric: Metric,
    measure: Measure | None = None,
    config: RolloutConfig | None = None,
    nb_rollouts: int = 32,
    nb_corrections: int = 6,
    tolerance: float = 0.05,
    seed: int = 0,
    device: str | None = None,
) -> StructuredProfile:
    """Choose how many units each coupled set keeps, and prune and regress the network.

    The quality of a set is a curve over its kept units: the least-squares error of its readers'
    outputs (units in the order of ZipLM, Kurtic et al., NeurIPS 2023), and the divergence of the
    network's outputs if it alone is pruned. The sum of the curves is minimised within the budget,
    see `allocate_units`. Then the sets' factors in this sum are searched as in SPDY (Frantar &
    Alistarh, ICML 2022): random factors, one allocation each, scored by a rollout. At last the
    network is measured; the budget of the allocation is scaled until the network is within
    `tolerance` below the budget, or cannot come nearer.

    Args:
        model: The dense network; not changed.
        data: `train` for statistics, `search` for scores.
        sets: What can be removed, as `find_coupled_units` of `ws_learner.deploy` finds it.
        costs: Predicts the cost of numbers of kept units.
        budget: Most cost, in the unit of `costs`.
        loss: Task loss.
        metric: Score of each example.
        measure: Cost of a network with units at zero, such as `shrunk_ms` of `ws_learner.deploy`;
            None trusts `costs`, as for parameters and MACs.
        config: Numbers of examples.
        nb_rollouts: Variants that are scored; the two closed-form ones at least.
        nb_corrections: Most measurements.
        tolerance: How far below the budget a measured cost may lie, as a share, in (0, 1).
        seed: Of examples and factors.
        device: Of the rollouts.

    Raises:
        UserError: A setting is out of range, the budget is too small, or no network within the
            budget was measured.
    """
    _check(budget, nb_rollouts, nb_corrections, tolerance)
    compute = choose_device("fp32", device)
    dense = compute.place_model(widened(copy.deepcopy(model))).eval()
    rollouts = UnitRollouts(
        dense,
        data,
        loss=loss,
        metric=metric,
        config=config or RolloutConfig(),
        seed=seed,
        compute=compute,
    )
    database = UnitDatabase.measure(
        dense, sets, rollouts.calibration(), seed=seed, pad_id=data.pad_id
    )
    levels = costs.levels
    if len(levels) != len(sets):
        raise UserError(f"`costs` are of {len(levels)} sets, `sets` has {len(sets)}")
    starts = [database.errors(levels), rollouts.own_curves(database, levels)]

    def correct(curves: Sequence[FloatArray], allocated: float) -> list[Correction]:
        return _corrected(
            lambda amount: allocate_units(levels, curves, costs.total, budget=amount),
            costs=costs,
            budget=budget,
            allocated=allocated,
            measure=None if measure is None else lambda k: measure(rollouts.network(database, k)),
            steps=nb_corrections,
            tolerance=tolerance,
        )

    # The search looks at networks of the size that the measurement will allow.
    allocated = budget
    if measure is not None and nb_rollouts > len(starts):
        allocated = _nearest(correct(starts[1], budget), budget).allocated
    curves, variants = _searched(
        starts,
        levels=levels,
        costs=costs,
        budget=allocated,
        score=lambda kept: rollouts.divergence(database, kept),
        nb_rollouts=nb_rollouts,
        seed=seed,
    )
    corrections = correct(curves, allocated)
    best = _nearest(corrections, budget)
    if best.measured > budget:
        raise UserError(
            f"`budget` {budget:.4g}: the networks predicted within it were measured at "
            f"{best.measured:.4g} and more; give a larger one"
        )
    return StructuredProfile(
        model=rollouts.network(database, best.kept).cpu(),
        kept={one.name: count for one, count in zip(sets, best.kept, strict=True)},
        gone=database.gone(best.kept),
        budget=budget,
        predicted=best.predicted,
        measured=best.measured,
        divergence=rollouts.divergence(database, best.kept),
        corrections=tuple(corrections),
        variants=tuple(variants),
    )


def _check(budget: float, nb_rollouts: int, nb_corrections: int, tolerance: float) -> None:
    if not budget > 0:
        raise UserError(f"`budget` {budget}: must be above 0")
    if nb_rollouts < 2:
        raise UserError(f"`nb_rollouts` {nb_rollouts}: must be at least 2")
    if nb_corrections < 1:
        raise UserError(f"`nb_corrections` {nb_corrections}: must be at least 1")
    if not 0 < tolerance < 1:
        raise UserError(f"`tolerance` {tolerance}: must be in (0, 1)")


def _searched(
    starts: Sequence[Sequence[FloatArray]],
    *,
    levels: Sequence[Sequence[int]],
    costs: UnitCosts,
    budget: float,
    score: Callable[[Sequence[int]], float],
    nb_rollouts: int,
    seed: int,
) -> tuple[list[FloatArray], list[float]]:
    """The curves of the variant of least divergence, and the divergences of all variants."""
    generator = np.random.default_rng(seed)
    known: dict[tuple[int, ...], float] = {}
    best: tuple[float, list[FloatArray]] | None = None
    found: list[float] = []
    with track("structured variants", total=nb_rollouts, phase="search") as progress:
        for number in range(nb_rollouts):
            if number < len(starts):
                curves = [np.asarray(curve) for curve in starts[number]]
            else:
                assert best is not None
                factors = _factors(generator, len(levels))
                curves = [f * curve for f, curve in zip(factors, best[1], strict=True)]
            kept = allocate_units(levels, curves, costs.total, budget=budget)
            if kept not in known:
                known[kept] = score(kept)
            found.append(known[kept])
            if best is None or known[kept] < best[0]:
                best = (known[kept], curves)
            progress.advance(note=f"divergence {best[0]:.4f}")
    assert best is not None
    return best[1], found


def _factors(generator: np.random.Generator, count: int) -> FloatArray:
    """Random factors of about a quarter of the sets, at least two; one for the others."""
    strengths = _STRENGTH * generator.standard_normal(count)
    order = generator.permutation(count)
    strengths[order[max(2, count // 4) :]] = 0.0
    return np.asarray(np.exp(strengths), dtype=np.float64)


def _corrected(
    allocate: Callable[[float], tuple[int, ...]],
    *,
    costs: UnitCosts,
    budget: float,
    allocated: float,
    measure: Callable[[Sequence[int]], float] | None,
    steps: int,
    tolerance: float,
) -> list[Correction]:
    """Allocate and measure, with the budget scaled by what was measured."""
    done: list[Correction] = []
    low, high = 0.0, np.inf
    while len(done) < steps:
        try:
            kept = allocate(allocated)
        except UserError:
            if not done:
                raise
            break
        if any(kept == earlier.kept for earlier in done):
            break
        predicted = costs.total(kept)
        measured = float("nan") if measure is None else measure(kept)
        done.append(
            Correction(allocated=allocated, predicted=predicted, measured=measured, kept=kept)
        )
        if measure is None or (1 - tolerance) * budget <= measured <= budget:
            break
        scaled = allocated * _MARGIN * budget / measured
        if measured > budget:
            high = min(high, predicted)  # what was predicted lies below what was allocated
            allocated = min(scaled, _BELOW * predicted)
        else:
            low = max(low, allocated)
            allocated = scaled
        if not low < allocated < high:
            allocated = (low + min(high, 2 * budget)) / 2
    if measure is not None and not np.isnan(done[-1].measured):
        shown = ", ".join(f"{c.predicted:.4g} -> {c.measured:.4g}" for c in done)
        say(f"whole units, {costs.unit}: predicted -> measured {shown}, at most {budget:.4g}")
    return done


def _nearest(corrections: Sequence[Correction], budget: float) -> Correction:
    """The largest within the budget, or else the smallest."""
    within = [c for c in corrections if not _cost_of(c) > budget]
    return max(within, key=_cost_of) if within else min(corrections, key=_cost_of)


def _cost_of(correction: Correction) -> float:
    return correction.predicted if np.isnan(correction.measured) else correction.measured
