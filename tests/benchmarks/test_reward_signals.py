"""Both rewards by their definitions, and the correlations by group."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from scipy.stats import spearmanr

from benchmarks.reward_signals import SIGNALS, signals, spearman_rows


def test_signals_are_what_they_are_called() -> None:
    outputs, dense = torch.randn(20, 5), torch.randn(20, 5)
    targets = torch.randint(5, (20,))
    q, p = (softmax(z.double().numpy(), 1) for z in (outputs, dense))
    kl = np.mean([sum(a * np.log(a / b)) for a, b in zip(p, q, strict=True)])
    events = np.mean([sum(a[a > b] - b[a > b]) for a, b in zip(p, q, strict=True)])  # sup |P - Q|
    right = np.mean(q.argmax(1) == targets.numpy())
    found = signals(outputs, dense, targets)
    assert list(found.values()) == pytest.approx([np.exp(-kl), 1 - events, right])
    assert list(signals(dense, dense, targets).values())[:2] == pytest.approx([1, 1])


def test_each_network_target_and_seed_is_correlated_alone() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        [
            {"network": "n", "target": 0.9, "seed": seed, "trained": seed + rng.random()}
            | {name: -seed + rng.random() for name in SIGNALS}
            for seed in (0, 1)
            for _ in range(12)
        ]
    )
    table = spearman_rows(frame).set_index("seed")
    for seed, part in frame.groupby("seed"):
        top = part.nlargest(6, "trained")
        for name in SIGNALS:
            whole = spearmanr(part[name], part["trained"]).statistic
            better = spearmanr(top[name], top["trained"]).statistic
            assert table.loc[seed, name] == pytest.approx(whole)
            assert table.loc[seed, f"{name}, top"] == pytest.approx(better)
