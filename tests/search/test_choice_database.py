"""The choice database: errors, masks, weights and own divergences against independent oracles."""

from __future__ import annotations

import copy
import os
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from envs import LayerRow
from tests.support.rollout_parts import SIDE, small_config, tiny_data, tiny_evaluator
from ws_learner.config import WeightSparseConfig
from ws_learner.core import LayerChoice, UserError
from ws_learner.deploy.runtime.quantisation import quantise_weight
from ws_learner.pruning import Sparsifier, trained_by
from ws_learner.pruning.layer_solvers.least_squares import LayerRegression
from ws_learner.pruning.layer_solvers.unit_least_squares import UnitRegression
from ws_learner.pruning.layers.prunable import parameter_of
from ws_learner.pruning.layers.table import layer_table
from ws_learner.pruning.patterns.layout import Layout
from ws_learner.search.rollout.choice_database import ChoiceDatabase
from ws_learner.search.rollout.choice_grid import ChoiceGrid
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.rollout.int8 import input_noise, rounded
from ws_learner.search.rollout.tensor_file import TensorFile
from ws_learner.training.sparse import build_method_config, with_layer_patterns

PATTERNS = ("unstructured", "4x1", "4x4", "2:4", "1xchannel")


@cache
def evaluator_in(folder: Path | None = None) -> RolloutEvaluator:
    return tiny_evaluator(folder, nb_smpls_own=50)


def opened(folder: Path | None = None, **settings: Any) -> ChoiceDatabase:
    settings = {"patterns": PATTERNS, "dtypes": ("fp32", "int8")} | settings
    return ChoiceDatabase.open(evaluator_in(folder), **settings)


def in_blocks(mask: Tensor, height: int, width: int) -> bool:
    """Whether each whole block of (O, taps x I) has one value; by loops."""
    matrix = mask.movedim(1, -1).reshape(len(mask), -1).numpy()
    return all(
        len(set(matrix[i : i + height, j : j + width].flat)) == 1
        for i in range(0, matrix.shape[0], height)
        for j in range(0, matrix.shape[1], width)
    )


