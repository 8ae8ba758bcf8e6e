"""Gram matrices of weights that are used without a call, and of layers that see no input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from ws_learner.config import WeightSparseConfig
from ws_learner.pruning.layers.table import layer_table
from ws_learner.search.bounds import layer_bounds
from ws_learner.search.context import allocation_context
from ws_learner.search.knapsack import knapsack
from ws_learner.search.rollout.gram import collect_grams
from ws_learner.search.rollout.layer_database import LayerDatabase


def grams_of(model: nn.Module, *batches: Tensor, pad_id: int | None = None) -> dict[str, Tensor]:
    rows = layer_table(model, batches[0])
    found = collect_grams(model, batches, layers=rows, seed=0, pad_id=pad_id)
    return {row.name: gram for row, gram in zip(rows, found, strict=True)}


def gram(vectors: Tensor) -> Tensor:
    """(D, D) mean product of the inputs, by hand."""
    rows = vectors.double().reshape(-1, vectors.shape[-1])
    return (rows.T @ rows / len(rows)).float()


class Attends(nn.Module):
    """Cross-attention, with the inputs of its projections by hand."""

    def __init__(self, **options: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, bias=False, batch_first=True, **options)
        self.memory: Tensor

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attention(x, self.memory, self.memory)[0]
        return out


@torch.no_grad()
def test_packed_projections_and_output_of_an_attention() -> None:
    torch.manual_seed(0)
    model = Attends().eval()
    x, model.memory = torch.randn(3, 5, 8), torch.randn(3, 6, 8)
    found = grams_of(model, x)
    whole = found["attention.in_proj_weight"]
    assert whole.shape == (3, 8, 8)
    rows = 3 * 5 + 3 * 6  # of both uses
    torch.testing.assert_close(whole[0], gram(x) * 15 / rows)
    torch.testing.assert_close(whole[1], gram(model.memory) * 18 / rows)
    torch.testing.assert_close(whole[2], whole[1])
    q, k, v = (
        (inputs @ part.T).reshape(3, -1, 2, 4).transpose(1, 2)
        for inputs, part in zip(
            (x, model.memory, model.memory), model.attention.in_proj_weight.chunk(3), strict=True
        )
    )
    heads = (q @ k.mT / 2).softmax(-1) @ v
    torch.testing.assert_close(
        found["attention.out_proj.weight"][0], gram(heads.transpose(1, 2).flatten(2))
    )


def test_projections_of_keys_and_values_of_other_widths() -> None:
    torch.manual_seed(0)
    model = Attends(kdim=4, vdim=4).eval()
    x, model.memory = torch.randn(3, 5, 8), torch.randn(3, 6, 4)
    found = grams_of(model, x)
    torch.testing.assert_close(found["attention.q_proj_weight"][0], gram(x))
    torch.testing.assert_close(found["attention.k_proj_weight"][0], gram(model.memory))
    torch.testing.assert_close(found["attention.v_proj_weight"][0], gram(model.memory))


def test_padding_does_not_count_inside_an_attention() -> None:
    class Sentences(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(20, 8)
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

        def forward(self, ids: Tensor) -> Tensor:
            out: Tensor = self.layer(self.words(ids), src_key_padding_mask=ids == 0)
            return out

    torch.manual_seed(0)
    model = Sentences().eval()
    long, short = torch.randint(1, 20, (1, 6)), torch.randint(1, 20, (1, 4))
    apart = grams_of(model, long, short)
    padded = torch.cat([long, functional.pad(short, (0, 2))])
    together = grams_of(model, padded, pad_id=0)
    for name, matrix in apart.items():
        torch.testing.assert_close(together[name], matrix, msg=name)


def test_two_layers_that_share_a_weight_both_count() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False))
    model[2].weight = model[0].weight
    x = torch.randn(9, 4)
    with torch.no_grad():
        expected = gram(torch.stack([x, model[:2](x)]))
    torch.testing.assert_close(grams_of(model, x)["0.weight"][0], expected)


def test_a_use_along_the_outputs_is_said_not_to_count(capsys: pytest.CaptureFixture[str]) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.code = nn.Linear(4, 3, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return functional.linear(self.code(x), self.code.weight.T)

    x = torch.randn(9, 4)
    (row,) = layer_table(Tied(), x)
    assert row.macs == 2 * 12
    (found,) = collect_grams(Tied(), [x], layers=[row], seed=0)
    torch.testing.assert_close(found[0], gram(x))
    assert "code.weight: used in other ways too" in capsys.readouterr().err


def test_each_expert_counts_the_inputs_that_reach_it_and_idle_ones_are_not_free() -> None:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.Parameter(torch.randn(3, 4, 5))

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x[:2] @ self.experts[0], x[2:] @ self.experts[1]])

    x = torch.randn(6, 4)
    (found,) = grams_of(Mixture(), x).values()
    torch.testing.assert_close(found[0], gram(x[:2]) * 2 / 6)
    torch.testing.assert_close(found[1], gram(x[2:]) * 4 / 6)
    level = (found[0].trace() + found[1].trace()) / 8
    torch.testing.assert_close(found[2], level * torch.eye(4))


# ---- recurrent networks, against a loop over steps of the cell


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("project", [0, 3])
def test_recurrent_weights_see_inputs_and_earlier_states(
    kind: str, packed: bool, project: int
) -> None:
    if project and kind != "LSTM":
        pytest.skip("only an LSTM has projections")
    torch.manual_seed(0)
    options = {"proj_size": project} if project else {}
    network = getattr(nn, kind)(4, 5, num_layers=2, bidirectional=True, batch_first=True, **options)
    lengths = [3, 6, 4] if packed else [6, 6, 6]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network

        def forward(self, x: Tensor) -> Tensor:
            given = (
                pack_padded_sequence(x, lengths[: len(x)], batch_first=True, enforce_sorted=False)
                if packed
                else x
            )
            out: Tensor = self.net(given)[0]
            return out.data if packed else out

    x = torch.randn(3, 6, 4)
    found = grams_of(Net().eval(), x)
    seen: dict[str, list[Tensor]] = {}
    sequences = [x[i, :n] for i, n in enumerate(lengths)]
    for layer in range(2):
        both = []
        for end, step in (("", 1), ("_reverse", -1)):
            name = f"l{layer}{end}"
            outs = []
            for sequence in sequences:
                hidden, cell, states = torch.zeros(project or 5), torch.zeros(5), []
                for vector in sequence[::step] if step > 0 else sequence.flip(0):
                    seen.setdefault(f"net.weight_ih_{name}", []).append(vector)
                    seen.setdefault(f"net.weight_hh_{name}", []).append(hidden)
                    wide, cell = _step(network, name, vector, hidden, cell)
                    hidden = wide
                    if project:
                        seen.setdefault(f"net.weight_hr_{name}", []).append(wide)
                        hidden = getattr(network, f"weight_hr_{name}") @ wide
                    states.append(hidden)
                outs.append(torch.stack(states if step > 0 else states[::-1]))
            both.append(outs)
        sequences = [torch.cat(pair, -1) for pair in zip(*both, strict=True)]
    assert found.keys() == seen.keys()
    for name, vectors in seen.items():
        expected = gram(torch.stack(vectors).detach())
        torch.testing.assert_close(found[name][0], expected, msg=name, rtol=1e-4, atol=1e-6)


def _step(network: nn.RNNBase, name: str, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of the formulas in PyTorch's documentation: hidden state, cell state."""
    a = getattr(network, f"weight_ih_{name}") @ x + getattr(network, f"bias_ih_{name}")
    b = getattr(network, f"weight_hh_{name}") @ h + getattr(network, f"bias_hh_{name}")
    if isinstance(network, nn.LSTM):
        i, f, g, o = (a + b).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c
    if isinstance(network, nn.GRU):
        (ar, az, an), (br, bz, bn) = a.chunk(3), b.chunk(3)
        z, n = (az + bz).sigmoid(), (an + (ar + br).sigmoid() * bn).tanh()
        return (1 - z) * n + z * h, c
    return (a + b).tanh(), c


