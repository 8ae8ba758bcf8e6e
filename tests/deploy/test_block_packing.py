"""Counting and packing of blocks: bit for bit what a plain packing gives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.plain_blocks import plain_blocks, plain_fill
from tests.support.sparse_layers import block_matrix
from ws_learner.deploy.runtime.candidates import candidates
from ws_learner.deploy.runtime.codegen.block_format import pack_blocks
from ws_learner.deploy.runtime.codegen.cpu import ISAS
from ws_learner.deploy.runtime.codegen.live_blocks import LiveBlocks
from ws_learner.deploy.runtime.quantisation import quantise_weight

SHAPES = [(64, 128), (61, 130), (1, 1), (17, 3), (150, 70), (16, 0), (33, 259)]
BLOCKS = [(1, 1), (2, 1), (4, 1), (16, 4), (1, 4), (4, 4), (8, 2), (16, 3), (16, 8)]


def matrix(
    shape: tuple[int, int], block: tuple[int, int], density: float, kind: type
) -> npt.NDArray[np.generic]:
    weight = block_matrix(np.random.default_rng(sum(shape)), shape, block, density)
    return (weight * 40).astype(np.int8).astype(kind) if kind is np.int8 else weight


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("block", BLOCKS)
def test_fill_is_counted_block_by_block(shape: tuple[int, int], block: tuple[int, int]) -> None:
    for density in (0, 0.2, 1):
        weight = matrix(shape, block, density, np.float32)
        live = LiveBlocks(weight)
        assert live.nonzero == np.count_nonzero(weight)
        for padding in (True, False):
            assert live.fill(*block, padding=padding) == plain_fill(weight, *block, padding=padding)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("block", BLOCKS)
def test_packed_bit_for_bit(shape: tuple[int, int], block: tuple[int, int]) -> None:
    for kind, packings in ((np.float32, (1,)), (np.int8, (2, 4))):
        weight = matrix(shape, block, 0.2, kind)
        for packed in (p for p in packings if block[1] % p == 0):
            for panel, chunk in ((16, 32), (3, 16), (1000, 256)):
                for deep in (False, True) if (*block, packed) == (16, 4, 4) else (False,):
                    wanted = plain_blocks(
                        weight, *block, packed=packed, panel=panel, chunk=chunk, deep=deep
                    )
                    got = pack_blocks(
                        weight, *block, packed=packed, panel=panel, chunk=chunk, deep=deep
                    )
                    for name in ("values", "indices", "pointers"):
                        a, b = getattr(got, name), getattr(wanted, name)
                        assert a.dtype == b.dtype
                        assert np.array_equal(a, b)
                    assert not got.values.size or got.values.ctypes.data % 64 == 0


def test_values_that_are_no_numbers_are_packed_too() -> None:
    weight = np.zeros((16, 8), np.float32)
    weight[3, 1], weight[5, 6] = np.nan, -np.inf
    wanted = plain_blocks(weight, 4, 4, packed=1, panel=16)
    assert np.array_equal(pack_blocks(weight, 4, 4, packed=1, panel=16).values, wanted.values)


@pytest.mark.parametrize("shape", [(30, 50), (3, 200_000), (0, 4), (4, 0)])
def test_rounded_weights_are_those_of_the_whole_at_once(shape: tuple[int, int]) -> None:
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    if weight.size:
        weight[1] = 0
        weight[2] = 1e-42  # below what float32 can divide by
    got, scales = quantise_weight(weight)
    most = np.abs(weight).max(axis=1, initial=0) / np.float32(127)
    wanted = np.where(most < np.finfo(np.float32).tiny, 1, most).astype(np.float32)
    rows = np.where((most < np.finfo(np.float32).tiny)[:, None], 0, weight)
    assert np.array_equal(scales, wanted)
    assert np.array_equal(got, np.clip(np.rint(rows / wanted[:, None]), -127, 127).astype(np.int8))


def test_small_blocks_are_not_tried_where_large_ones_hold_no_zeros() -> None:
    rng = np.random.default_rng(0)
    isas = (ISAS["avx512vnni"],)
    large = block_matrix(rng, (64, 128), (16, 4), 0.2)
    tried = {(s.dot, s.rows, s.inputs) for s in candidates(large, tokens=64, int8=True, isas=isas)}
    assert tried == {("vnni", 4, 4), ("vnni", 16, 4)}
    widened = candidates(large, tokens=64, int8=True, isas=(ISAS["avx512"],))
    assert {s.dot for s in widened} == {"fma", "madd"}
    columns = block_matrix(rng, (64, 128), (4, 1), 0.2)
    tried = {
        (s.dot, s.rows, s.inputs) for s in candidates(columns, tokens=64, int8=True, isas=isas)
    }
    assert tried == {("fma", 4, 1), ("vnni", 16, 4)}  # the latter stores zeros
    single = block_matrix(rng, (64, 128), (1, 1), 0.2)
    assert {s.rows for s in candidates(single, tokens=64, isas=isas)} == {1, 2}  # 0.55 full
