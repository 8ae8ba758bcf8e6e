"""The training loop: pure schedules, exact resume, weight decay where it belongs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.digits import digits_splits
from tests.support.digits_experiment import network
from ws_learner.config.recipe import Recipe, learning_rate
from ws_learner.core.device import ComputeDevice
from ws_learner.core.errors import UserError
from ws_learner.report.metrics import MetricsLog
from ws_learner.training.evaluation import evaluate, top_k_accuracy
from ws_learner.training.phase import TrainingPhase
from ws_learner.training.trainer import Callback, Trainer, build_optimizer

PLAIN = ComputeDevice(device="cpu", bf16=False, channels_last=False)


def criterion(outputs: Tensor, targets: Tensor, inputs: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets)


def fit(folder: Path, recipe: Recipe) -> TrainingPhase:
    return TrainingPhase(
        phase="dense",
        data=digits_splits(),
        criterion=criterion,
        metric=top_k_accuracy,
        recipe=recipe,
        compute=PLAIN,
        seed=7,
        log=MetricsLog(folder / "metrics.csv"),
        checkpoint=folder / "dense.pt",
    )


class Stop(Callback):
    """Dies after a step, as a power cut would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Trainer, loss: Tensor) -> None:
        if trainer.step == self.step:
            raise KeyboardInterrupt


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_last_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(nb_epochs=3, batch_size=50, lrn_rate=0.05, nesterov=True)
    monkeypatch.setenv("WS_CHECKPOINT_SECONDS", "0")
    torch.manual_seed(0)
    start = network(4).state_dict()
    nets = [network(4), network(4)]
    for net in nets:
        net.load_state_dict(start)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    fit(whole, recipe).run(nets[0])
    # 20 steps an epoch: once inside an epoch, once at its end, once between two rows of the log.
    for stop in (13, 20, 37):
        torch.manual_seed(stop)  # whatever else the process draws must not matter
        with pytest.raises(KeyboardInterrupt):
            fit(cut, recipe).run(nets[1], before=[Stop(stop)])
    fit(cut, recipe).run(nets[1])
    for name, tensor in nets[0].state_dict().items():
        assert torch.equal(tensor, nets[1].state_dict()[name]), name
    assert (whole / "metrics.csv").read_text() == (cut / "metrics.csv").read_text()


def test_learning_rates_against_their_definitions() -> None:
    total = 200
    step = Recipe(nb_epochs=10, lrn_rate=1.0, lrn_schedule="step", milestones=(0.5, 0.75))
    got = [learning_rate(step, t, total_steps=total) for t in range(total)]
    assert got == [1.0] * 100 + [0.1] * 50 + [pytest.approx(0.01)] * 50
    cosine = Recipe(nb_epochs=10, lrn_rate=1.0, lrn_schedule="cosine")
    oracle = 0.5 * (1 + np.cos(np.pi * np.arange(total) / total))
    got = [learning_rate(cosine, t, total_steps=total) for t in range(total)]
    np.testing.assert_allclose(got, oracle, rtol=1e-12)
    cycle = Recipe(nb_epochs=10, lrn_rate=1.0, lrn_schedule="one-cycle", warmup=0.25)
    got = [learning_rate(cycle, t, total_steps=total) for t in range(total)]
    assert np.all(np.diff(got[:50]) > 0)
    assert np.all(np.diff(got[50:]) < 0)
    assert got[50] == 1.0 == max(got)
    decay = Recipe(
        nb_epochs=10, lrn_rate=1.0, lrn_schedule="exponential", lrn_decay=0.5, decay_every=2
    )
    got = [learning_rate(decay, t, total_steps=total) for t in range(total)]
    np.testing.assert_allclose(got, 0.5 ** (np.arange(total) // 40))


def test_weight_decay_spares_biases_and_norms() -> None:
    model = network(4)
    groups = build_optimizer(model, Recipe(nb_epochs=1, weight_decay=0.1)).param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in decayed) == (parameter.dim() > 1), name
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_evaluate_counts_every_example_once_in_evaluation_mode() -> None:
    data, model = digits_splits(), network(4)
    model.train()
    got = evaluate(model, data.test, top_k_accuracy, compute=PLAIN, batch_size=64)
    assert model.training
    model.eval()
    right = count = 0
    with torch.no_grad():
        for inputs, targets in data.test.batches(1):
            right += int(model(inputs).argmax() == targets[0])
            count += 1
    assert count == len(data.test)
    assert got == pytest.approx(right / count)


def test_top_k() -> None:
    outputs = torch.tensor([[0.1, 0.5, 0.4], [0.9, 0.05, 0.05]])
    targets = torch.tensor([2, 1])
    assert top_k_accuracy(outputs, targets).tolist() == [0.0, 0.0]
    assert top_k_accuracy(outputs, targets, k=2).tolist()[0] == 1.0


def test_a_diverging_loss_is_an_error_that_names_the_rate(tmp_path: Path) -> None:
    recipe = Recipe(nb_epochs=3, batch_size=50, lrn_rate=1e30)
    with pytest.raises(UserError, match=r"loss is (nan|inf).*`lrn_rate`"):
        fit(tmp_path, recipe).run(network(4))


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"nb_epochs": 0}, "`nb_epochs`"),
        ({"nb_epochs": math.nan}, "`nb_epochs`"),
        ({"nb_epochs": 1, "lrn_rate": -1.0}, "`lrn_rate`"),
        ({"nb_epochs": 1, "warmup": 1.0}, "warmup"),
    ],
)
def test_recipes_refuse_what_makes_no_sense(values: dict[str, float], flag: str) -> None:
    with pytest.raises(UserError, match=flag):
        Recipe(**values)  # type: ignore[arg-type]


