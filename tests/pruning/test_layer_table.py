"""The layer table: what is listed, in which order, at what cost, and that the model stays as is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ws_learner.core.errors import UserError
from ws_learner.pruning.layers.table import layer_table, modules_by_weight, parameter_of


class Net(nn.Module):
    """Defines its modules in another order than it uses them; `spare` is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(3, 3)
        self.fc = nn.Linear(8, 5)
        self.inner = nn.Sequential(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(self.inner(self.stem(x)).mean((2, 3))))  # type: ignore[no-any-return]


IMAGES = torch.randn(2, 3, 6, 6)


def names(model: nn.Module, inputs: Tensor, **options: Any) -> list[str]:
    return [row.name for row in layer_table(model, inputs, **options)]


# ---- order and contents


def test_rows_come_in_forward_order_and_an_unused_layer_last_with_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = layer_table(Net(), IMAGES)
    assert [(row.name, row.kind, row.role, row.shape, row.weights, row.macs) for row in rows] == [
        ("stem.weight", "conv2d", "conv", (4, 3, 3, 3), 108, 108 * 36),
        ("inner.0.weight", "conv2d", "conv", (8, 4, 1, 1), 32, 32 * 36),
        ("fc.weight", "linear", "head", (5, 8), 40, 40),
        ("spare.weight", "linear", "ff", (3, 3), 9, 0),
    ]
    warning = capsys.readouterr().err
    assert "spare.weight" in warning
    assert "fc.weight" not in warning


def test_an_unused_layer_that_is_excluded_is_not_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    layer_table(Net(), IMAGES, exclude=["spare"])
    assert capsys.readouterr().err == ""


def test_a_linear_before_the_last_convolution_is_not_the_head() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Conv1d(3, 2, 1))
    assert [row.role for row in layer_table(model, torch.randn(1, 3, 6))] == ["ff", "conv"]


def test_a_model_that_is_itself_one_layer_is_listed() -> None:
    model = nn.Linear(4, 2)
    (row,) = layer_table(model, torch.randn(3, 4))
    assert (row.name, row.role, row.macs) == ("weight", "head", 8)
    assert modules_by_weight(model, [row]) == {"weight": model}


def test_subclasses_are_listed_by_the_kind_of_their_base() -> None:
    class Mine(nn.Conv2d):
        pass

    (row,) = layer_table(nn.Sequential(Mine(3, 4, 3)), IMAGES)
    assert row.kind == "conv2d"


# ---- cost


