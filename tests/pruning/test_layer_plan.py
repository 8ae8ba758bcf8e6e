"""Profiles over many layers: whole units, exact sums, global scope, shared heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.support.patterns import PATTERNS, SHAPES
from ws_learner.core.errors import UserError
from ws_learner.pruning.layers.attention_heads import find_attention
from ws_learner.pruning.layers.layer_plan import build_pattern_plan, drop_unfitting, fitting_rows
from ws_learner.pruning.layers.table import layer_table
from ws_learner.pruning.patterns.model_plan import PatternPlan
from ws_learner.pruning.patterns.pattern import (
    NM,
    BlockPattern,
    HeadPattern,
    Pattern,
    parse_pattern,
)

LAYERS = {f"l{index}": shape for index, shape in enumerate(SHAPES)}


def plan_of(pattern: Pattern, shapes: dict[str, tuple[int, ...]] = LAYERS) -> PatternPlan:
    return PatternPlan(patterns=dict.fromkeys(shapes, pattern), shapes=shapes)


def sizes() -> dict[str, int]:
    return {name: int(np.prod(shape)) for name, shape in LAYERS.items()}


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=repr)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_snapped_profiles_are_feasible_and_near(pattern: Pattern, data: st.DataObject) -> None:
    plan = plan_of(pattern)
    most = {name: plan.most(name) for name in LAYERS}
    zeros = {name: data.draw(st.integers(0, most[name])) for name in LAYERS}
    snapped = plan.snap(zeros)
    assert list(snapped) == list(zeros)
    for name, shape in LAYERS.items():
        assert pattern.feasible(shape, snapped[name]) == snapped[name]
        assert snapped[name] == 0 or zeros[name] > 0
    assert plan.snap(snapped) == snapped
    # No single unit more or less, in any layer that is pruned, would come nearer to the sum.
    gap = abs(sum(snapped.values()) - sum(zeros.values()))
    for name, shape in LAYERS.items():
        for side, edge in (("up", snapped[name] + 1), ("down", snapped[name] - 1)):
            if zeros[name] and edge >= 0:
                moved = pattern.feasible(shape, edge, side=side) - snapped[name]  # type: ignore[arg-type]
                other = abs(sum(snapped.values()) + moved - sum(zeros.values()))
                assert moved == 0 or other >= gap


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.data())
def test_blocks_that_divide_meet_the_nearest_multiple(
    heights: list[int], data: st.DataObject
) -> None:
    shapes = {str(i): (4 * height, 6) for i, height in enumerate(heights)}
    zeros = {
        name: data.draw(st.integers(4, 24 * h)) for name, h in zip(shapes, heights, strict=True)
    }
    total = sum(zeros.values())
    snapped = plan_of(BlockPattern(4, 1), shapes).snap(zeros)
    assert abs(sum(snapped.values()) - total) <= 2
    assert all(abs(snapped[name] - zeros[name]) <= 4 for name in zeros)


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=repr)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_the_global_scope_takes_the_smallest_units(pattern: Pattern, data: st.DataObject) -> None:
    plan = plan_of(pattern)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 9)))
    scores = {n: torch.rand(s, generator=generator) for n, s in LAYERS.items()}
    share = data.draw(st.floats(0, 1))
    top = sum(plan.most(name) for name in LAYERS)
    total = plan.snap({name: round(share * plan.most(name)) for name in LAYERS})
    wanted = min(sum(total.values()), top)
    zeros = plan.spread_globally(scores, wanted, least=0.0, most=1.0)
    masks = plan.masks(scores, zeros)
    assert {name: int((~mask).sum()) for name, mask in masks.items()} == zeros
    assert sum(zeros.values()) == wanted
    if str(pattern) == "unstructured":
        flat = np.sort(np.concatenate([score.numpy().ravel() for score in scores.values()]))
        gone = np.concatenate([scores[n][~mask].numpy() for n, mask in masks.items()])
        np.testing.assert_array_equal(np.sort(gone), flat[:wanted])


@pytest.mark.parametrize("name", ["unstructured", "4x1"])
def test_global_bounds_hold_and_ties_are_exact(name: str) -> None:
    shapes = {"a": (8, 10), "b": (8, 10), "c": (8, 20)}
    plan = plan_of(parse_pattern(name), shapes)
    scores = {"a": torch.full((8, 10), 0.1), "b": torch.ones(8, 10), "c": torch.ones(8, 20)}
    zeros = plan.spread_globally(scores, 160, least=0.2, most=0.9)
    assert zeros == {"a": 72, "b": 56, "c": 32}  # a capped, c lifted, ties from the first on
    assert plan.spread_globally(scores, 320, least=0.2, most=0.9) == {"a": 80, "b": 80, "c": 160}
    assert plan.spread_globally(scores, 0, least=0.2, most=0.9) == {"a": 0, "b": 0, "c": 0}


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_attention_heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)


class Bert(nn.Module):
    """The names of Hugging Face's BERT."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"output": nn.ModuleDict({"dense": nn.Linear(width, width)})}
        )
        self.attention["self"] = SelfAttention(width, heads)
        self.intermediate = nn.Linear(width, 2 * width)


