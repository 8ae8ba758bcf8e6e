"""Searches by rollouts on a random network: scores against whole forward passes, and runs."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from experiments.run import main
from tests.support.tiny_language import make_folder, make_text
from ws_learner.core import UserError, sha256_of
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.finalists import choose_finalist
from ws_learner.language.layer_rows import block_layers
from ws_learner.language.marginal import marginal_divergences, marginal_profile
from ws_learner.language.measured_profiles import Measured
from ws_learner.language.predictions import DensePredictions
from ws_learner.language.rollouts import Rollouts
from ws_learner.language.settings import RewardName
from ws_learner.language.solved_blocks import SolvedBlocks, ratio_grid, solve_blocks
from ws_learner.language.whole import whole_network
from ws_learner.pruning import parse_pattern

WINDOWS = torch.randint(0, 300, (4, 24), generator=torch.Generator().manual_seed(1))


def solved_in(folder: Path) -> tuple[BlockNetwork, SolvedBlocks, Any]:
    network = BlockNetwork(make_folder(folder / "net"))
    layers = block_layers(network)
    solved = solve_blocks(
        network,
        layers,
        WINDOWS,
        pattern=parse_pattern("unstructured"),
        target=0.6,
        folder=folder / "solved",
    )
    sizes = [sum(one.row.weights for one in layers if one.block == n) for n in range(2)]
    return network, solved, np.array(sizes)


def tensors_at(solved: SolvedBlocks, levels: Sequence[int]) -> dict[str, Tensor]:
    return {k: v for n, level in enumerate(levels) for k, v in solved.read(n, level).items()}


def predictions(network: BlockNetwork, changes: dict[str, Tensor]) -> Tensor:
    """Probabilities of the whole network in memory."""
    with whole_network(network) as model, torch.no_grad():
        for name, value in changes.items():
            model.get_parameter(name).copy_(value)
        return torch.softmax(model(WINDOWS).logits.double(), -1)


def loss_of(predicted: Tensor) -> float:
    return -float(predicted[:, :-1].gather(2, WINDOWS[:, 1:, None]).log().mean())


def divergence_at(network: BlockNetwork, solved: SolvedBlocks, levels: Sequence[int]) -> float:
    dense, pruned = predictions(network, {}), predictions(network, tensors_at(solved, levels))
    return float((dense * (dense / pruned).log()).sum(-1).mean())


def test_every_ratio_of_the_database_has_its_zeros(tmp_path: Path) -> None:
    network, solved, _ = solved_in(tmp_path)
    for layer in block_layers(network):
        for level, ratio in enumerate(solved.ratios):
            weight = solved.read(layer.block, level)[layer.key]
            assert int((weight == 0).sum()) == round(ratio * weight.numel())


@pytest.mark.parametrize("reward", ["kl", "tv", "perplexity"])
def test_scores_are_those_of_whole_forward_passes(reward: RewardName, tmp_path: Path) -> None:
    network, solved, weights = solved_in(tmp_path)
    levels = (2, 7)
    changed = tensors_at(solved, levels)
    zeros = np.array([round(solved.ratios[level] * weights[n]) for n, level in enumerate(levels)])
    score = Rollouts(network, WINDOWS, solved, weights, folder=tmp_path, reward=reward)([zeros])[0]
    dense, pruned = predictions(network, {}), predictions(network, changed)
    loss = loss_of(pruned)
    wanted = {
        "kl": math.exp(-float((dense * (dense / pruned).log()).sum(-1).mean())),
        "tv": 1 - float((dense - pruned).abs().sum(-1).mean()) / 2,
        "perplexity": math.exp(loss_of(dense) - loss),
    }
    assert score.reward == pytest.approx(wanted[reward], rel=1e-4)
    assert score.accuracy == pytest.approx(math.exp(loss), rel=1e-4)


@given(
    st.lists(st.floats(0.36, 0.84), min_size=2, max_size=12),
    st.integers(1, 400),
)
def test_rounding_to_the_ratios_keeps_the_sum(ratios: list[float], size: int) -> None:
    """Each block within a step of its own ratio, the sum within half a step of one block."""
    solved = SolvedBlocks(Path(), ratio_grid(0.6))
    weights = np.full(len(ratios), size * 100)
    zeros = np.rint(np.array(ratios) * weights).astype(np.int64)
    counts = solved.zeros(solved.levels(zeros, weights), weights)
    step = (solved.ratios[1] - solved.ratios[0]) * size * 100
    assert (np.abs(counts - zeros) <= step + 1).all()
    assert abs(int(counts.sum() - zeros.sum())) <= step / 2 + len(ratios)


def test_a_profile_of_the_grid_stays_as_it_is() -> None:
    solved, weights = SolvedBlocks(Path(), ratio_grid(0.7)), np.array([3540, 100, 77])
    levels = np.array([0, 8, 3])
    assert solved.levels(solved.zeros(levels, weights), weights).tolist() == levels.tolist()


def test_marginal_divergences_are_those_of_whole_networks(tmp_path: Path) -> None:
    network, solved, weights = solved_in(tmp_path)
    rollouts = Rollouts(network, WINDOWS, solved, weights, folder=tmp_path)
    found = marginal_divergences(rollouts, np.array([4, 7]), folder=tmp_path)
    for levels, value in (
        *(((4, 7), found[0, 1]), ((4, 7), found[1, 1])),
        *(((2, 7), found[0, 0]), ((6, 7), found[0, 2]), ((4, 5), found[1, 0])),
    ):
        assert value == pytest.approx(divergence_at(network, solved, levels), rel=1e-3)
    assert np.isnan(found[1, 2])  # 9 is not in the database
    rollouts.dense = None  # type: ignore[assignment]  # it need not measure again
    again = marginal_divergences(rollouts, np.array([4, 7]), folder=tmp_path)
    assert np.array_equal(again, found, equal_nan=True)


def test_the_marginal_profile_is_the_best_of_all(tmp_path: Path) -> None:
    """Against every profile of four blocks that moves by two levels at most."""
    network, _, _ = solved_in(tmp_path)
    solved, weights = SolvedBlocks(tmp_path, ratio_grid(0.6)), np.full(4, 10_000)
    rollouts = Rollouts(network, WINDOWS, solved, weights, folder=tmp_path)
    costs = np.array([[1, 2, 5], [1.8, 2, 2.1], [0.5, 2, 4], [1.9, 2, 2.4]])
    curves = [np.polyfit([-2, 0, 2], row, 2) for row in costs]

    def total(moves: Sequence[int]) -> float:
        return sum(float(np.polyval(c, move)) for c, move in zip(curves, moves, strict=True))

    every = [m for m in itertools.product(range(-2, 3), repeat=4) if sum(m) == 0]
    zeros = marginal_profile(rollouts, np.full(4, 4), costs, budget=24_000, reach=2)
    moves = (solved.levels(zeros, weights) - 4).tolist()
    assert sum(moves) == 0
    assert total(moves) == pytest.approx(min(map(total, every)))


def test_no_profile_is_measured_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, solved, weights = solved_in(tmp_path)
    levels = np.array([3, 5])
    first = Rollouts(network, WINDOWS, solved, weights, folder=tmp_path).measure(levels)
    again = Rollouts(network, WINDOWS, solved, weights, folder=tmp_path, reward="tv")
    other = Rollouts(network, WINDOWS[:2], solved, weights, folder=tmp_path)
    assert other.measure(levels) != first  # windows of its own
    monkeypatch.setattr(again.dense, "compare", None)
    assert again.measure(levels) == first
    for kept in tmp_path.glob("measured_*.csv"):
        kept.write_text("levels,loss\n3 5,x\n")
    with pytest.raises(UserError, match=r"measured_.*\.csv"):
        Rollouts(network, WINDOWS, solved, weights, folder=tmp_path)


def test_the_finalist_of_least_divergence_on_other_windows_is_chosen(tmp_path: Path) -> None:
    network, solved, weights = solved_in(tmp_path)
    finalists = [np.array(levels) for levels in ((4, 4), (1, 7), (7, 1))]
    rewards = []
    for levels in finalists:
        dense = predictions(network, {})
        other = predictions(network, tensors_at(solved, levels.tolist()))
        each = (dense * (dense / other).log()).sum(-1).mean(1)
        rewards.append(float((-each).exp().mean()))
    options: Any = {"solved": solved, "weights": weights, "reward": "kl", "folder": tmp_path}
    chosen = choose_finalist(network, WINDOWS, finalists=finalists, **options)
    assert chosen.tolist() == finalists[int(np.argmax(rewards))].tolist()
    assert choose_finalist(network, WINDOWS[:0], finalists=finalists, **options) is finalists[0]


def words_in(folder: Path, protocol: str) -> list[str]:
    if not (folder / "net").exists():
        make_folder(folder / "net", blocks=4)
        make_text(folder / "text.txt")
    words = ["lm_at_text", "--model", f"hf:{folder / 'net'}", "--text", str(folder / "*.txt")]
    words += ["--window", "24", "--calibration_windows", "4", "--test_windows", "4"]
    words += ["--search_windows", "1", "--select_windows", "1", "--solver", "sparsegpt"]
    return [*words, "--protocol", protocol, "--num_rollouts", "24", "--prune_ratio", "0.6"]


@pytest.mark.parametrize("protocol", ["bayesian", "optimal"])
def test_a_search_meets_the_target_and_its_best_profile_is_taken(
    protocol: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = [*words_in(tmp_path, protocol), "--select_windows", "0"]
    assert main([*words, "--run_dir", str(run)]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert summary["achieved_prune_ratio"] == pytest.approx(0.6, abs=1e-3)
    table, ratios = pd.read_csv(run / "rollouts.csv"), pd.read_csv(run / "ratios.csv")
    assert len(table) <= 24
    assert set(table["kind"]) - {"prior"}  # the protocol proposed some
    assert table["overall_ratio"].to_numpy() == pytest.approx(0.6, abs=0.002)
    top = table.iloc[int(table["reward"].argmax())]
    for number in range(4):
        own = ratios["layer"].str.contains(rf"layers\.{number}\.")
        counts = (ratios["achieved"] * ratios["weights"])[own].sum()
        columns = [name for name in table.columns if name.endswith(f"layers.{number}")]
        assert len(columns) == 1
        assert top[columns[0]] == pytest.approx(counts, abs=4)


class KilledError(BaseException):
    """Stands for a signal that cannot be caught."""


@pytest.mark.parametrize("protocol", ["bayesian", "optimal"])
def test_a_killed_search_goes_on_to_the_same_bytes(
    protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of a round, after 17 profiles were measured."""
    words, runs = words_in(tmp_path, protocol), [tmp_path / name for name in ("whole", "killed")]
    assert main([*words, "--run_dir", str(runs[0])]) == 0
    compare, calls = DensePredictions.compare, itertools.count()

    def dies(self: DensePredictions, hidden: Tensor) -> Measured:
        if next(calls) == 17:
            raise KilledError
        return compare(self, hidden)

    with monkeypatch.context() as patch:
        patch.setattr(DensePredictions, "compare", dies)
        with pytest.raises(KilledError):
            main([*words, "--run_dir", str(runs[1])])
    assert (runs[1] / "rollouts.csv").exists()  # it had begun
    assert not (runs[1] / "summary.json").exists()
    assert main([*words, "--run_dir", str(runs[1])]) == 0
    for name in ("model.safetensors", "ratios.csv"):
        assert sha256_of(runs[0] / name) == sha256_of(runs[1] / name)
    whole, killed = (pd.read_csv(run / "rollouts.csv").drop(columns="seconds") for run in runs)
    pd.testing.assert_frame_equal(whole, killed)
