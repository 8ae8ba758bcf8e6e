"""Outputs as networks return them."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset
from transformers import (
    BertConfig,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    ViTConfig,
    ViTForImageClassification,
)

from tests.support.what_works.row import Row, pruned
from ws_learner import DataSplits, split_dataset, top_k_accuracy

_UNIFORM = {"ws_prune_ratio_prtl": "uniform"}
_TASK: dict[str, Any] = {"loss": functional.cross_entropy, "metric": top_k_accuracy}
Named = namedtuple("Named", ["logits", "aux_logits"])


@dataclass
class Prediction:
    """A network's own class of outputs."""

    loss: Tensor | None
    logits: Tensor


class _Returning(nn.Module):
    """Returns its logits in a way of its own."""

    def __init__(self, how: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Any:
        hidden = torch.relu(self.body(x))
        return self.how(self.head(hidden), hidden)


def _named(logits: Tensor, hidden: Tensor) -> Any:
    return Named(logits, hidden)


def _own_class(logits: Tensor, hidden: Tensor) -> Any:
    return Prediction(None, logits)


def _tuple(logits: Tensor, hidden: Tensor) -> Any:
    return logits, hidden


def _only_one(logits: Tensor, hidden: Tensor) -> Any:
    return {"prediction": logits, "norm": hidden.mean()}


def _both(logits: Tensor, hidden: Tensor) -> Any:
    return {"prediction": logits, "hidden": hidden}


def _one_for_all(logits: Tensor, hidden: Tensor) -> Any:
    return logits.mean(0)


def _pick(model: nn.Module, inputs: Any, output: Any) -> Any:
    return output["prediction"]


def _points() -> DataSplits:
    x = torch.randn(160, 4, generator=torch.Generator().manual_seed(0))
    return split_dataset(TensorDataset(x, (x.sum(1) > 0).long()), num_classes=2)


def _returning(how: Any, folder: Path, *, hook: bool = False, **config: Any) -> None:
    model = _Returning(how)
    keys = set(model.state_dict())
    if hook:
        model.register_forward_hook(_pick)
    result = pruned(model, _points(), folder, config={**_UNIFORM, **config}, **_TASK)
    assert type(result.model) is _Returning
    assert set(result.model.state_dict()) == keys


def _searched(folder: Path) -> None:
    result = pruned(_Returning(_tuple), _points(), folder, config={"ws_nb_iters_ft": 2}, **_TASK)
    assert result.summary["failed_rollouts"] == 0


def _vit(folder: Path) -> None:
    torch.manual_seed(0)
    config = ViTConfig(
        image_size=8,
        patch_size=4,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=2,
    )
    images = torch.randn(160, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = (images.mean((1, 2, 3)) > 0).long()
    rows = [{"pixel_values": x, "labels": y} for x, y in zip(images, labels, strict=True)]
    model = ViTForImageClassification(config)
    result = pruned(model, split_dataset(rows, num_classes=2), folder, config=_UNIFORM, **_TASK)
    assert result.summary["output_read"] == "logits of ImageClassifierOutput"


def _tags(folder: Path) -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=8,
        num_labels=3,
    )
    words = torch.randint(1, 30, (160, 6), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(6) < 4).long().expand(160, -1)
    tags = torch.where(mask == 1, words % 3, -100)
    keys = ("input_ids", "attention_mask", "labels")
    rows = [dict(zip(keys, row, strict=True)) for row in zip(words, mask, tags, strict=True)]
    pruned(
        BertForTokenClassification(config),
        split_dataset(rows, num_classes=3),
        folder,
        loss=lambda outputs, tags: functional.cross_entropy(outputs.transpose(1, 2), tags),
        metric=lambda outputs, tags: (
            ((outputs.argmax(2) == tags) & (tags >= 0)).sum(1) / (tags >= 0).sum(1)
        ),
        config=_UNIFORM,
    )


def _language(folder: Path) -> None:
    torch.manual_seed(0)
    words = torch.randint(30, (160, 6), generator=torch.Generator().manual_seed(0))
    rows = [{"input_ids": row, "labels": row} for row in words]
    config = GPT2Config(vocab_size=30, n_positions=8, n_embd=16, n_layer=1, n_head=2)

    def shifted(outputs: Tensor, words: Tensor) -> Tensor:
        return functional.cross_entropy(outputs[:, :-1].transpose(1, 2), words[:, 1:])

    def next_word(outputs: Tensor, words: Tensor) -> Tensor:
        return (outputs[:, :-1].argmax(2) == words[:, 1:]).float().mean(1)

    pruned(
        GPT2LMHeadModel(config),
        split_dataset(rows, num_classes=30),
        folder,
        loss=shifted,
        metric=next_word,
        outputs="tokens",
        config=_UNIFORM,
    )


class _Segmentation(nn.Module):
    """Returns `out` and `aux`, as torchvision's segmentation networks do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
        self.aux = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = torch.relu(self.body(x))
        return {"out": self.head(hidden), "aux": self.aux(hidden)}


def _segments(folder: Path) -> None:
    images = torch.randn(160, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    masks = (images.mean(1) > 0).long()
    result = pruned(
        _Segmentation(),
        split_dataset(TensorDataset(images, masks), num_classes=2),
        folder,
        loss=functional.cross_entropy,
        metric=lambda outputs, masks: (outputs.argmax(1) == masks).float().mean((1, 2)),
        config=_UNIFORM,
    )
    assert result.summary["output_read"] == "out of dict"


_AREA: Any = "outputs and losses"
ROWS = (
    Row(area=_AREA, what="Hugging Face's `ImageClassifierOutput`", run=_vit),
    Row(area=_AREA, what="Hugging Face's `TokenClassifierOutput`, padded words ignored", run=_tags),
    Row(area=_AREA, what="Hugging Face's `CausalLMOutput`", run=_language),
    Row(area=_AREA, what="torchvision's dict with `out`, segmentation", run=_segments),
    Row(
        area=_AREA,
        what="a named tuple with `logits`",
        run=lambda folder: _returning(_named, folder),
    ),
    Row(
        area=_AREA,
        what="a dataclass with `logits`",
        run=lambda folder: _returning(_own_class, folder),
    ),
    Row(area=_AREA, what="a tuple whose first is the prediction; search", run=_searched),
    Row(
        area=_AREA,
        what="a dict with one tensor for each example; distillation",
        run=lambda folder: _returning(_only_one, folder, enbl_dst=True),
    ),
    Row(
        area=_AREA,
        what="a dict with several such tensors",
        run=lambda folder: _returning(_both, folder),
        refused="does not say what loss and metric see: a tensor with a row for each example, "
        "`logits`, `out`, or the first of a tuple; choose it by a hook",
    ),
    Row(
        area=_AREA,
        what="the same with a forward hook that chooses",
        run=lambda folder: _returning(_both, folder, hook=True),
    ),
    Row(
        area=_AREA,
        what="one output for a whole batch",
        run=lambda folder: _returning(_one_for_all, folder),
        refused="it must return one tensor with a row for each example",
    ),
)
