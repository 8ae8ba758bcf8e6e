"""One run as a row of a list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ws_learner.core import check_choice

__all__ = ["RunRow", "RunState"]

RunState = Literal["running", "finished", "stopped", "failed", "unknown"]
"""`stopped` runs go on with the same command; `unknown` ones have damaged files."""

RunKind = Literal["pruning", "dense", "sweep"]


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """What a list shows of a run. All text is on one line, without control characters.

    Attributes:
        id: Name of the run's folder.
        path: The folder.
        name: Given by `--name`; empty without one.
        tags: Given by `--tag`.
        kind: `pruning`, `dense` (training of the dense network) or `sweep`.
        experiment: Experiment, or class of the network of a run made from Python.
        method: Such as `gradual`; empty for a dense training.
        protocol: Such as `optimal`.
        target: Prune ratio such as `0.75`, or budgets such as `macs=0.3`.
        pattern: Such as `unstructured` or `4x1`.
        metric: Name of the metric, such as `accuracy`.
        unit: Of the metric; `share` for values in [0, 1].
        higher_is_better: Whether more of the metric is better.
        measured_on: `test`, or `validation` where there was no test set.
        examples: Number of examples it was measured on.
        dense: Metric of the dense network at the end.
        sparse: Metric of the sparse network at the end.
        change: `sparse` - `dense`.
        size_bytes: Size of the saved network, model.safetensors, in bytes.
        state: Where the run is.
        reason: Why the state is `unknown` or `failed`, or what is wrong with the results of a
            finished run.
        progress: Share of the command that is done, in [0, 1]; None if it is not known.
        phase: Such as `search`; empty if the run is finished.
        started: When the run began, in Unix seconds.
        changed: When its results last changed, in Unix seconds.
    """

    id: str
    path: Path
    state: RunState
    name: str = ""
    tags: tuple[str, ...] = ()
    kind: RunKind = "pruning"
    experiment: str = ""
    method: str = ""
    protocol: str = ""
    target: str = ""
    pattern: str = ""
    metric: str = ""
    unit: str = ""
    higher_is_better: bool = True
    measured_on: str = ""
    examples: int | None = None
    dense: float | None = None
    sparse: float | None = None
    change: float | None = None
    size_bytes: int | None = None
    reason: str = ""
    progress: float | None = None
    phase: str = ""
    started: float = 0.0
    changed: float = 0.0

    def __post_init__(self) -> None:
        check_choice(self.state, RunState, name="state")
        check_choice(self.kind, RunKind, name="kind")
