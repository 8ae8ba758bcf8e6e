"""What cannot be trained or measured is refused before any work, and what may differ is not."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from ws_learner import (
    DataSplits,
    UserError,
    WeightSparseConfig,
    WeightSparseLearner,
    split_dataset,
    top_k_accuracy,
)
from ws_learner.config import Recipe
from ws_learner.core import choose_device
from ws_learner.training import check_task, evaluate, say_majority
from ws_learner.training.data_check import check_labels
from ws_learner.training.loss_check import check_loss
from ws_learner.training.not_finite import broken_example, broken_weight, first_broken_layer

ANSWERS, LABELS = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), torch.arange(3)


class Read(Dataset[Any]):
    """Rows that have to be read, with NaN at some positions."""

    def __init__(self, count: int, broken: int | None = None) -> None:
        draw = torch.Generator().manual_seed(0)
        self.rows = torch.randn(count, 4, generator=draw)
        self.broken = broken

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        row = self.rows[index].clone()
        if index == self.broken:
            row[1] = torch.nan
        return row, int(row[0] > 0)


def splits(labels: Tensor, *, classes: int = 4) -> DataSplits:
    rows = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(0))
    return split_dataset(TensorDataset(rows, labels), num_classes=classes)


def never() -> tuple[Tensor, Tensor]:
    raise AssertionError("a whole batch is not needed")


def test_a_usual_loss_passes_and_changes_nothing() -> None:
    answers, labels, state = ANSWERS.clone(), LABELS.clone(), torch.get_rng_state()
    check_loss(functional.cross_entropy, answers, labels, whole=never)
    check_loss(lambda o, t: functional.dropout(o).square().mean(), answers, labels, whole=never)
    assert torch.equal(answers, ANSWERS)
    assert torch.equal(labels, LABELS)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_module_with_state_is_not_advanced() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
            self.calls += 1
            return functional.cross_entropy(outputs, targets)

    loss = Counting()
    check_loss(loss, ANSWERS, LABELS, whole=never)
    assert int(loss.calls) == 0


def test_a_loss_that_needs_a_whole_batch_gets_one() -> None:
    def contrastive(outputs: Tensor, targets: Tensor) -> Tensor:
        if len(outputs) != 8:
            raise ValueError("eight examples, please")
        return functional.cross_entropy(outputs, targets)

    batch = torch.randn(8, 4), torch.zeros(8, dtype=torch.long)
    check_loss(contrastive, ANSWERS, LABELS, whole=lambda: batch)
    with pytest.raises(UserError, match=r"`loss`: fails on outputs .*eight examples, please"):
        check_loss(contrastive, ANSWERS, LABELS, whole=lambda: (ANSWERS, LABELS))


def test_targets_that_all_do_not_count_are_tried_on_more_examples() -> None:
    none, some = torch.full((3,), -100), torch.tensor([-100, -100, 1])
    check_loss(functional.cross_entropy, ANSWERS, none, whole=lambda: (ANSWERS, some))
    with pytest.raises(UserError, match="`loss`: is nan"):
        check_loss(functional.cross_entropy, ANSWERS, none, whole=lambda: (ANSWERS, none))


def test_a_gradient_of_nan_is_refused_though_the_loss_is_finite() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs * 0).sum().sqrt()  # 0, of slope 0 / 0

    with pytest.raises(UserError, match="`loss`: has a gradient of NaN"):
        check_loss(loss, ANSWERS, LABELS, whole=lambda: (ANSWERS, LABELS))


@pytest.mark.parametrize(
    ("value", "loss", "allowed"),
    [
        (-100, functional.cross_entropy, True),
        (255, nn.CrossEntropyLoss(ignore_index=255), True),
        (255, functional.cross_entropy, False),
        (4, lambda o, t: functional.cross_entropy(o, t.clamp(0, 3)), True),
        (4, lambda o, t: functional.cross_entropy(o, t), False),
        (-1, lambda o, t: functional.cross_entropy(o, t), False),
    ],
)
def test_a_label_without_output_counts_if_the_loss_ignores_it(
    value: int, loss: Any, allowed: bool
) -> None:
    labels = torch.arange(80) % 4
    labels[33] = value
    data = splits(labels)
    if allowed:
        check_labels(data, loss, ANSWERS, LABELS)
        return
    with pytest.raises(UserError, match=f"has the label {value}, .*labels 0 to 3") as caught:
        check_labels(data, loss, ANSWERS, LABELS)
    found = re.search(r"example (\d+) of the (\w+) split", str(caught.value))
    assert found is not None
    split = getattr(data, found[2])
    assert list(split._dataset.indices)[int(found[1])] == 33


def test_labels_along_a_sentence_are_looked_at() -> None:
    labels = torch.arange(160).reshape(40, 4) % 3
    labels[7, 2] = 5
    answers = torch.randn(
        3, 4, 3, generator=torch.Generator().manual_seed(1)
    )  # (n, words, classes)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    with pytest.raises(UserError, match=r"has the label 5, .*labels 0 to 2"):
        check_labels(splits(labels, classes=3), loss, answers, labels[:3])


def test_positions_in_sentences_are_no_labels() -> None:
    """Answers to questions: the first batch may be shorter than others, and so its outputs."""
    words, places = torch.ones(40, 9, dtype=torch.long), torch.full((40, 2), 8)
    data = split_dataset(TensorDataset(words, places), num_classes=2, pad_id=0)
    check_labels(data, functional.cross_entropy, torch.randn(3, 5, 2), places[:3] % 5)


def test_numbers_are_no_labels() -> None:
    check_labels(splits(torch.arange(80) * 9), functional.mse_loss, torch.randn(3, 1), LABELS)
    check_labels(splits(torch.randn(80)), functional.mse_loss, torch.randn(3), torch.randn(3))


def test_where_nan_is() -> None:
    rows = torch.zeros(5, 2)
    rows[3, 1] = torch.inf
    assert broken_example(rows) == 3
    assert broken_example({"a": torch.zeros(5), "b": (rows, torch.zeros(5, dtype=torch.long))}) == 3
    assert broken_example(rows[:3]) is None
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert broken_weight(network) == ""
    network[1].register_buffer("mask", torch.full((2,), -torch.inf))  # as of an attention
    assert broken_weight(network) == ""
    with torch.no_grad():
        network[0].bias[1] = torch.nan
    assert broken_weight(network) == "0.bias"


def test_the_first_layer_that_makes_nan_is_named() -> None:
    class Log(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.log()

    network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), Log()), nn.Linear(2, 2))
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.zero_()
    assert first_broken_layer(network, torch.ones(1, 2)) == "1.1 (Log)"
    assert not network[1][1]._forward_hooks


def test_nan_that_is_met_in_an_evaluation_is_traced_to_its_example() -> None:
    data = split_dataset(Read(120, broken=0), num_classes=2)
    name = next(
        n
        for n in ("train", "search", "select", "test")
        if 0 in getattr(data, n)._dataset.indices  # type: ignore[attr-defined]
    )
    split = getattr(data, name)
    place = list(split._dataset.indices).index(0)
    compute = choose_device("fp32", "cpu")
    with pytest.raises(UserError, match=f"NaN for example {place} of the split; its inputs hold"):
        evaluate(
            nn.Linear(4, 2), split, top_k_accuracy, compute=compute, batch_size=7, where="the split"
        )


def test_a_network_in_training_mode_stays_so_after_a_refusal() -> None:
    network = nn.Linear(4, 4)
    with torch.no_grad():
        network.weight[0, 0] = torch.nan
    with pytest.raises(UserError, match="the weight weight holds NaN"):
        check_task(
            network,
            splits(torch.arange(80) % 4),
            loss=functional.cross_entropy,
            metric=top_k_accuracy,
            outputs=None,
            compares=False,
        )
    assert network.training


@pytest.mark.parametrize(("shift", "warned"), [(100.0, True), (0.0, False)])
def test_a_network_that_always_answers_the_majority_is_named(
    shift: float, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    labels = (rows[:, 0] > 0.5).long()
    data = split_dataset(TensorDataset(rows, labels), num_classes=2)
    network = nn.Linear(4, 2)
    with torch.no_grad():
        network.weight.zero_()
        network.weight[1, 0] = 1
        network.bias.copy_(torch.tensor([0.5 + shift, 0.0]))
    say_majority(network, data, metric=top_k_accuracy, compute=choose_device("fp32", "cpu"))
    share = float((labels[data.search._dataset.indices] == 0).float().mean())  # type: ignore[attr-defined]
    said = capsys.readouterr().err
    assert (f"{share:.4f}, is the share of the most frequent class" in said) == warned


class Nested(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.own = inner, nn.Linear(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inner(inputs + 0.1 * self.own(inputs))


def learner(model: nn.Module, folder: Path, **given: Any) -> WeightSparseLearner:
    metric = given.pop("metric", top_k_accuracy)
    loss = given.pop("loss", functional.cross_entropy)
    config = WeightSparseConfig(ws_prune_ratio=0.5, **given)
    recipe = Recipe(nb_epochs=1, batch_size=16)
    return WeightSparseLearner(
        *(model, splits(torch.arange(120) % 4)),
        loss=loss,
        metric=metric,
        recipe=recipe,
        config=config,
        workers=2,
        run_dir=folder / "run",
    )


@pytest.mark.parametrize("which", ["loss", "metric"])
def test_a_function_that_cannot_be_sent_is_refused_before_the_search(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WS_DATA_DIR", str(tmp_path / "cache"))
    lock, function = threading.Lock(), {"loss": functional.cross_entropy, "metric": top_k_accuracy}

    def locked(outputs: Tensor, targets: Tensor) -> Tensor:
        with lock:
            return function[which](outputs, targets)

    with pytest.raises(UserError, match=f"^`{which}`: cannot be sent .*`workers` 0$"):
        learner(nn.Linear(4, 4), tmp_path, **{which: locked}).fit()
    assert not (tmp_path / "cache").exists()


def test_modules_three_hundred_deep(tmp_path: Path) -> None:
    """Refused with the remedy, with which they are pruned."""
    network: nn.Module = nn.Linear(4, 4)
    for _ in range(300):
        network = Nested(network)
    settings = {"ws_prune_ratio_prtl": "uniform"}
    with pytest.raises(UserError, match=r"RecursionError.*sys\.setrecursionlimit"):
        learner(network, tmp_path, **settings).fit()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        pruned = learner(network, tmp_path, **settings).fit().model
    finally:
        sys.setrecursionlimit(limit)
    weights = [p for name, p in pruned.named_parameters() if name.endswith("weight")]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    assert zeros == sum(weight.numel() for weight in weights) // 2
