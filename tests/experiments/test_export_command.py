"""Exports are run by another engine and compared with PyTorch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from experiments import export
from experiments.run import main as run_main
from tests.support import digits_experiment
from tests.support.digits import digits_splits
from tests.support.sparse_layers import pruned
from ws_learner.core.errors import UserError
from ws_learner.core.weights import load_state, save_model
from ws_learner.deploy.onnx.export import export_onnx, relative_output_difference
from ws_learner.deploy.onnx.int8_qdq import export_qdq
from ws_learner.deploy.runtime import read_wsr

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / "tests" / "support" / "digits_experiment.py")
NAMED = ["--experiment", DIGITS]
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    flags = ["--ws_prune_ratio_prtl", "uniform", "--ws_prune_ratio", "0.2", "--nb_epochs", "1"]
    flags += ["--ws_pattern", "1xchannel", "--ws_exempt", "7", "--ws_mask_update_step", "4"]
    assert run_main([DIGITS, *flags, "--run_dir", str(folder)], runs=folder.parent) == 0
    return folder


@pytest.mark.long
def test_weights_are_the_runs(run: Path, tmp_path: Path) -> None:
    saved = load_state(run / "model.safetensors")
    for kind in ("safetensors", "wsr"):
        out = tmp_path / f"m.{kind}"
        assert export.main([str(run), "--to", kind, "--out", str(out)]) == 0
        found = load_state(out) if kind == "safetensors" else read_wsr(out)[0]
        assert found.keys() == saved.keys()
        assert all(torch.equal(found[name], saved[name]) for name in saved)
    assert (tmp_path / "m.wsr").stat().st_size < (tmp_path / "m.safetensors").stat().st_size


@pytest.mark.long
def test_the_runs_own_weights_are_not_written_again(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "model.safetensors").stat()
    assert export.main([str(run), "--to", "safetensors"]) == 2
    assert "is that file; give --out for a copy" in capsys.readouterr().err
    assert (run / "model.safetensors").stat() == before


@pytest.mark.long
def test_onnx_of_a_run_is_cut_and_answers_alike(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch_pruning")
    out, whole = tmp_path / "m.onnx", tmp_path / "whole.onnx"
    assert export.main([str(run), *NAMED, "--to", "onnx", "--out", str(out)]) == 0
    assert "dead channels are cut" in capsys.readouterr().err
    assert export.main([str(run), *NAMED, "--to", "onnx", "--out", str(whole), "--no_shrink"]) == 0
    assert out.stat().st_size < whole.stat().st_size


@pytest.mark.parametrize("words", [["--to", "onnx"], ["--exec_mode", "eval"]])
def test_a_run_made_from_python_is_refused_with_the_way_to_open_it(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "summary.json").write_text("{}")
    save_model(tmp_path / "model.safetensors", {"weight": torch.ones(2, 2)}, {"format": "pt"})
    if "--to" in words:
        code = export.main([str(tmp_path), *words])
    else:
        code = run_main([*words, "--run_dir", str(tmp_path)], runs=tmp_path)
    assert code == 2
    assert "in Python, load_run(path, model=model) opens it" in capsys.readouterr().err


def test_bad_flags(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main([str(run), "--to", "wsr", "--int8"]) == 2
    assert "--int8 with --to wsr" in capsys.readouterr().err
    assert export.main([str(tmp_path), "--to", "wsr"]) == 2
    assert "holds no finished run" in capsys.readouterr().err


@pytest.mark.long
def test_a_convolutional_run_is_written_in_bytes(run: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "m.onnx", tmp_path / "whole.onnx"
    assert export.main([str(run), *NAMED, "--to", "onnx", "--int8", "--out", str(out)]) == 0
    assert export.main([str(run), *NAMED, "--to", "onnx", "--out", str(whole), "--no_shrink"]) == 0
    kinds = {node.op_type for node in pytest.importorskip("onnx").load(out).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert out.stat().st_size < whole.stat().st_size


def mlp() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 16, bias=False), nn.GELU()]
    return pruned(nn.Sequential(*layers, nn.Linear(16, 3)), "4x4", 0.5)


@pytest.mark.long
def test_float_network_of_any_batch(tmp_path: Path) -> None:
    model, path = mlp(), tmp_path / "m.onnx"
    export_onnx(model, torch.randn(4, 24), path)
    for batch in (1, 9):
        x = torch.randn(batch, 24)
        with torch.no_grad():
            assert relative_output_difference(path, x, model(x)) < 1e-5


def test_bytes_as_integers_would_have_it(tmp_path: Path) -> None:
    import onnx

    model, path = nn.Sequential(nn.Linear(24, 7)), tmp_path / "m.onnx"
    x = torch.randn(64, 24)
    export_qdq(model, x, path, calibration=[x])
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("Gemm") == 1
    assert "MatMul" not in kinds
    weight, bias = (p.detach().double().numpy() for p in model[0].parameters())
    low, high = float(x.min()), float(x.max())
    step = np.float32((high - low) / 255)
    zero = round(-low / float(step))
    bytes_ = np.clip(np.rint(x.numpy() / step) + zero, 0, 255)
    scale = np.abs(weight).max(1) / 127
    whole = np.rint(weight / scale[:, None])
    shift = np.rint(bias / (scale * step))
    wanted = ((bytes_ - zero) @ whole.T + shift) * scale * step
    assert relative_output_difference(path, x, torch.from_numpy(wanted).float()) < 1e-4
    with torch.no_grad():
        assert relative_output_difference(path, x, model(x)) < 0.03


def test_bytes_refuse_what_they_cannot_say(tmp_path: Path) -> None:
    x = torch.randn(2, 24)
    with pytest.raises(UserError, match="Sigmoid is not supported"):
        export_qdq(
            nn.Sequential(nn.Linear(24, 2), nn.Sigmoid()), x, tmp_path / "m", calibration=[x]
        )


@pytest.mark.slow
@pytest.mark.parametrize("int8", [False, True])
def test_openvino_reads_the_files(tmp_path: Path, int8: bool) -> None:
    openvino = pytest.importorskip("openvino")
    model, path, x = mlp(), tmp_path / "m.onnx", torch.randn(16, 24)
    if int8:
        export_qdq(model, x, path, calibration=[x])
    else:
        export_onnx(model, x, path)
    network = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    got = torch.from_numpy(np.asarray(network([x.numpy()])[0]))
    with torch.no_grad():
        wanted = model(x)
    assert float((got - wanted).norm() / wanted.norm()) < (0.05 if int8 else 1e-5)


@pytest.mark.long
def test_a_deploy_folder_of_a_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ws_learner.deploy.folder.write.try_folder", lambda folder, *, threads: "")
    words = ["--to", "deploy", "--batch", "2", "--engine", "torch", *NAMED]
    assert export.main([str(run), *words]) == 0
    record = json.loads((run / "deploy" / "deploy.json").read_text())
    summary = json.loads((run / "summary.json").read_text())
    for name in ("dense_metric", "sparse_metric", "target_prune_ratio"):
        assert record[name] == summary[name]
    table = pd.read_csv(run / "ratios.csv")
    assert record["weights"] == table["weights"].sum()
    assert record["zeros"] == round((table["weights"] * table["achieved"]).sum())
    assert record["macs_dense"] == table["macs"].sum()
    saved = np.load(run / "deploy" / "example.npz")
    images, _ = next(digits_splits().test.batches(2))
    np.testing.assert_array_equal(saved["input_0"], images.numpy())
    model = digits_experiment.network(8)
    model.load_state_dict(load_state(run / "model.safetensors"))
    with torch.no_grad():
        np.testing.assert_allclose(saved["output_0"], model.eval()(images).numpy(), rtol=1e-5)
    assert f"{record['bytes']:,} bytes" in capsys.readouterr().err


def test_engine_formats_and_promises_come_from_the_run(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: list[dict[str, Any]] = []
    record = {"measured_ms": {"median": 1.0, "quartiles": [0.9, 1.1]}, "predicted_ms": None}
    record |= {"engine": "", "threads": 1, "batch": 1, "bytes": 1, "pytorch_ms": {"median": 3.0}}

    def kept(model: nn.Module, example: torch.Tensor, folder: Path, **given: Any) -> dict[str, Any]:
        folder.mkdir()
        seen.append(given | {"rows": len(example), "folder": folder})
        return record

    monkeypatch.setattr("ws_learner.deploy.write_deploy_folder", kept)
    other = tmp_path / "run"
    shutil.copytree(run, other, ignore=shutil.ignore_patterns("deploy", "state"))
    to = [str(other), "--to", "deploy", *NAMED]
    assert export.main([*to, "--out", str(tmp_path / "plain")]) == 0
    assert "1 ms (0.9 to 1.1), 3 times as fast as in PyTorch" in capsys.readouterr().err
    lines = (other / "config.yaml").read_text().splitlines()
    settings = [line for line in lines if not line.startswith("ws_budget:")]
    settings.append("ws_budget: bytes=2MB,latency=8ms@onnxruntime\n")
    (other / "config.yaml").write_text("\n".join(settings))
    table = pd.read_csv(other / "ratios.csv")
    table["dtype"], table["predicted_ms"] = ["int8", "fp32", "int8"], [0.5, 0.25, 1.0]
    table.to_csv(other / "ratios.csv", index=False)
    summary = json.loads((other / "summary.json").read_text())
    summary = {k: v for k, v in summary.items() if "sha256" not in k}  # changed by hand
    parts = [{"unit": "bytes", "predicted": 3.0}, {"unit": "latency@wsr", "predicted": 1.75}]
    (other / "summary.json").write_text(json.dumps(summary | {"budget_parts": parts}))
    assert export.main([*to, "--out", str(tmp_path / "own")]) == 0
    words = ["--engine", "wsr", "--dtype", "auto", "--threads", "2", "--batch", "3"]
    assert export.main([*to, *words]) == 0
    plain, own, typed = seen
    assert (plain["engine"], plain["dtype"], plain["budget"]) == ("wsr", "fp32", None)
    assert (plain["threads"], plain["rows"], plain["predicted_ms"]) == (1, 1, None)
    assert own["engine"] == "onnxruntime"
    assert own["dtype"] == {"0": "int8", "3": "fp32", "7": "int8"}
    assert own["predicted_ms"] == 1.75
    assert own["budget"] == "bytes=2MB,latency=8ms@onnxruntime"
    assert (typed["engine"], typed["dtype"], typed["threads"]) == ("wsr", "auto", 2)
    assert (typed["rows"], typed["folder"]) == (3, other / "deploy")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--to", "onnx", "--engine", "wsr"], "--engine with --to onnx: only deploy"),
        (["--to", "wsr", "--batch", "2"], "--batch with --to wsr: only deploy"),
        (["--to", "deploy", "--int8"], "--to deploy has --dtype int8"),
        (["--to", "deploy", "--batch", "0"], "--batch 0: must be a whole number"),
        (["--to", "deploy", "--threads", "0"], "--threads 0: must be a whole number"),
        (["--to", "deploy", "--engine", "torch", "--dtype", "int8"], "--dtype int8: torch files"),
    ],
)
def test_bad_flags_of_deploy(
    run: Path, words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main([str(run), *words, *NAMED, "--out", str(tmp_path / "there")]) == 2
    assert says in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
