"""Number formats of a network's layers, as they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from ws_learner.core import NumberFormat, UserError, check_choice, suggest

__all__ = ["Formats", "layer_of"]


def layer_of(name: str) -> str:
    """The module of a parameter `layer1.conv.weight`; a module's own name stays."""
    return name.removesuffix(".weight")


@dataclass(frozen=True)
class Formats:
    """A format for every layer.

    Attributes:
        of_layers: By the layer's name; those not named are float32.
        uniform: The one of all layers, or None.
    """

    of_layers: Mapping[str, NumberFormat] = field(default_factory=dict)
    uniform: NumberFormat | None = None

    def __post_init__(self) -> None:
        if self.uniform is not None:
            check_choice(self.uniform, NumberFormat, name="uniform")
        named = self.of_layers
        for value in named.values() if isinstance(named, Mapping) else [named]:
            check_choice(value, NumberFormat, name="of_layers")

    @classmethod
    def read(cls, dtype: NumberFormat | Mapping[str, NumberFormat]) -> Formats:
        """Of one format, or one for each layer by its name or its weight's.

        Raises:
            UserError: There is no such format.
        """
        if not isinstance(dtype, Mapping):
            _check(dtype)
            return cls({}, dtype)
        for value in dtype.values():
            _check(value)
        own = {layer_of(name): value for name, value in dtype.items()}
        return cls(own, None if "int8" in own.values() else "fp32")

    def for_compile(self) -> NumberFormat | Mapping[str, NumberFormat]:
        """As `compile_sparse` takes it."""
        return self.of_layers if self.uniform is None else self.uniform

    @property
    def has_int8(self) -> bool:
        """Whether any layer is int8."""
        return self.uniform == "int8" or "int8" in self.of_layers.values()


def _check(value: object) -> None:
    if value not in get_args(NumberFormat):
        raise UserError(f"`dtype` {value}: {suggest(str(value), get_args(NumberFormat))}")
