"""Rollouts on tagged sentences and on rows of categories: aligned, or untouched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from tests.support.rollout_parts import counts, small_config
from ws_learner import Recipe, WeightSparseConfig, WeightSparseLearner
from ws_learner.core.errors import UserError
from ws_learner.data.splits import DataSplits
from ws_learner.data.tokens import IGNORED
from ws_learner.data.user_dataset import split_dataset
from ws_learner.pruning.layers.table import layer_table
from ws_learner.report import read_rollouts
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.rollout.gram import collect_grams

WIDE, WORDS = 12, 20


class Tagger(nn.Module):
    """One tag per word: whether the word is odd, which needs only the word."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(WORDS, 8)
        self.hidden, self.head = nn.Linear(8, 16), nn.Linear(16, 2)

    def forward(self, words: Tensor) -> Tensor:
        out: Tensor = self.head(self.hidden(self.embed(words)).relu())
        return out


def tagging() -> TensorDataset:
    """Sentences of up to half the width; every tag can be told from its word."""
    rng = np.random.default_rng(0)
    inputs = torch.zeros(120, WIDE, dtype=torch.int64)
    for row in inputs:
        length = int(rng.integers(1, WIDE // 2))
        row[:length] = torch.from_numpy(rng.integers(1, WORDS, length))
    return TensorDataset(inputs, torch.where(inputs > 0, inputs % 2, IGNORED))


def tag_loss(outputs: Tensor, tags: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.transpose(1, 2), tags)


def tag_metric(outputs: Tensor, tags: Tensor) -> Tensor:
    counted = tags != IGNORED
    right = (outputs.argmax(2) == tags) & counted
    return right.sum(1) / counted.sum(1)


def evaluator(model: nn.Module, data: DataSplits, metric: object = tag_metric) -> RolloutEvaluator:
    return RolloutEvaluator(
        model,
        data,
        layers=layer_table(model, next(data.train.batches(2))[0]),
        loss=tag_loss,
        metric=metric,  # type: ignore[arg-type]
        config=small_config(nb_iters_ft=2),
        seed=0,
        cache_dir=None,
        device="cpu",
    )


@pytest.mark.parametrize("pad", [0, None])
def test_a_tagger_is_searched_and_pruned_with_every_rollout_scored(
    pad: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WS_DATA_DIR", str(tmp_path / "cache"))
    rollouts = {"ws_nb_rlouts": 8, "ws_nb_rlouts_min": 6, "ws_nb_rescore": 2}
    result = WeightSparseLearner(
        Tagger(),
        split_dataset(tagging(), num_classes=2, pad_id=pad),
        loss=tag_loss,
        metric=tag_metric,
        recipe=Recipe(nb_epochs=40, batch_size=24, optimizer="adam", lrn_rate=2e-2),
        config=WeightSparseConfig(ws_prune_ratio=0.5, ws_nb_smpls_rg=48, **rollouts),
        run_dir=tmp_path / "run",
        workers=0,
    ).fit()
    table = read_rollouts(tmp_path / "run" / "rollouts.csv")
    assert (table["failed"] == "").all()
    assert len(table) == 10
    assert result.summary["sparse_accuracy"] > 0.9  # tags beside their words: else a half


def test_scored_tags_lie_under_their_words() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def metric(outputs: Tensor, tags: Tensor) -> Tensor:
        seen.append((outputs, tags))
        return tag_metric(outputs, tags)

    class Echo(Tagger):
        def forward(self, words: Tensor) -> Tensor:
            return super().forward(words) * 0 + functional.one_hot(words % 2, 2)

    made = evaluator(Echo(), split_dataset(tagging(), num_classes=2, pad_id=0), metric)
    score = made.score(counts(made.layers, 0.5))
    assert (score.failed, score.accuracy) == ("", 1.0)  # the network says the tag of its word
    assert all(len(outputs[0]) < WIDE for outputs, _ in seen)  # cut: no sentence is as wide


class Columns(nn.Module):
    """A table of categories, each column with its own meaning; keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(4 * 6, 3)
        self.head = nn.Linear(18, 2)
        self.seen: list[Tensor] = []

    def forward(self, rows: Tensor) -> Tensor:
        self.seen.append(rows.detach().clone())
        out: Tensor = self.head(self.embed(rows + 4 * torch.arange(6)).flatten(1))
        return out


def test_rows_of_categories_reach_the_network_unchanged() -> None:
    rows = torch.randint(0, 4, (120, 6), generator=torch.Generator().manual_seed(0))
    rows[:, 3:] *= torch.rand(120, 1, generator=torch.Generator().manual_seed(1)) < 0.1
    data = split_dataset(TensorDataset(rows, rows[:, 0] % 2), num_classes=2)
    made = evaluator(
        Columns(), data, lambda outputs, targets: (outputs.argmax(1) == targets).float()
    )
    made.loss = functional.cross_entropy
    assert made.score(counts(made.layers, 0.5)).failed == ""
    known = {tuple(row) for row in rows.tolist()}
    model = made.dense
    assert isinstance(model, Columns)
    assert {tuple(row) for seen in model.seen for row in seen.tolist()} <= known
    asked = torch.cat([inputs for inputs, _ in data.search.batches(100)]).tolist()
    scored = [row for inputs, _ in made._exam._batches for row in inputs.tolist()]
    assert sorted(scored) == sorted(asked)


def test_zeros_count_in_the_gram_matrix_unless_they_are_padding() -> None:
    model = Tagger()
    inputs = next(iter(tagging()))[0][None]
    layers = layer_table(model, inputs)
    vectors = model.embed(inputs)[0].detach().double().numpy()
    words = (inputs[0] != 0).numpy()
    for pad_id, counted in ((None, vectors), (0, vectors[words])):
        gram = collect_grams(model, [inputs], layers=layers[:1], seed=0, pad_id=pad_id)[0][0]
        np.testing.assert_allclose(gram.numpy(), counted.T @ counted / len(counted), rtol=1e-4)


def test_a_network_of_fixed_width_is_told_what_to_leave_out() -> None:
    class Fixed(Tagger):
        def forward(self, words: Tensor) -> Tensor:
            return super().forward(words) + torch.zeros(WIDE, 2)

    with pytest.raises(UserError, match="`pad_id` 0: the network fails on batches cut"):
        evaluator(Fixed(), split_dataset(tagging(), num_classes=2, pad_id=0))
    made = evaluator(Fixed(), split_dataset(tagging(), num_classes=2))
    assert made.score(counts(made.layers, 0.5)).failed == ""
