"""N:M training from the command line: stopped and resumed, on several ranks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from experiments.run import main
from tests.support.nm_oracle import mask_of
from tests.support.tiny_vit_experiment import Options, build
from ws_learner.config.cluster import ClusterConfig
from ws_learner.config.learner import WeightSparseConfig
from ws_learner.core.device import ComputeDevice
from ws_learner.learner import WeightSparseLearner

ROOT = Path(__file__).parents[2]
TINY = str(ROOT / "tests" / "support" / "tiny_vit_experiment.py")
METHODS = {
    "srste": ["--ws_pattern", "2:4", "--ws_location", "ff", "--nm_fine_tune_mask", "frozen"],
    "mdgf": ["--ws_pattern", "1:8", "--ws_location", "ff,q,k", "--ws_qkv_pattern", "1:4"],
    "sdgf": ["--ws_pattern", "1:4", "--ws_location", "FFV", "--drop", "0.1", "--mixup", "0.3"],
}


@pytest.mark.long
@pytest.mark.parametrize(
    "method",
    [
        "mdgf",
        pytest.param("srste", marks=pytest.mark.slow),
        pytest.param("sdgf", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_ends_as_an_undisturbed_one(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WS_CHECKPOINT_SECONDS", "0")
    monkeypatch.chdir(tmp_path)
    words = [TINY, "--ws_method", method, "--precision", "fp32", "--nb_epochs", "6"]
    words += [*METHODS[method], "--nm_fine_tune_epochs", "1"]
    assert main([*words, "--run_dir", "whole"]) == 0
    command = [sys.executable, "-m", "experiments.run", *words, "--run_dir", "killed"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    checkpoint = Path("killed/state/sparse.pt")
    while process.poll() is None and not (checkpoint.exists() and _step(checkpoint) >= 10):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not Path("killed/summary.json").exists()
    assert main([*words, "--run_dir", "killed"]) == 0
    whole = load_file("whole/model.safetensors")
    for name, tensor in load_file("killed/model.safetensors").items():
        assert torch.equal(tensor, whole[name]), name
    assert Path("whole/metrics.csv").read_text() == Path("killed/metrics.csv").read_text()


def _step(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["step"])


def prune(folder: Path, *, ranks: int | None) -> dict[str, Tensor]:
    experiment = build(Options(), seed=0)
    options: dict[str, Any] = {"ws_location": "ff,q,k", "ws_prune_ratio_prtl": "given"}
    WeightSparseLearner(
        experiment.model,
        experiment.data,
        loss=experiment.loss,
        metric=experiment.metric,
        recipe=replace(experiment.sparse_recipe, nb_epochs=2),
        run_dir=folder,
        config=WeightSparseConfig(ws_method="mdgf", ws_pattern="1:4", **options),
        compute=ComputeDevice(device="cpu", bf16=False, channels_last=False),
        cluster=ClusterConfig(workers=ranks) if ranks else None,
    ).fit()
    return load_file(folder / "model.safetensors")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_ranks_hold_the_same_masks(tmp_path: Path) -> None:
    """Equality on all ranks is asserted within the run, see `_Prune.on_end`."""
    local, one = prune(tmp_path / "local", ranks=None), prune(tmp_path / "one", ranks=1)
    for name, tensor in local.items():
        assert torch.equal(tensor, one[name]), name
    two = prune(tmp_path / "two", ranks=2)
    for name in ("blocks.0.mlp.fc1.weight", "blocks.1.mlp.fc2.weight"):
        weight = two[name].double().numpy()
        assert ((weight != 0) == mask_of(weight, 1, 4)).all()
    qkv = two["blocks.0.attn.qkv.weight"]
    assert ((qkv[:32] != 0).reshape(-1, 4).sum(1) == 1).all()
    assert (qkv[32:] != 0).all()
