"""LPOT's published YAML on the command line, as it stands but for the folder of images."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file

from experiments.run import main
from tests.support.lpot import SMALL, config, images, words


def check(run: Path, zeros: int) -> None:
    state = load_file(run / "model.safetensors")
    assert int((state["layer1.0.conv1.weight"] == 0).sum()) == zeros
    assert all(int((t == 0).sum()) == 0 for n, t in state.items() if n.endswith("conv2.weight"))
    frame = pd.read_csv(run / "ratios.csv").set_index("layer")
    assert frame.loc["layer1.0.conv1.weight", "achieved"] == zeros / 36864
    summary = json.loads((run / "summary.json").read_text())
    assert summary["method"] == "basic_magnitude"
    assert summary["experiment"] == "resnet18_at_ilsvrc12"


@pytest.mark.long
def test_the_seeds_config_on_small_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = config(tmp_path / "conf.yaml", images(tmp_path / "images"), SMALL)
    run = tmp_path / "run"
    assert main(words(conf, run)) == 0
    check(run, round(0.97 * 36864))
    metrics = pd.read_csv(run / "metrics.csv")
    assert metrics["step"].max() == 4 * 2
    assert main(["--exec_mode", "eval", "--run_dir", str(run)]) == 0
    assert "agrees with the run's summary" in capsys.readouterr().err
    # The copy in the run directory runs again, to the same bytes.
    again = tmp_path / "again"
    assert main(words(str(run / "lpot.yaml"), again)) == 0
    first, second = ((r / "model.safetensors").read_bytes() for r in (run, again))
    assert first == second


@pytest.mark.long
def test_a_run_killed_halfway_ends_with_the_same_bytes(tmp_path: Path) -> None:
    root = images(tmp_path / "images")
    conf = config(tmp_path / "conf.yaml", root, {**SMALL, "end_epoch: 4": "end_epoch: 3"})
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main(words(conf, whole)) == 0
    command = [
        sys.executable,
        "-c",
        "import sys; import ws_learner.training.callbacks as c;"
        "c.CheckpointCallback.__init__.__kwdefaults__['seconds'] = 0.0;"
        "from experiments.run import main; sys.exit(main(sys.argv[1:]))",
    ]
    process = subprocess.Popen([*command, *words(conf, broken)], env=dict(os.environ))
    deadline = time.monotonic() + 120
    while not (broken / "state" / "sparse.pt").exists() and time.monotonic() < deadline:
        assert process.poll() is None, "ended before it was killed"
        time.sleep(0.02)
    assert (broken / "state" / "sparse.pt").exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert main(words(conf, broken)) == 0
    first, second = ((r / "model.safetensors").read_bytes() for r in (whole, broken))
    assert first == second


@pytest.mark.slow
def test_the_seeds_config_as_it_stands(tmp_path: Path) -> None:
    conf = config(tmp_path / "conf.yaml", images(tmp_path / "images", per_class=8), {})
    assert main(words(conf, tmp_path / "run")) == 0
    check(tmp_path / "run", round(0.97 * 36864))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"end_epoch: 10": "end_epoch: 2"}, ["layer1.0.conv1.weight", "epoch 2", "end_epoch"]),
        ({"layer1.0.conv1.weight": "layer1.0.conv.weight"}, ["line 36", "layer1.0.conv1.weight"]),
        ({"RandomHorizontalFlip": "RandomHorizontalFlop"}, ["line 16", "RandomHorizontalFlip"]),
    ],
)
def test_mistakes_are_told_before_training(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str],
    parts: list[str],
) -> None:
    changes = {**SMALL, **change}
    conf = config(tmp_path / "conf.yaml", images(tmp_path / "images"), changes)
    assert main(words(conf, tmp_path / "run")) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in parts), message
