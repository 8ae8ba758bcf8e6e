"""Operations of N:M networks: the numbers of the paper, torch's count, a sum over the steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.nm_flops import EncoderShape, forward_flops, training_flops
from experiments.models.vit import Block, vit
from ws_learner.pruning.layers.table import layer_table
from ws_learner.pruning.methods.sdgf import SdgfConfig
from ws_learner.pruning.patterns.pattern import parse_pattern

VIT_B = EncoderShape(depth=12, width=768, hidden=3072, tokens=196)


@pytest.mark.parametrize(
    ("pattern", "paper"),
    [
        *(("1:1", 34.71), ("2:4", 23.61), ("1:4", 18.06), ("1:8", 15.29), ("1:16", 13.90)),
        *(("1:32", 13.21), ("1:128", 12.69)),
    ],
)
def test_the_papers_column_of_operations(pattern: str, paper: float) -> None:
    """Bambhaniya et al. 2025, tables 17 and 18; 13.20 there is 13.21 exactly."""
    n, m = map(int, pattern.split(":"))
    assert round(VIT_B.flops({"ff": n / m}) / 1e9, 2) == paper
    assert round(VIT_B.weights() / 1e6, 2) == 84.93
    assert round((VIT_B.weights() - VIT_B.weights({"ff": 0})) / 1e6, 2) == 56.62


def test_torch_counts_the_same() -> None:
    with torch.device("meta"):
        blocks = nn.Sequential(
            *(Block(768, 12, mlp_ratio=4, drop=0.0, drop_path=0.0) for _ in range(12))
        )
        assert forward_flops(blocks, torch.empty(1, 196, 768)) == VIT_B.flops()


def test_operations_of_a_training_are_added_up_step_by_step() -> None:
    model = vit(image=8, patch=2, width=16, depth=2, heads=2)
    inputs = torch.randn(2, 3, 8, 8)
    rows, forward = layer_table(model, inputs), forward_flops(model, inputs)
    config = SdgfConfig(pattern=parse_pattern("1:8@ff"), shape="stepwise", fine_tune=0.25)
    method = config.build(model, zeros=config.targets(model), total_steps=97)
    found = training_flops(rows, method.planned_zeros, forward=forward, steps=97, batch=4)
    slow = 0.0
    for step in range(97):
        zeros = method.planned_zeros(step)
        saved = sum(2 * row.macs * zeros.get(row.name, 0) / row.weights for row in rows)
        slow += 4 * (2 * (forward - saved) + forward)
    assert found == pytest.approx(slow, rel=1e-12)
    assert found < 4 * 97 * 3 * forward
