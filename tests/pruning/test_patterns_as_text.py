"""A pattern's spelling is taken wherever a pattern is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ws_learner import GradualConfig
from ws_learner.compat import EpochPlan
from ws_learner.core import UserError
from ws_learner.pruning import (
    NM,
    BlockPattern,
    GroupLassoConfig,
    MdgfConfig,
    MovementConfig,
    SdgfConfig,
    SrSteConfig,
    add_group_lasso,
    build_pattern_plan,
    drop_unfitting,
    tensor_table,
)

CONFIGS = (GradualConfig, GroupLassoConfig, MovementConfig, MdgfConfig, SdgfConfig, SrSteConfig)


@pytest.mark.parametrize("kind", CONFIGS)
def test_settings_take_a_spelling(kind: type) -> None:
    assert kind(pattern="2:4").pattern == NM(2, 4)
    with pytest.raises(UserError, match=r"`pattern` 2:1: N:M keeps N of M"):
        kind(pattern="2:1")
    for wrong in (4, NM, (2, 4)):
        with pytest.raises(UserError, match=r"`pattern` .* must be a pattern such as NM\(2, 4\)"):
            kind(pattern=wrong)


def test_functions_take_a_spelling() -> None:
    model, weight = nn.Linear(8, 4), torch.ones(4, 8)
    assert build_pattern_plan(model, ["weight"], pattern="4x1").patterns["weight"] == BlockPattern(
        4, 1
    )
    assert drop_unfitting(model, ["weight"], pattern="4x1", remainder="error") == ()
    with pytest.raises(UserError, match="3x1"):
        drop_unfitting(model, ["weight"], pattern="3x1", remainder="error")
    weight[:, 0] = 0
    assert tensor_table({"w": weight}, pattern="4x1")["block_sparsity"].tolist() == [1 / 8]
    weight.grad = torch.zeros_like(weight)
    add_group_lasso(weight, 2.0, pattern="4x1")  # alpha times w / ||w|| of each block
    assert torch.allclose(weight.grad[:, 1:], torch.ones(4, 7))
    assert EpochPlan(names=("w",), pattern="4x1").pattern == BlockPattern(4, 1)  # type: ignore[arg-type]
