"""Schema of NNCF's compression JSON. Free of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ws_learner.compat.nncf.movement_schema import (
    MovementSection,
    Multiplier,
    Real,
    SchemaSection,
    Scopes,
    Whole,
)

__all__ = ["NncfConf", "NncfDistillation", "Quantization"]


class NncfDistillation(SchemaSection):
    """`knowledge_distillation`, from the network as it was before."""

    algorithm: Literal["knowledge_distillation"]
    type: Literal["softmax", "mse"]
    scale: Annotated[Real, Field(ge=0, allow_inf_nan=False)] = 1.0
    temperature: Annotated[Real, Field(gt=0, allow_inf_nan=False)] = 1.0

    @model_validator(mode="after")
    def _consistent(self) -> NncfDistillation:
        if self.type == "mse" and self.temperature != 1.0:
            raise ValueError("temperature belongs to type softmax; leave it out under mse")
        return self


class RangeParams(SchemaSection):
    """`initializer.range.params`."""

    min_percentile: Annotated[Real, Field(ge=0, le=100)] = 0.1
    max_percentile: Annotated[Real, Field(ge=0, le=100)] = 99.9

    @model_validator(mode="after")
    def _consistent(self) -> RangeParams:
        if self.min_percentile >= self.max_percentile:
            raise ValueError(
                f"min_percentile {self.min_percentile:g}: must lie below max_percentile "
                f"({self.max_percentile:g})"
            )
        return self


class RangeInit(SchemaSection):
    """`initializer.range`: initial ranges of activations."""

    num_init_samples: Annotated[Whole, Field(ge=1)] = 256
    type: Literal["mixed_min_max", "min_max", "mean_min_max", "percentile"] = "mixed_min_max"
    params: RangeParams = RangeParams()


class Initializer(SchemaSection):
    """`initializer`."""

    range: RangeInit = RangeInit()


class Quantizers(SchemaSection):
    """`weights` or `activations`."""

    bits: Literal[8] = 8
    mode: Literal["symmetric", "asymmetric"] | None = None
    per_channel: bool | None = None


class Quantization(SchemaSection):
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


Algorithm = Annotated[
    MovementSection | NncfDistillation | Quantization, Field(discriminator="algorithm")
]


class Input(SchemaSection):
    """An entry of `input_info`; accepted, but nothing is traced here."""

    sample_size: tuple[Whole, ...]
    type: str = "float"
    keyword: str | None = None
    filler: str | None = None


class NncfConf(SchemaSection):
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
    compression_lr_multiplier: Multiplier | None = None
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
    def movement(self) -> MovementSection:
        """The algorithm that must be there."""
        return next(part for part in self.compression if isinstance(part, MovementSection))

    @property
    def distillation(self) -> NncfDistillation | None:
        """The distillation, if it is listed."""
        found = (part for part in self.compression if isinstance(part, NncfDistillation))
        return next(found, None)

    @property
    def quantization(self) -> Quantization | None:
        """The quantization, if it is listed."""
        found = (part for part in self.compression if isinstance(part, Quantization))
        return next(found, None)
