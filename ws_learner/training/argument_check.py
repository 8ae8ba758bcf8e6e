"""Arguments of a run that are of a wrong kind, refused before any data are read."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from agents import DDPGConfig
from ws_learner.config import ClusterConfig, Recipe, WeightSparseConfig
from ws_learner.core import ComputeDevice, UserError, check_kind
from ws_learner.pruning import refuse_lazy

__all__ = ["check_copies", "check_network", "check_run_arguments"]


def check_network(model: Any, *, name: str = "model") -> None:
    """Refuse what is no network, or one that cannot be pruned as it is.

    Raises:
        UserError: It is no `nn.Module`, is scripted or traced, or has parameters without values:
            on the meta device, or lazy ones.
    """
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise UserError(f"`{name}`: is the class {model.__name__}; give a trained instance of it")
    if not isinstance(model, nn.Module):
        raise UserError(f"`{name}`: a {type(model).__name__} is no network; give an nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise UserError(
            f"`{name}`: is scripted or traced, which hides its layers; prune the network that it "
            "was made from, and script that afterwards"
        )
    refuse_lazy(model)
    for key, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_meta:
            raise UserError(
                f"`{name}`: {key} is on the meta device and has no values; build the network on a "
                "real device, or load its weights with load_state_dict(..., assign=True)"
            )


def check_copies(model: nn.Module) -> None:
    """Refuse a network that cannot be copied; call it after a forward pass without gradients.

    An old weight norm holds a tensor with a graph until then.

    Raises:
        UserError: `copy.deepcopy` fails.
    """
    tensors = [*model.named_parameters(), *model.named_buffers()]
    try:
        copy.deepcopy(model, {id(tensor): tensor for _, tensor in tensors})  # shares the weights
    except Exception as error:
        raise UserError(
            f"`model`: copy.deepcopy of it fails, {type(error).__name__}: "
            f"{' '.join(str(error).split())}; keep what cannot be copied (a lock, an open file, a "
            "tensor with a graph) out of the network's attributes"
        ) from error


def check_run_arguments(
    *,
    loss: Any,
    recipe: Any,
    config: Any,
    teacher: Any,
    compute: Any,
    cluster: Any,
    agent: Any = None,
) -> None:
    """Refuse arguments of a wrong kind; None is allowed for all.

    Raises:
        UserError: The line names the argument, and what to give.
    """
    if isinstance(loss, type):
        raise UserError(
            f"`loss`: is the class {loss.__name__}; give an instance, {loss.__name__}()"
        )
    if loss is not None and not callable(loss):
        raise UserError(f"`loss` {loss!r}: must be a function (outputs, targets) -> scalar")
    if teacher is not None:
        check_network(teacher, name="teacher")
    for name, value, kind, give in (
        ("recipe", recipe, Recipe, "a Recipe, such as Recipe(nb_epochs=10)"),
        ("config", config, WeightSparseConfig, "a WeightSparseConfig"),
        ("compute", compute, ComputeDevice, "choose_device(device='cpu'), or another device"),
        ("agent", agent, DDPGConfig, "a DDPGConfig"),
        ("cluster", cluster, ClusterConfig, "ClusterConfig(workers=4), with an address if any"),
    ):
        if value is not None:
            check_kind(value, kind, name=name, give=give)