# ---- no input at all


class Branches(nn.Module):
    """Has a layer that only training uses."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.aside, self.one, self.two = (nn.Linear(8, 8, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.two(self.one(x))
        return out + self.aside(x) if self.training else out


@pytest.mark.parametrize("pattern", [None, "n:4"])
def test_a_layer_without_input_is_held_at_the_common_ratio(
    pattern: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Branches().eval()
    x = torch.randn(16, 8)
    rows = layer_table(model, x)
    database = LayerDatabase.open(
        model, lambda: [x], layers=rows, levels=(0.0, 0.25, 0.5, 0.75, 0.9, 1.0), seed=0,
        facts={}, cache_dir=None,
    )  # fmt: skip
    assert "aside.weight" in capsys.readouterr().err
    ratios, curves = database.curves()
    (unused,) = [i for i, row in enumerate(rows) if row.name == "aside.weight"]
    squares = model.aside.weight.detach().flatten().square().sort().values.double()
    pruned = [float(squares[: round(r * 64)].sum() / squares.sum()) for r in ratios]
    assert curves[unused].tolist() == pytest.approx(pruned, rel=1e-5)
    extra: dict[str, Any] = {"ws_method": "srste", "ws_pattern": pattern} if pattern else {}
    config = WeightSparseConfig(ws_prune_ratio=0.5, ws_ratio_bounds="wide", **extra)
    context = allocation_context(model, rows, config, curves=database.curves)
    zeros = knapsack(context)
    assert zeros[unused] == 32
    assert zeros.sum() == 96
    assert layer_bounds(rows, config)[0][unused] == 32
