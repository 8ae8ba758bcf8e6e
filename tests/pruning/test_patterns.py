"""Every pattern on every shape, against units made with plain loops."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.support.patterns import HEADS, PATTERNS, SHAPES, prunable, units
from ws_learner.core.errors import UserError
from ws_learner.pruning.patterns.pattern import (
    NM,
    BlockPattern,
    HeadPattern,
    Pattern,
    parse_pattern,
)

TIED = st.sampled_from([0.0, 0.5, 1.0, 2.0])
FREE = st.floats(0.0, 100.0, width=32)
CASES = [*product(PATTERNS.values(), SHAPES), *product(HEADS.values(), [(12, 8), (12, 4, 3)])]
IDS = [f"{pattern!r}-{shape}" for pattern, shape in CASES]


def scores(data: st.DataObject, shape: tuple[int, ...]) -> np.ndarray:
    elements = data.draw(st.sampled_from([TIED, FREE]))
    return data.draw(hnp.arrays(np.float32, shape, elements=elements))


def sums_of(sizes: list[int]) -> set[int]:
    sums = {0}
    for size in sizes:
        sums |= {known + size for known in sums}
    return sums


@pytest.mark.parametrize(("pattern", "shape"), CASES, ids=IDS)
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_masks_are_exact_whole_and_repeatable(
    pattern: Pattern, shape: tuple[int, ...], data: st.DataObject
) -> None:
    score = scores(data, shape)
    parts = [prunable(pattern, unit, score) for unit in units(pattern, shape)]
    wanted = data.draw(st.integers(0, score.size))
    zeros = pattern.feasible(shape, wanted)
    reachable = sums_of([len(part) for part in parts])
    assert zeros == min(reachable, key=lambda total: (abs(total - wanted), total))
    mask = pattern.mask(torch.from_numpy(score), zeros)
    keep = mask.numpy()
    assert mask.dtype == torch.bool
    assert keep.shape == shape
    assert int((~keep).sum()) == zeros
    for unit, part in zip(units(pattern, shape), parts, strict=True):
        gone = [place for place in unit if not keep[place]]
        assert not gone or sorted(gone) == sorted(part)
    again = pattern.mask(torch.from_numpy((score + 1) * keep), zeros)
    assert torch.equal(again, mask)


@pytest.mark.parametrize(("pattern", "shape"), CASES, ids=IDS)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_the_smallest_units_go(
    pattern: Pattern, shape: tuple[int, ...], data: st.DataObject
) -> None:
    """Among units of one size, a NumPy stable sort of float64 scores says which."""
    score = np.round(scores(data, shape))  # sums of whole numbers are exact in any order
    pool = data.draw(st.sampled_from(["mean", "sum", "max"]))
    zeros = pattern.feasible(shape, data.draw(st.integers(0, score.size)))
    keep = pattern.mask(torch.from_numpy(score), zeros, pool=pool).numpy()
    how = {"mean": np.sum, "sum": np.sum, "max": np.max}[pool]
    by_size: dict[int, list[tuple[float, bool]]] = {}
    for unit in units(pattern, shape):
        part = prunable(pattern, unit, score)
        if part:
            value = float(how([score[place] for place in part]))
            by_size.setdefault(len(part), []).append((value, not keep[part[0]]))
    for entries in by_size.values():
        order = np.argsort([value for value, _ in entries], kind="stable")
        gone = [entries[index][1] for index in order]
        assert gone == sorted(gone, reverse=True)


@pytest.mark.parametrize(("pattern", "shape"), CASES, ids=IDS)
def test_equal_scores_never_prune_too_much(pattern: Pattern, shape: tuple[int, ...]) -> None:
    size = int(np.prod(shape))
    for wanted in {0, 1, size // 3, size // 2, size - 1, size}:
        zeros = pattern.feasible(shape, wanted)
        assert int((~pattern.mask(torch.ones(shape), zeros)).sum()) == zeros
    assert pattern.mask(torch.zeros(shape), 0).all()  # sparsity 0 prunes nothing


@pytest.mark.parametrize(("pattern", "shape"), CASES, ids=IDS)
def test_sizes_and_norms_belong_to_the_units(pattern: Pattern, shape: tuple[int, ...]) -> None:
    weight = np.random.default_rng(0).normal(size=shape)
    sizes = pattern.sizes(shape).tolist()
    norms = pattern.norms(torch.from_numpy(weight)).numpy()
    cut = units(pattern, shape)
    assert sizes == [len(prunable(pattern, unit, weight)) for unit in cut]
    for unit in cut:
        norm = np.sqrt(sum(weight[place] ** 2 for place in unit))
        assert [norms[place] for place in unit] == pytest.approx([norm] * len(unit))
    whole = len({len(unit) for unit in cut}) == 1
    expected = whole
    if isinstance(pattern, NM):
        expected = all(len(unit) == pattern.m for unit in cut)
    if isinstance(pattern, BlockPattern):
        expected = len(cut[0]) == len(cut[-1]) == pattern.outputs * pattern.inputs
    assert pattern.divides(shape) is bool(expected)


@pytest.mark.parametrize("side", ["down", "up"])
@pytest.mark.parametrize(("pattern", "shape"), CASES, ids=IDS)
def test_feasible_on_either_side(pattern: Pattern, shape: tuple[int, ...], side: str) -> None:
    reachable = sums_of(pattern.sizes(shape).tolist())
    for wanted in range(0, int(np.prod(shape)) + 1, 7):
        found = pattern.feasible(shape, wanted, side=side)  # type: ignore[arg-type]
        if side == "down":
            assert found == max(total for total in reachable if total <= wanted)
        else:
            assert found == min((t for t in reachable if t >= wanted), default=max(reachable))


def test_a_block_of_four_outputs_shares_one_input() -> None:
    weight = torch.tensor([[1.0, 5.0], [1.0, 5.0], [1.0, 5.0], [9.0, 0.0]])
    assert (BlockPattern(4, 1).mask(weight, 4) == torch.tensor([False, True])).all()
    assert BlockPattern(1, 2).mask(weight, 2).tolist() == [[False, False]] + [[True, True]] * 3


def test_a_convolution_is_cut_tap_by_tap() -> None:
    weight = torch.ones(4, 2, 1, 2)  # columns: tap 0 inputs 0, 1; tap 1 inputs 0, 1
    weight[:, 1, 0, 0] = 0.1
    mask = BlockPattern(4, 1).mask(weight, 4)
    assert not mask[:, 1, 0, 0].any()
    assert int(mask.sum()) == 12
    assert NM(2, 4).feasible((4, 2, 1, 2), 16) == 0  # two inputs never fill half a group of four


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("name", ["4x1", "2:4", "1xchannel"])
def test_other_number_formats(name: str, dtype: torch.dtype) -> None:
    score = torch.randint(0, 9, (8, 8), generator=torch.Generator().manual_seed(0)).to(dtype)
    pattern = parse_pattern(name)
    assert torch.equal(pattern.mask(score, 16), pattern.mask(score.double(), 16))


def test_memory_layout_does_not_matter() -> None:
    score = torch.randint(0, 9, (8, 8, 3, 3), generator=torch.Generator().manual_seed(0)).float()
    for pattern in PATTERNS.values():
        zeros = pattern.feasible(score.shape, 200)
        other = score.to(memory_format=torch.channels_last)
        assert torch.equal(pattern.mask(other, zeros), pattern.mask(score, zeros))


@pytest.mark.parametrize("zeros", [1, 31, 33, -1])
def test_counts_that_do_not_fit_are_refused(zeros: int) -> None:
    with pytest.raises(ValueError, match=rf"{zeros} zeros do not fit the pattern 4x1.*nearest"):
        BlockPattern(4, 1).mask(torch.ones(8, 4), zeros)


@pytest.mark.parametrize("zeros", [0, 4, 8])
@pytest.mark.parametrize("name", ["4x1", "2:4", "channelx1"])
def test_nan_is_refused_at_any_count(name: str, zeros: int) -> None:
    score = torch.ones(4, 4)
    score[0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        parse_pattern(name).mask(score, zeros)


def test_heads_must_be_known_and_divide() -> None:
    for pattern in (parse_pattern("mha"), HeadPattern(5)):
        with pytest.raises(UserError, match=r"mha: .*heads.*12 outputs"):
            pattern.mask(torch.ones(12, 12), 0)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("unstructured", "unstructured"),
        ("1x1", "unstructured"),
        ("tile_pattern_1x1", "unstructured"),
        ("4x1", "4x1"),
        ("tile_pattern_4x1", "4x1"),
        ("ic_pattern_2X16", "2x16"),
        ("***4***x1", "4x1"),
        ("***2***x1", "2x1"),
        ("4x***16***", "16x4"),
        ("2:4", "2:4"),
        ("2in4", "2:4"),
        ("2 in ***4***", "2:4"),
        ("channelx1", "channelx1"),
        ("1xchannel", "1xchannel"),
        ("MHA", "mha"),
    ],
)
def test_spellings(text: str, canonical: str) -> None:
    pattern = parse_pattern(text)
    assert str(pattern) == canonical
    assert parse_pattern(str(pattern)) == pattern


@pytest.mark.parametrize("text", ["4by1", "0x4", "4x", "", "4:4", "0:4", "5:4", "4x1x1", "x"])
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(UserError, match=r"^`pattern` "):
        parse_pattern(text)


def test_the_inverse_spelling() -> None:
    assert BlockPattern(4, 16).transposed() == BlockPattern(16, 4)
    for bad in ((0, 4), (4, 0)):
        with pytest.raises(ValueError, match="no weights"):
            BlockPattern(*bad)
    with pytest.raises(ValueError, match="fewer than all"):
        NM(4, 4)
