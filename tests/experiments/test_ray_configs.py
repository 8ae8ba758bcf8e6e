"""Other tools' files and a layer-wise teacher on Ray: the local result at one rank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from experiments.run import main
from tests.support import sentence_experiment, tiny_transformer_experiment
from tests.support.lpot import SMALL, config, images
from tests.support.nncf import movement, text
from ws_learner.config.cluster import ClusterConfig

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("local_ray")]

TINY = str(Path(tiny_transformer_experiment.__file__))


def run(folder: Path, *words: str, ranks: int | None = None) -> dict[str, Any]:
    cluster = ClusterConfig(workers=ranks) if ranks else None
    line = [*words, "--run_dir", str(folder), "--precision", "fp32"]
    assert main(line, cluster=cluster) == 0
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def check_same_files(here: Path, there: Path) -> None:
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (here, there))
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    for name in ("metrics.csv", "ratios.csv"):
        assert (here / name).read_text() == (there / name).read_text()


def nncf(folder: Path) -> str:
    """Structured movement, distilled and quantised."""
    params = {
        "warmup_start_epoch": 1,
        "warmup_end_epoch": 3,
        "importance_regularization_factor": 0.2,
        "enable_structured_masking": True,
    }
    part = movement(params=params, ignored_scopes=["{re}classifier"])
    part["sparse_structure_by_scopes"] = [
        {"mode": "block", "sparse_factors": [6, 6], "target_scopes": "{re}attn"},
        {"mode": "per_dim", "axis": 0, "target_scopes": "{re}fc1"},
        {"mode": "per_dim", "axis": 1, "target_scopes": "{re}fc2"},
    ]
    ranges = {"range": {"num_init_samples": 64}}
    quantization = {"algorithm": "quantization", "preset": "mixed", "initializer": ranges}
    distillation = {"algorithm": "knowledge_distillation", "type": "softmax", "temperature": 2.0}
    path = folder / "movement.json"
    path.write_text(text(part, quantization, distillation))
    return str(path)


def test_nncfs_file(tmp_path: Path) -> None:
    run(tmp_path / "dense", TINY, "--learner", "full-prec")
    start = ["--dense_checkpoint", str(tmp_path / "dense" / "model.safetensors")]
    words = [TINY, *start, "--config", nncf(tmp_path)]
    local = run(tmp_path / "local", *words)
    assert local["units_removed"] > 0
    run(tmp_path / "one", *words, ranks=1)
    check_same_files(tmp_path / "local", tmp_path / "one")
    both = run(tmp_path / "two", *words, ranks=2)  # ranks compare masks, weights and ranges
    name = "sparsified_layers_prune_ratio"
    assert both[name] == pytest.approx(local[name], abs=0.1)
    assert both["quantized_accuracy"] == pytest.approx(local["quantized_accuracy"], abs=0.1)


def test_lpots_file(tmp_path: Path) -> None:
    conf = config(tmp_path / "conf.yaml", images(tmp_path / "images"), SMALL)
    words = ["resnet_at_ilsvrc12", "--resnet_size", "18", "--config", conf, "--data_workers", "0"]
    local = run(tmp_path / "local", *words)
    run(tmp_path / "one", *words, ranks=1)
    check_same_files(tmp_path / "local", tmp_path / "one")
    both = run(tmp_path / "two", *words, ranks=2)
    zeros = "achieved_prune_ratio"
    assert both[zeros] == local[zeros] > 0


def test_distillation_layer_by_layer(tmp_path: Path) -> None:
    words = [str(Path(sentence_experiment.__file__)), "--ws_prune_ratio_prtl", "uniform"]
    words += ["--ws_prune_ratio", "0.5", "--ws_mask_update_step", "2", "--enbl_dst"]
    run(tmp_path / "dense", words[0], "--learner", "full-prec", "--nb_epochs", "1")
    words += ["--dense_checkpoint", str(tmp_path / "dense" / "model.safetensors")]
    words += ["--dst_layers", "bert.encoder.layer.?"]
    local = run(tmp_path / "local", *words)
    run(tmp_path / "one", *words, ranks=1)
    check_same_files(tmp_path / "local", tmp_path / "one")
    both = run(tmp_path / "two", *words, ranks=2)
    assert both["achieved_prune_ratio"] == local["achieved_prune_ratio"]
