"""A network of every kind of layer through table, rollouts, training and report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.conv1d_of_transformers import Conv1D, TinyGpt
from tests.support.rollout_parts import CLASSES, SIDE, accuracy, small_config, tiny_data
from ws_learner import WeightSparseLearner
from ws_learner.config import Recipe, WeightSparseConfig
from ws_learner.core import ComputeDevice, UserError
from ws_learner.pruning.layers.table import layer_table
from ws_learner.search.bounds import layer_bounds
from ws_learner.search.rollout.evaluator import RolloutEvaluator


class Mixed(nn.Module):
    """Images to steps of a sequence, through every kind of layer."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2, groups=2)
        self.deep = nn.Conv3d(1, 2, (1, 4, 4), stride=(1, 4, 4))
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.recurrent = nn.LSTM(8, 8, batch_first=True, bidirectional=True)
        self.experts = nn.Parameter(torch.randn(2, 16, 8) / 4)
        self.turned, self.head = Conv1D(8, 8), nn.Linear(8, CLASSES)
        nn.init.normal_(self.turned.weight, std=0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.down(x).relu()).relu()
        x = self.deep(x[:, None]).flatten(3).flatten(1, 2).mT  # (B, 4, 16)
        x = x[..., :8] + x[..., 8:]
        x = self.recurrent(self.encoder(x))[0]
        x = torch.einsum("bti,eio->beto", x, self.experts).mean(1)
        out: Tensor = self.head(self.turned(x).relu().mean(1))
        return out


def mixed() -> Mixed:
    torch.manual_seed(0)
    return Mixed().eval()


@pytest.mark.parametrize("solver", ["closed-form", "adam", "none"])
def test_rollouts_prune_what_they_are_told(solver: str, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = mixed(), tiny_data()
    rows = layer_table(model, torch.zeros(2, 3, SIDE, SIDE))
    assert len({row.kind for row in rows}) == 8
    assert "layer table" not in capsys.readouterr().err
    evaluator = RolloutEvaluator(
        model,
        data,
        layers=rows,
        loss=functional.cross_entropy,
        metric=accuracy,
        config=small_config(rg_solver=solver, nb_iters_rg=2, nb_iters_ft=2),
        seed=0,
        cache_dir=None,
        device="cpu",
    )
    zeros = evaluator.checked(evaluator._sizes // 2)
    assert evaluator.score(zeros).failed == ""
    network = evaluator.network(zeros)
    found = [int((network.get_parameter(row.name) == 0).sum()) for row in rows]
    assert found == zeros.tolist()
    assert ("regression by adam: " in capsys.readouterr().err) == (solver == "adam")


@pytest.mark.parametrize(
    "settings", [{}, {"ws_pattern": "2:4", "ws_prune_ratio": 0.4}, {"ws_pattern": "2x2"}]
)
def test_a_run_reaches_its_target_and_keeps_its_pattern(
    tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WS_DATA_DIR", str(tmp_path))
    target = settings.get("ws_prune_ratio", 0.5)
    result = WeightSparseLearner(
        mixed(),
        tiny_data(),
        loss=functional.cross_entropy,
        metric=accuracy,
        recipe=Recipe(nb_epochs=1, batch_size=32, lrn_rate=0.01),
        run_dir=tmp_path / "run",
        config=WeightSparseConfig(
            **{"ws_prune_ratio": 0.5, "ws_prune_ratio_prtl": "knapsack", "ws_mask_update_step": 1}
            | settings
        ),
        compute=ComputeDevice(device="cpu", bf16=False, channels_last=False),
    ).fit()
    weights = result.ratios["weights"]
    assert (result.ratios["achieved"] * weights).sum() == pytest.approx(
        target * weights.sum(), abs=4
    )
    if settings.get("ws_pattern") != "2:4":
        return
    up = result.model.get_parameter("up.weight").detach()  # (8 inputs in 2 groups, 4, 2, 2)
    turned = result.model.get_parameter("turned.weight").detach()
    for matrix in (up.reshape(2, 4, -1).transpose(1, 2).reshape(-1, 4), turned.T.reshape(-1, 4)):
        assert set(matrix.ne(0).sum(1).tolist()) <= {2, 4}
    assert int((turned == 0).sum() + (up == 0).sum()) > 0


def test_an_allocation_for_another_table_is_refused(tmp_path: Path) -> None:
    learner = WeightSparseLearner(
        mixed(),
        tiny_data(),
        loss=functional.cross_entropy,
        metric=accuracy,
        recipe=Recipe(nb_epochs=1, batch_size=32, lrn_rate=0.01),
        run_dir=tmp_path,
        config=WeightSparseConfig(ws_prune_ratio=0.5, ws_prune_ratio_prtl="uniform"),
    )
    learner.allocate()
    (answer,) = tmp_path.rglob("allocation.json")
    stored = json.loads(answer.read_text())
    plain = {name: value for name, value in stored.items() if not name.startswith("sha256")}
    answer.write_text(json.dumps(plain | {"zeros": stored["zeros"][1:]}))
    with pytest.raises(UserError, match=r"13 layers, the layer table 14.*another run directory"):
        learner.allocate()


def test_a_target_that_needs_the_tied_embedding_says_what_is_exempt() -> None:
    rows = layer_table(TinyGpt(), torch.zeros(1, 4, dtype=torch.int64))
    config = WeightSparseConfig(ws_prune_ratio=0.8)
    share = 320 / 1088
    with pytest.raises(UserError, match=rf"{share:.4f} of the weights are exempt, first lm_head"):
        layer_bounds(rows, config)
