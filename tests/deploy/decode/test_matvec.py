"""Products of packed matrices against NumPy, for each instruction set of this processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from ws_learner.deploy.decode import functions, isas, numbers, packing
from ws_learner.deploy.decode.functions import Place
from ws_learner.deploy.runtime.codegen.block_format import aligned

NAMES = [isa.name for isa in isas.usable_decode_isas()]
SHAPES = [(12, 128, 0.6), (7, 70, 0.5), (5, 64, 1.0), (9, 200, 0.0), (64, 576, 0.7)]


def drawn(shape: tuple[int, int], zeros: float, seed: int = 0) -> Any:
    draw = np.random.default_rng(seed)
    weight = draw.standard_normal(shape).astype(np.float32)
    return np.where(draw.random(shape) < zeros, 0, weight).astype(np.float32)


def run(packed: Any, x: Any, *, isa: str, scales: Any = None, start: Any = None) -> Any:
    """Product of a packed matrix and rows x (T, K): floats, or bytes with their scales."""
    tokens, size = len(x), x.dtype.itemsize
    row, out = 64 * packed.chunks * size, 4 * packed.blocks * 4
    state = aligned(64 + tokens * (row + out))
    for t in range(tokens):
        state[64 + t * row :][: x.shape[1] * size] = x[t].view(np.uint8)
    if scales is not None:
        state[: 4 * tokens] = scales.view(np.uint8)
    y = Place(at=64 + tokens * row, bytes=out)
    view = state[y.at :].view(np.float32).reshape(tokens, -1)
    if start is not None:
        view[:, : packed.outputs] = start
    call = functions.matvec_call(
        packed,
        functions.stored(packed.stream),
        isa=isa,
        tokens=tokens,
        x=Place(at=64, bytes=row),
        y=y,
        added=start is not None,
    )
    call.kernel(call.table.ctypes.data, state.ctypes.data)
    return view[:, : packed.outputs].copy()


@pytest.mark.parametrize("isa", NAMES)
@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize("masked", [True, False])
def test_bytes_are_multiplied_exactly(isa: str, tokens: int, masked: bool) -> None:
    for n, k, zeros in SHAPES:
        matrix = numbers.row_bytes(drawn((n, k), zeros))
        one = numbers.RowBytes(values=matrix.values, scale=np.ones(n, np.float32))
        x, _ = numbers.token_bytes(drawn((tokens, k), 0.0, seed=1))
        found = run(
            packing.pack_bytes(one, masked=masked), x, isa=isa, scales=np.ones(tokens, np.float32)
        )
        wanted = (x.astype(np.int64) - 128) @ matrix.values.T.astype(np.int64)
        assert (found == wanted).all()


@pytest.mark.parametrize("isa", NAMES)
@pytest.mark.parametrize("group", [32, 64])
@pytest.mark.parametrize("masked", [True, False])
def test_four_bits_by_group(isa: str, group: int, masked: bool) -> None:
    for n, k, zeros in SHAPES:
        for tokens in (1, 4):
            matrix = numbers.group_nibbles(drawn((n, k), zeros), group=group, masked=masked)
            x, scales = numbers.token_bytes(drawn((tokens, k), 0.0, seed=1))
            packed = packing.pack_nibbles(matrix, masked=masked)
            found = run(packed, x, isa=isa, scales=scales)
            centred = (x.astype(np.float64) - 128) * scales[:, None].astype(np.float64)
            wanted = centred @ matrix.floats().T.astype(np.float64)
            # 128 is taken off in float32: an error of the sums before, not of their difference
            size = (np.abs(matrix.floats()).sum(1) * 256 * scales.max()).max(initial=1e-9)
            assert np.abs(found - wanted).max() <= 1e-6 * size


@pytest.mark.parametrize("isa", NAMES)
@pytest.mark.parametrize("masked", [True, False])
def test_floats_with_bias_and_sum(isa: str, masked: bool) -> None:
    for n, k, zeros in SHAPES:
        for tokens in (1, 4):
            weight, x = drawn((n, k), zeros), drawn((tokens, k), 0.0, seed=1)
            bias, start = drawn((1, n), 0.0, seed=2)[0], drawn((tokens, n), 0.0, seed=3)
            packed = packing.pack_floats(weight, bias=bias, masked=masked)
            found = run(packed, x, isa=isa, start=start)
            wanted = x.astype(np.float64) @ weight.T + bias + start
            size = np.abs(x.astype(np.float64)) @ np.abs(weight.T) + 4
            assert (np.abs(found - wanted) <= 1e-6 * size).all()


def test_scales_and_bias_of_bytes() -> None:
    weight, x = drawn((10, 96), 0.6), drawn((2, 96), 0.0, seed=1)
    bias = drawn((1, 10), 0.0, seed=2)[0]
    matrix = numbers.row_bytes(weight)
    bytes_, scales = numbers.token_bytes(x)
    packed = packing.pack_bytes(matrix, bias=bias, masked=True)
    found = run(packed, bytes_, isa=NAMES[0], scales=scales)
    wanted = ((bytes_.astype(np.float64) - 128) * scales[:, None]) @ matrix.floats().T + bias
    assert np.allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_stream_has_no_byte_for_a_zero() -> None:
    matrix = numbers.row_bytes(drawn((64, 576), 0.6))
    nonzero = int((matrix.values != 0).sum())
    packed = packing.pack_bytes(matrix, masked=True)
    assert len(packed.stream) == nonzero + 64 * 576 // 8 + 16 * packing.HEAD
