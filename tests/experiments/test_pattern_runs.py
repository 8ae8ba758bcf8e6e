"""Patterns, methods and schedules from the command line, on real digits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from experiments.cli.flags import parse
from experiments.run import main
from tests.support.rollout_parts import counts, tiny_evaluator
from ws_learner.config.learner import WeightSparseConfig
from ws_learner.core.errors import UserError
from ws_learner.pruning.patterns.pattern import parse_pattern

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / "tests" / "support" / "digits_experiment.py")
SHORT = ["--nb_epochs", "2", "--ws_mask_update_step", "2", "--workers", "0"]
SEARCH = [
    *("--ws_nb_rlouts", "10", "--ws_nb_rlouts_min", "6", "--ws_rlouts_per_round", "4"),
    *("--ws_nb_smpls_rg", "60", "--ws_nb_smpls_bn", "50", "--ws_nb_iters_feval", "1"),
    *("--ddpg_nb_updates", "2", "--ws_nb_rescore", "2"),
]
NAMES = ("0.weight", "3.weight", "7.weight")
WEIGHTS = 8 * 9 + 16 * 8 * 9 + 10 * 256


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("dense") / "run"
    assert main([DIGITS, "--learner", "full-prec", "--nb_epochs", "3", "--run_dir", str(run)]) == 0
    return run / "model.safetensors"


@pytest.fixture
def launch(dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.setenv("WS_DATA_DIR", str(tmp_path / "cache"))

    def launch(*flags: str, run: str = "run", start: Path = dense) -> Path:
        words = [DIGITS, "--dense_checkpoint", str(start), "--run_dir", str(tmp_path / run)]
        assert main([*words, *SHORT, *flags]) == 0
        return tmp_path / run

    return launch


def check(run: Path, pattern: str) -> tuple[int, dict[str, object]]:
    """Every saved tensor is a mask of the pattern; returns the zeros and the summary."""
    state, total, units = load_file(run / "model.safetensors"), 0, parse_pattern(pattern)
    for name in NAMES:
        zeros = int((state[name] == 0).sum())
        keep = (state[name] != 0).float()
        assert torch.equal(units.mask(keep, zeros), state[name] != 0)
        total += zeros
    summary = json.loads((run / "summary.json").read_text())
    table = pd.read_csv(run / "ratios.csv")
    np.testing.assert_array_equal(table["prune_ratio"], table["achieved"])
    assert summary["achieved_prune_ratio"] == pytest.approx(total / WEIGHTS)
    return total, summary


@pytest.mark.long
@pytest.mark.parametrize(
    ("protocol", "flags"),
    [
        ("uniform", ["--ws_method", "group_lasso", "--ws_schedule", "exp"]),
        ("knapsack", ["--ws_criterion", "snip_momentum", "--ws_schedule", "epoch-linear"]),
        ("optimal", [*SEARCH, "--ws_criterion", "snip_momentum", "--ws_update_frequency", "0.2"]),
        ("lamp", ["--ws_scope", "global", "--ws_ratio_max", "0.9"]),
        ("uniform", ["--ws_method", "gradient_sensitivity", "--ws_schedule", "oneshot"]),
    ],
)
def test_a_run_by_blocks(
    launch: Callable[..., Path],
    protocol: str,
    flags: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    common = ["--ws_pattern", "4x1", "--ws_prune_ratio", "0.7001"]
    run = launch(*common, "--ws_prune_ratio_prtl", protocol, *flags)
    zeros, summary = check(run, "4x1")
    assert zeros % 2 == 0  # blocks have four weights, at the edge of the head two
    assert abs(zeros - round(0.7001 * WEIGHTS)) <= 1
    assert summary["pattern"] == "4x1"
    assert summary["method"] == ("gradual" if "--ws_method" not in flags else flags[1])


def test_two_of_four_sets_its_own_ratios(launch: Callable[..., Path]) -> None:
    run = launch("--ws_pattern", "2in4", "--ws_exempt", "0.weight")
    zeros, summary = check(run, "2:4")
    assert zeros == (16 * 8 * 9 + 10 * 256) // 2
    assert (summary["protocol"], summary["target_prune_ratio"]) == ("given", 0.5)
    head = load_file(run / "model.safetensors")["7.weight"].reshape(-1, 4)
    assert torch.equal((head != 0).sum(1), torch.full((640,), 2))


@pytest.mark.long
def test_a_skipped_layer_stays_dense_and_counts(launch: Callable[..., Path]) -> None:
    flags = ["--ws_pattern", "4x1", "--ws_remainder", "skip", "--ws_prune_ratio", "0.25"]
    with pytest.warns(UserWarning, match=r"does not divide 7\.weight"):
        run = launch(*flags, "--ws_prune_ratio_prtl", "uniform")
    zeros, _ = check(run, "4x1")
    assert zeros == round(0.25 * WEIGHTS / 4) * 4
    assert (load_file(run / "model.safetensors")["7.weight"] != 0).all()


@pytest.mark.long
def test_a_locked_pattern_is_distilled_without_losing_a_zero(
    launch: Callable[..., Path], dense: Path
) -> None:
    flags = ["--ws_pattern", "4x1", "--ws_prune_ratio_prtl", "uniform", "--ws_prune_ratio", "0.6"]
    sparse = launch(*flags) / "model.safetensors"
    lock = ["--ws_method", "pattern_lock", "--enbl_dst", "--dst_checkpoint", str(dense)]
    run = launch(*lock, run="locked", start=sparse)
    before, after = load_file(sparse), load_file(run / "model.safetensors")
    for name in NAMES:
        assert torch.equal(before[name] == 0, after[name] == 0)
        assert not torch.equal(before[name], after[name])
    summary = json.loads((run / "summary.json").read_text())
    assert summary["method"] == "pattern_lock"
    assert summary["target_prune_ratio"] == summary["achieved_prune_ratio"]
    words = [DIGITS, "--dense_checkpoint", str(dense), "--run_dir", str(run.parent / "none")]
    assert main([*words, "--ws_method", "pattern_lock"]) == 2


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--ws_pattern 4by1", ["--ws_pattern 4by1", "such as 4x1"]),
        ("--ws_pattern 2:4 --ws_prune_ratio 0.7", ["--ws_prune_ratio 0.7", "2:4", "0.5"]),
        ("--ws_criterion snap", ["--ws_criterion snap", "did you mean snip"]),
        ("--ws_update_frequency 0", ["--ws_update_frequency 0", "above 0"]),
        ("--group_lasso_alpha -1", ["--group_lasso_alpha -1", "0 or above"]),
        ("--ws_initial_ratio 2", ["--ws_initial_ratio 2", "[0, 1]"]),
        ("--ws_method pattern_lock --ws_init scratch", ["pattern_lock", "--ws_init dense"]),
        (
            "--ws_method movement --ws_criterion snip",
            ["--ws_criterion snip", "leave the flag out"],
        ),
    ],
)
def test_what_contradicts(words: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert all(part in line for part in parts), line


def test_flags_that_a_pattern_implies() -> None:
    ws = parse(["--ws_pattern", "2:4"]).ws
    assert (ws.ws_prune_ratio_prtl, ws.ws_prune_ratio) == ("given", 0.5)
    ws = parse(["--ws_pattern", "1:4", "--ws_prune_ratio_prtl", "optimal"]).ws
    assert (ws.ws_prune_ratio_prtl, ws.ws_prune_ratio) == ("optimal", 0.75)
    ws = parse(["--ws_method", "pattern_lock"]).ws
    assert ws.ws_prune_ratio_prtl == "given"
    ws = parse(["--ws_pattern", "4x1"]).ws
    assert (ws.ws_prune_ratio_prtl, ws.ws_prune_ratio) == ("optimal", 0.75)
    with pytest.raises(UserError, match="need each other"):
        WeightSparseConfig(ws_prune_ratio_prtl="given", ws_pattern="4x1")


@pytest.mark.long
@pytest.mark.parametrize("pattern", ["4x1", "1xchannel", "2:4"])
def test_roll_outs_prune_by_the_pattern(pattern: str, tmp_path: Path) -> None:
    evaluator = tiny_evaluator(tmp_path, pattern=pattern, nb_iters_ft=2)
    units = parse_pattern(pattern)
    asked = counts(evaluator.layers, 0.3)
    snapped = evaluator.checked(asked)
    network = evaluator.network(asked)
    for row, zeros in zip(evaluator.layers, snapped.tolist(), strict=True):
        weight = network.get_parameter(row.name).detach()
        keep = units.mask(evaluator.dense.get_parameter(row.name).detach().abs(), zeros)
        assert torch.equal(weight != 0, keep)
    assert evaluator.score(asked) == evaluator.score(snapped)
    assert not evaluator.score(asked).failed
    files = list(tmp_path.glob("layers-*.safetensors"))
    again = tiny_evaluator(tmp_path, pattern=pattern, nb_iters_ft=2)
    assert list(tmp_path.glob("layers-*.safetensors")) == files
    np.testing.assert_array_equal(again.curves()[1], evaluator.curves()[1])
    tiny_evaluator(tmp_path)
    assert len(list(tmp_path.glob("layers-*.safetensors"))) == 2  # one for each pattern
