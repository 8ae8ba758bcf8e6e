"""Weights that are not stored outputs first: layouts, masks and what refuses them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.support.conv1d_of_transformers import Conv1D
from ws_learner.core.errors import UserError
from ws_learner.pruning import GradualConfig, MovementConfig, Sparsifier, SrSteConfig
from ws_learner.pruning.layers.layer_plan import build_pattern_plan, fitting_rows
from ws_learner.pruning.layers.table import layer_table
from ws_learner.pruning.layers.weight_kinds import layout_of, name_layout
from ws_learner.pruning.patterns.layout import Layout
from ws_learner.pruning.patterns.pattern import parse_pattern


def mask_of(module: nn.Module, pattern: str, zeros: int, name: str = "weight") -> Tensor:
    plan = build_pattern_plan(module, [name], pattern=parse_pattern(pattern))
    counts = plan.snap({name: zeros})
    return plan.masks({name: module.get_parameter(name).detach().abs()}, counts)[name]


PATTERNS = ["2:4", "1:4", "n:4", "4x1", "2x3", "1xchannel", "channelx1", "2:4@ff", "unstructured"]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("share", [0.3, 0.5])
def test_conv1d_of_transformers_has_the_transposed_mask_of_a_linear(
    pattern: str, share: float
) -> None:
    torch.manual_seed(0)
    turned = Conv1D(10, 12)
    plain = nn.Linear(12, 10)
    plain.weight.data.copy_(turned.weight.T)
    wanted = mask_of(plain, pattern, round(share * 120))
    found = mask_of(turned, pattern, round(share * 120))
    assert torch.equal(found.T, wanted)
    assert found.shape == turned.weight.shape


@pytest.mark.parametrize("pattern", PATTERNS[:-2])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_has_the_mask_of_the_convolution_with_its_weight(
    pattern: str, groups: int
) -> None:
    torch.manual_seed(0)
    turned = nn.ConvTranspose2d(8, 12, (2, 3), groups=groups)
    plain = nn.Conv2d(8, 12, (2, 3), groups=groups)
    inputs, outputs = 8 // groups, 12 // groups
    for group in range(groups):
        own = turned.weight.data[group * inputs : (group + 1) * inputs]  # (I, O, 2, 3)
        plain.weight.data[group * outputs : (group + 1) * outputs] = own.transpose(0, 1)
    zeros = turned.weight.numel() // 2
    wanted, found = mask_of(plain, pattern, zeros), mask_of(turned, pattern, zeros)
    for group in range(groups):
        own = found[group * inputs : (group + 1) * inputs]
        part = wanted[group * outputs : (group + 1) * outputs]
        assert torch.equal(own.transpose(0, 1), part)


@pytest.mark.parametrize("pattern", PATTERNS[:-2])
@pytest.mark.parametrize("axes", ["experts inputs outputs", "experts outputs inputs"])
def test_a_stack_has_the_masks_of_its_matrices_below_each_other(pattern: str, axes: str) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, 6, 8)  # (E, O, I)
    plain = nn.Linear(8, 18)
    plain.weight.data.copy_(matrices.reshape(18, 8))
    model = nn.Module()
    inside_first = axes.endswith("outputs")
    model.stack = nn.Parameter((matrices.mT if inside_first else matrices).contiguous())
    name_layout(model, "stack", axes)
    wanted = mask_of(plain, pattern, 72).reshape(3, 6, 8)
    found = mask_of(model, pattern, 72, "stack")
    assert torch.equal(found.mT if inside_first else found, wanted)


@settings(max_examples=30, deadline=None)
@given(
    axes=st.sampled_from(["oi", "io", "eoi", "eio"]),
    sizes=st.tuples(*[st.integers(1, 3)] * 4),
    taps=st.integers(1, 3),
)
def test_rows_of_places_are_where_rows_puts_them(
    axes: str, sizes: tuple[int, ...], taps: int
) -> None:
    groups, outputs, inputs, _ = sizes
    stacked = axes.startswith("e")
    kernel = () if stacked else (taps, 2)
    shape = {
        "oi": (groups * outputs, inputs, *kernel),
        "io": (groups * inputs, outputs, *kernel),
        "eoi": (groups, outputs, inputs),
        "eio": (groups, inputs, outputs),
    }[axes]
    layout = Layout(axes, groups)
    index = torch.arange(int(torch.tensor(shape).prod())).reshape(shape)
    matrix = layout.rows(index)
    assert layout.shape(shape) == (groups * outputs, inputs, *kernel)
    assert torch.equal(layout.stored(matrix, shape), index)
    rows, columns = layout.place(matrix.reshape(groups * outputs, -1), shape)
    assert torch.equal(rows, torch.arange(groups * outputs)[:, None].expand_as(rows))
    assert torch.equal(columns, torch.arange(columns.shape[1]).expand_as(columns))


# ---- methods


def train(model: nn.Module, config: Any, **given: Any) -> nn.Module:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    sparsifier = Sparsifier(model, config, total_steps=12, **given)
    sparsifier.attach(optimizer)
    for step in range(12):
        torch.manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(4, 3, 8)).square().mean().backward()
        optimizer.step()
    return sparsifier.finalize()


def test_nm_training_and_gradual_pruning_keep_n_of_m_inputs_of_a_conv1d() -> None:
    for config in (
        SrSteConfig(pattern=parse_pattern("2:4")),
        GradualConfig(pattern=parse_pattern("2:4"), mask_update_step=1),
    ):
        torch.manual_seed(0)
        model = train(Conv1D(6, 8), config, ratios={"weight": 0.5})
        kept = model.get_parameter("weight").ne(0).reshape(2, 4, 6).sum(1)  # groups of inputs
        assert (kept == 2).all()


@pytest.mark.parametrize("config", [SrSteConfig, MovementConfig])
def test_a_method_that_cannot_train_a_layout_refuses_at_once(config: Any) -> None:
    model = nn.ConvTranspose2d(8, 12, 2)
    spelled = "2:4" if config is SrSteConfig else "4x1"
    with pytest.raises(UserError, match=r"weight of shape .* has inputs outputs.*gradual"):
        Sparsifier(
            model,
            config(pattern=parse_pattern(spelled)),
            ratios={"weight": 0.5},
            total_steps=400,
        )
    rows = layer_table(model, torch.randn(1, 8, 3, 3))
    method = "srste" if config is SrSteConfig else "movement"
    with pytest.raises(UserError, match=f"`method` {method}|{method} needs"):
        fitting_rows(model, rows, pattern=parse_pattern(spelled), remainder="pad", method=method)


def test_a_pattern_on_a_stack_of_unknown_layout_is_refused_and_on_a_matrix_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = nn.Module()
    model.unknown_stack = nn.Parameter(torch.randn(2, 4, 4))
    model.unknown_matrix = nn.Parameter(torch.randn(4, 4))
    pattern = parse_pattern("2:4")
    with pytest.raises(UserError, match=r"unknown_stack.*name_layout"):
        build_pattern_plan(model, ["unknown_stack"], pattern=pattern)
    build_pattern_plan(model, ["unknown_matrix"], pattern=pattern)
    assert "unknown_matrix" in capsys.readouterr().err
    name_layout(model, "unknown_matrix", "inputs outputs")
    assert layout_of(model, "unknown_matrix") == Layout("io")
    build_pattern_plan(model, ["unknown_stack"], pattern=parse_pattern("unstructured"))


@pytest.mark.parametrize("axes", ["inputs", "outputs outputs", "experts inputs outputs", "o i"])
def test_axes_that_do_not_fit_are_refused(axes: str) -> None:
    model = nn.Module()
    model.matrix = nn.Parameter(torch.randn(4, 4))
    with pytest.raises(UserError, match="`axes`"):
        name_layout(model, "matrix", axes)
    with pytest.raises(UserError, match="`name`"):
        name_layout(model, "matrx", "inputs outputs")