class Fused(nn.Module):
    """The names of timm's ViT."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)


def test_heads_are_found_by_common_names() -> None:
    (bert,) = find_attention(Bert())
    rows, columns = HeadPattern(3, "outputs"), HeadPattern(3, "inputs")
    assert bert.patterns == {
        "attention.self.query.weight": rows,
        "attention.self.key.weight": rows,
        "attention.self.value.weight": rows,
        "attention.output.dense.weight": columns,
    }
    (fused,) = find_attention(nn.Sequential(Fused()))
    assert fused.patterns == {
        "0.qkv.weight": HeadPattern(3, "outputs", parts=3),
        "0.proj.weight": columns,
    }
    assert find_attention(nn.Sequential(nn.Linear(3, 3))) == ()
    grouped = SelfAttention(12, 3)
    grouped.key = nn.Linear(12, 4)
    grouped.out_proj = nn.Linear(12, 12)
    with pytest.raises(UserError, match="shares keys and values"):
        find_attention(grouped)


@pytest.mark.parametrize("model", [Bert(), Fused()], ids=["apart", "fused"])
@pytest.mark.parametrize("heads", [0, 1, 2, 3])
def test_an_attention_loses_the_same_heads_everywhere(model: nn.Module, heads: int) -> None:
    names = [name for found in find_attention(model) for name in found.patterns]
    plan = build_pattern_plan(model, names, pattern=parse_pattern("mha"))
    scores = {name: model.get_parameter(name).detach().abs() for name in names}
    total = sum(model.get_parameter(name).numel() for name in names)
    zeros = plan.snap({name: model.get_parameter(name).numel() * heads // 3 for name in names})
    assert sum(zeros.values()) == total * heads // 3
    masks = plan.masks(scores, zeros)
    alive = []
    for name in names:
        pattern = plan.patterns[name]
        alive.append((pattern.pooled(masks[name].float()) > 0).tolist())
        assert int((~masks[name]).sum()) == zeros[name]
    assert all(kept == alive[0] for kept in alive)
    assert sum(alive[0]) == 3 - heads
    means = torch.stack([plan.patterns[n].pooled(scores[n]) for n in names]).mean(0)
    order = torch.argsort(means)[:heads].tolist()
    assert sorted(order) == [head for head, kept in enumerate(alive[0]) if not kept]
    everywhere = plan.spread_globally(scores, total * heads // 3, least=0.0, most=1.0)
    assert everywhere == zeros


def test_mha_leaves_out_what_is_no_attention() -> None:
    model, names = Bert(), ["intermediate.weight", "attention.self.key.weight"]
    mha = parse_pattern("mha")
    assert drop_unfitting(model, names, pattern=mha, remainder="pad") == ("intermediate.weight",)
    with pytest.raises(UserError, match=r"intermediate\.weight is no projection"):
        build_pattern_plan(model, names, pattern=mha)


def test_remainders_are_padded_skipped_or_refused() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 10))
    rows = layer_table(model, torch.ones(1, 6))
    four = BlockPattern(4, 1)
    assert fitting_rows(model, rows, pattern=four, remainder="pad") == rows
    with pytest.warns(UserWarning, match=r"4x1 does not divide 1\.weight of shape \(10, 8\)"):
        skipped = fitting_rows(model, rows, pattern=four, remainder="skip")
    assert [row.exempt for row in skipped] == [False, True]
    with pytest.raises(UserError, match=r"`remainder` error: .*1\.weight"):
        fitting_rows(model, rows, pattern=four, remainder="error")
    nothing = BlockPattern(7, 7)
    with (
        pytest.warns(UserWarning, match="does not divide"),
        pytest.raises(UserError, match="fits none of the 2 layers"),
    ):
        fitting_rows(model, rows, pattern=nothing, remainder="skip")
    assert drop_unfitting(model, ["0.weight"], pattern=NM(2, 4), remainder="pad") == ()
