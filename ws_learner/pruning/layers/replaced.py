"""Parameters that took the place of those that are pruned."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ws_learner.core import UserError

__all__ = ["refuse_replaced"]


def refuse_replaced(model: nn.Module, masked: Mapping[str, nn.Parameter]) -> None:
    """Refuse a model that has another parameter under the name of one that is masked.

    Masks act on the parameters there were when pruning was planned; one that is assigned later
    (`model.fc = ...`, `model.fc.weight = nn.Parameter(...)`, a parametrization) stays dense.

    Raises:
        UserError: See above; it names the first.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, parameter in masked.items():
        if parameters.get(name) is not parameter:
            raise UserError(
                f"{name}: the model has another parameter there than when pruning was planned, "
                "which no mask reaches: copy values into the old one (load_state_dict, copy_), or "
                "replace it before the pruning is planned"
            )
