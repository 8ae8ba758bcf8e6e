"""Batches as people have them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset
from transformers import BertConfig, BertForSequenceClassification

from tests.support.what_works.row import Row, pruned
from ws_learner import (
    DataSplits,
    Recipe,
    WeightSparseConfig,
    WeightSparseLearner,
    split_dataset,
    top_k_accuracy,
)
from ws_learner.data import as_batch

_UNIFORM = {"ws_prune_ratio_prtl": "uniform"}
_TASK: dict[str, Any] = {"loss": functional.cross_entropy, "metric": top_k_accuracy}


class _Two(nn.Module):
    """Of numbers and of categories."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right, self.head = nn.Linear(4, 8), nn.Embedding(5, 8), nn.Linear(8, 2)

    def forward(self, numbers: Tensor, category: Tensor) -> Tensor:
        hidden = torch.relu(self.left(numbers) + self.right(category))
        found: Tensor = self.head(hidden)
        return found


class _OfDict(_Two):
    def forward(self, features: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        return super().forward(features["numbers"], features["category"])


def _parts() -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    numbers = torch.randn(160, 4, generator=draw)
    return numbers, torch.randint(5, (160,), generator=draw), (numbers.sum(1) > 0).long()


def _rows(*, label: str | None = "label") -> list[dict[str, Any]]:
    found = []
    for numbers, category, target in zip(*_parts(), strict=True):
        row = {"numbers": numbers.tolist(), "category": int(category)}
        found.append(row | ({} if label is None else {label: int(target)}))
    return found


def _search_by(model: nn.Module, dataset: Any, folder: Path, **given: Any) -> None:
    result = pruned(model, split_dataset(dataset, num_classes=2), folder, **_TASK, **given)
    assert result.summary["failed_rollouts"] == 0
    assert set(result.model.state_dict()) == set(model.state_dict())


def _several(folder: Path) -> None:
    _search_by(_Two(), TensorDataset(*_parts()), folder, config={"ws_nb_iters_ft": 2})


def _nested(folder: Path) -> None:
    rows = [((x, c), y) for x, c, y in zip(*_parts(), strict=True)]
    _search_by(_Two(), rows, folder, config=_UNIFORM)


def _dicts(folder: Path) -> None:
    _search_by(_Two(), _rows(), folder, config={"ws_rg_solver": "adam", "ws_nb_iters_rg": 1})


def _dict_as_one(folder: Path) -> None:
    _search_by(_OfDict(), _rows(label="target"), folder, config=_UNIFORM)


def _distilled(folder: Path) -> None:
    _search_by(_Two(), _rows(), folder, config={**_UNIFORM, "enbl_dst": True})


def _in_workers(folder: Path) -> None:
    _search_by(_Two(), _rows(), folder, workers=1)


def _one_named(folder: Path) -> None:
    rows = [{"image": x, "label": y} for x, _, y in zip(*_parts(), strict=True)]
    _search_by(
        nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), rows, folder, config=_UNIFORM
    )


def bert() -> nn.Module:
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=40,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=12,
        )
    )


def sentences() -> list[dict[str, Any]]:
    draw = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(160):
        words = torch.randint(
            1, 40, (int(torch.randint(3, 9, (1,), generator=draw)),), generator=draw
        )
        yes = int(words.float().mean() > 20)
        rows.append(
            {"input_ids": words.tolist(), "attention_mask": [1] * len(words), "labels": yes}
        )
    return rows