def test_a_batch_larger_than_the_split_is_refused() -> None:
    with pytest.raises(UserError, match="`batch_size` 128"):
        Recipe(nb_epochs=1, batch_size=128).total_steps(100)


def test_images_grow_at_their_shares_of_the_run_and_are_scored_at_full_size(
    tmp_path: Path,
) -> None:
    """8 x 8 digits, 40 steps: half size for 12 steps, three quarters for 12 more."""
    sizes: list[tuple[bool, int]] = []
    pool = nn.AdaptiveAvgPool2d(1)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), pool, nn.Flatten(), nn.Linear(4, 10))
    net.register_forward_pre_hook(
        lambda module, args: sizes.append((module.training, args[0].shape[-1]))
    )
    scales = ((0.3, 0.5), (0.6, 0.75))
    fit(tmp_path, Recipe(nb_epochs=2, batch_size=50, progressive_sizes=scales)).run(net)
    trained = [size for training, size in sizes if training]
    assert trained == [4] * 12 + [6] * 12 + [8] * 16
    assert {size for training, size in sizes if not training} == {8}


def test_scaling_averages_pixels() -> None:
    """At half size, antialiased, a constant image stays constant and a mean stays a mean."""
    recipe = Recipe(nb_epochs=1, batch_size=50, progressive_sizes=((0.5, 0.5),))
    trainer = Trainer(
        model=nn.Linear(1, 1),
        split=digits_splits().train,
        recipe=recipe,
        criterion=criterion,
        compute=PLAIN,
        seed=0,
    )
    images = torch.arange(64.0).reshape(1, 1, 8, 8)
    small = trainer._scaled(images)
    assert small.shape == (1, 1, 4, 4)
    assert small.mean() == pytest.approx(31.5, abs=1e-4)
    assert torch.equal(
        trainer._scaled(torch.full((1, 1, 8, 8), 2.0)), torch.full((1, 1, 4, 4), 2.0)
    )
    with pytest.raises(UserError, match=r"`progressive_sizes` .*shape \(2, 3\)"):
        trainer._scaled(torch.zeros(2, 3))


@pytest.mark.parametrize("scales", [((0.5, 1.0),), ((0.0, 0.5),), ((0.6, 0.5), (0.3, 0.7))])
def test_sizes_that_do_not_rise_are_refused(scales: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(UserError, match="`progressive_sizes`"):
        Recipe(nb_epochs=1, progressive_sizes=scales)


def test_a_setting_that_came_later_leaves_the_identity_of_earlier_runs() -> None:
    assert "progressive_sizes" not in Recipe(nb_epochs=1).identity()
    assert Recipe(nb_epochs=1, progressive_sizes=((0.5, 0.5),)).identity()["progressive_sizes"]


@pytest.mark.parametrize("shape", [(4,), (4, 3)])
def test_an_example_without_a_target_has_no_accuracy(shape: tuple[int, ...]) -> None:
    targets = torch.zeros(shape, dtype=torch.long)
    targets[1] = -100
    outputs = torch.randn(4, 5, *shape[1:])
    with pytest.raises(UserError, match="1 of 4 examples have no target"):
        top_k_accuracy(outputs, targets)
