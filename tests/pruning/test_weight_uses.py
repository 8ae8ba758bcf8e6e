"""Uses of weights that do not call their module: cost, order, and what is said of doubtful ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from ws_learner.pruning.layers.table import layer_table
from ws_learner.pruning.layers.weight_kinds import layout_of
from ws_learner.search import collect_grams

TOKENS = torch.randn(3, 7, 8)


def macs(model: nn.Module, inputs: Tensor, **options: list[str]) -> dict[str, int]:
    return {row.name: row.macs for row in layer_table(model, inputs, **options)}


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_every_weight_of_an_encoder_layer_costs_its_products(
    batch_first: bool, training: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).train(training)
    inputs = TOKENS if batch_first else TOKENS[:1].transpose(0, 1)[:, :1].expand(7, 7, 8)
    steps = 7
    found = macs(model, inputs)
    assert list(found) == [
        f"layers.{i}.{name}"
        for i in range(2)
        for name in (
            "self_attn.in_proj_weight",
            "self_attn.out_proj.weight",
            "linear1.weight",
            "linear2.weight",
        )
    ]
    assert list(found.values()) == [steps * n for n in (3 * 64, 64, 128, 128)] * 2
    assert capsys.readouterr().err == ""
    assert model.training is training
    assert torch.backends.mha.get_fastpath_enabled()


class Reader(nn.Module):
    """Uses the weight of a Linear in a way of its own."""

    def __init__(self, use: Callable[[nn.Linear, Tensor], Tensor]) -> None:
        super().__init__()
        self.own, self.use = nn.Linear(8, 5), use

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self.own, x)


WAYS: dict[str, Callable[[nn.Linear, Tensor], Tensor]] = {
    "linear": lambda m, x: functional.linear(x, m.weight, m.bias),
    "slices": lambda m, x: torch.cat(
        [functional.linear(x, w) for w in torch.split(m.weight, [2, 3])], -1
    ),
    "matmul": lambda m, x: x @ m.weight.T,
    "from the left": lambda m, x: m.weight @ x.mT,
    "mm": lambda m, x: torch.mm(x.reshape(-1, 8), m.weight.t()),
    "addmm": lambda m, x: torch.addmm(m.bias, x.reshape(-1, 8), m.weight.t()),
    "einsum": lambda m, x: torch.einsum("bti,oi->bto", x, m.weight),
    "a copy": lambda m, x: functional.linear(x.double(), m.weight.double()),
    "bmm": lambda m, x: torch.bmm(x, m.weight.t().expand(len(x), 8, 5)),
    "conv1d": lambda m, x: functional.conv1d(x.mT, m.weight[..., None]),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_use_without_a_call_costs_what_a_call_costs(
    way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert macs(Reader(WAYS[way]), TOKENS) == {"own.weight": 7 * 8 * 5}
    assert capsys.readouterr().err == ""


def test_calls_and_other_uses_add_up() -> None:
    model = Reader(lambda m, x: m(x) + functional.linear(x, m.weight))
    assert macs(model, TOKENS) == {"own.weight": 2 * 7 * 8 * 5}


def test_uses_without_a_call_stand_in_their_order() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(functional.linear(x, self.first.weight))
            return out

    assert list(macs(Net(), TOKENS)) == ["first.weight", "last.weight"]


@pytest.mark.parametrize(
    ("equation", "shape", "axes"),
    [
        ("bti,eio->beto", (4, 8, 5), "eio"),
        ("bti,eoi->beto", (4, 5, 8), "eoi"),
    ],
)
def test_a_stack_of_experts_is_listed_with_the_layout_its_use_shows(
    equation: str, shape: tuple[int, ...], axes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stack = nn.Parameter(torch.randn(shape))

        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum(equation, x, self.stack)

    model = Mixture()
    (row,) = layer_table(model, TOKENS)
    assert (row.name, row.kind, row.macs) == ("stack", "experts", 4 * 7 * 8 * 5)
    assert layout_of(model, "stack").axes == axes
    assert layout_of(model, "stack").groups == 4
    assert capsys.readouterr().err == ""


def test_only_the_experts_that_work_cost_anything() -> None:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.Parameter(torch.randn(4, 8, 5))

        def forward(self, x: Tensor) -> Tensor:
            chosen = self.experts[torch.tensor([2, 0])]  # for two of three examples
            return torch.bmm(x[:2], chosen)

    (row,) = layer_table(Mixture(), TOKENS)
    assert row.macs == round(2 * 7 * 8 * 5 / 3)
    assert row.kind == "experts"


def test_a_grouped_product_gives_each_expert_its_rows() -> None:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stack = nn.Parameter(torch.randn(3, 16, 8))  # experts, outputs, inputs

        def forward(self, x: Tensor) -> Tensor:
            ends = torch.tensor([5, 5, 21], dtype=torch.int32)
            return functional.grouped_mm(x.reshape(-1, 8), self.stack.mT, offs=ends)

    model = Mixture()
    (row,) = layer_table(model, TOKENS)
    assert row.macs == 21 * 8 * 16 / 3
    assert layout_of(model, "stack").axes == "eoi"
    (gram,) = collect_grams(model, [TOKENS], layers=[row], seed=0)
    rows = TOKENS.reshape(-1, 8)
    torch.testing.assert_close(gram[0] * 21, rows[:5].T @ rows[:5])
    torch.testing.assert_close(gram[2] * 21, rows[5:].T @ rows[5:])


# ---- what does not hold is said


class Scaled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight - self.weight.mean(), self.bias)


class Elsewhere(nn.Linear):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.other = nn.Parameter(torch.randn(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.other, self.bias)


class Swapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        fresh = {"weight": self.inner.weight * 2 + 1}
        out: Tensor = functional_call(self.inner, fresh, x)
        return out


@pytest.mark.parametrize("layer", [Scaled(8, 5), Elsewhere(8, 5), Swapped()])
def test_a_weight_that_is_changed_before_its_use_is_said(
    layer: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    (row, *_) = layer_table(nn.Sequential(layer), TOKENS)
    assert row.macs == 7 * 8 * 5
    said = capsys.readouterr().err
    assert row.name in said
    assert "macs_kept" in said


def test_a_weight_that_is_used_as_it_is_is_not_said_to_change(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Plain(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.float()).relu()

    model = nn.Sequential(
        Plain(8, 5), nn.Conv1d(7, 2, 3, padding="same", padding_mode="circular"), nn.Conv1d(2, 2, 1)
    )
    layer_table(model, TOKENS)
    assert capsys.readouterr().err == ""


def test_a_branch_that_is_not_taken_is_said_and_listed_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.training_only, self.always = nn.Linear(8, 5), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.always(x)
            return out + self.training_only(x) if self.training else out

    assert macs(Branches().train(), TOKENS) == {"always.weight": 280, "training_only.weight": 0}
    assert "training_only.weight" in capsys.readouterr().err


def test_weights_that_are_joined_are_not_said_to_be_unused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.out = nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            both = functional.linear(x, torch.cat([self.q.weight, self.k.weight]))
            out: Tensor = self.out(both)
            return out

    assert macs(Joined(), TOKENS) == {"out.weight": 112, "q.weight": 0, "k.weight": 0}
    said = capsys.readouterr().err
    assert "reads q.weight, k.weight, but in no product that can be followed" in said
    assert "does not use" not in said


class Gated(nn.Linear):
    """A gated linear unit: half of the outputs are left."""

    def forward(self, x: Tensor) -> Tensor:
        own, gate = functional.linear(torch.tanh(x), self.weight, self.bias).chunk(2, -1)
        return own * gate.sigmoid()


class Twice(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.tanh(super().forward(x)))


class Pooled(nn.Conv2d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(torch.tanh(x), weight, bias).amax((2, 3))


def pooled_by_a_hook() -> nn.Module:
    layer = nn.Conv2d(2, 8, 3)
    layer.register_forward_hook(lambda module, args, output: output.amax((2, 3)))
    return layer


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: Gated(8, 16), (5, 8)),
        (lambda: Gated(8, 16), (5, 3, 8)),
        (lambda: Twice(8, 8), (5, 8)),
        (lambda: Pooled(2, 8, 3), (5, 2, 6, 6)),
        (pooled_by_a_hook, (5, 2, 6, 6)),
    ],
)
def test_a_layer_with_a_forward_of_its_own_costs_its_products(
    layer: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    model, x = nn.Sequential(layer(), nn.Linear(8, 3)), torch.randn(shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    found = macs(model, x)
    assert list(found) == ["0.weight", "1.weight"]
    assert sum(found.values()) == counter.get_total_flops() / 2 / len(x)


def test_a_forward_of_its_own_is_judged_by_what_its_weight_meets() -> None:
    torch.manual_seed(0)
    x = 3 * torch.randn(64, 8)
    model = nn.Sequential(Gated(8, 16))
    (gram,) = collect_grams(model, [x], layers=layer_table(model, x), seed=0)
    met = torch.tanh(x)
    torch.testing.assert_close(gram[0], met.mT @ met / 64)
    images = 3 * torch.randn(64, 2, 6, 6)
    convolution = nn.Sequential(Pooled(2, 8, 3))
    rows = layer_table(convolution, images)
    (gram,) = collect_grams(convolution, [images], layers=rows, seed=0, positions=16)
    met = functional.unfold(torch.tanh(images), 3).transpose(1, 2).reshape(-1, 18)
    torch.testing.assert_close(gram[0], met.mT @ met / len(met))
