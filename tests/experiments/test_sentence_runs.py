"""The main job on sentences, from the command line, with a tiny BERT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import stats

from benchmarks.patterns_at_work import compare, paired_difference
from experiments.run import main
from ws_learner.pruning.patterns.pattern import parse_pattern

EXPERIMENT = str(Path(__file__).parents[1] / "support" / "sentence_experiment.py")
SEARCH = [
    *("--ws_nb_rlouts", "10", "--ws_nb_rlouts_min", "6", "--ws_rlouts_per_round", "4"),
    *("--ws_nb_smpls_rg", "60", "--ddpg_nb_updates", "2", "--ws_nb_rescore", "2"),
]


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("dense") / "run"
    words = [EXPERIMENT, "--learner", "full-prec", "--run_dir", str(run), "--nb_epochs", "4"]
    assert main(words) == 0
    return run / "model.safetensors"


def launch(
    dense: Path, folder: Path, *flags: str
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    words = [EXPERIMENT, "--dense_checkpoint", str(dense), "--run_dir", str(folder)]
    words += ["--workers", "0", "--ws_mask_update_step", "2"]
    assert main([*words, *flags]) == 0
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return load_file(folder / "model.safetensors"), summary


def pruned(state: dict[str, torch.Tensor]) -> dict[str, int]:
    return {name: int((t == 0).sum()) for name, t in state.items() if bool((t == 0).any())}


@pytest.mark.long
def test_the_search_prunes_the_encoder_and_leaves_head_and_embeddings_alone(
    dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WS_DATA_DIR", str(tmp_path / "cache"))
    state, summary = launch(
        dense, tmp_path / "run", "--ws_prune_ratio", "0.6", "--enbl_dst", *SEARCH
    )
    zeros = {name: count for name, count in pruned(state).items() if name.endswith("weight")}
    del zeros["bert.embeddings.word_embeddings.weight"]  # its padding row
    assert all(name.startswith("bert.encoder") for name in zeros)
    total = 2 * (4 * 16 * 16 + 2 * 16 * 32) + 16 * 16 + 3 * 16  # encoder, pooler, classifier
    assert sum(zeros.values()) == round(0.6 * total)
    assert summary["rollouts"] == 10


def test_blocks_go_where_the_location_says(dense: Path, tmp_path: Path) -> None:
    flags = ["--ws_pattern", "4x1", "--ws_prune_ratio_prtl", "uniform", "--ws_prune_ratio", "0.3"]
    state, _ = launch(dense, tmp_path / "run", *flags, "--ws_location", "q,ff")
    before = load_file(dense)
    fresh = {n for n, c in pruned(state).items() if c > int((before[n] == 0).sum())}
    layers = [f"bert.encoder.layer.{number}" for number in range(2)]
    parts = ("attention.self.query", "intermediate.dense", "output.dense")
    assert fresh == {f"{layer}.{part}.weight" for layer in layers for part in parts}
    for name in fresh:
        kept = state[name] != 0
        assert torch.equal(parse_pattern("4x1").mask(kept.float(), int((~kept).sum())), kept)


def test_a_fixed_pattern_halves_the_encoder_alone(dense: Path, tmp_path: Path) -> None:
    state, summary = launch(dense, tmp_path / "run", "--ws_pattern", "2:4")
    for name, tensor in state.items():
        if name.startswith("bert.encoder") and tensor.dim() == 2:
            assert ((tensor != 0).view(-1, 4).sum(1) == 2).all(), name
    assert not (state["classifier.weight"] == 0).any()
    assert summary["pattern"] == "2:4@ff,q,k,v,o"
    row = compare(tmp_path / "run", experiment_file=EXPERIMENT)
    assert row["test"] == 100
    assert float(row["dense %"]) == pytest.approx(100 * summary["dense_accuracy"], abs=0.01)
    ahead = 100 * (summary["sparse_accuracy"] - summary["dense_accuracy"])
    assert float(row["difference, points"].split()[0]) == pytest.approx(ahead, abs=0.01)


def test_the_interval_is_that_of_the_differences_example_by_example() -> None:
    rng = np.random.default_rng(0)
    dense, sparse = (rng.integers(0, 2, size=400).astype(float) for _ in range(2))
    mean, half = paired_difference(sparse, dense)
    wanted = stats.ttest_rel(sparse, dense).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((wanted.low, wanted.high))


def test_a_location_that_is_not_there_is_an_error_of_one_line(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [EXPERIMENT, "--dense_checkpoint", str(dense), "--run_dir", str(tmp_path / "run")]
    assert main([*words, "--ws_mask_update_step", "1", "--ws_location", "conv"]) == 2
    assert "error: --ws_location conv: no layer has this role" in capsys.readouterr().err
