"""BERT-Mini, -Base or -Large on a task of GLUE, SST-2 or MRPC, from a folder of its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ws_learner.core import check_settings

if TYPE_CHECKING:
    from experiments.experiment import Experiment


@dataclass(frozen=True)
class Options:
    """Flags of this experiment."""

    task: Literal["sst2", "mrpc"] = "sst2"
    """Which task."""
    bert_size: Literal["mini", "base", "large"] = "mini"
    """Which BERT."""
    data_dir: Path | None = None
    """Folder with the task's train.tsv and dev.tsv."""
    pretrained: Path | None = None
    """Weights of Hugging Face's BERT to fine-tune (safetensors or a plain PyTorch state_dict, such
    as google/bert_uncased_L-4_H-256_A-4); without them training starts from fresh ones."""

    def __post_init__(self) -> None:
        check_settings(self)


def build(options: Options, *, seed: int) -> Experiment:
    """Assemble network, data and recipes."""
    from experiments.experiment import Experiment, classification, seeded
    from experiments.models.sentence_bert import bert_classifier
    from experiments.sentences import DENSE, SPARSE
    from ws_learner.core import UserError
    from ws_learner.data import load_glue

    if options.data_dir is None:
        raise UserError("--data_dir: needed; name the folder with the task's train.tsv and dev.tsv")
    data = load_glue(options.task, options.data_dir)
    loss, metric = classification(DENSE)
    size, pretrained = options.bert_size, options.pretrained
    return Experiment(
        name=f"bert_{size}_at_{options.task}",
        model=seeded(lambda: bert_classifier(size, labels=2, pretrained=pretrained), seed),
        data=data,
        loss=loss,
        metric=metric,
        dense_recipe=DENSE,
        sparse_recipe=SPARSE,
        location="ff,attention",
    )
