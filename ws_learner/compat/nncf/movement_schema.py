"""Schema of `movement_sparsity` in NNCF's compression JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ws_learner.pruning import check_warm_up

__all__ = [
    *("MovementSection", "Multiplier", "Number", "Params", "Real", "SchemaSection", "Scopes"),
    *("Structure", "Whole"),
]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Scopes = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Multiplier = Annotated[float, Field(allow_inf_nan=False, strict=True, ge=0)]


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{value}: must be a number, not true or false")
    return value


Whole = Annotated[int, BeforeValidator(_no_boolean)]
Real = Annotated[float, BeforeValidator(_no_boolean)]


class SchemaSection(BaseModel):
    """A table that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Params(SchemaSection):
    """`params` of movement_sparsity; see `ThresholdMovementConfig`."""

    warmup_start_epoch: Number
    warmup_end_epoch: Number
    importance_regularization_factor: Number
    enable_structured_masking: bool = False
    power: Number = 3.0
    init_importance_threshold: Number | None = Field(
        default=None,
        validation_alias=AliasChoices("init_importance_threshold", "initial_importance_threshold"),
    )
    final_importance_threshold: Number = 0.0
    steps_per_epoch: Whole | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Params:
        found = check_warm_up(
            self.warmup_start_epoch,
            self.warmup_end_epoch,
            power=self.power,
            steps_per_epoch=self.steps_per_epoch,
            counted=True,
        )
        if self.importance_regularization_factor < 0:
            found.append(
                f"importance_regularization_factor {self.importance_regularization_factor:g}: "
                "should not be a negative number"
            )
        if found:
            raise ValueError("; ".join(found))
        return self


class Structure(SchemaSection):
    """An entry of `sparse_structure_by_scopes`."""

    mode: Literal["fine", "block", "per_dim"]
    sparse_factors: tuple[Whole, ...] | None = None
    axis: Whole | None = None
    target_scopes: Scopes

    @model_validator(mode="after")
    def _consistent(self) -> Structure:
        found = []
        if self.mode != "per_dim" and self.axis is not None:
            found.append(f"mode {self.mode} does not expect specified `axis`")
        if self.mode == "fine" and self.sparse_factors not in (None, (1, 1)):
            found.append(f"sparse_factors {self.sparse_factors}: must be [1, 1] or unspecified")
        if self.mode == "block":
            found += self._block()
        if self.mode == "per_dim":
            if self.sparse_factors is not None:
                found.append("mode per_dim does not expect specified `sparse_factors`")
            if self.axis is None:
                found.append("Missing `axis`; mode per_dim needs 0 (rows) or 1 (columns)")
            elif self.axis not in (0, 1):
                found.append(f"Invalid axis id {self.axis}; allowed are 0 (rows) and 1 (columns)")
        if found:
            raise ValueError("; ".join(found))
        return self

    def _block(self) -> list[str]:
        if self.sparse_factors is None:
            return ["Missing `sparse_factors`; mode block needs [rows, columns]"]
        if len(self.sparse_factors) != 2 or min(self.sparse_factors) < 1:
            return [
                f"sparse_factors {list(self.sparse_factors)}: expects tuple of two whole numbers "
                "from 1"
            ]
        return []

    @property
    def pattern(self) -> str:
        """The spelling of `--ws_pattern`."""
        if self.mode == "per_dim":
            return "1xchannel" if self.axis == 0 else "channelx1"
        if self.mode == "block" and self.sparse_factors is not None:
            return "x".join(map(str, self.sparse_factors))
        return "unstructured"


class MovementSection(SchemaSection):
    """`movement_sparsity`."""

    algorithm: Literal["movement_sparsity"]
    params: Params
    sparse_structure_by_scopes: tuple[Structure, ...] = ()
    ignored_scopes: Scopes = ()
    target_scopes: Scopes = ()
    validate_scopes: bool = True
    compression_lr_multiplier: Multiplier | None = None
