"""A small transformer on sentences of my own.

Run it as it is:      ws-learner prune FILE    (or ./run_local.sh FILE)
A quick try:          ws-learner prune FILE --nb_epochs 1 --num_rollouts 20
Blocks of weights:    ws-learner prune FILE --pattern 4x1
All flags:            ws-learner prune FILE -h

Replace what is marked (1) to (4); the rest may stay. A trained network need not be trained again:
give its weights with --dense_checkpoint weights.safetensors (or .pt, a state_dict).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiments.experiment import Experiment, seeded
from ws_learner import DataSplits, Recipe, split_dataset, top_k_accuracy
from ws_learner.core import check_settings

PAD = 0  # the number that fills a batch behind shorter sentences
WORDS, CLASSES, LONGEST = 50, 2, 12


@dataclass(frozen=True)
class Options:
    """(1) Flags of this file: each field becomes one, and the line below it is its help."""

    width: int = 32
    """Numbers that stand for a word."""
    sentences: int = 2000
    """Number of sentences that are made."""

    def __post_init__(self) -> None:
        check_settings(self)  # refuses values of another type


class Classifier(nn.Module):
    """(2) Your network, untrained: it maps (B, T) numbers of words to (B, classes) logits.

    Its matrices are found by themselves; embeddings stay dense unless you name them in
    --ws_include. The sparse network keeps its class and state_dict keys.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, width, padding_idx=PAD)
        self.position = nn.Parameter(0.02 * torch.randn(LONGEST, width))
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, words: Tensor) -> Tensor:
        """Map padded sentences to logits; padding does not count."""
        padding = words == PAD
        x = self.embedding(words) + self.position[: words.shape[1]]
        x = x + self.attention(x, x, x, key_padding_mask=padding, need_weights=False)[0]
        x = x + self.fc2(torch.relu(self.fc1(self.norm(x))))
        x = x.masked_fill(padding[..., None], 0)
        logits: Tensor = self.head(x.sum(1) / (~padding).sum(1, keepdim=True))
        return logits


def load(count: int) -> DataSplits:
    """(3) Your data: pairs of a sentence, whole numbers (T,), and its class.

    Sentences come out of your tokenizer and may differ in length; `pad_id` says what fills a batch.
    They are split at random: 10 % to score candidates, 10 % to choose among the best, 20 % for the
    test at the end, the rest for training.
    """
    return split_dataset(write(count, seed=0), num_classes=CLASSES, name="words", pad_id=PAD)


def write(count: int, *, seed: int) -> list[tuple[Tensor, int]]:
    """Random words from 1 to 49; class 1 if those below 25 are more than half of the sentence."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        length = 2 * int(torch.randint(1, LONGEST // 2, (), generator=generator)) + 1
        words = torch.randint(1, WORDS, (length,), generator=generator)
        found.append((words, int((words < WORDS // 2).sum() > length // 2)))
    return found


def build(options: Options, *, seed: int) -> Experiment:
    """Put the parts together; called with the flags and `--seed`."""
    return Experiment(
        name="my_sentences",  # part of the name of the run's folder
        model=seeded(lambda: Classifier(options.width), seed),
        data=load(options.sentences),
        loss=nn.CrossEntropyLoss(),  # (outputs, targets) -> scalar
        metric=top_k_accuracy,  # (outputs, targets) -> one score in [0, 1] per example
        outputs="classes",  # for one class per word: "tokens"
        # (4) How the dense network is trained, and then the sparse one from its weights. Half of
        # the sparse training is the ramp to the target.
        dense_recipe=Recipe(nb_epochs=6, batch_size=64, optimizer="adamw", lrn_rate=3e-3),
        sparse_recipe=Recipe(nb_epochs=6, batch_size=64, optimizer="adamw", lrn_rate=1e-3),
    )
