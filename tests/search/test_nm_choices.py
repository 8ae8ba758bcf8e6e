from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from experiments.run import main
from ws_learner.search.knapsack_solver import solve_knapsack

TINY = str(Path(__file__).parents[1] / "support" / "tiny_vit_experiment.py")
SEARCH = [
    *("--ws_nb_rlouts", "10", "--ws_nb_rlouts_min", "6", "--ws_rlouts_per_round", "4"),
    *("--ws_nb_smpls_rg", "60", "--ws_nb_smpls_bn", "50", "--ws_nb_iters_feval", "1"),
    *("--ddpg_nb_updates", "2", "--ws_nb_rescore", "2", "--workers", "0"),
]


@settings(max_examples=60)
@given(data=st.data())
def test_the_choice_is_the_best_of_all(data: st.DataObject) -> None:
    layers = data.draw(st.integers(1, 4))
    whole = st.lists(st.integers(0, 40), min_size=1, max_size=5, unique=True)
    choices = [np.array(sorted(data.draw(whole))) for _ in range(layers)]
    price = st.floats(0, 1)
    prices = [np.sort([data.draw(price) for _ in counts]) for counts in choices]
    most = sum(int(counts[-1]) for counts in choices)
    budget = data.draw(st.integers(0, most))
    found = solve_knapsack(choices, prices, budget=budget)
    assert found.sum() >= budget
    cost = {
        tuple(int(c) for c in combination): sum(
            p[counts.tolist().index(c)]
            for p, counts, c in zip(prices, choices, combination, strict=True)
        )
        for combination in itertools.product(*choices)
        if sum(combination) >= budget
    }
    assert cost[tuple(found.tolist())] == pytest.approx(min(cost.values()))
    coarse = solve_knapsack(choices, prices, budget=budget, cells=3)
    assert tuple(coarse.tolist()) in cost
    with pytest.raises(ValueError, match="at most"):
        solve_knapsack(choices, prices, budget=most + 1)


@pytest.mark.long
@pytest.mark.parametrize("protocol", ["knapsack", "owl", "progression", "optimal"])
def test_each_layer_gets_an_n_of_its_own(
    protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WS_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    words = [TINY, "--ws_method", "srste", "--ws_pattern", "n:8", "--ws_location", "ff,q,k"]
    words += ["--ws_prune_ratio", "0.5", "--ws_prune_ratio_prtl", protocol, "--nb_epochs", "2"]
    assert main([*words, *SEARCH, "--run_dir", "run"]) == 0
    state, table = load_file("run/model.safetensors"), pd.read_csv("run/ratios.csv")
    kept: dict[str, int] = {}
    for name in table.loc[table["prune_ratio"] > 0, "layer"]:
        rows = (32,) if "qkv" in name else (len(state[name]),)
        groups = (state[name][: rows[0]] != 0).reshape(-1, 8).sum(1).unique().tolist()
        assert len(groups) == 1, name
        kept[name] = groups[0]
        assert "mlp" in name or "qkv" in name
        assert (state[name][rows[0] :] != 0).all()
    summary = json.loads(Path("run/summary.json").read_text())
    assert len(set(kept.values())) > 1  # the layers differ
    unit = 64 * 16 / 8 / 6400  # one N of the largest layer, as a share of all weights
    assert abs(summary["achieved_prune_ratio"] - 0.5) <= unit
    assert summary["dense_accuracy"] is not None
