from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.support.nm_oracle import mask_of
from ws_learner.config.learner import WeightSparseConfig
from ws_learner.config.pattern_syntax import parse_pattern_spec
from ws_learner.core.errors import UserError
from ws_learner.pruning.layers.layer_plan import build_pattern_plan, by_role, fitting_rows
from ws_learner.pruning.layers.roles import weight_roles
from ws_learner.pruning.layers.table import layer_table
from ws_learner.pruning.methods.srste import SrSteConfig
from ws_learner.pruning.patterns.nm import NM
from ws_learner.pruning.patterns.nm_selection import keep_of_groups
from ws_learner.pruning.patterns.pattern import parse_pattern
from ws_learner.pruning.patterns.per_layer_nm import PerLayerNM
from ws_learner.pruning.patterns.slices import Slices
from ws_learner.pruning.schedules.nm_phases import MaskDecay, Phases, stage_of, stage_patterns
from ws_learner.pruning.sparsifier import Sparsifier


@given(m=st.integers(2, 40), share=st.floats(0, 1), rows=st.integers(1, 6), seed=st.integers(0, 99))
def test_groups_keep_what_a_stable_sort_keeps(m: int, share: float, rows: int, seed: int) -> None:
    n = 1 + round(share * (m - 2))
    values = np.random.default_rng(seed).integers(0, 4, size=(rows, m)).astype(np.float32)
    kept = keep_of_groups(torch.from_numpy(values), n).numpy()
    for row, scores in zip(kept, values, strict=True):
        gone = sorted(range(m), key=lambda i: scores[i])[: m - n]
        assert np.flatnonzero(~row).tolist() == sorted(gone)


@given(data=st.data())
def test_slices_and_columns_are_masks_of_their_parts(data: st.DataObject) -> None:
    weight = torch.randn(data.draw(st.sampled_from([6, 12])), data.draw(st.integers(1, 11)))
    parts = data.draw(
        st.lists(st.sampled_from([None, NM(1, 2), NM(2, 4), NM(1, 3)]), min_size=3, max_size=3)
    )
    if all(part is None for part in parts):
        parts[0] = NM(1, 4)
    pattern, shape = Slices(tuple(parts)), tuple(weight.shape)
    mask = pattern.mask(weight.abs(), pattern.most(shape))
    assert torch.equal(mask, pattern.whole_mask(weight.abs()))
    for part, rows in zip(parts, np.split(np.arange(len(weight)), 3), strict=True):
        own = weight[rows].double().numpy()
        wanted = np.ones(own.shape, bool) if part is None else mask_of(own, part.n, part.m)
        np.testing.assert_array_equal(mask[rows].numpy(), wanted)
    column = NM(1, 3, columns=True)
    turned = column.mask(weight.abs(), column.most(shape)).numpy()
    np.testing.assert_array_equal(turned, mask_of(weight.double().numpy().T, 1, 3).T)
    kernel = torch.randn(4, 6, 3, 3)
    assert torch.equal(column.whole_mask(kernel), NM(1, 3).whole_mask(kernel))


@given(
    m=st.integers(2, 9), outputs=st.integers(1, 4), inputs=st.integers(1, 20), asked=st.floats(0, 1)
)
def test_any_n_of_m_has_a_count_for_each_n(m: int, outputs: int, inputs: int, asked: float) -> None:
    pattern, shape = PerLayerNM(m), (3 * outputs, inputs)
    counts = [
        sum(max(len(range(start, min(start + m, inputs))) - n, 0) for start in range(0, inputs, m))
        * 3
        * outputs
        for n in range(m, 0, -1)
    ]
    assert list(pattern.counts(shape)) == counts
    zeros = round(asked * 3 * outputs * inputs)
    nearest = pattern.feasible(shape, zeros)
    assert nearest in counts
    assert abs(nearest - zeros) == min(abs(count - zeros) for count in counts)
    mask = pattern.mask(torch.rand(shape), nearest)
    assert int((~mask).sum()) == nearest


def test_spellings() -> None:
    assert str(parse_pattern("1:8 @ ff + 1:4@K Q")) == "1:8@ff+1:4@q,k"
    assert str(parse_pattern("2:4COL")) == "2:4col"
    assert parse_pattern("n:8") == PerLayerNM(8)
    assert parse_pattern_spec("1:8@attention").parts[0][0] == ("q", "k", "v", "o")
    assert parse_pattern_spec("1:8@ff").sets_ratios
    assert not parse_pattern_spec("n:8@ff").sets_ratios
    for wrong in ("1:8@", "1:8@x", "1:8@ff+1:4@ff", "8:8@ff", "0:4", "n:1"):
        with pytest.raises(UserError):
            parse_pattern_spec(wrong)