def test_every_choice_has_exact_zeros_in_whole_units() -> None:
    database = opened()
    rows = database._rollouts.layers
    seen = set()
    for layer, (row, choices) in enumerate(zip(rows, database.choices, strict=True)):
        assert choices[0] == LayerChoice(pattern="unstructured", zeros=0, dtype="fp32")
        assert len(set(choices)) == len(choices)
        for choice in choices:
            mask, weight = database.mask(layer, choice), database.weight(layer, choice)
            assert mask.shape == weight.shape == row.shape
            assert int((~mask).sum()) == choice.zeros < row.weights
            assert not weight[~mask].any()
            seen.add(choice.pattern)
            sides = {"4x1": (4, 1), "4x4": (4, 4), "1xchannel": (1, row.weights // row.shape[0])}
            if choice.pattern in sides:
                assert in_blocks(mask, *sides[choice.pattern])
            if choice.pattern == "2:4" and choice.zeros:
                groups = mask.movedim(1, -1).reshape(-1, 4)
                assert (groups.sum(1) == 2).all()
    assert seen == set(PATTERNS)


def test_two_of_four_is_left_out_where_it_does_not_divide() -> None:
    choices = opened().choices
    inputs = [3, 1, 8, 48]
    for own, width in zip(choices, inputs, strict=True):
        assert any(choice.pattern == "2:4" for choice in own) == (width % 4 == 0)
    skipped = opened(patterns=("4x1", "16x4"), remainder="skip").choices
    assert {choice.pattern for own in skipped for choice in own if choice.zeros} == {"4x1"}
    with pytest.raises(UserError, match="`ws_pattern` 16x4: none of the patterns fits one of"):
        opened(patterns=("16x4",), remainder="skip")
    with pytest.raises(UserError, match="`remainder` error: the pattern 16x4 does not divide"):
        opened(patterns=("16x4",), remainder="error")


@pytest.mark.parametrize(
    ("method", "kinds"),
    [
        ({"ws_method": "srste", "ws_pattern": "2:4"}, {"2:4"}),
        ({"ws_method": "movement"}, {"unstructured", "4x4", "4x1", "1xchannel"}),
        ({"ws_method": "movement", "movement_steps": "weights"}, set(PATTERNS)),
    ],
)
def test_layers_have_no_pattern_that_the_method_cannot_train(
    method: dict[str, Any], kinds: set[str]
) -> None:
    """Every choice can be planned by the method, and learned scores need matrices."""
    config = WeightSparseConfig(**method)
    database = opened(dtypes=("fp32",), trained=trained_by(config))
    rows = database._rollouts.layers
    found = {choice.pattern for own in database.choices for choice in own if choice.zeros}
    assert found == kinds
    settings = build_method_config(config, steps_per_epoch=10, total_steps=100)
    for row, own in zip(rows, database.choices, strict=True):
        for choice in own[:: max(1, len(own) // 8)]:
            if choice.zeros:
                trained = with_layer_patterns(settings, {row.name: choice.pattern}, config=config)
                zeros = {row.name: choice.zeros}
                Sparsifier(database._rollouts.dense, trained, zeros=zeros, total_steps=100)


@pytest.mark.parametrize("pattern", ["mha", "units", "2:4@ff"])
def test_patterns_of_several_layers_are_refused(pattern: str) -> None:
    with pytest.raises(UserError, match=r"cannot be one of several patterns"):
        opened(patterns=("4x1", pattern))


def test_unstructured_fp32_is_what_the_layer_database_has() -> None:
    database = opened()
    plain = database._rollouts.database
    levels, curves = plain.curves()
    for layer, (row, choices) in enumerate(
        zip(database._rollouts.layers, database.choices, strict=True)
    ):
        errors = dict(zip(choices, database.errors()[layer], strict=True))
        for level, error in zip(levels, curves[layer], strict=True):
            choice = LayerChoice(pattern="unstructured", zeros=round(level * row.weights))
            assert errors[choice] == error
            assert torch.equal(database.weight(layer, choice), plain.weights(layer, choice.zeros))


@pytest.mark.parametrize("pattern", ["4x1", "4x4", "1xchannel"])
def test_other_patterns_are_what_their_own_layer_database_has(pattern: str) -> None:
    database = opened(dtypes=("fp32",))
    plain = tiny_evaluator(pattern=pattern).database
    for layer, choices in enumerate(database.choices):
        for choice, error in zip(choices, database.errors()[layer], strict=True):
            if choice.pattern == pattern:
                own = plain.weights(layer, choice.zeros)
                assert torch.equal(own != 0, database.mask(layer, choice))
                torch.testing.assert_close(
                    database.weight(layer, choice), own, rtol=1e-2, atol=1e-3
                )
                assert error == pytest.approx(plain.error(layer, choice.zeros), rel=1e-3)


def test_rows_of_one_mask_are_solved_as_each_alone() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2, 400, 24) * torch.rand(24)
    gram = inputs.mT @ inputs / 400
    weight = torch.randn(32, 24)
    for kept in (0.9, 0.5, 0.2):
        masks = (torch.rand(8, 24) < kept).repeat_interleave(4, 0)
        masks[:4], masks[4:8] = True, False
        ours = UnitRegression(weight, gram).solve(masks)
        torch.testing.assert_close(
            ours, LayerRegression(weight, gram).solve(masks), rtol=1e-3, atol=1e-4
        )


class Layers(nn.Module):
    """A convolution without padding, a grouped one, and a linear layer, behind ReLUs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.grouped = nn.Conv2d(8, 16, 3, groups=2)
        self.last = nn.Linear(16, 12)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first(torch.sin(2 * images)).relu()  # not on a grid, as bytes are
        result: Tensor = self.last(self.grouped(hidden).relu().mean((2, 3)))
        return result


def quantised(values: Tensor, step: float) -> Tensor:
    return (values / step).round() * step


def test_int8_errors_are_those_of_the_quantised_layer() -> None:
    """Brute force: quantise weight and inputs of a layer, compare outputs on all its inputs."""
    torch.manual_seed(0)
    data, model = tiny_data(), Layers().eval()
    rows = layer_table(model, torch.zeros(2, 3, SIDE, SIDE))
    config = small_config(nb_smpls_rg=256, nb_smpls_bn=256, batch_size=256)
    evaluator = RolloutEvaluator(
        model,
        data,
        layers=rows,
        loss=functional.cross_entropy,
        metric=lambda outputs, targets: (outputs.argmax(1) == targets).float(),
        config=config,
        seed=0,
        cache_dir=None,
        device="cpu",
    )
    database = ChoiceDatabase.open(evaluator, patterns=("4x1",), dtypes=("fp32", "int8"))
    (images,) = (torch.sin(2 * inputs) for inputs in evaluator.calibration_inputs)
    with torch.no_grad():
        first = functional.conv2d(images, model.first.weight, model.first.bias).relu()
        second = model.grouped(first).relu().mean((2, 3))
    uses = [
        (images, lambda x, w: functional.conv2d(x, w)),
        (first, lambda x, w: functional.conv2d(x, w, groups=2)),
        (second, functional.linear),
    ]
    for layer, (inputs, apply) in enumerate(uses):
        low, high = min(float(inputs.min()), 0), max(float(inputs.max()), 0)
        noisy = quantised(inputs.double(), (high - low) / 255)
        dense = parameter_of(model, rows[layer].name).detach()
        outputs = apply(inputs.double(), dense.double())
        for choice, error in zip(database.choices[layer], database.errors()[layer], strict=True):
            if choice.dtype != "int8":
                continue
            fp32 = database.weight(
                layer, LayerChoice(pattern=choice.pattern, zeros=choice.zeros)
            ).double()
            scale = fp32.abs().flatten(1).amax(1).clamp(min=1e-30) / 127
            scale = scale.reshape(-1, *[1] * (fp32.dim() - 1))
            weight = (fp32 / scale).round() * scale
            torch.testing.assert_close(
                database.weight(layer, choice).double(), weight, rtol=0, atol=1e-6
            )
            found = apply(noisy, weight) - outputs
            truth = float(found.square().sum() / outputs.square().sum())
            assert error == pytest.approx(truth, rel=0.15), (layer, choice)
            if not choice.zeros:  # rounding alone: both parts are seen
                still = apply(inputs.double(), weight) - outputs
                share = float(still.square().sum()) / float(found.square().sum())
                assert 0.05 < share < 0.95


def test_weights_are_rounded_as_the_exported_ones() -> None:
    weight = torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
    weight[2], weight[:, ::3] = 0, 0
    whole, scales = quantise_weight(weight.numpy())
    theirs = torch.from_numpy(whole * scales[:, None])
    torch.testing.assert_close(rounded(weight, Layout()), theirs, rtol=1e-6, atol=0)


def test_zeros_of_inputs_and_weights_are_exact() -> None:
    model = nn.Linear(4, 2)
    rows = layer_table(model, torch.zeros(2, 4))
    inputs = torch.tensor([[0.0, 0.0, 0.0, 255.0], [0.0, 1.5, 0.0, 0.0]])
    assert input_noise(model, [inputs], layers=rows).tolist() == [pytest.approx(2 / 8 / 12)]
    weight = torch.tensor([[0.0, 1.27, -0.514], [0.0, 0.0, 0.0]])
    expected = torch.tensor([[0.0, 1.27, -0.51], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(rounded(weight, Layout()), expected)
    turned = rounded(weight.T.contiguous(), Layout("io"))
    torch.testing.assert_close(turned, expected.T)


class Idle(nn.Module):
    """A layer that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.used(inputs)
        return result


def test_int8_needs_a_range_of_inputs() -> None:
    """From the scored examples if there are no others; without any, int8 is no choice."""
    without = tiny_evaluator(nb_smpls_bn=0)
    assert without.calibration_inputs == without.exam.inputs
    model = Idle()
    rows = [
        LayerRow(name=f"{n}.weight", kind="linear", role="", shape=(2, 4), weights=8, macs=8)
        for n in ("used", "idle")
    ]
    noise = input_noise(model, [torch.ones(3, 4)], layers=rows)
    assert noise.tolist() == [pytest.approx(1 / 255**2 / 12), pytest.approx(np.nan, nan_ok=True)]
    grid = ChoiceGrid.build(
        model,
        rows,
        patterns=("2x2",),
        dtypes=("fp32", "int8"),
        remainder="pad",
        trained="masks",
        pool="mean",
        levels={},
        without={"int8": ["idle.weight"]},
    )
    assert {choice.dtype for choice in grid.choices[0]} == {"fp32", "int8"}
    assert {choice.dtype for choice in grid.choices[1]} == {"fp32"}


def test_own_divergences_are_near_to_measured_ones() -> None:
    """Copies of the network with one layer changed, at choices that are no anchors."""
    evaluator = evaluator_in()
    database = ChoiceDatabase.open(evaluator, patterns=PATTERNS, dtypes=("fp32", "int8"))
    found = database.own()
    assert found is not None
    batches = [inputs for inputs, _, _ in evaluator.exam.compared(50)]

    def outputs(network: nn.Module) -> Tensor:
        network = copy.deepcopy(network)
        for module in network.modules():
            module.train(isinstance(module, nn.BatchNorm2d))
        with torch.no_grad():
            return torch.cat([network(inputs) for inputs in batches]).double().log_softmax(1)

    dense, ratios = outputs(evaluator.dense), []
    for layer, (row, choices) in enumerate(zip(evaluator.layers, database.choices, strict=True)):
        assert found[layer][0] == 0
        assert (found[layer][1:] > 0).all()
        for choice, own in list(zip(choices, found[layer], strict=True))[1::3]:
            network = copy.deepcopy(evaluator.dense)
            with torch.no_grad():
                parameter_of(network, row.name).copy_(database.weight(layer, choice))
            kl = float((dense.exp() * (dense - outputs(network))).sum(1).mean())
            if choice.zeros and kl > 1e-4:
                ratios.append(np.log(kl / own))
    assert len(ratios) > 40
    assert abs(np.median(ratios)) < np.log(1.25)
    assert np.quantile(np.abs(ratios), 0.8) < np.log(2)


def test_without_a_meaning_of_outputs_there_are_no_own_divergences() -> None:
    evaluator = copy.copy(evaluator_in())
    evaluator._exam = copy.copy(evaluator._exam)
    evaluator._exam.outputs = None
    assert ChoiceDatabase.open(evaluator, patterns=("4x1",)).own() is None


def test_it_is_read_from_its_file_and_built_again_for_other_choices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds, build = [], ChoiceDatabase._build

    def counted(self: ChoiceDatabase, path: Path | None) -> None:
        builds.append(1)
        build(self, path)

    monkeypatch.setattr(ChoiceDatabase, "_build", counted)
    first = opened(tmp_path)
    own = first.own()
    (file,) = tmp_path.glob("choices-*")
    again = opened(tmp_path)
    assert len(builds) == 1
    assert again.choices == first.choices
    assert own is not None
    for left, right in (
        *zip(first.errors(), again.errors(), strict=True),
        *zip(own, again.own() or (), strict=True),
    ):
        assert left.tolist() == right.tolist()
    for layer, choices in enumerate(first.choices):
        for choice in choices:
            assert torch.equal(first.weight(layer, choice), again.weight(layer, choice))
    opened(tmp_path, dtypes=("fp32",))
    opened(tmp_path, patterns=("4x1",))
    assert len(builds) == 3
    whole = file.read_bytes()
    for damaged in (whole[:100], b"", whole[:-8] + bytes(8)):
        file.write_bytes(damaged)
        assert opened(tmp_path).errors()[0].tolist() == first.errors()[0].tolist()
    assert len(builds) == 6
    assert not [*tmp_path.glob(".choices*"), *tmp_path.glob("*.part")]


def test_what_killed_builds_left_behind_is_removed_after_a_day(tmp_path: Path) -> None:
    old, new = (tmp_path / f".choices-{name}-1.part" for name in ("old", "new"))
    for part in (old, new):
        part.write_bytes(b"")
    os.utime(old, (0, 0))
    opened(tmp_path, patterns=("4x4",), dtypes=("fp32",))
    assert (old.exists(), new.exists()) == (False, True)


def test_a_full_disk_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator_in(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TensorFile, "create", full)
    with pytest.raises(UserError, match=r"choice database .*: .*No space left on device"):
        opened(tmp_path, patterns=("4x4",), dtypes=("fp32",))
    assert not [*tmp_path.glob(".choices*")]


def test_grams_are_collected_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = tiny_evaluator(tmp_path)
    monkeypatch.setattr(
        "ws_learner.search.rollout.layer_database.collect_grams",
        lambda *_, **__: pytest.fail("collected again"),
    )
    ChoiceDatabase.open(evaluator, patterns=PATTERNS)
    ChoiceDatabase.open(tiny_evaluator(tmp_path), patterns=("16x4",))


def test_copies_in_other_processes_have_the_same_weights(tmp_path: Path) -> None:
    database = opened(tmp_path)
    other = pickle.loads(pickle.dumps(database))
    assert other._file is None  # other machines do not have it
    for layer, choices in enumerate(database.choices):
        for choice in choices:
            torch.testing.assert_close(database.weight(layer, choice), other.weight(layer, choice))


def test_impossible_choices_are_refused() -> None:
    database = opened()
    with pytest.raises(ValueError, match=r"0\.weight: whole units of 4x4 cannot make 3 zeros"):
        database.mask(0, LayerChoice(pattern="4x4", zeros=3))
    with pytest.raises(ValueError, match=r"the pattern 2:4 is no choice of this layer"):
        database.weight(0, LayerChoice(pattern="2:4", zeros=8))
