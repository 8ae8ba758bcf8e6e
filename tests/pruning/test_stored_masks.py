"""Masks on stored weights: what pruned weights were is kept, and found again."""

from __future__ import annotations

import torch
from torch import nn

from ws_learner.pruning.methods.learned_scores import LearnedScores
from ws_learner.pruning.methods.stored_masks import StoredMasks
from ws_learner.pruning.patterns.score_grid import ScoreGrid


def masks_of(weight: nn.Parameter) -> StoredMasks:
    masks = StoredMasks({"w": weight})
    masks.to_device()
    masks.dense_values()
    masks.update_masks({"w": torch.arange(6).reshape(2, 3) % 2 == 0})
    return masks


def test_values_in_a_step_are_the_dense_ones() -> None:
    weight = nn.Parameter(torch.arange(1.0, 7.0).reshape(2, 3))
    before = weight.detach().clone()
    masks = masks_of(weight)
    assert torch.equal(weight.detach() == 0, torch.arange(6).reshape(2, 3) % 2 == 1)
    assert torch.equal(masks.values_in_step()["w"], before)
    assert torch.equal(masks.dense_values()["w"], before)


def test_a_step_between_is_seen() -> None:
    weight = nn.Parameter(torch.arange(1.0, 7.0).reshape(2, 3))
    masks = masks_of(weight)
    masks.mask_gradients()
    with torch.no_grad():
        weight[0, 0] = 50.0
    assert masks.values_in_step()["w"][0, 0] == 50.0
    assert masks.values_in_step()["w"][0, 1] == 2.0  # pruned, as it was


def test_weights_loaded_between_are_never_overwritten() -> None:
    weight = nn.Parameter(torch.arange(1.0, 7.0).reshape(2, 3))
    masks = masks_of(weight)
    with torch.no_grad():
        weight.copy_(torch.full((2, 3), 9.0))
    masks.values_in_step()
    masks.dense_values()
    masks.update_masks({"w": torch.ones(2, 3, dtype=torch.bool)})
    assert float(weight.detach()[0, 0]) == 9.0  # kept: the loaded value
    assert float(weight.detach()[0, 1]) == 2.0  # pruned: what it was when it was last alive


def test_scores_move_by_one_pass_as_by_many() -> None:
    moved = []
    for cls in (torch.optim.AdamW, torch.optim.SGD):
        for single in (True, False):
            torch.manual_seed(0)
            weight = nn.Parameter(torch.randn(8, 8))
            scores = LearnedScores({"w": ScoreGrid(shape=(8, 8))}, layers=1, lrn_rate=0.01)
            optimizer = cls([weight], lr=1e-3)
            scores.attach(optimizer, {"w": weight})
            assert optimizer.param_groups[1]["fused"] is True
            if not single:
                optimizer.param_groups[1]["fused"] = False
            for _ in range(5):
                weight.grad = torch.randn(8, 8)
                scores.learn({"w": weight}, {"w": weight.detach()})
                optimizer.step()
            moved.append(scores.values["w"].detach())
        assert torch.allclose(moved[-2], moved[-1], rtol=1e-5, atol=1e-8)
        assert float(moved[-1].abs().max()) > 0
