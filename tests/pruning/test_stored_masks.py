"""Masks on stored weights: what pruned weights were is kept, and found again."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ws_learner.pruning.methods import packed_masks, stored_masks
from ws_learner.pruning.methods.gradual import GradualConfig
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_large_network_is_pruned_alike(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks as bits, and as numbers for one layer at a time, change no weight and no state."""

    def trained() -> tuple[nn.Module, dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(24, 8), nn.Linear(8, 2)
        ).to(dtype, memory_format=torch.channels_last)
        zeros = {"0.weight": 60, "2.weight": 150, "3.weight": 0}
        config = GradualConfig(iter_ratio_beg=0.1, iter_ratio_end=0.8, mask_update_step=2)
        method = config.build(model, zeros=zeros, total_steps=20)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        method.attach(optimizer, 0)
        for step in range(1, 21):
            optimizer.zero_grad()
            model(torch.randn(5, 3, 4, 4, dtype=dtype)).square().sum().backward()
            method.on_gradients()
            method.before_step()
            optimizer.step()
            method.after_step(optimizer, step)
        method.finish(20)
        moments = {
            f"{name}.{key}": value
            for name, parameter in model.named_parameters()
            for key, value in optimizer.state[parameter].items()
        }
        return model, method.state_dict() | moments

    usual, usual_state = trained()
    monkeypatch.setattr(stored_masks, "_MANY", 0)
    monkeypatch.setattr(packed_masks, "_LARGE", 0)
    large, large_state = trained()
    for (name, ours), theirs in zip(large.named_parameters(), usual.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    assert large_state.keys() == usual_state.keys()
    assert all(torch.equal(large_state[key], usual_state[key]) for key in usual_state)