def padding(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """What transformers' DataCollatorWithPadding does."""
    longest = max(len(example["input_ids"]) for example in examples)
    filled = {
        key: torch.tensor([e[key] + [0] * (longest - len(e[key])) for e in examples])
        for key in ("input_ids", "attention_mask")
    }
    return filled | {"labels": torch.tensor([example["labels"] for example in examples])}


def _padded(folder: Path) -> None:
    data = split_dataset(sentences(), num_classes=2, collate_fn=padding)
    result = pruned(bert(), data, folder, **_TASK)
    assert type(result.model) is BertForSequenceClassification
    assert result.summary["output_read"] == "logits of SequenceClassifierOutput"


def _unpadded(folder: Path) -> None:
    pruned(bert(), split_dataset(sentences(), num_classes=2), folder, **_TASK)


def _unlabelled(folder: Path) -> None:
    learner = _learner(split_dataset(_rows(label=None), num_classes=2), folder)
    allocation = learner.allocate()
    assert allocation.rollouts == 4
    network = allocation.network()
    zeros = sum(int((weight == 0).sum()) for weight in network.parameters())
    assert zeros >= allocation.zeros.sum() > 0


def _unlabelled_fit(folder: Path) -> None:
    _learner(split_dataset(_rows(label=None), num_classes=2), folder).fit()


def _learner(data: DataSplits, folder: Path) -> WeightSparseLearner:
    config = WeightSparseConfig(ws_prune_ratio=0.5, ws_nb_rlouts=4, ws_nb_rlouts_min=2)
    recipe = Recipe(nb_epochs=1, batch_size=16)
    return WeightSparseLearner(
        _Two(), data, config=config, recipe=recipe, workers=0, run_dir=folder / "run", **_TASK
    )


def _mixed(folder: Path) -> None:
    recipe = Recipe(nb_epochs=1, batch_size=16, mixup=0.2)
    _search_by(_Two(), _rows(), folder, recipe=recipe)


def _unknown_key(folder: Path) -> None:
    rows = [row | {"number": place} for place, row in enumerate(_rows())]
    _search_by(_Two(), rows, folder)


def _texts(folder: Path) -> None:
    rows = [row | {"text": "a film"} for row in _rows()]
    _search_by(_Two(), rows, folder)


class _OwnSplit:
    """A split of one's own that yields what a loader yields."""

    def __len__(self) -> int:
        return 160

    def batches(self, batch_size: int, **given: Any) -> Iterator[Any]:
        x, c, y = _parts()
        for at in range(0, 160, batch_size):
            rows = slice(at, at + batch_size)
            yield self.made({"numbers": x[rows], "category": c[rows], "labels": y[rows]})

    def made(self, batch: dict[str, Tensor]) -> Any:
        return as_batch(batch)


class _OwnDicts(_OwnSplit):
    def made(self, batch: dict[str, Tensor]) -> Any:
        return batch


def _own_split(split: Any, folder: Path) -> None:
    data = DataSplits(
        name="own",
        digest="1",
        num_classes=2,
        input_shape=(4,),
        **dict.fromkeys(("train", "search", "select", "test"), split),
    )
    pruned(_Two(), data, folder, config=_UNIFORM, **_TASK)


ROWS = (
    Row(area="data", what="several inputs, `TensorDataset(x1, x2, y)`", run=_several),
    Row(area="data", what="several inputs in a pair, `((x1, x2), y)`", run=_nested),
    Row(area="data", what="dicts of inputs with `label`; regression by Adam", run=_dicts),
    Row(area="data", what="dicts for a network that takes the dict", run=_dict_as_one),
    Row(area="data", what="dicts with distillation", run=_distilled),
    Row(area="data", what="dicts in worker processes", run=_in_workers),
    Row(area="data", what="dicts of one image under any key", run=_one_named),
    Row(area="data", what="sentences in dicts, padded by a `collate_fn`", run=_padded),
    Row(
        area="data",
        what="a split of one's own through `as_batch`",
        run=lambda folder: _own_split(_OwnSplit(), folder),
    ),
    Row(area="data", what="no targets: `allocate()` and the one-shot network", run=_unlabelled),
    Row(
        area="data",
        what="no targets: `fit()`",
        run=_unlabelled_fit,
        refused="the batches of the train split hold the keys numbers, category and no targets, "
        "which training and its test need",
    ),
    Row(
        area="data",
        what="sentences of several lengths without a `collate_fn`",
        run=_unpadded,
        refused="give the number that pads sentences as `pad_id`, or `collate_fn`",
    ),
    Row(
        area="data",
        what="a key that `forward` does not take",
        run=_unknown_key,
        refused="`forward` of _Two takes numbers, category, and the batch holds numbers, category, "
        "number",
    ),
    Row(
        area="data",
        what="texts beside the numbers",
        run=_texts,
        refused="inputs['text'] of a batch are texts: a network takes tensors",
    ),
    Row(
        area="data",
        what="mixup of several inputs",
        run=_mixed,
        refused="`mixup` 0.2: takes inputs of one tensor",
    ),
    Row(
        area="data",
        what="a split of one's own that yields dicts",
        run=lambda folder: _own_split(_OwnDicts(), folder),
        refused="the train split yields a dict of numbers, category, labels; it must yield pairs "
        "(inputs, targets)",
    ),
)
