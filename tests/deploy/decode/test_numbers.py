"""Rounding of weights and activations."""

from __future__ import annotations

import numpy as np
import pytest

from ws_learner.deploy.decode import numbers


def test_row_bytes_are_within_half_a_step() -> None:
    weight = np.random.default_rng(0).standard_normal((9, 50)).astype(np.float32)
    weight[3] = 0
    found = numbers.row_bytes(weight)
    assert (np.abs(found.floats() - weight) <= 0.5001 * found.scale[:, None]).all()
    assert (np.abs(found.values).max(axis=1) == np.where(np.arange(9) == 3, 0, 127)).all()


def test_token_bytes_are_within_half_a_step_whatever_other_tokens_are() -> None:
    draw = np.random.default_rng(1)
    x = draw.standard_normal((5, 64)).astype(np.float32) * np.float32(
        [[1e-6], [1], [3], [1e5], [0]]
    )
    bytes_, scale = numbers.token_bytes(x)
    back = (bytes_.astype(np.float32) - 128) * scale[:, None]
    assert (np.abs(back - x) <= 0.501 * scale[:, None]).all()
    alone, own = numbers.token_bytes(x[1:2])
    assert (alone[0] == bytes_[1]).all()
    assert own[0] == scale[1]


@pytest.mark.parametrize("group", [32, 64])
def test_nibbles_fit_better_than_even_steps(group: int) -> None:
    """Lloyd's levels have a smaller squared error than 15 even steps of the same groups."""
    draw = np.random.default_rng(2)
    weight = draw.standard_normal((32, 256)).astype(np.float32)
    weight[np.abs(weight) < 0.84] = 0  # 60 % zeros, by magnitude
    found = numbers.group_nibbles(weight, group=group)
    assert (found.mask == (weight != 0)).all()
    assert (found.floats()[weight == 0] == 0).all()
    step = np.abs(weight.reshape(32, -1, group)).max(axis=2, keepdims=True) / 7
    even = (np.rint(weight.reshape(32, -1, group) / step) * step).reshape(32, -1)
    assert ((found.floats() - weight) ** 2).sum() < 0.5 * ((even - weight) ** 2).sum()


def test_dense_nibbles_have_a_zero() -> None:
    weight = np.random.default_rng(3).standard_normal((4, 64)).astype(np.float32)
    weight[:, ::3] = 0
    found = numbers.group_nibbles(weight, masked=False)
    assert found.mask.all()
    assert (found.floats()[:, ::3] == 0).all()


def test_wide_scale_repeats_its_bits() -> None:
    narrow = np.array([0x3F80, 0x0000, 0x4123], np.uint16)
    bits = numbers.wide_scale(narrow).view(np.uint32)
    assert list(bits) == [0x3F803F80, 0, 0x41234123]
