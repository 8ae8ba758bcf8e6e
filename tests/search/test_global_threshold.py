"""Global thresholds by counting, against a sort of all scores, for networks of every precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from envs import IntArray
from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError
from ws_learner.pruning import layer_table
from ws_learner.search import CLOSED_FORM, AllocationContext, allocation_context


def network(dtype: torch.dtype, seed: int, *, tied: bool) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(7, 9), nn.Linear(9, 5), nn.Linear(5, 3))
    for parameter in model.parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if tied:
            values = (values * 2).round() / 2
        parameter.data = values.to(dtype)
    return model


def context_of(model: nn.Module, share: float) -> AllocationContext:
    dtype = next(model.parameters()).dtype
    config = WeightSparseConfig(ws_prune_ratio=share)
    layers = layer_table(model, torch.ones(1, 7, dtype=dtype))
    return allocation_context(model, layers, config, curves=lambda: (np.zeros(0), np.zeros(0)))


def by_sort(scores: list[np.ndarray], context: AllocationContext) -> IntArray:
    """Sort the scores that the bounds leave open; equal ones go in the order of the layers."""
    counts = context.lower.copy()
    open_ = [
        (score, layer)
        for layer, own in enumerate(scores)
        for score in np.sort(own)[context.lower[layer] : context.upper[layer]]
    ]
    for _, layer in sorted(open_)[: context.budget - int(context.lower.sum())]:
        counts[layer] += 1
    return counts


def lamp_by_definition(weights: np.ndarray) -> np.ndarray:
    squares = np.sort(np.abs(weights)) ** 2
    sums = [
        sum(squares[: place - 1 if place else None : -1].tolist()) for place in range(squares.size)
    ]
    return np.array([s / t if t else 0.0 for s, t in zip(squares.tolist(), sums, strict=True)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@given(seed=st.integers(0, 1000), share=st.floats(0.01, 0.97), tied=st.booleans())
@settings(max_examples=15, deadline=None)
def test_both_thresholds_are_those_of_a_sort(
    dtype: torch.dtype, seed: int, share: float, tied: bool
) -> None:
    model = network(dtype, seed, tied=tied)
    context = context_of(model, share)
    weights = [model.get_parameter(row.name).detach().double().flatten() for row in context.layers]
    magnitudes = [weight.abs().numpy() for weight in weights]
    assert CLOSED_FORM["global"](context).tolist() == by_sort(magnitudes, context).tolist()
    scores = [lamp_by_definition(weight.numpy()) for weight in weights]
    assert CLOSED_FORM["lamp"](context).tolist() == by_sort(scores, context).tolist()


@pytest.mark.parametrize("protocol", ["global", "lamp"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_refused(protocol: str, value: float) -> None:
    model = network(torch.float32, 0, tied=False)
    with torch.no_grad():
        model.get_parameter("1.weight")[2, 3] = value
    with pytest.raises(UserError, match=r"1\.weight: a weight is NaN or infinite"):
        CLOSED_FORM[protocol](context_of(model, 0.5))
