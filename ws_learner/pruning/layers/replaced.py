"""Parameters that took the place of those that are pruned, or that no optimizer has."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import nn

from ws_learner.core import UserError

__all__ = ["refuse_lacking", "refuse_replaced"]


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


def refuse_lacking(pruned: Mapping[str, nn.Parameter], known: Collection[int]) -> None:
    """Refuse an optimizer that lacks parameters which are to be pruned.

    Args:
        pruned: These parameters, by name.
        known: `id` of each parameter of the optimizer.

    Raises:
        UserError: It lacks some; the message says what to do about frozen and other ones.
    """
    lacking = [name for name, parameter in pruned.items() if id(parameter) not in known]
    frozen = [name for name in lacking if not pruned[name].requires_grad]
    if not lacking:
        return
    told = f"the optimizer lacks {len(lacking)} of the parameters to prune, first {lacking[0]}: "
    if frozen:
        raise UserError(
            f"{told}{frozen[0]} is frozen (requires_grad is False); leave it out of `ratios`, or "
            "prune it by itself with prune_once(model, zeros)"
        )
    raise UserError(
        f"{told}build it from this very model's parameters, then attach; of two optimizers each "
        "takes a Sparsifier of its own, with the layers that it trains"
    )
