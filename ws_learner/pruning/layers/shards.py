"""Weights that are split over processes, which nothing here can prune."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from ws_learner.core import UserError

__all__ = ["refuse_shards"]


def refuse_shards(model: nn.Module, names: Iterable[str]) -> None:
    """Check that whole weights are there, not parts or flat copies of them.

    By the names of classes, so that none of these packages is imported.

    Args:
        model: The network.
        names: Of the parameters to prune; unknown ones are not looked at.

    Raises:
        UserError: FSDP, tensor parallelism or DeepSpeed's ZeRO-3 split the weights.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    found = None
    if any(_is(module, "FullyShardedDataParallel") for module in model.modules()):
        found = "by FullyShardedDataParallel"
    for name in names:
        weight = parameters.get(name)
        if weight is not None and _is(weight.data, "DTensor"):
            found = f"({name} is a DTensor, as under FSDP2 and tensor parallelism)"
        elif hasattr(weight, "ds_id"):
            found = f"({name}) by DeepSpeed's ZeRO-3"
    if found is not None:
        raise UserError(
            f"`model`: its weights are split over processes {found}, so that none has a whole "
            "layer to prune; use DistributedDataParallel"
        )


def _is(thing: object, name: str) -> bool:
    return any(kind.__name__ == name for kind in type(thing).__mro__)