def positions(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Count by hand where the kernel fits."""
    return sum(
        start + dilation * (kernel - 1) < size + 2 * padding
        for start in range(0, size + 2 * padding, stride)
    )


@settings(max_examples=40, deadline=None)
@given(
    dims=st.sampled_from([1, 2]),
    groups=st.integers(1, 4),
    multiple=st.integers(1, 3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    batch=st.integers(1, 3),
)
def test_macs_of_any_convolution_are_those_counted_by_hand(
    dims: int,
    groups: int,
    multiple: int,
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
    batch: int,
) -> None:
    build: Any = nn.Conv1d if dims == 1 else nn.Conv2d
    inputs, outputs, size = groups * multiple, groups * 2, 7
    conv = build(inputs, outputs, kernel, stride, padding, dilation, groups)
    (row,) = layer_table(nn.Sequential(conv), torch.randn(batch, inputs, *[size] * dims))
    products = 0
    for _ in range(outputs):
        taps = multiple * kernel**dims
        products += taps * positions(size, kernel, stride, padding, dilation) ** dims
    assert row.macs == products
    assert row.weights == outputs * multiple * kernel**dims


def test_depthwise_costs_one_tap_per_kernel_position() -> None:
    (row,) = layer_table(nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1, groups=3)), IMAGES)
    assert (row.shape, row.macs) == ((3, 1, 3, 3), 3 * 9 * 3 * 3)


def test_a_linear_over_a_sequence_costs_every_position() -> None:
    (row,) = layer_table(nn.Sequential(nn.Linear(5, 4)), torch.randn(3, 7, 5))
    assert row.macs == 7 * 5 * 4


def test_a_module_called_twice_costs_twice_and_stands_at_its_first_call() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), nn.Linear(4, 4), shared)
    rows = layer_table(model, torch.randn(2, 4))
    assert [(row.name, row.macs) for row in rows] == [("0.weight", 32), ("2.weight", 16)]
    assert rows[0].role == "head"


# ---- tied weights


def test_tied_weights_have_one_row_with_the_cost_of_both() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    (row,) = layer_table(model, torch.randn(2, 4))
    assert (row.name, row.weights, row.macs) == ("0.weight", 16, 32)
    assert names(model, torch.randn(2, 4), include=["2"]) == ["0.weight"]


# ---- patterns


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"include": ["stem"]}, ["stem.weight"]),
        ({"include": ["stem.weight", "f?"]}, ["stem.weight", "fc.weight"]),
        ({"include": ["inner*"]}, ["inner.0.weight"]),
        ({"exclude": ["fc", "spare"]}, ["stem.weight", "inner.0.weight"]),
        ({"include": ["s*"], "exclude": ["spare"]}, ["stem.weight"]),
    ],
)
def test_patterns_choose_by_parameter_or_module_name(
    options: dict[str, Any], expected: list[str]
) -> None:
    assert names(Net(), IMAGES, **options) == expected


def test_exempt_marks_rows_and_keeps_them() -> None:
    rows = layer_table(Net(), IMAGES, exempt=["stem", "fc.weight"])
    assert [row.name for row in rows if row.exempt] == ["stem.weight", "fc.weight"]
    assert len(rows) == 4


@pytest.mark.parametrize("option", ["include", "exclude", "exempt"])
def test_a_pattern_without_a_match_is_an_error_with_the_nearest_name(option: str) -> None:
    with pytest.raises(UserError, match=rf"`{option}` 'stemm': .*'stem'"):
        layer_table(Net(), IMAGES, **{option: ["stemm"]})


def test_the_nearest_name_of_a_glob_is_a_glob() -> None:
    with pytest.raises(UserError, match=r"'iner\*': .*'inner\.\*'"):
        layer_table(Net(), IMAGES, include=["iner*"])


def test_nothing_left_says_what_was_looked_at_and_which_patterns() -> None:
    with pytest.raises(UserError, match=r"fc \(Linear\).*stem \(Conv2d\).*`exclude`: \*"):
        layer_table(Net(), IMAGES, exclude=["*"])


def test_a_network_without_prunable_layers_is_an_error_that_names_what_it_has() -> None:
    model = nn.Sequential(nn.LayerNorm(3))
    with pytest.raises(UserError, match=r"Linear.* in 0 \(LayerNorm\); `include`: \*"):
        layer_table(model, torch.randn(2, 5, 3))


def test_a_computed_weight_is_left_out_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    model = nn.Sequential(normed, nn.Linear(4, 2))
    assert names(model, torch.randn(2, 4)) == ["1.weight"]
    assert "0 is left out" in capsys.readouterr().err


def test_a_lazy_layer_is_an_error() -> None:
    with pytest.raises(UserError, match=r"'0'.*lazy"):
        layer_table(nn.Sequential(nn.LazyLinear(4)), torch.randn(2, 4))


# ---- the model is left as it was


class Restless(nn.Module):
    """Changes its buffers and draws random numbers in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.norm = nn.BatchNorm2d(3)
        self.loose = nn.BatchNorm2d(3, track_running_stats=False)
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(1), persistent=False)
        self.register_buffer("last", None)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = x
        noise = torch.rand(())
        return self.net(self.loose(self.norm(x))) + noise  # type: ignore[no-any-return]


def test_state_flags_hooks_gradients_and_random_state_are_restored() -> None:
    model = Restless().train()
    model.net.inner.eval()
    flags = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    calls, random = model.calls, torch.get_rng_state()
    layer_table(model, IMAGES)
    assert [module.training for module in model.modules()] == flags
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.calls is calls
    assert calls.item() == 0
    assert model.last is None
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_failing_forward_pass_leaves_no_hook_and_no_changed_flag() -> None:
    model = Net().train()
    with pytest.raises(UserError, match=r"fails on the first training examples.*3 channels"):
        layer_table(model, torch.randn(2, 5, 6, 6))
    assert not any(module._forward_hooks for module in model.modules())
    assert all(module.training for module in model.modules())


# ---- look-ups by name


def test_rows_lead_back_to_parameters_and_modules() -> None:
    model = Net()
    rows = layer_table(model, IMAGES)
    modules = modules_by_weight(model, rows)
    assert list(modules) == [row.name for row in rows]
    assert modules["inner.0.weight"] is model.inner[0]
    assert all(parameter_of(model, name) is modules[name].weight for name in modules)


@pytest.mark.parametrize("name", ["stem.wieght", "stam.weight", "drop", ""])
def test_an_unknown_parameter_is_an_error_with_the_nearest_name(name: str) -> None:
    with pytest.raises(UserError, match=rf"layer '{name}': no such parameter; the nearest is '"):
        parameter_of(Net(), name)


def test_modules_by_weight_refuses_a_table_of_another_network() -> None:
    rows = layer_table(Net(), IMAGES)
    with pytest.raises(UserError, match=r"stem\.weight"):
        modules_by_weight(nn.Sequential(nn.Linear(4, 2)), rows)
