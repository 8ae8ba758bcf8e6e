"""BERT-Mini, -Base or -Large on SQuAD 1.1: where in a paragraph is a question's answer?"""

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

    bert_size: Literal["mini", "base", "large"] = "mini"
    """Which BERT."""
    data_dir: Path | None = None
    """Folder with train-v1.1.json and dev-v1.1.json."""
    pretrained: Path | None = None
    """Weights of Hugging Face's BERT to fine-tune, see bert_at_glue."""
    longest: int = 384
    """Word pieces of a window of question and paragraph."""
    overlap: int = 128
    """Word pieces of the paragraph that a window shares with the next."""

    def __post_init__(self) -> None:
        check_settings(self)


def build(options: Options, *, seed: int) -> Experiment:
    """Assemble network, data and recipes."""
    from torch import Tensor
    from torch.nn import functional

    from experiments.experiment import Experiment, seeded
    from experiments.models.sentence_bert import bert_spans
    from experiments.sentences import DENSE, SPARSE
    from ws_learner.core import UserError
    from ws_learner.data import find_answers, load_squad, score_answers

    if options.data_dir is None:
        raise UserError("--data_dir: needed; name the folder with SQuAD's two files, version 1.1")
    data, test = load_squad(options.data_dir, longest=options.longest, overlap=options.overlap)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)  # of starts and ends, over the pieces

    def exact_match(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(1) == targets).all(1).float()

    size, pretrained = options.bert_size, options.pretrained
    return Experiment(
        name=f"bert_{size}_at_squad",
        model=seeded(lambda: bert_spans(size, pretrained=pretrained), seed),
        data=data,
        loss=loss,
        metric=exact_match,
        dense_recipe=DENSE,
        sparse_recipe=SPARSE,
        location="ff,attention",
        outputs="classes",
        measure=lambda model, compute: score_answers(
            test.questions, find_answers(test, lambda inputs: model(compute.place(inputs)))
        ),
    )
