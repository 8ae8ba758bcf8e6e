"""LPOT's loop and Neural Compressor's calls where several optimizers share the network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support.every_method import loss_of, network
from ws_learner import Pruning
from ws_learner.compat.lpot import common
from ws_learner.compat.lpot.schema import LpotConf, Pruner


def pruned(kind: str, *, optimizers: int) -> list[nn.Parameter]:
    model = network()
    pruner = Pruner(prune_type=kind, parameters={"alpha": 0.05})  # type: ignore[arg-type]
    prune = Pruning(LpotConf(target_sparsity=0.5, end_epoch=3, pruners=(pruner,)))
    prune.model = common.Model(model)

    def loop(model: nn.Module) -> None:
        parts = [model] if optimizers == 1 else [model.get_submodule(n) for n in "02"]
        made = [torch.optim.SGD(part.parameters(), lr=0.05) for part in parts]
        for step in range(20):
            if step % 4 == 0:
                prune.on_epoch_begin(step // 4)
            model.zero_grad()
            loss_of(model, step).backward()  # type: ignore[no-untyped-call]
            for optimizer in made:
                optimizer.step()

    prune.pruning_func = loop
    prune()
    return list(model.parameters())


@pytest.mark.parametrize(
    "kind", ["basic_magnitude", "gradient_sensitivity", "group_lasso", "snip", "gradient"]
)
def test_an_optimizer_for_each_layer_prunes_as_one_for_all_does(kind: str) -> None:
    one, two = pruned(kind, optimizers=1), pruned(kind, optimizers=2)
    assert all(map(torch.equal, one, two))
