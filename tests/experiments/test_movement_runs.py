"""Movement on the command line, by flags and by NNCF's JSON, to the files that a run leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from experiments.export import main as export
from experiments.run import main
from tests.support import tiny_transformer_experiment
from tests.support.nncf import movement, text
from ws_learner.core.weights import load_state
from ws_learner.deploy.onnx.export import run_onnx
from ws_learner.deploy.shrinking.cropped_file import load_cropped
from ws_learner.training.trainer import Trainer

EXPERIMENT = str(Path(tiny_transformer_experiment.__file__))


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dense")
    assert main([EXPERIMENT, "--learner", "full-prec", "--precision", "fp32"], runs=folder) == 0
    return next(folder.glob("*/model.safetensors"))


def run(dense: Path, folder: Path, *flags: str) -> dict[str, Any]:
    words = [EXPERIMENT, "--dense_checkpoint", str(dense), "--run_dir", str(folder)]
    assert main([*words, "--precision", "fp32", *flags]) == 0
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


@pytest.mark.long
def test_a_target_is_met_and_heads_and_neurons_are_gone(dense: Path, tmp_path: Path) -> None:
    words = [
        "--ws_method",
        "movement",
        "--ws_location",  # so that the pattern is units by itself
        "attention,ff",
        "--ws_include",
        "blocks.*",
        "--ws_mask_update_step",
        "2",
    ]
    words += ["--ws_prune_ratio_prtl", "uniform", "--ws_prune_ratio", "0.5"]
    summary = run(dense, tmp_path / "run", *words)
    assert summary["achieved_prune_ratio"] == pytest.approx(0.5)
    assert summary["units_removed"] == 2 * (2 + 10)
    slim = load_cropped(tmp_path / "run" / "cropped", tiny_transformer_experiment.Net(20))
    assert sum(p.numel() for p in slim.parameters()) == summary["cropped_parameters"]
    table = pd.read_csv(tmp_path / "run" / "structured_sparsity.csv")
    assert len(table) == 8
    assert "movement" in (tmp_path / "run" / "report.md").read_text()
    assert main([EXPERIMENT, "--exec_mode", "eval", "--run_dir", str(tmp_path / "run")]) == 0
    onnx = pytest.importorskip("onnx")
    assert export([str(tmp_path / "run"), "--to", "onnx", "--experiment", EXPERIMENT]) == 0
    tensors = onnx.load(tmp_path / "run" / "model.onnx").graph.initializer
    lengths = {length for tensor in tensors for length in tensor.dims}
    assert 20 not in lengths  # neurons before
    assert 10 in lengths


def config(folder: Path, *more: dict[str, Any], **changes: Any) -> str:
    params = {
        "warmup_start_epoch": 1,
        "warmup_end_epoch": 3,
        "importance_regularization_factor": 0.2,
    } | changes
    part = movement(params=params, ignored_scopes=["{re}classifier"])
    part["sparse_structure_by_scopes"] = [
        {"mode": "block", "sparse_factors": [6, 6], "target_scopes": "{re}attn"},
        {"mode": "per_dim", "axis": 0, "target_scopes": "{re}fc1"},
        {"mode": "per_dim", "axis": 1, "target_scopes": "{re}fc2"},
    ]
    path = folder / "movement.json"
    path.write_text(text(part, *more))
    return str(path)


@pytest.mark.long
def test_nncfs_file_runs_structured_distilled_and_quantised(dense: Path, tmp_path: Path) -> None:
    distillation = {"algorithm": "knowledge_distillation", "type": "softmax", "temperature": 2.0}
    quantization = {"algorithm": "quantization", "preset": "mixed", "overflow_fix": "enable"}
    path = config(tmp_path, distillation, quantization, enable_structured_masking=True)
    summary = run(dense, tmp_path / "run", "--config", path)
    assert summary["distilled"]
    assert 0 < summary["sparsified_layers_prune_ratio"] < 1
    assert summary["units_removed"] > 0
    metrics = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert metrics["prune/factor"].max() == pytest.approx(0.2)
    assert metrics["prune/factor"].count() >= 20
    epochs = metrics.loc[metrics["prune/factor"].notna(), "step"]
    assert {8, 16, 24, 32} <= set(epochs)
    assert (tmp_path / "run" / "nncf.json").read_text() == Path(path).read_text()
    state = load_state(tmp_path / "run" / "model.safetensors")
    slim = load_cropped(tmp_path / "run" / "cropped", tiny_transformer_experiment.Net(20))
    masked = tiny_transformer_experiment.Net(20)
    masked.load_state_dict(state)
    images = torch.randn(5, 3, 8, 8)
    assert torch.allclose(masked.eval()(images), slim(images), atol=1e-5)
    assert main([EXPERIMENT, "--exec_mode", "eval", "--run_dir", str(tmp_path / "run")]) == 0
    onnx = pytest.importorskip("onnx")
    whole = {  # of the linear layers' weights, the INT8 file has those of the cropped network
        tuple(tensor.dims)
        for tensor in onnx.load(tmp_path / "run" / summary["int8"]).graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2
    }
    layers = [layer for layer in slim.modules() if isinstance(layer, torch.nn.Linear)]
    assert whole == {tuple(layer.weight.shape) for layer in layers}
    assert whole != {
        tuple(w.shape) for n, w in state.items() if n.endswith("weight") and w.ndim == 2
    }
    build = tiny_transformer_experiment.build(tiny_transformer_experiment.Options(), seed=0)
    images, labels = next(build.data.test.batches(200))
    (logits,) = run_onnx(tmp_path / "run" / summary["int8"], [images])
    accuracy = float((logits.argmax(1) == labels).float().mean())
    assert accuracy == pytest.approx(summary["quantized_accuracy"], abs=0.02)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (
            "--ws_method gradual --ws_prune_ratio 0.9 --ws_pattern 4x4 --movement_score_lr 0.5 "
            "--enbl_dst --dst_checkpoint FILE",
            "ws_method gradual,ws_prune_ratio 0.9,ws_pattern 4x4,movement_score_lr 0.5,"
            "dst_checkpoint FILE",
        ),
        ("--loss_w_dst 9 --tempr_dst 2", "loss_w_dst 9.0,tempr_dst 2.0"),
        ("--ddpg_gamma 0.5", "ddpg_gamma 0.5"),
        ("--ws_save_path x.safetensors", "ws_save_path x.safetensors"),
    ],
)
def test_flags_that_the_file_decides_are_refused_all_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: str, named: str
) -> None:
    path = config(tmp_path)
    flags, named = flags.replace("FILE", path), named.replace("FILE", path)
    words = [EXPERIMENT, "--config", path, "--run_dir", str(tmp_path / "run")]
    assert main([*words, *flags.split()]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert all(f"--{name}" in error for name in named.split(","))
    assert "--enbl_dst" not in error.split("leave them out")[0]
    assert not (tmp_path / "run").exists()


def test_a_file_that_distils_takes_no_second_distillation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distillation = {"algorithm": "knowledge_distillation", "type": "mse"}
    path = Path(config(tmp_path, distillation))
    path.write_text(path.read_text()[:-1] + ', "log_dir": "logs"}')
    words = [EXPERIMENT, "--config", str(path), "--run_dir", str(tmp_path / "run")]
    assert main([*words, "--enbl_dst", "--loss_w_dst", "9"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "--enbl_dst" in error
    assert "--loss_w_dst 9.0" in error
    assert "log_dir" in error
    assert "is ignored" in error


@pytest.mark.slow
def test_nncfs_file_runs_quantised(dense: Path, tmp_path: Path) -> None:
    quantization = {"algorithm": "quantization", "preset": "mixed", "overflow_fix": "enable"}
    quantization["initializer"] = {"range": {"num_init_samples": 64}}  # type: ignore[assignment]
    summary = run(dense, tmp_path / "run", "--config", config(tmp_path, quantization))
    images, labels = next(
        tiny_transformer_experiment.build(
            tiny_transformer_experiment.Options(), seed=0
        ).data.test.batches(200)
    )
    (logits,) = run_onnx(tmp_path / "run" / summary["int8"], [images])
    accuracy = float((logits.argmax(1) == labels).float().mean())
    assert accuracy == pytest.approx(summary["quantized_accuracy"], abs=0.02)


SLOW = [pytest.param(stop, marks=pytest.mark.slow) for stop in (5, 27)]


@pytest.mark.long
@pytest.mark.parametrize("stop", [13, *SLOW])
@pytest.mark.parametrize("way", ["file", "flags"])
def test_a_run_that_is_stopped_goes_on_as_if_it_never_was(
    dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, stop: int
) -> None:
    flags = ["--config", config(tmp_path, enable_structured_masking=True)]
    if way == "flags":
        flags = ["--ws_method", "movement", "--ws_include", "blocks.*", "--ws_prune_ratio", "0.6"]
        flags += ["--ws_prune_ratio_prtl", "uniform", "--ws_mask_update_step", "2"]
    run(dense, tmp_path / "whole", *flags)
    monkeypatch.setenv("WS_CHECKPOINT_SECONDS", "0")
    steps = Trainer._run_step

    def stopped(trainer: Trainer, *batch: Any) -> Any:
        if trainer.step == stop:
            raise KeyboardInterrupt
        return steps(trainer, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_run_step", stopped)
        words = [EXPERIMENT, "--dense_checkpoint", str(dense), "--precision", "fp32", *flags]
        assert main([*words, "--run_dir", str(tmp_path / "half")]) == 130
    run(dense, tmp_path / "half", *flags)
    names = ["model.safetensors", "ratios.csv", "metrics.csv"]
    names += ["structured_sparsity.csv"] if way == "file" else []
    for name in names:
        assert (tmp_path / "half" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_file_that_does_not_fit_the_network_stops(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [EXPERIMENT, "--dense_checkpoint", str(dense), "--run_dir", str(tmp_path / "a")]
    path = config(tmp_path, steps_per_epoch=9)
    assert main([*words, "--config", path]) == 2
    assert "an epoch has 8 steps" in capsys.readouterr().err.replace("\n", " ")
    path = config(tmp_path, warmup_end_epoch=9)
    assert main([*words[:-1], str(tmp_path / "b"), "--config", path]) == 2
    assert "the warm-up ends at step 72" in capsys.readouterr().err.replace("\n", " ")