def test_flags_make_one_spelling() -> None:
    def spelled(**flags: str) -> str:
        return WeightSparseConfig(
            ws_method="mdgf",
            ws_prune_ratio_prtl="given",
            **flags,  # type: ignore[arg-type]
        ).pattern_spelling

    assert spelled(ws_pattern="1:8", ws_location="KQFF") == "1:8@ff,q,k"
    both = {"ws_pattern": "1:8", "ws_location": "ff,q,k", "ws_qkv_pattern": "1:4"}
    assert spelled(**both) == "1:8@ff+1:4@q,k"
    assert spelled(**both, ws_sparse_dim="col") == "1:8col@ff+1:4col@q,k"
    assert spelled(ws_pattern="1:8", ws_location="v", ws_qkv_pattern="1:4") == "1:4@v"
    for wrong in (
        {"ws_pattern": "1:8", "ws_qkv_pattern": "1:4"},
        {"ws_pattern": "1:8", "ws_location": "ff", "ws_qkv_pattern": "1:4"},
        {"ws_pattern": "1:8@ff", "ws_location": "ff"},
        {"ws_pattern": "4x1", "ws_location": "ff"},
        {"ws_pattern": "2:4", "ws_location": "banana"},
    ):
        with pytest.raises(UserError):
            spelled(**wrong)


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_heads = 2
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = nn.functional.linear(x, weight=self.qkv.weight).chunk(3, -1)  # as Swin v2 does
        result: torch.Tensor = self.proj(torch.softmax(q @ k.transpose(-1, -2), -1) @ v)
        return result


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv1d(3, 8, 2, stride=2)
        self.attn, self.mlp = Attention(8), nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 8))
        self.cpb_mlp, self.head = nn.Linear(2, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patch_embed(x).transpose(1, 2) + self.cpb_mlp(torch.ones(2))
        result: torch.Tensor = self.head(self.mlp(self.attn(tokens)).mean(1))
        return result


def test_roles_patterns_and_what_stays_dense(capsys: pytest.CaptureFixture[str]) -> None:
    model = Net()
    assert weight_roles(model) == {
        "patch_embed.weight": ("embed",),
        "attn.qkv.weight": ("q", "k", "v"),
        "attn.proj.weight": ("o",),
        "mlp.0.weight": ("ff",),
        "mlp.1.weight": ("ff",),
        "cpb_mlp.weight": ("other",),
        "head.weight": ("head",),
    }
    pattern = parse_pattern("1:8@ff+1:4@q,k")
    found = by_role(model, pattern)  # type: ignore[arg-type]
    assert found == {
        "attn.qkv.weight": Slices((NM(1, 4), NM(1, 4), None)),
        "mlp.0.weight": NM(1, 8),
        "mlp.1.weight": NM(1, 8),
    }
    rows = layer_table(model, torch.randn(2, 3, 8))
    by_name = {row.name: row for row in rows}
    assert by_name["attn.qkv.weight"].macs == 4 * 8 * 24  # called by nobody, and counted
    assert by_name["attn.qkv.weight"].role == "qkv"
    adjusted = fitting_rows(model, rows, pattern=pattern, remainder="pad")
    assert {row.name for row in adjusted if not row.exempt} == set(found)
    assert {row.name: row.most for row in adjusted if not row.exempt} == {
        "attn.qkv.weight": 2 * 8 * 6,
        "mlp.0.weight": 16 * 7,
        "mlp.1.weight": 8 * 14,
    }
    told = capsys.readouterr().err
    assert "attn.proj.weight (o)" in told
    assert "head.weight (head)" in told
    with pytest.raises(UserError, match="no weight of this network has that role"):
        by_role(nn.Linear(4, 4), parse_pattern("1:4@q"))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="has none of these roles"):
        build_pattern_plan(model, ["head.weight"], pattern=pattern)


@pytest.mark.parametrize("dense", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["linear", "exponential"])
@given(total=st.integers(1, 400), tuned=st.floats(0, 0.9), zero_at=st.floats(0.05, 1))
def test_mask_values_fall_from_one_to_zero(
    kind: str, dense: float, total: int, tuned: float, zero_at: float
) -> None:
    phases = Phases.of_shares(total, dense=dense, fine_tune=tuned)
    decay = MaskDecay(phases=phases, decay=kind, zero_at=zero_at)  # type: ignore[arg-type]
    values = [decay.value(step) for step in range(total + 1)]
    assert all(0 <= b <= a <= 1 for a, b in itertools.pairwise(values))
    assert values[phases.fine_tune :] == [0.0] * (total + 1 - phases.fine_tune)
    assert values[: phases.begin] == [1.0] * phases.begin
    end = phases.begin + max(zero_at * phases.sparse_steps, 1)
    assert all(value == 0 for step, value in enumerate(values) if step >= end + 1e-9)
    if phases.sparse_steps:
        assert values[phases.begin] == 1.0


