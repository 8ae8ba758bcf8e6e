"""Schema of LPOT / Neural Compressor 1.x pruning YAML: frozen dataclasses. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ws_learner.core import check_settings
from ws_learner.pruning import EpochFormula

__all__ = [
    "CriterionSection",
    "Loader",
    "LpotConf",
    "LpotDistillation",
    "Optimizer",
    "PruneType",
    "Pruner",
    "TrainSection",
]

PruneType = Literal[
    "basic_magnitude",
    "pattern_lock",
    "gradient_sensitivity",
    "group_lasso",
    "magnitude",
    "gradient",
    "snip",
    "snip_momentum",
]


@dataclass(frozen=True)
class Pruner:
    """One entry of `pruners`, also LPOT's Python class of that name. None: not given.

    Attributes:
        start_epoch: First epoch that may update masks at its beginning.
        end_epoch: Last such epoch, inclusive; from it on the target holds.
        initial_sparsity: Share of zeros where the ramp starts, in [0, 1).
        target_sparsity: Share of zeros in the end, in [0, 1).
        update_frequency: Epochs between two updates; below 1 a share of an epoch.
        prune_type: Which algorithm.
        method: Only `per_tensor`.
        names: Parameters to prune, by name or shell pattern; none means all weights.
        parameters: The algorithm's own: `alpha`, `pattern`.
        pattern: Which weights go together; over `parameters`.
        formula: `old` is LPOT's schedule up to Neural Compressor 1.12, `new` the later one.
        line: In the file; 0 for one made in Python.
    """

    start_epoch: int | None = None
    end_epoch: int | None = None
    initial_sparsity: float | None = None
    target_sparsity: float | None = None
    update_frequency: float | None = None
    prune_type: PruneType = "basic_magnitude"
    method: str = "per_tensor"
    names: tuple[str, ...] | list[str] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    pattern: str | None = None
    formula: EpochFormula | None = None
    line: int = 0

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """The one optimizer of `train`, applied to all parameters alike, as LPOT does."""

    name: Literal["SGD", "Adam", "AdamW"]
    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    amsgrad: bool = False

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class LpotDistillation:
    """`KnowledgeDistillationLoss`, with Neural Compressor's defaults.

    Attributes:
        temperature: T, above 0.
        kind: `CE`, soft cross-entropy with the teacher, or `KL`, the divergence from it.
        loss_weights: Of the targets' loss and of the teacher's, of sum 1.
    """

    temperature: float = 1.0
    kind: Literal["CE", "KL"] = "CE"
    loss_weights: tuple[float, float] = (0.5, 0.5)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class CriterionSection:
    """Cross-entropy; `none` is averaged before the backward pass, which needs a scalar."""

    reduction: Literal["none", "sum", "mean"] = "mean"
    distillation: LpotDistillation | None = None

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class Loader:
    """`dataloader`: data set, transforms by name in order, and the size of a batch."""

    dataset: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    transforms: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    batch_size: int = 1
    line: int = 0

    @property
    def root(self) -> Path | None:
        """The folder of the data set, if one is named."""
        root = self.arguments.get("root")
        return None if root is None else Path(str(root)).expanduser()


@dataclass(frozen=True, kw_only=True)
class TrainSection:
    """`train`: epochs `start_epoch` to `end_epoch`, the latter exclusive."""

    optimizer: Optimizer
    criterion: CriterionSection
    loader: Loader | None = None
    start_epoch: int = 0
    end_epoch: int = 1
    iteration: int | None = None

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class LpotConf:
    """A whole file.

    Attributes:
        path: Of the file; None for settings made in Python.
        train: The training, if the file describes one.
        start_epoch: For pruners that have none of their own; so the next four.
        end_epoch: See `Pruner`.
        initial_sparsity: See `Pruner`.
        target_sparsity: See `Pruner`.
        frequency: `update_frequency` of pruners without one.
        formula: See `Pruner`.
        pruners: At least one.
    """

    path: Path | None = None
    train: TrainSection | None = None
    start_epoch: int = 0
    end_epoch: int = 4
    initial_sparsity: float = 0.0
    target_sparsity: float = 0.97
    frequency: float = 1.0
    formula: EpochFormula = "new"
    pruners: tuple[Pruner, ...] = (Pruner(),)

    def __post_init__(self) -> None:
        check_settings(self)
