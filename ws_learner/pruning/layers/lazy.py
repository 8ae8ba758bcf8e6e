"""Networks with parameters that have no size before the first batch."""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import is_lazy

from ws_learner.core import UserError

__all__ = ["refuse_lazy"]


def refuse_lazy(model: nn.Module) -> None:
    """Refuse a network with an `nn.Lazy*` module that has seen no batch.

    Raises:
        UserError: There is one; the message names the first.
    """
    for name, module in model.named_modules():
        held = [*module._parameters.values(), *module._buffers.values()]
        if any(is_lazy(value) for value in held if value is not None):
            raise UserError(
                f"layer {name or type(model).__name__!r} ({type(module).__name__}): it is lazy "
                "and has no weights yet; call the network once on a batch of your data, such as "
                "model(inputs), before pruning it"
            )
