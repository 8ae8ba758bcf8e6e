"""The layer database: what it answers, and what it makes of its file."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.rollout_parts import SIDE, accuracy, table_of, tiny_data, tiny_network
from ws_learner.config import RolloutConfig, WeightSparseConfig
from ws_learner.pruning.layer_solvers.least_squares import LayerRegression
from ws_learner.pruning.patterns.layout import Layout
from ws_learner.pruning.patterns.mask import count_zeros, keep_largest
from ws_learner.search.context import allocation_context
from ws_learner.search.owl import owl
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.rollout.gram import collect_grams
from ws_learner.search.rollout.layer_database import LayerDatabase

LEVELS = (0.0, 0.3, 0.6, 0.9)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return tiny_network().eval()


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(16, 3, SIDE, SIDE, generator=generator) for _ in range(2)]


def open_in(folder: Path | None, model: nn.Module, **changes: Any) -> tuple[LayerDatabase, int]:
    """The database, and how often the calibration images were read."""
    reads: list[int] = []

    def read() -> list[Tensor]:
        reads.append(1)
        return images()

    settings: dict[str, Any] = {"levels": LEVELS, "seed": 0, "facts": {"data": "noise"}} | changes
    database = LayerDatabase.open(model, read, layers=table_of(model), cache_dir=folder, **settings)
    return database, len(reads)


def same(ours: LayerDatabase, theirs: LayerDatabase, model: nn.Module) -> bool:
    rows = table_of(model)
    pairs = [(i, z) for i, row in enumerate(rows) for z in (1, row.weights // 3, row.weights - 1)]
    return np.array_equal(ours.curves()[1], theirs.curves()[1]) and all(
        torch.equal(ours.weights(*pair), theirs.weights(*pair)) for pair in pairs
    )


def test_weights_are_the_regression_of_the_magnitude_mask() -> None:
    model = network()
    rows = table_of(model)
    database, _ = open_in(None, model)
    grams = collect_grams(model, images(), layers=rows, seed=0)
    for layer, row in enumerate(rows):
        dense = model.get_parameter(row.name).detach()
        for zeros in (0, 1, row.weights // 2, row.weights):
            mask = keep_largest(dense.abs(), zeros)
            solved = database.weights(layer, zeros)
            assert count_zeros(solved) == zeros
            torch.testing.assert_close(solved, LayerRegression(dense, grams[layer]).solve(mask))


def test_curves_rise_from_zero_to_at_most_one() -> None:
    database, _ = open_in(None, network())
    ratios, errors = database.curves()
    assert ratios.tolist() == list(LEVELS)
    assert errors.shape == (4, len(LEVELS))
    assert (errors[:, 0] == 0).all()
    assert (np.diff(errors, axis=1) > 0).all()
    assert (errors <= 1).all()


def test_a_second_opening_reads_the_file_and_no_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = network()
    built, first = open_in(tmp_path, model)
    capsys.readouterr()
    read, second = open_in(tmp_path, model)
    assert (first, second) == (1, 0)
    assert capsys.readouterr().err == ""
    assert same(built, read, model)
    assert same(built, open_in(None, model)[0], model)


@pytest.mark.parametrize("change", [{"seed": 1}, {"levels": (0.0, 0.5)}, {"facts": {"data": "x"}}])
def test_other_settings_do_not_share_a_file(tmp_path: Path, change: dict[str, Any]) -> None:
    model = network()
    open_in(tmp_path, model)
    assert open_in(tmp_path, model, **change)[1] == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_another_network_does_not_share_a_file(tmp_path: Path) -> None:
    open_in(tmp_path, network())
    other = network()
    other[1].running_mean += 1  # not even with other batch-norm statistics
    assert open_in(tmp_path, other)[1] == 1


def test_the_same_weights_with_another_forward_do_not_share_a_file(tmp_path: Path) -> None:
    """Other activations give other Gram matrices, and so other error curves."""
    model, other = network(), network()
    other[2] = nn.Hardtanh()  # type: ignore[index]
    built, _ = open_in(tmp_path, model)
    found, reads = open_in(tmp_path, other)
    assert reads == 1
    assert not np.array_equal(found.curves()[1], built.curves()[1])
    assert same(found, open_in(None, other)[0], other)


def test_other_examples_under_the_same_digest_do_not_share_a_file(tmp_path: Path) -> None:
    def evaluator(seed: int) -> RolloutEvaluator:
        data = dataclasses.replace(tiny_data(seed), digest="made up")
        return RolloutEvaluator(
            network(),
            data,
            layers=table_of(network()),
            loss=nn.functional.cross_entropy,
            metric=accuracy,
            config=RolloutConfig(nb_smpls_rg=32, nb_smpls_bn=0),
            seed=0,
            cache_dir=tmp_path,
        )

    first, second = evaluator(0), evaluator(1)
    assert len(list(tmp_path.iterdir())) == 2
    assert not np.array_equal(first.curves()[1], second.curves()[1])


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "stranger"])
def test_a_damaged_file_is_reported_and_built_again(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = network()
    built, _ = open_in(tmp_path, model)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        data[-5] ^= 0x10
        path.write_bytes(data)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        open_in(tmp_path, model, seed=5)
        (other,) = set(tmp_path.iterdir()) - {path}
        other.replace(path)
    capsys.readouterr()
    again, reads = open_in(tmp_path, model)
    said = capsys.readouterr().err
    assert str(path) in said
    assert "rebuilding it" in said
    assert reads == 1
    assert same(built, again, model)
    assert open_in(tmp_path, model)[1] == 0


def test_memory_is_bounded_and_does_not_change_answers() -> None:
    model = network()
    rows = table_of(model)
    weights = [model.get_parameter(row.name) for row in rows]
    grams = collect_grams(model, images(), layers=rows, seed=0)
    large = LayerDatabase(weights, grams, levels=LEVELS)
    small = LayerDatabase(weights, grams, levels=LEVELS, memory=max(w.nbytes for w in weights))
    for zeros in (5, 40, 5, 60, 40):
        for layer in range(len(rows)):
            assert torch.equal(small.weights(layer, zeros), large.weights(layer, zeros))
    assert small.held <= max(w.nbytes for w in weights) < large.held


def test_a_pickled_copy_gives_the_same_answers() -> None:
    model = network()
    database, _ = open_in(None, model)
    assert same(database, pickle.loads(pickle.dumps(database)), model)


def test_wanda_scores_are_magnitudes_times_the_norms_of_the_inputs() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2, 50, 3)) * [[[1.0]], [[10.0]]]  # of two groups, three inputs each
    grams = torch.from_numpy(inputs.transpose(0, 2, 1) @ inputs / 50).float()
    grouped, turned = rng.normal(size=(4, 3)), rng.normal(size=(3, 5))
    database = LayerDatabase(
        [torch.from_numpy(grouped).float(), torch.from_numpy(turned).float()],
        [grams, grams[:1]],
        levels=LEVELS,
        layouts=[Layout(), Layout(axes="io")],
    )
    first, second = database.wanda_scores()
    norms = np.sqrt((inputs**2).mean(1))  # (2, 3)
    expected = [[abs(grouped[o, i]) * norms[o // 2, i] for i in range(3)] for o in range(4)]
    np.testing.assert_allclose(first, np.ravel(expected), rtol=1e-5)
    expected = [[abs(turned[i, o]) * norms[0, i] for i in range(3)] for o in range(5)]
    np.testing.assert_allclose(second, np.ravel(expected), rtol=1e-5)


def test_owl_of_a_network_is_owl_of_its_inputs() -> None:
    data, model = tiny_data(), network()
    evaluator = RolloutEvaluator(
        model, data, layers=table_of(model), loss=nn.functional.cross_entropy, metric=accuracy,
        config=RolloutConfig(nb_smpls_rg=64), seed=0, cache_dir=None,
    )  # fmt: skip
    scores = evaluator.wanda_scores()
    for row, found, gram in zip(table_of(model), scores, evaluator.database.grams, strict=True):
        rows = model.get_parameter(row.name).detach().reshape(row.shape[0], -1)
        group = torch.arange(len(rows)) * len(gram) // len(rows)
        norms = torch.stack([gram[g].diagonal().sqrt() for g in group])
        np.testing.assert_allclose(found, (rows.abs() * norms).flatten(), rtol=1e-4)
    config = WeightSparseConfig(ws_prune_ratio=0.6)
    context = allocation_context(
        model, table_of(model), config, curves=evaluator.curves, wanda_scores=evaluator.wanda_scores
    )
    zeros = owl(context)
    assert zeros.sum() == context.budget
    shares = [float((s > 5 * s.mean()).mean()) for s in scores]
    ratios = zeros / context.weights
    assert ratios[np.argmax(shares)] == ratios.min() < ratios.max()
