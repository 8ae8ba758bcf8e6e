"""A pruned weight is exactly zero, whatever the optimizer remembers; and it starts anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.special import log_softmax, softmax
from torch import Tensor, nn
from torch.optim import Optimizer

from experiments.run import main
from tests.support.lpot import SMALL, config, images, words
from ws_learner import Pruning, UserError
from ws_learner.compat.lpot import common
from ws_learner.compat.lpot.distillation import build_lpot_distillation_loss
from ws_learner.compat.lpot.reader import parse_lpot
from ws_learner.compat.lpot.schema import LpotConf, LpotDistillation, Pruner
from ws_learner.pruning.methods.gradual import GradualConfig
from ws_learner.pruning.methods.pattern_lock import PatternLockConfig, found_zeros
from ws_learner.pruning.sparsifier import Sparsifier

OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.5, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, weight_decay=0.1),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 4))


def check(optimizer: Optimizer, weight: nn.Parameter, mask: Tensor) -> None:
    """Zero, and nothing remembered that could move it."""
    assert not weight.detach()[~mask].any()
    for value in optimizer.state[weight].values():
        if isinstance(value, Tensor) and value.shape == weight.shape:
            assert not value[~mask].any()


def step(model: nn.Module, optimizer: Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.randn(6, 8)).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("hooks", [True, False], ids=["all hooks", "epoch hook alone"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_under_pruning(name: str, hooks: bool) -> None:
    conf = LpotConf(end_epoch=3, target_sparsity=0.8, pruners=(Pruner(names=("0.weight",)),))
    prune, model = Pruning(conf), network()
    prune.model, sizes = model, []

    def train(model: nn.Module) -> None:
        optimizer = OPTIMIZERS[name](model.parameters())
        for epoch in range(5):
            prune.on_epoch_begin(epoch)
            for batch in range(3):
                if hooks:
                    prune.on_batch_begin(batch)
                step(model, optimizer)
                if hooks:
                    prune.on_batch_end()
                check(optimizer, model[0].weight, prune.pruner.masks["0.weight"])
            sizes.append(int((model[0].weight == 0).sum()))

    prune.pruning_func = train
    prune()
    assert sizes == [round(96 * share) for share in (0.2, 0.4, 0.6, 0.8, 0.8)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_under_a_sparsifier_and_a_lock(name: str) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    for _ in range(2):  # the optimizer remembers every weight before pruning begins
        step(model, optimizer)
    gradual = GradualConfig(mask_update_step=2, iter_ratio_beg=0.0, iter_ratio_end=0.8)
    sparsifier = Sparsifier(model, gradual, ratios={"0.weight": 0.75}, total_steps=10)
    sparsifier.attach(optimizer)
    for _ in range(10):
        step(model, optimizer)
        check(optimizer, model[0].weight, sparsifier.masks["0.weight"])
    sparsifier.finalize()
    zeros = model[0].weight.detach() == 0
    assert int(zeros.sum()) == 72
    step(model, optimizer)  # nobody holds them: the bias moves, the gradients come back
    assert not torch.equal(model[0].weight.detach() == 0, zeros)
    model[0].weight.data[zeros] = 0
    lock = Sparsifier(model, PatternLockConfig(), zeros=found_zeros(model), total_steps=5)
    lock.attach(optimizer)
    for _ in range(5):
        step(model, optimizer)
        check(optimizer, model[0].weight, ~zeros)
    lock.finalize()
    assert torch.equal(model[0].weight.detach() == 0, zeros)


@pytest.mark.parametrize("kind", ["CE", "KL"])
def test_the_distillation_loss_by_hand(kind: str) -> None:
    generator = np.random.default_rng(0)
    student, teacher = generator.normal(size=(2, 5, 7))
    settings = LpotDistillation(temperature=3.0, kind=kind, loss_weights=(0.3, 0.7))  # type: ignore[arg-type]
    got = build_lpot_distillation_loss(
        torch.tensor(student, dtype=torch.float32),
        torch.tensor(teacher, dtype=torch.float32),
        loss=torch.tensor(2.0),
        settings=settings,
    )
    soft, found = softmax(teacher / 3, -1), log_softmax(student / 3, -1)
    match = -(soft * found).sum(-1)
    if kind == "KL":
        match = (soft * (np.log(soft) - found)).sum(-1)
    assert float(got) == pytest.approx(0.3 * 2 + 0.7 * 9 * match.mean(), rel=1e-5)
    with pytest.raises(UserError, match="same classes"):
        build_lpot_distillation_loss(
            torch.ones(2, 3), torch.ones(2, 4), loss=got, settings=settings
        )


KD = """pruning:
  train:
    end_epoch: 2
    optimizer: {AdamW: {learning_rate: 0.01, weight_decay: 0.1}}
    criterion:
      KnowledgeDistillationLoss: {temperature: 2.0, loss_types: [CE, KL], loss_weights: [0, 1]}
  approach:
    weight_compression:
      pruners:
        - !Pruner
            prune_type: pattern_lock
