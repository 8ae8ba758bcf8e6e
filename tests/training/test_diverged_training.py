"""A training that diverged ends with an error, not with a file of weights that are no numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.support.rollout_parts import accuracy, tiny_data, tiny_network
from ws_learner import Recipe, WeightSparseConfig, WeightSparseLearner
from ws_learner.core.errors import UserError


@pytest.mark.long
def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    """They become so in the last step, after all masks are made."""
    torch.manual_seed(0)
    steps = 0

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        # The root of nothing: the loss stays finite, its gradient does not.
        last = (outputs * 0).sum().abs().sqrt() if steps == 8 else 0
        return functional.cross_entropy(outputs, targets) + last

    def learner() -> WeightSparseLearner:
        return WeightSparseLearner(
            tiny_network(),
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
            run_dir=tmp_path / "run",
            workers=0,
        )

    for _ in range(2):  # the second call finds the checkpoint of the first
        with pytest.raises(UserError, match=r"sparse training has diverged: .*`lrn_rate`"):
            learner().fit()
    assert steps == 8
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert not (tmp_path / "run" / "summary.json").exists()
