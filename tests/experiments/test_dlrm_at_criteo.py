"""DLRM on a file in Criteo's form, by the config of the table."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from experiments.cli.build import check_outputs
from experiments.cli.flags import parse
from experiments.run import build, main, make_learner
from ws_learner.core.errors import UserError
from ws_learner.data.datasets.criteo import load_criteo
from ws_learner.pruning.patterns.pattern import parse_pattern

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "experiments" / "configs" / "dlrm_4x16_criteo.yaml")
INNER = ("bot_l.2", "bot_l.4", "top_l.2", "top_l.4", "top_l.6")


def clicks(path: Path, lines: int) -> Path:
    """Whoever sees an even first word clicks."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(lines):
        words = rng.integers(0, 40, 26)
        counts = rng.integers(0, 30, 13)
        clicked = int(words[0] % 2 == 0)
        texts = [str(clicked), str(counts[0] if number else ""), *map(str, counts[1:])]
        rows.append("\t".join([*texts, *(f"{word:08x}" for word in words)]))
    path.write_text("\n".join(rows) + "\n")
    return path


def test_the_last_seventh_is_not_trained_on(tmp_path: Path) -> None:
    path = clicks(tmp_path / "train.txt", 700)
    data = load_criteo(tmp_path, rows=16)
    assert [len(p) for p in (data.train, data.search, data.select, data.test)] == [600, 25, 25, 50]
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    ((rows, labels),) = data.test.batches(50)
    assert labels.tolist() == [int(line[0]) for line in lines[650:]]
    wanted = [[math.log1p(int(w)) for w in line[1:14]] for line in lines[650:]]
    np.testing.assert_allclose(rows[:, :13], wanted, rtol=1e-6)
    assert rows[:, 13:].tolist() == [[int(w, 16) % 16 for w in line[14:]] for line in lines[650:]]
    assert len(load_criteo(path, rows=16, limit=70).train) == 60


def test_what_is_wrong_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"no train\.txt or day_0 there"):
        load_criteo(tmp_path, rows=16)
    path = clicks(tmp_path / "day_0", 20)
    with pytest.raises(UserError, match="20 lines are too few to split"):
        load_criteo(tmp_path, rows=16)
    path.write_text(path.read_text().replace("1\t", "2\t", 1))
    with pytest.raises(UserError, match="not Criteo's format"):
        load_criteo(tmp_path, rows=16)
    assert main(["dlrm_at_criteo"]) == 2
    assert "--data_dir: needed" in capsys.readouterr().err


def test_one_logit_is_searched_and_distilled_as_a_label(tmp_path: Path) -> None:
    path = clicks(tmp_path / "train.txt", 700)
    words = ["dlrm_at_criteo", "--data_dir", str(path), "--table_rows", "16"]
    command = parse([*words, "--ws_prune_ratio", "0.5", "--distill"])
    experiment = build(command)
    check_outputs(command, experiment)
    assert make_learner(command, experiment, run=tmp_path / "run").check() == "labels"


@pytest.mark.slow
def test_the_config_trains(tmp_path: Path) -> None:
    path = clicks(tmp_path / "train.txt", 3500)
    words = ["dlrm_at_criteo", "--data_dir", str(path), "--table_rows", "40"]
    words += ["--batch_size", "100", "--run_dir"]
    dense = [*words, str(tmp_path / "dense"), "--learner", "full-prec", "--nb_epochs", "2"]
    assert main(dense) == 0
    slower = ["--lrn_rate", "3e-4"]
    start = ["--dense_checkpoint", str(tmp_path / "dense")]  # a run means its weights
    assert main([*words, str(tmp_path / "run"), "--config", CONFIG, *start, *slower]) == 0
    state = load_file(tmp_path / "run" / "model.safetensors")
    zeros = weights = 0
    for name in INNER:
        weight = state[f"{name}.weight"]
        kept = weight != 0
        count = int((~kept).sum())
        again = parse_pattern("16x4").mask(kept.float(), count)
        assert bool((again == kept).all()), name
        zeros, weights = zeros + count, weights + weight.numel()
    assert zeros / weights == pytest.approx(0.85, abs=1e-3)
    assert not bool((state["bot_l.0.weight"] == 0).any())
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["measures"]["AUC"] > 0.9
    assert main(["--exec_mode", "eval", "--run_dir", str(tmp_path / "run")]) == 0
