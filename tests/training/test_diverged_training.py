"""A training that diverged ends with an error, not with a file of weights that are no numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.rollout_parts import accuracy, tiny_data, tiny_network
from ws_learner import Recipe, WeightSparseConfig, WeightSparseLearner
from ws_learner.core.errors import UserError
from ws_learner.training import Loss


class Auxiliary(nn.Module):
    """A network with a weight that only its training reads."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.extra, self.calls = tiny_network(), nn.Parameter(torch.ones(1)), 0

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.network(images)
        if self.training:
            self.calls += 1
            if self.calls == 8:  # the root of nothing: the loss stays finite, its gradient does not
                outputs = outputs + (self.extra * 0).abs().sqrt()
        return outputs


def learner(model: nn.Module, run: Path, loss: Loss) -> WeightSparseLearner:
    return WeightSparseLearner(
        model,
        tiny_data(),
        loss=loss,
        metric=accuracy,
        recipe=Recipe(nb_epochs=1, batch_size=32),
        config=WeightSparseConfig(
            ws_prune_ratio=0.5,
            ws_prune_ratio_prtl="uniform",
            ws_mask_update_step=1,
            ws_iter_ratio_end=0.5,
        ),
        run_dir=run,
        workers=0,
        claims=False,  # the loss counts its calls
    )


@pytest.mark.long
def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    """They become so in the last step, after all masks are made."""
    torch.manual_seed(0)
    steps = 0

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal steps
        steps += len(targets) == 32  # the checks before the training take fewer
        return functional.cross_entropy(outputs, targets)

    model = Auxiliary()
    for _ in range(2):  # the second call finds the checkpoint of the first
        with pytest.raises(UserError, match=r"sparse training has diverged: .*`lrn_rate`"):
            learner(model, tmp_path / "run", loss).fit()
    assert steps == 8 + 3  # and the steps that are timed before the search
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.long
def test_outputs_that_are_no_numbers_end_the_training(tmp_path: Path) -> None:
    torch.manual_seed(0)
    steps = 0

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal steps
        # The checks before the training take fewer, and repeat them for a step's time.
        trains = len(targets) == 32 and not torch.equal(targets[:16], targets[16:])
        steps += trains
        last = (outputs * 0).sum().abs().sqrt() if steps == 8 and trains else 0
        return functional.cross_entropy(outputs, targets) + last

    told = r"outputs are NaN .* select split at step 8; lower `lrn_rate`"
    with pytest.raises(UserError, match=told):
        learner(tiny_network(), tmp_path / "run", loss).fit()
    assert not (tmp_path / "run" / "model.safetensors").exists()
