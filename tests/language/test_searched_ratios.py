"""Searches by rollouts on a random network: scores against whole forward passes, and runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from experiments.run import main
from tests.support.tiny_language import make_folder, make_text
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.layer_rows import block_layers
from ws_learner.language.rollouts import Rollouts
from ws_learner.language.settings import RewardName
from ws_learner.language.solved_blocks import SolvedBlocks, solve_blocks
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
    changed = {k: v for n, level in enumerate(levels) for k, v in solved.read(n, level).items()}
    zeros = np.array([round(solved.ratios[level] * weights[n]) for n, level in enumerate(levels)])
    score = Rollouts(network, WINDOWS, solved, weights, reward=reward)([zeros])[0]

    def predictions(changes: dict[str, Tensor]) -> Tensor:
        with whole_network(network) as model, torch.no_grad():
            for name, value in changes.items():
                model.get_parameter(name).copy_(value)
            return torch.softmax(model(WINDOWS).logits.double(), -1)

    dense, pruned = predictions({}), predictions(changed)
    taken = pruned[:, :-1].gather(2, WINDOWS[:, 1:, None])
    loss = -float(taken.log().mean())
    wanted = {
        "kl": math.exp(-float((dense * (dense / pruned).log()).sum(-1).mean())),
        "tv": 1 - float((dense - pruned).abs().sum(-1).mean()) / 2,
        "perplexity": math.exp(-loss),
    }
    assert score.reward == pytest.approx(wanted[reward], rel=1e-4)
    assert score.accuracy == pytest.approx(math.exp(loss), rel=1e-4)


@pytest.mark.parametrize("protocol", ["bayesian", "optimal"])
def test_a_search_meets_the_target_and_its_best_profile_is_taken(
    protocol: str, tmp_path: Path
) -> None:
    make_folder(tmp_path / "net")
    make_text(tmp_path / "text.txt")
    words = ["lm_at_text", "--model", f"hf:{tmp_path / 'net'}", "--text", str(tmp_path / "*.txt")]
    words += ["--window", "24", "--calibration_windows", "4", "--test_windows", "4"]
    words += ["--protocol", protocol, "--num_rollouts", "12", "--prune_ratio", "0.6"]
    run = tmp_path / "run"
    assert main([*words, "--run_dir", str(run)]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert summary["achieved_prune_ratio"] == pytest.approx(0.6, abs=1e-4)
    table, ratios = pd.read_csv(run / "rollouts.csv"), pd.read_csv(run / "ratios.csv")
    assert len(table) <= 12
    assert set(table["kind"]) - {"prior"}  # the protocol proposed some
    top = table.iloc[int(table["reward"].argmax())]
    own = ratios["layer"].str.contains(r"layers\.0\.")
    counts = (ratios["achieved"] * ratios["weights"])[own].sum()
    columns = [name for name in table.columns if name.endswith("layers.0")]
    assert len(columns) == 1
    assert top[columns[0]] == pytest.approx(counts, abs=4)
