"""A pattern lock keeps the zeros of all layers, the classifier's and an embedding's too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ws_learner import Pruning, WeightPruningConfig, prepare_pruning
from ws_learner.compat.lpot.schema import LpotConf, Pruner


class Net(nn.Module):
    """Embedding, hidden layer, classifier: all sparse."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(6, 8)
        self.hidden = nn.Linear(8, 8)
        self.classifier = nn.Linear(8, 4)
        for number, name in enumerate(WEIGHTS):
            self.get_parameter(name).data[:, number::3] = 0

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.classifier(torch.tanh(self.hidden(self.words(tokens).mean(1))))
        return result


WEIGHTS = ("words.weight", "hidden.weight", "classifier.weight")


def zeros_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: model.get_parameter(name).detach() == 0 for name in WEIGHTS}


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 4) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        logits = model(torch.randint(6, (9, 5)))
        nn.functional.cross_entropy(logits, torch.randint(4, (9,))).backward()
        optimizer.step()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)


@pytest.mark.parametrize("tied", [False, True])
def test_neural_compressors_lock(tied: bool, capsys: pytest.CaptureFixture[str]) -> None:
    model = Net()
    if tied:
        model.hidden.weight = model.words.weight = nn.Parameter(model.hidden.weight.detach())
    before, optimizer = zeros_of(model), sgd(model)
    hooks = prepare_pruning(model, WeightPruningConfig(pruning_type="pattern_lock"), optimizer)
    train(model, optimizer)
    hooks.on_train_end()
    for name, zeros in zeros_of(model).items():
        assert torch.equal(zeros, before[name]), name
    assert "stays dense" not in (said := capsys.readouterr().err)
    assert "not kept" not in said


def test_pruning_still_spares_the_classifier(capsys: pytest.CaptureFixture[str]) -> None:
    hooks = prepare_pruning(Net(), WeightPruningConfig(target_sparsity=0.5, end_step=4))
    assert set(hooks.sparsifiers[0].masks) == {"hidden.weight"}
    assert "classifier is the classifier and stays dense" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "locked"),
    [
        ({"op_names": ["hidden"]}, {"hidden.weight"}),
        ({"excluded_op_names": ["classifier"]}, {"words.weight", "hidden.weight"}),
        ({"pruning_op_types": ["Linear"]}, {"hidden.weight", "classifier.weight"}),
    ],
)
def test_zeros_left_out_on_purpose_are_said(
    settings: dict[str, Any], locked: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    model = Net()
    optimizer = sgd(model)
    config = WeightPruningConfig(pruning_type="pattern_lock", **settings)
    hooks = prepare_pruning(model, config, optimizer)
    assert set(hooks.sparsifiers[0].masks) == locked
    said = capsys.readouterr().err
    for name in WEIGHTS:
        count = int((model.get_parameter(name) == 0).sum())
        assert (f"{name} ({count})" in said) == (name not in locked)


@pytest.mark.parametrize("names", [(), ("hidden",)])
def test_lpots_lock(names: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    model = Net()
    before = zeros_of(model)
    prune = Pruning(LpotConf(pruners=(Pruner(names=names, prune_type="pattern_lock"),)))
    prune.model = model

    def train_epochs(model: nn.Module) -> None:
        prune.on_epoch_begin(0)
        train(model, sgd(model))

    prune.pruning_func = train_epochs
    prune()
    same = {name for name, zeros in zeros_of(model).items() if torch.equal(zeros, before[name])}
    assert same == ({"hidden.weight"} if names else set(WEIGHTS))
    said = "zeros of words.weight (18), classifier.weight (8) are not kept"
    assert (said in capsys.readouterr().err) == bool(names)


def test_lpots_lock_of_weights_loaded_in_the_training_function() -> None:
    sparse, model = Net().state_dict(), Net()
    for name in WEIGHTS:
        model.get_parameter(name).data.fill_(0.1)
    prune = Pruning(LpotConf(pruners=(Pruner(prune_type="pattern_lock"),)))
    prune.model = model

    def train_epochs(model: nn.Module) -> None:
        model.load_state_dict(sparse)
        prune.on_epoch_begin(0)
        train(model, sgd(model))

    prune.pruning_func = train_epochs
    prune()
    for name, zeros in zeros_of(model).items():
        assert torch.equal(zeros, sparse[name] == 0), name
