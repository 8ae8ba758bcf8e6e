"""Exported files hold what engines read, and onnxruntime's quantiser takes them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from ws_learner import export_onnx

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).eval()
    model[0].weight.data[:, ::2] = 0
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(model, torch.randn(4, 16), path)
    return path


def test_no_source_lines_and_no_second_shapes(exported: Path) -> None:
    model = onnx.load(str(exported))
    assert not any(node.metadata_props for node in model.graph.node)
    assert b".py" not in exported.read_bytes()  # no folders of the machine that exported it
    weights = {tensor.name for tensor in model.graph.initializer}
    assert weights
    assert not weights & {info.name for info in model.graph.value_info}
    onnx.checker.check_model(model, full_check=True)


def test_quantize_dynamic_takes_the_file_and_keeps_zeros(exported: Path, tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    logging.getLogger().setLevel(logging.ERROR)
    quantised = tmp_path / "int8.onnx"
    quantization.quantize_dynamic(exported, quantised)
    held = [onnx.numpy_helper.to_array(t) for t in onnx.load(str(quantised)).graph.initializer]
    codes = next(values for values in held if values.shape in {(16, 32), (32, 16)})
    codes = codes if codes.shape == (16, 32) else codes.T
    zero = codes[::2].ravel()[0]  # the code of 0, which need not be 0
    assert (codes[::2] == zero).all()
    assert not (codes[1::2] == zero).all()