def test_decays_of_the_paper() -> None:
    """Steps at which D is a half: ImageNet, 109,200 steps."""
    phases = Phases(begin=0, fine_tune=109_200, total=109_200)
    slow = MaskDecay(phases=phases, decay="exponential", beta=1e-4)
    assert slow.value(6931) == pytest.approx(0.5, abs=1e-4)
    assert slow.value(round(0.7 * 109_200)) == pytest.approx(4.8e-4, abs=5e-6)
    linear = MaskDecay(phases=phases, decay="linear", beta=2e-4)
    assert (linear.value(2500), linear.value(5000)) == (pytest.approx(0.5), 0)
    assert MaskDecay(phases=phases, decay="linear", zero_at=0.7).rate() == pytest.approx(
        1.31e-5, 2e-3
    )


@pytest.mark.parametrize(
    ("target", "shape", "stages", "wanted"),
    [
        ("1:8", "stepwise", None, "7:8 4:8 2:8 1:8"),
        ("2:4", "stepwise", None, "3:4 2:4"),
        ("3:8", "stepwise", None, "7:8 4:8 3:8"),
        ("1:2", "stepwise", None, "1:2"),
        ("1:16", "stepwise", None, "15:16 8:16 4:16 2:16 1:16"),
        ("1:8", "geometric", None, "16:128 8:64 4:32 2:16 1:8"),
        ("1:8", "geometric", 4, "8:64 4:32 2:16 1:8"),
        ("2:4", "geometric", 5, "32:64 16:32 8:16 4:8 2:4"),
        ("3:8", "geometric", 2, "6:16 3:8"),
        ("1:8", "stepwise", 1, "1:8"),
    ],
)
def test_stages(target: str, shape: str, stages: int | None, wanted: str) -> None:
    pattern = parse_pattern(target)
    assert isinstance(pattern, NM)
    found = stage_patterns(pattern, shape, stages, width=4096)  # type: ignore[arg-type]
    assert " ".join(map(str, found)) == wanted


@given(
    n=st.integers(1, 15), m=st.integers(2, 16), stages=st.integers(1, 9), width=st.integers(1, 300)
)
def test_the_last_stage_is_always_the_target(n: int, m: int, stages: int, width: int) -> None:
    target = NM(min(n, m - 1), m)
    for shape in ("stepwise", "geometric"):
        for count in (stages, None):
            found = stage_patterns(target, shape, count, width=width)  # type: ignore[arg-type]
            assert found[-1] == target
            density = [pattern.n / pattern.m for pattern in found]
            assert density == sorted(density, reverse=True)
            assert count is None or len(found) == count


def test_stages_begin_where_the_paper_has_them() -> None:
    """An epoch of 100 steps; 100 epochs, 10 dense, 20 of fine-tuning, five stages."""
    phases = Phases.of_epochs(10_000, steps_per_epoch=100, dense=10, fine_tune=20)
    found = [stage_of(step, 5, phases) for step in range(10_001)]
    starts = [found.index(stage) for stage in range(1, 5)]
    assert starts == [2400, 3800, 5200, 6600]
    assert found[-1] == found[8000] == 4


def test_torchs_own_encoder_has_queries_keys_values_and_an_output() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    assert weight_roles(model) == {
        "self_attn.in_proj_weight": ("q", "k", "v"),
        "self_attn.out_proj.weight": ("o",),
        "linear1.weight": ("ff",),
        "linear2.weight": ("ff",),
    }
    config = SrSteConfig(pattern=parse_pattern("2:4@ff,q,k"))  # type: ignore[arg-type]
    sparsifier = Sparsifier(model, config, zeros=config.targets(model), total_steps=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier.attach(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(2, 5, 16)).square().mean().backward()
        optimizer.step()
    sparsifier.finalize()
    zeros = {name: int((p == 0).sum()) for name, p in model.named_parameters() if p.dim() > 1}
    assert zeros == {
        "self_attn.in_proj_weight": 2 * 16 * 16 // 2,
        "self_attn.out_proj.weight": 0,
        "linear1.weight": 32 * 16 // 2,
        "linear2.weight": 32 * 16 // 2,
    }
