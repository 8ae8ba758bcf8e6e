"""What the registry of each kind holds. Free of torch: factories may be named, `module:name`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ws_learner.config.registry import Entry
from ws_learner.core import check_settings

__all__ = [
    "CriterionEntry",
    "MethodEntry",
    "PatternEntry",
    "ProtocolEntry",
    "ScheduleEntry",
    "SolverEntry",
]


@dataclass(frozen=True, kw_only=True)
class MethodEntry(Entry):
    """A training method.

    Attributes:
        config: Its frozen dataclass, or `module:Name`. The class method `from_settings(config, *,
            steps_per_epoch, total_steps)` makes one from a `WeightSparseConfig`; subclasses of
            `GradualConfig` inherit it.
        settings: The settings it reads, of those that not every method reads.
        trains_nm: Trains under N:M masks from the first epochs on; needs no dense network.
        keeps_zeros: Keeps the zeros of the network it is given, so that nothing sets ratios.
        learns_scores: Has scores of its own, so that `ws_criterion` must not be chosen.
        criterion: What the summary names as the criterion, whatever `ws_criterion` is.
        default_criterion: What the summary names while `ws_criterion` has its default.
        fine_tune_share: Of a method that trains N:M: share of the epochs spent fine-tuning, unless
            `nm_fine_tune_epochs` is chosen.
    """

    config: str | type
    settings: tuple[str, ...]
    trains_nm: bool = False
    keeps_zeros: bool = False
    learns_scores: bool = False
    criterion: str | None = None
    default_criterion: str | None = None
    fine_tune_share: float = 0.2


@dataclass(frozen=True, kw_only=True)
class ProtocolEntry(Entry):
    """A protocol; with neither `allocate` nor `propose` its ratios come from a file or pattern.

    Attributes:
        allocate: From an `AllocationContext` to the (L,) zeros, without a rollout; or
            `module:name`.
        propose: Makes a `Proposer` from an `AllocationProblem` and `seed=`; or `module:name`.
        agent: `propose` also takes the agent's settings: `config=`, `rollouts=`,
            `rollouts_min=`, `scale=`.
        goals: `propose` takes `rollouts=`, `goals=` and `targets=`, so that one search can serve
            many targets.
        slopes: Its rollouts measure slopes where they can.
        needs_weights: Looks at weights, so that it needs the dense network.
        starts_search: Every search scores the profile of `allocate` first.
    """

    allocate: str | Callable[..., Any] | None = None
    propose: str | Callable[..., Any] | None = None
    agent: bool = False
    goals: bool = False
    slopes: bool = False
    needs_weights: bool = True
    starts_search: bool = False


@dataclass(frozen=True, kw_only=True)
class CriterionEntry(Entry):
    """A criterion.

    Attributes:
        build: Makes a `Criterion`, without arguments; or `module:name`.
        memory: Share of the earlier importances that `gradient_sensitivity` keeps at a step, in
            [0, 1]; None: that method does not take the criterion.
        sensitivity_of: What `gradient_sensitivity` adds up: w g, or the gradient alone.
    """

    build: str | Callable[[], Any]
    memory: float | None = None
    sensitivity_of: Literal["product", "gradient"] = "product"

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class PatternEntry(Entry):
    """A family of patterns.

    Attributes:
        build: Makes the `Pattern` of a `PatternSpec`; or `module:name`.
        spelling: How docs and help write it; by default its name.
        word: The name itself is the spelling.
    """

    build: str | Callable[[Any], Any]
    spelling: str = ""
    word: bool = True


@dataclass(frozen=True, kw_only=True)
class ScheduleEntry(Entry):
    """A schedule.

    Attributes:
        build: Makes a `Schedule` from a `Ramp` (pruning/schedules/registry.py); or `module:name`.
        exponent: Reads `ws_prune_ratio_exp`.
        once: Updates masks once, so that no interval between updates is read.
    """

    build: str | Callable[[Any], Any]
    exponent: bool = False
    once: bool = False


@dataclass(frozen=True, kw_only=True)
class SolverEntry(Entry):
    """A layer solver.

    Attributes:
        solve: A `Solver` (pruning/layer_solvers/solver.py); or `module:name`.
    """

    solve: str | Callable[..., Any]