"""


def test_pruning_distils_onto_a_locked_network() -> None:
    teacher, model = network(), network()
    for module in (model[0], model[2]):
        module.weight.data[torch.rand_like(module.weight) < 0.6] = 0
    zeros = {n: p.detach() == 0 for n, p in model.named_parameters() if p.ndim > 1}
    batches = [(torch.randn(6, 8), torch.randint(4, (6,))) for _ in range(20)]

    def distance() -> float:
        with torch.no_grad():
            pairs = [(model(x).softmax(-1), teacher(x).softmax(-1)) for x, _ in batches]
        return sum(float((a - b).abs().sum()) for a, b in pairs)

    before = distance()
    prune = Pruning(parse_lpot(KD))
    prune.model, prune.train_dataloader = common.Model(model), batches
    with pytest.raises(UserError, match=r"assign prune\.teacher_model"):
        prune()
    prune.teacher_model = teacher
    prune()
    for name, zero in zeros.items():
        assert torch.equal(model.get_parameter(name).detach() == 0, zero)
    assert distance() < 0.9 * before


def test_hooks_take_the_teachers_outputs_too() -> None:
    prune = Pruning(parse_lpot(KD))
    student, logits = torch.randn(3, 4), torch.randn(3, 4)
    given = prune.on_after_compute_loss(None, student, torch.tensor(1.0), logits)
    prune.teacher_model = _Gives()
    made = prune.on_after_compute_loss({"x": logits}, student, torch.tensor(1.0))
    assert float(given) == pytest.approx(float(made))


class _Gives(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return SimpleNamespace(logits=x)


def test_criterion_mistakes_are_told_together() -> None:
    text = KD.replace("temperature: 2.0", "temperature: 0, temprature: 1")
    with pytest.raises(UserError) as caught:
        parse_lpot(text.replace("[0, 1]", "[0.5, 0.6]").replace("[CE, KL]", "[CE, MSE]"))
    message = str(caught.value)
    for part in ("4 problems", "line 6", "did you mean temperature", "sum to 1", "[CE, KL]"):
        assert part in message


@pytest.mark.long
def test_a_sparse_checkpoint_is_distilled_by_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, sparse, run = images(tmp_path / "images"), tmp_path / "sparse", tmp_path / "run"
    assert main(words(config(tmp_path / "conf.yaml", root, SMALL), sparse)) == 0
    changes = SMALL | {"prune_type: basic_magnitude": "prune_type: pattern_lock"}
    conf = config(tmp_path / "lock.yaml", root, changes | {"end_epoch: 10": "end_epoch: 1"})
    start = ["--dense_checkpoint", str(sparse / "model.safetensors")]
    assert main(words(conf, run, *start, "--enbl_dst")) == 0
    before, after = (load_file(r / "model.safetensors") for r in (sparse, run))
    name = "layer1.0.conv1.weight"
    assert torch.equal(before[name] == 0, after[name] == 0)
    assert int((after[name] == 0).sum()) == round(0.97 * 36864)
    assert not torch.equal(before[name], after[name])
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["distilled"], summary["method"]) == (True, "pattern_lock")
    capsys.readouterr()
    for more, part in (
        (["--enbl_dst"], "distillation needs a trained teacher"),
        (["--dst_checkpoint", start[1]], "nothing distils; add --distill"),
        (["--ws_prune_ratio", "0.5"], "--ws_prune_ratio 0.5: what is pruned, and how, comes from"),
    ):
        assert main(words(conf, tmp_path / "none", *more)) == 2
        assert part in capsys.readouterr().err
