"""Layers that training does not change: frozen weights, and the adapters beside them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn

from envs import LayerRow
from ws_learner.core import UserError, say
from ws_learner.pruning.layers.prunable import parameter_of, some_names

__all__ = ["frozen_names", "is_adapter", "leave_out_frozen"]

_SHOWN = 5


def is_adapter(name: str) -> bool:
    """Whether a parameter is a factor of a LoRA update (Hu et al. 2021), by its name.

    The factors are merged into a dense matrix, so their zeros are none of the merged weight.
    peft, loralib and torchtune name them `lora_A` or `lora_a`.
    """
    return any(part.lower().startswith("lora_") for part in name.split("."))


def frozen_names(model: nn.Module, names: Collection[str]) -> list[str]:
    """Those of the named parameters that need no gradient."""
    return [name for name in names if not parameter_of(model, name).requires_grad]


def leave_out_frozen(
    model: nn.Module, layers: Sequence[LayerRow], *, named: Collection[str], whole: bool = False
) -> tuple[LayerRow, ...]:
    """The rows without LoRA's factors and, unless all others are frozen, without frozen layers.

    A line names what is left out: it is neither pruned nor counted. Exempt rows stay.

    Args:
        model: The network.
        layers: The layer table.
        named: Parameters that the user named, which stay.
        whole: Leave out no frozen layer.

    Raises:
        UserError: LoRA's factors are all there is.
    """
    kept = [row for row in layers if row.name in named or not is_adapter(row.name)]
    gone = [row.name for row in layers if row not in kept]
    if gone and kept:
        say(f"layer table: {some_names(gone, _SHOWN)}: LoRA's factors, left out")
    if not kept:
        raise UserError(
            f"layer table: nothing to prune but LoRA's factors ({some_names(gone, _SHOWN)}), "
            "whose zeros are lost when they are merged; name them in `include` to prune them"
        )
    frozen = set(frozen_names(model, [row.name for row in kept if not row.exempt]))
    open_ = {row.name for row in kept if not row.exempt}
    if whole or not frozen or frozen >= open_:
        return tuple(kept)
    say(
        f"layer table: {some_names(sorted(frozen), _SHOWN)}: frozen (requires_grad is False) and "
        "left out, neither pruned nor counted; to prune them, let them be trained"
    )
    return tuple(row for row in kept if row.name not in frozen)
