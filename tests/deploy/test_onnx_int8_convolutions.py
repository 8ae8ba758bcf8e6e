"""Convolutions as INT8 ONNX: engines run them in bytes; and who looks at a written file."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ws_learner.core.errors import UserError
from ws_learner.deploy.onnx.export import relative_output_difference, run_onnx
from ws_learner.deploy.onnx.int8_qdq import export_qdq
from ws_learner.deploy.onnx.verify import engine_differences

runtime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(16, 24, 3, stride=2, groups=2), nn.BatchNorm2d(24), nn.ReLU()),
        nn.Conv2d(24, 20, 1),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(20, 7)),
    )
    for _ in range(5):  # statistics that are not those of a fresh network
        model(torch.randn(8, 3, 16, 16) * 2 + 1)
    return model.eval()


def optimised(path: Path, folder: Path) -> list[str]:
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


def test_convolutions_run_in_bytes(tmp_path: Path) -> None:
    model, path, x = network(), tmp_path / "m.onnx", torch.randn(6, 3, 16, 16) * 2 + 1
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export_qdq(model, x, path, calibration=[x])
    kinds = optimised(path, tmp_path)
    assert kinds.count("QLinearConv") == 3
    assert not {"Conv", "FusedConv", "Relu", "BatchNormalization"} & set(kinds)
    with torch.no_grad():
        assert relative_output_difference(path, x, model(x)) < 0.05
        assert relative_output_difference(path, x[:1], model(x[:1])) < 0.05  # the batch is open
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}
    norm: Any = model[1]
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach().double()
    folded = model[0].weight.detach().double() * scale[:, None, None, None]  # type: ignore[index,union-attr]
    steps = folded.abs().amax((1, 2, 3)) / 127
    wanted = (folded / steps[:, None, None, None]).numpy()
    assert stored["layer0_w"].dtype == np.int8
    assert np.abs(stored["layer0_w"] - wanted).max() <= 0.5 + 1e-3  # to the nearest byte
    assert stored["layer0_b"].dtype == np.int32


def test_what_has_no_place_in_a_chain_is_named(tmp_path: Path) -> None:
    x = torch.randn(2, 3, 8, 8)
    for layer, name in (
        (nn.Conv2d(3, 4, 3, padding="same"), "Conv2d"),
        (nn.BatchNorm2d(3), "BatchNorm2d"),
        (nn.TransformerEncoderLayer(8, 2, 8), "TransformerEncoderLayer"),
    ):
        with pytest.raises(UserError, match=f"{name} is not supported, only chains"):
            export_qdq(nn.Sequential(layer), x, tmp_path / "m", calibration=[x])
    with pytest.raises(UserError, match="no linear layer"):
        export_qdq(nn.Sequential(nn.ReLU()), x, tmp_path / "m", calibration=[x])
    with pytest.raises(UserError, match="no batch"):
        export_qdq(nn.Conv2d(3, 4, 1), x, tmp_path / "m", calibration=[])
    assert not (tmp_path / "m").exists()


def test_every_engine_that_is_there_looks_at_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, x = tmp_path / "m.onnx", torch.randn(4, 5)
    model = nn.Sequential(nn.Linear(5, 3)).eval()
    export_qdq(model, x, path, calibration=[x])
    wanted = model(x).detach()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    alone = engine_differences(path, x, wanted)
    assert list(alone) == ["ONNX Runtime"]
    assert alone["ONNX Runtime"] < 0.05

    class Network:
        outputs = ("y",)

        def __call__(self, feed: list[np.ndarray]) -> dict[int, np.ndarray]:
            return {0: run_onnx(path, torch.from_numpy(feed[0]))[0].numpy() * 1.5}

    core = SimpleNamespace(compile_model=lambda *_: Network())
    stand_in: Any = ModuleType("openvino")
    stand_in.Core = lambda: core
    monkeypatch.setitem(sys.modules, "openvino", stand_in)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    both = engine_differences(path, x, wanted)
    assert both["ONNX Runtime"] == alone["ONNX Runtime"]
    assert both["OpenVINO"] == pytest.approx(0.5, rel=0.1)
