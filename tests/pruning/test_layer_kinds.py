"""Kinds of layers beyond convolutions and Linear: what is listed, at what cost, what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.conv1d_of_transformers import TinyGpt
from ws_learner import prepare_pruning
from ws_learner.compat.lpot.plan import build_plans
from ws_learner.compat.lpot.schema import LpotConf, Pruner
from ws_learner.compat.neural_compressor.config import WeightPruningConfig
from ws_learner.core.errors import UserError
from ws_learner.pruning.layers.layer_plan import fitting_rows
from ws_learner.pruning.layers.prunable import default_names, unlisted_weights
from ws_learner.pruning.layers.table import layer_table
from ws_learner.pruning.patterns.pattern import parse_pattern
from ws_learner.report import layers_in_ratios

IDS = torch.randint(0, 40, (2, 5))


class Tagger(nn.Module):
    """Words, a recurrent network of two layers in both directions, and a head."""

    def __init__(self, kind: str, **options: int) -> None:
        super().__init__()
        self.words = nn.Embedding(40, 6)
        self.net = getattr(nn, kind)(6, 5, 2, bidirectional=True, batch_first=True, **options)
        self.head = nn.Linear(2 * (options.get("proj_size") or 5), 3)

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.head(self.net(self.words(ids))[0])
        return out


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(
    ("kind", "gates", "project"), [("LSTM", 4, 0), ("GRU", 3, 0), ("RNN", 1, 0), ("LSTM", 4, 2)]
)
def test_recurrent_weights_cost_gates_times_inputs_at_every_step(
    kind: str, gates: int, project: int, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Tagger(kind, **({"proj_size": project} if project else {}))
    rows = layer_table(model, IDS)
    state, steps = project or 5, 5
    wanted = {}
    for layer in (0, 1):
        for end in ("", "_reverse"):
            wanted[f"net.weight_ih_l{layer}{end}"] = gates * 5 * (6 if not layer else 2 * state)
            wanted[f"net.weight_hh_l{layer}{end}"] = gates * 5 * state
            if project:
                wanted[f"net.weight_hr_l{layer}{end}"] = project * 5
    wanted["head.weight"] = 3 * 2 * state
    assert {row.name: row.weights for row in rows} == wanted
    assert {row.name: row.macs for row in rows} == {n: steps * w for n, w in wanted.items()}
    assert {row.kind for row in rows} == {"recurrent", "linear"}
    held = sum(wanted.values())
    share = f"{100 * held / (held + 240):.1f} %"
    assert f"holds {share} of the matrix weights; not listed: words.weight" in (
        capsys.readouterr().err
    )
    assert unlisted_weights(model, [row.name for row in rows]) == {"words.weight": 240}


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_a_cell_costs_its_weights_at_every_call(kind: str) -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = getattr(nn, kind)(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            state: Any = None
            for vector in x.unbind(1):
                state = self.cell(vector, state)
            out: Tensor = state[0] if isinstance(state, tuple) else state
            return out

    rows = layer_table(Loop(), torch.randn(2, 7, 4))
    assert [row.name for row in rows] == ["cell.weight_ih", "cell.weight_hh"]
    assert [row.macs for row in rows] == [7 * row.weights for row in rows]


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_multiplies_every_input_by_a_slice(dims: int, groups: int) -> None:
    build = getattr(nn, f"ConvTranspose{dims}d")
    up = build(4, 6, 3, stride=2, padding=1, output_padding=1, groups=groups)
    (row,) = layer_table(nn.Sequential(up), torch.randn(2, 4, *[5] * dims))
    assert (row.kind, row.role) == (f"conv_transpose{dims}d", "conv")
    assert row.weights == 4 * 6 // groups * 3**dims
    assert row.macs == 4 * 5**dims * (6 // groups) * 3**dims
    assert row.fan == (6, 4 // groups)


def test_a_convolution_of_three_dimensions_is_listed() -> None:
    (row,) = layer_table(nn.Sequential(nn.Conv3d(2, 4, 3, groups=2)), torch.randn(1, 2, 5, 5, 5))
    assert (row.kind, row.weights, row.macs) == ("conv3d", 4 * 27, 4 * 27 * 27)


# ---- GPT-2


def test_blocks_of_gpt2_are_listed_and_the_tied_embedding_stays_dense(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = {row.name: row for row in layer_table(TinyGpt(), IDS)}
    assert list(rows) == [
        "h.0.attn.c_attn.weight",
        "h.0.attn.c_proj.weight",
        "h.0.mlp.c_fc.weight",
        "h.0.mlp.c_proj.weight",
        "lm_head.weight",
    ]
    assert [row.role for row in rows.values()] == ["qkv", "o", "ff", "ff", "head"]
    assert [row.macs for row in rows.values()] == [5 * n for n in (192, 64, 256, 256, 320)]
    assert [name for name, row in rows.items() if row.exempt] == ["lm_head.weight"]
    assert rows["h.0.attn.c_attn.weight"].fan == (24, 8)
    said = capsys.readouterr().err
    assert "lm_head.weight is shared with the embedding wte.weight and stays dense" in said
    assert f"holds {100 * 1088 / 1168:.1f} % of the matrix weights; not listed: wpe.weight" in said


@pytest.mark.parametrize("name", ["lm_head", "wte", "lm_head.weight", "wt?"])
def test_a_tied_embedding_that_is_named_is_pruned(name: str) -> None:
    rows = {row.name: row for row in layer_table(TinyGpt(), IDS, include=["*", name])}
    assert not rows["lm_head.weight"].exempt


def test_a_tied_embedding_in_a_file_of_ratios_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ratios.csv"
    path.write_text("layer,prune_ratio\nwte.weight,0.5\nh.0.mlp.c_fc.weight,0\n")
    assert layers_in_ratios(path) == ("wte.weight",)
    rows = {row.name: row for row in layer_table(TinyGpt(), IDS, named=layers_in_ratios(path))}
    assert not rows["lm_head.weight"].exempt


def test_every_interface_prunes_the_same_weights_by_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = TinyGpt()
    table = {row.name for row in layer_table(model, IDS) if not row.exempt}
    assert set(default_names(model)) == table
    (plan,) = build_plans(LpotConf(pruners=(Pruner(),), target_sparsity=0.5), model)
    assert set(plan.names) == table
    entry = WeightPruningConfig([{"target_sparsity": 0.5, "start_step": 0, "end_step": 4}])
    hooks = prepare_pruning(model, entry)
    assert set(hooks.sparsifiers[0].masks) == table
    assert "wpe.weight" in capsys.readouterr().err


# ---- tensors that the user names


class Loose(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.mix = nn.Linear(8, 8), nn.Parameter(torch.randn(8, 5))
        self.places = nn.Parameter(torch.randn(1, 7, 8))

    def forward(self, x: Tensor) -> Tensor:
        return (self.first(x) + self.places) @ self.mix


def test_a_named_tensor_is_listed_with_the_layout_of_its_use() -> None:
    model, x = Loose(), torch.randn(2, 7, 8)
    assert [row.name for row in layer_table(model, x)] == ["first.weight"]
    rows = layer_table(model, x, include=["*", "mix"])
    assert [(row.name, row.kind, row.macs, row.fan) for row in rows] == [
        ("first.weight", "linear", 448, None),
        ("mix", "tensor", 7 * 8 * 5, (5, 8)),
    ]
    fitted = fitting_rows(model, rows, pattern=parse_pattern("2:4"), remainder="pad")
    assert [row.most for row in fitted] == [32, 20]  # along the 8 inputs
    assert [row.name for row in layer_table(model, x)] == ["first.weight"]


def test_patterns_leave_further_tensors_out_of_the_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, x = Loose(), torch.randn(2, 7, 8)
    layer_table(model, x, exclude=["mix", "places"])
    assert capsys.readouterr().err == ""
    layer_table(model, x, exclude=["mix"])
    said = capsys.readouterr().err
    assert "not listed: places, and what `include` and `exclude` leave out" in said
    with pytest.raises(UserError, match=r"`include` 'mixx'"):
        layer_table(model, x, include=["mixx"])


def test_an_embedding_can_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    rows = layer_table(Tagger("GRU"), IDS, include=["head", "words"])
    assert [(row.name, row.kind, row.role) for row in rows] == [
        ("words.weight", "embedding", "embed"),
        ("head.weight", "linear", "head"),
    ]
    assert "does not use" not in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.torch.jit.trace")
def test_a_scripted_module_is_said_to_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    scripted = torch.jit.trace(nn.Linear(8, 4), torch.randn(2, 8))
    model = nn.Sequential(scripted, nn.Linear(4, 2))
    assert [row.name for row in layer_table(model, torch.randn(2, 8))] == ["1.weight"]
    assert "holds 20.0 % of the matrix weights; not listed: 0.weight" in capsys.readouterr().err
