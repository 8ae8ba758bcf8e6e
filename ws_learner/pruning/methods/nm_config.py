"""Settings that SR-STE, MdGf and SdGf share, and the N:M pattern of each layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from torch import nn

from ws_learner.config import METHODS, WeightSparseConfig
from ws_learner.core import UserError, check_settings
from ws_learner.pruning.layers.layer_plan import (
    Remainder,
    build_pattern_plan,
    by_role,
    drop_unfitting,
)
from ws_learner.pruning.methods.method import Method
from ws_learner.pruning.methods.shadow_masks import Piece, ShadowMasks
from ws_learner.pruning.patterns.laid_out import LaidOut, refuse_layout
from ws_learner.pruning.patterns.nm import NM
from ws_learner.pruning.patterns.pattern import ByRole, Pattern, convert_pattern, parse_pattern
from ws_learner.pruning.patterns.per_layer_nm import PerLayerNM
from ws_learner.pruning.patterns.slices import Slices
from ws_learner.pruning.schedules.nm_phases import Phases

__all__ = ["FineTuneMask", "NMConfig"]

FineTuneMask = Literal["dynamic", "frozen"]


@dataclass(frozen=True, kw_only=True)
class NMConfig(ABC):
    """Settings of every method that trains under N:M masks.

    Attributes:
        pattern: `NM`; `PerLayerNM`, whose N follows from the zeros of a layer; or either by role,
            or as a dict of parameter name -> either.
        dense: Share of all steps trained densely at the start, in [0, 1].
        fine_tune: Share of all steps at the end under the exact pattern, in [0, 1].
        phases: Takes the place of both.
        fine_tune_mask: `frozen` fixes the masks when fine-tuning begins; `dynamic` lets them
            follow the weights to the end.
        remainder: How to treat a layer with rows that M does not divide.
    """

    pattern: Pattern = field(default_factory=lambda: NM(2, 4))
    dense: float = 0.05
    fine_tune: float = 0.2
    phases: Phases | None = None
    fine_tune_mask: FineTuneMask = "dynamic"
    remainder: Remainder = "pad"

    def __post_init__(self) -> None:
        check_settings(self)
        convert_pattern(self)

    @classmethod
    def from_settings(
        cls, config: WeightSparseConfig, *, steps_per_epoch: int, total_steps: int
    ) -> Self:
        """See `FromSettings`; the phases are laid over the training."""
        epochs = total_steps / steps_per_epoch
        dense, fine_tune = config.nm_dense_epochs, config.nm_fine_tune_epochs
        tuned = METHODS[config.ws_method].fine_tune_share
        return cls(
            pattern=parse_pattern(config.pattern_spelling),
            fine_tune_mask=config.nm_fine_tune_mask,
            remainder=config.ws_remainder,
            phases=Phases.of_epochs(
                total_steps,
                steps_per_epoch=steps_per_epoch,
                dense=0.05 * epochs if dense is None else dense,
                fine_tune=tuned * epochs if fine_tune is None else fine_tune,
            ),
            **cls.own_settings(config),
        )

    @classmethod
    def own_settings(cls, config: WeightSparseConfig) -> dict[str, Any]:
        """The fields that a subclass adds, from the learner's settings."""
        return {}

    def targets(self, model: nn.Module) -> dict[str, int]:
        """Zeros of each weight that the pattern alone prescribes, by parameter name.

        Raises:
            UserError: The pattern leaves N open, or names no roles.
        """
        if not isinstance(self.pattern, ByRole):
            raise UserError(
                f"the pattern {self.pattern} does not say which layers to prune: "
                f"name zeros or ratios for each layer, or roles, such as {self.pattern}@ff"
            )
        found = by_role(model, self.pattern)
        if any(isinstance(pattern, PerLayerNM) for pattern in found.values()):
            raise UserError(f"the pattern {self.pattern} leaves N open: name zeros or ratios")
        out = drop_unfitting(model, found, pattern=self.pattern, remainder=self.remainder)
        return self.feasible(
            model, {n: model.get_parameter(n).numel() for n in found if n not in out}
        )

    def feasible(self, model: nn.Module, zeros: Mapping[str, int]) -> dict[str, int]:
        """See `MethodConfig.feasible`: all groups of a layer, or none."""
        asked = [name for name, count in zeros.items() if count]
        out = drop_unfitting(model, asked, pattern=self.pattern, remainder=self.remainder)
        names = [name for name in asked if name not in out]
        plan = build_pattern_plan(model, names, pattern=self.pattern)
        adjusted = dict.fromkeys(zeros, 0)
        for name, pattern in plan.patterns.items():
            shape = plan.shapes[name]
            _fixed(name, pattern, shape, plan.most(name))  # refuses what it cannot train
            if isinstance(pattern, PerLayerNM):
                adjusted[name] = pattern.feasible(shape, zeros[name])
            else:
                adjusted[name] = plan.most(name)
        return adjusted

    def build(self, model: nn.Module, *, zeros: Mapping[str, int], total_steps: int) -> Method:
        """Set the method up; see `MethodConfig.build`."""
        parameters = dict(model.named_parameters(remove_duplicate=False))
        plan = build_pattern_plan(model, zeros, pattern=self.pattern)
        pieces: list[Piece] = []
        for name, count in zeros.items():
            shape = plan.shapes[name]
            pieces += _pieces(name, _fixed(name, plan.patterns[name], shape, count), shape)
        phases = self.phases or Phases.of_shares(
            total_steps, dense=self.dense, fine_tune=self.fine_tune
        )
        masks = ShadowMasks({name: parameters[name] for name in zeros}, pieces)
        return self._method(masks, zeros=zeros, phases=phases)

    @abstractmethod
    def _method(
        self, masks: ShadowMasks, *, zeros: Mapping[str, int], phases: Phases
    ) -> Method: ...


def _fixed(name: str, pattern: Pattern, shape: tuple[int, ...], zeros: int) -> NM | Slices:
    if isinstance(pattern, PerLayerNM):
        return pattern.at(pattern.n_of(shape, zeros))
    if isinstance(pattern, NM | Slices):
        return pattern
    if isinstance(pattern, LaidOut):
        refuse_layout("a method that trains N:M patterns", name, pattern, shape)
    raise UserError(f"`pattern` {pattern}: this method trains N:M patterns, such as 2:4")


def _pieces(name: str, pattern: NM | Slices, shape: tuple[int, ...]) -> list[Piece]:
    if isinstance(pattern, NM):
        return [Piece(name, slice(0, shape[0]), pattern)]
    rows = pattern.rows(shape[0])
    return [
        Piece(name, where, part)
        for part, where in zip(pattern.parts, rows, strict=True)
        if part is not None
    ]
