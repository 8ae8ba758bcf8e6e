"""Recovery: the kept weights of a pruned network train on, for a time; its zeros stay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ws_learner.core import save_state_file
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.recovery_steps import Recovery, train_steps
from ws_learner.language.trained_weights import TrainedWeights
from ws_learner.language.walk import PrunedBlocks
from ws_learner.language.whole import whole_network

__all__ = ["Recovery", "recover"]


def recover(plan: Recovery, pruned: PrunedBlocks | None) -> PrunedBlocks:
    """Train until the minutes are used up, those of interrupted calls counted in.

    Adam; the rate rises, then falls to 0 as half a cosine over the time, and gradients are clipped
    to norm 1. How far it comes in its minutes depends on the machine.

    Args:
        plan: What is trained.
        pruned: The blocks' pruned tensors; None trains the dense network.

    Returns:
        The blocks' trained tensors.

    Raises:
        UserError: The loss is not finite, the disk is full, or a file of the state is damaged.
    """
    found, count = PrunedBlocks(plan.folder), len(plan.network)
    plan.folder.mkdir(parents=True, exist_ok=True)
    if found.done(count) < count:
        _train(plan, pruned, found)
    (plan.folder / "training.pt").unlink(missing_ok=True)
    return found


def _train(plan: Recovery, pruned: PrunedBlocks | None, found: PrunedBlocks) -> None:
    with _teacher(plan) as teacher, whole_network(plan.network, pruned) as student:
        owners = {
            layer.key: plan.network.blocks[layer.block].get_submodule(layer.name)
            for layer in plan.layers
        }
        weights = TrainedWeights(owners, rank=plan.settings.recover_rank, seed=plan.seed)
        try:
            train_steps(plan, student, teacher, weights)
        finally:
            merged = weights.merge()
        for number in range(len(plan.network)):
            inside = (layer.key for layer in plan.layers if layer.block == number)
            own = {key: merged[key].to(plan.network.tensors.dtype(key)) for key in inside}
            save_state_file(found.path(number), own)


@contextmanager
def _teacher(plan: Recovery) -> Iterator[Any]:
    """The dense network, if it is needed."""
    with ExitStack() as opened:
        if plan.settings.recover_by == "distill":
            network = BlockNetwork(plan.teacher or plan.network.folder)
            yield opened.enter_context(whole_network(network))
        else:
            yield None
