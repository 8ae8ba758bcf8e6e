"""Which layers matter, and folders that a program without training code opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from tests.support.what_works.row import Row
from ws_learner import load_sparse, sensitivity, write_deploy_folder


class Bypass(nn.Module):
    """A forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 16), nn.Linear(16, 12)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(torch.tanh(self.first(x)))
        return out


class ByValue(Bypass):
    """Its forward branches on values."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if float(x.sum()) > 0 else x


def _unlabelled(folder: Path) -> None:
    found = sensitivity(Bypass(), TensorDataset(torch.randn(200, 12)), outputs="values")
    assert set(found.ranking) == {"first.weight", "second.weight"}
    assert found.table[["error", "divergence"]].notna().all(axis=None)
    found.figure(folder / "heat_map.svg")


def _own_forward(folder: Path) -> None:
    model = Bypass().eval()
    write_deploy_folder(model, torch.randn(1, 12), folder / "deploy", shrinks=False)
    x = torch.randn(3, 12)
    with torch.no_grad():
        torch.testing.assert_close(load_sparse(folder / "deploy" / "model.wsr")(x), model(x))


def _transformers(folder: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 16, "intermediate_size": 32, "vocab_size": 50}
    config = BertConfig(num_hidden_layers=1, num_attention_heads=2, **sizes)
    model = BertForSequenceClassification(config).eval()
    ids = torch.randint(1, 50, (1, 6))
    example = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    record = write_deploy_folder(model, example, folder / "deploy", shrinks=False)
    assert [one["name"] for one in record["inputs"]] == ["input_ids", "attention_mask"]
    with torch.no_grad():
        wanted = model(**example).logits.numpy()
    saved = np.load(folder / "deploy" / "example.npz")
    np.testing.assert_allclose(saved["output_0"], wanted, rtol=1e-4, atol=1e-6)


def _by_value(folder: Path) -> None:
    write_deploy_folder(ByValue(), torch.ones(1, 12), folder / "deploy", shrinks=False)


ROWS = (
    Row(
        area="data",
        what="which layers matter (`sensitivity`), by data without targets",
        run=_unlabelled,
    ),
    Row(
        area="deployment",
        what="a deploy folder of a network with a `forward` of its own, opened without its class",
        run=_own_forward,
    ),
    Row(
        area="deployment",
        what="a deploy folder of transformers' BERT, called by keywords",
        run=_transformers,
    ),
    Row(
        area="deployment",
        what="a deploy folder for the sparse runtime of a `forward` that branches on values",
        run=_by_value,
        refused="cannot be recorded",
    ),
)
