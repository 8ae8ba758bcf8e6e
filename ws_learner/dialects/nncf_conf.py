"""What an NNCF compression JSON may say, as a checked schema. Free of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from ws_learner.sparsity.warm_up import check_warm_up

__all__ = ["Distillation", "Movement", "NncfConf", "Quantization", "Structure"]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Scopes = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]


class _Part(BaseModel):
    """A table that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Params(_Part):
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
    steps_per_epoch: int | None = None

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


class Structure(_Part):
    """An entry of `sparse_structure_by_scopes`."""

    mode: Literal["fine", "block", "per_dim"]
    sparse_factors: tuple[int, ...] | None = None
    axis: int | None = None
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


class Movement(_Part):
    """`movement_sparsity`."""

    algorithm: Literal["movement_sparsity"]
    params: Params
    sparse_structure_by_scopes: tuple[Structure, ...] = ()
    ignored_scopes: Scopes = ()
    target_scopes: Scopes = ()
    validate_scopes: bool = True
    compression_lr_multiplier: Number | None = None


class Distillation(_Part):
    """`knowledge_distillation`, from the network as it was before."""

    algorithm: Literal["knowledge_distillation"]
    type: Literal["softmax", "mse"]
    scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    @model_validator(mode="after")
    def _consistent(self) -> Distillation:
        if self.type == "mse" and self.temperature != 1.0:
            raise ValueError("temperature belongs to type softmax; leave it out under mse")
        return self


class RangeParams(_Part):
    """`initializer.range.params`."""

    min_percentile: Annotated[float, Field(ge=0, le=100)] = 0.1
    max_percentile: Annotated[float, Field(ge=0, le=100)] = 99.9


class RangeInit(_Part):
    """`initializer.range`: from what the ranges of activations begin."""

    num_init_samples: Annotated[int, Field(ge=1)] = 256
    type: Literal["mixed_min_max", "min_max", "mean_min_max", "percentile"] = "mixed_min_max"
    params: RangeParams = RangeParams()


class Initializer(_Part):
    """`initializer`."""

    range: RangeInit = RangeInit()


class Quantizers(_Part):
    """`weights` or `activations`."""

    bits: Literal[8] = 8
    mode: Literal["symmetric", "asymmetric"] | None = None
    per_channel: bool | None = None


class Quantization(_Part):
    """`quantization`: 8 bits, of linear layers."""

    algorithm: Literal["quantization"]
    preset: Literal["performance", "mixed"] = "performance"
    initializer: Initializer = Initializer()
    weights: Quantizers = Quantizers()
    activations: Quantizers = Quantizers()
    overflow_fix: Literal["enable", "disable", "first_layer_only"] = "disable"
    ignored_scopes: Scopes = ()
    target_scopes: Scopes = ()
    validate_scopes: bool = True

    @field_validator("activations")
    @classmethod
    def _per_tensor(cls, value: Quantizers) -> Quantizers:
        if value.per_channel:
            raise ValueError("per_channel: activations have one range for the whole tensor here")
        return value

    @property
    def symmetric_activations(self) -> bool:
        """performance: symmetric; mixed: asymmetric; or as `activations.mode` says."""
        mode = self.activations.mode
        return self.preset == "performance" if mode is None else mode == "symmetric"


Algorithm = Annotated[Movement | Distillation | Quantization, Field(discriminator="algorithm")]


class Input(_Part):
    """An entry of `input_info`; accepted, but nothing is traced here."""

    sample_size: tuple[int, ...]
    type: str = "float"
    keyword: str | None = None
    filler: str | None = None


class NncfConf(_Part):
    """A whole file.

    Attributes:
        path: Of the file; None for settings made in Python.
    """

    compression: Annotated[
        tuple[Algorithm, ...], BeforeValidator(lambda v: [v] if isinstance(v, dict) else v)
    ]
    input_info: Annotated[
        tuple[Input, ...], BeforeValidator(lambda v: [v] if isinstance(v, dict) else v)
    ] = ()
    log_dir: str | None = None
    ignored_scopes: Scopes = ()
    target_scopes: Scopes = ()
    compression_lr_multiplier: Number | None = None
    path: Path | None = Field(default=None, exclude=True)

    @field_validator("compression")
    @classmethod
    def _each_once(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [part.algorithm for part in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"Multiple algorithm configurations of {', '.join(twice)}; keep one")
        if "movement_sparsity" not in names:
            raise ValueError("movement_sparsity is missing; the other algorithms need it here")
        return value

    @property
    def movement(self) -> Movement:
        """The algorithm that must be there."""
        return next(part for part in self.compression if isinstance(part, Movement))

    @property
    def distillation(self) -> Distillation | None:
        """The distillation, if it is listed."""
        found = (part for part in self.compression if isinstance(part, Distillation))
        return next(found, None)

    @property
    def quantization(self) -> Quantization | None:
        """The quantization, if it is listed."""
        found = (part for part in self.compression if isinstance(part, Quantization))
        return next(found, None)
