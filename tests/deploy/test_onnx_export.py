"""ONNX files: what onnxruntime computes is what the network computes, masked, cropped, in INT8."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from tests.support.tiny_transformers import FAMILIES, FusedBlock, bert
from ws_learner.deploy.onnx.export import check_onnx, export_int8, export_onnx, run_onnx
from ws_learner.deploy.shrinking.crop import crop, float_outputs
from ws_learner.training.quantization_aware import FakeQuantizer, QuantConfig, whole_weights


def halved(model: nn.Module) -> nn.Module:
    """Half of the neurons and heads are read by nobody."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("output.dense.weight", "o_proj.weight", "fc2.weight", "proj.weight")):
                weight[:, : weight.shape[1] // 2] = 0
    return model


@pytest.mark.long
@pytest.mark.parametrize("family", ["bert", pytest.param("swin", marks=pytest.mark.slow)])
def test_a_cropped_network_runs_in_onnxruntime(family: str, tmp_path: Path) -> None:
    model, inputs = FAMILIES[family]("eager" if family == "swin" else "sdpa")
    cropped = crop(halved(model), inputs)
    assert cropped.removed
    path = tmp_path / "model.onnx"
    export_onnx(cropped.model, inputs, path)
    assert check_onnx(cropped.model, inputs, path) < 1e-5
    assert check_onnx(model, inputs, path) < 1e-5  # the masked network, too
    if family == "bert":
        more = {key: torch.cat((value, value.flip(0))) for key, value in inputs.items()}
        assert check_onnx(model, more, path) < 1e-5


def fused(path: Path, made: Path) -> list[str]:
    """Operators that onnxruntime runs for a file."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(made), 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(made).graph.node]


@pytest.mark.long
@pytest.mark.parametrize("symmetric", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_int8_is_what_was_trained(symmetric: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, inputs = halved(FusedBlock()).eval(), (torch.randn(4, 5, 24),)
    with torch.no_grad():
        model.get_parameter("mlp.fc1.weight")[3] = 0  # a scale in which the bias cannot fit
        model.get_parameter("mlp.fc1.bias")[3] = 0.7
    config = QuantConfig(symmetric_activations=symmetric, half_range=True)
    quantizer = FakeQuantizer(model, ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"], config)
    quantizer.calibrate([torch.randn(16, 5, 24) for _ in range(3)])
    path = tmp_path / "int8.onnx"
    export_int8(quantizer, inputs, path)
    (wanted,), (found,) = float_outputs(model, inputs), run_onnx(path, inputs)
    size = float(wanted.abs().max())
    assert float((wanted - found).abs().max()) < 0.02 * size
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("QuantizeLinear") == 4
    assert kinds.count("DequantizeLinear") == 12  # inputs, weights, biases
    assert kinds.count("Gemm") == 4
    assert fused(path, tmp_path / "fused.onnx").count("QGemm") == 4  # integers, not a round trip
    stored = [i for i in onnx.load(path).graph.initializer if i.data_type == onnx.TensorProto.INT8]
    shapes = {tuple(entry.dims) for entry in stored}
    assert (72, 24) in shapes
    quantizer.detach()
    (plain,) = float_outputs(model, inputs)
    assert 0 < float((plain - wanted).abs().max()) < 0.1 * size


@pytest.mark.parametrize("first_only", [False, True])
def test_seven_bits_are_for_all_layers_or_for_those_that_read_the_first_input(
    first_only: bool,
) -> None:
    model, inputs = bert()
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    quantizer = FakeQuantizer(model, names, QuantConfig(half_range=True, first_only=first_only))
    quantizer.calibrate([inputs["input_ids"]])
    half = {name for name in names if int(whole_weights(quantizer, name)[0].abs().amax()) == 63}
    first = {f"bert.encoder.layer.0.attention.self.{part}" for part in ("query", "key", "value")}
    assert half == (first if first_only else set(names))


def test_fake_quantisation_rounds_to_whole_numbers_and_keeps_zeros() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(8, 5)
    model = nn.Sequential(layer)
    with torch.no_grad():
        layer.weight[:, ::2] = 0
    quantizer = FakeQuantizer(model, ["0"], QuantConfig(symmetric_activations=False))
    inputs = torch.randn(64, 8)
    quantizer.calibrate([inputs])
    whole, scales = whole_weights(quantizer, "0")
    assert not whole[:, ::2].any()
    assert int(whole.abs().amax()) == 127
    scale, zero, least, most = quantizer.activation("0")
    near = ((inputs / scale).round() + zero).clamp(least, most).sub(zero) * scale
    expected = near @ (whole.float() * scales[:, None]).T + layer.bias
    model.eval()
    assert torch.allclose(model(inputs), expected, atol=1e-5)
    model.train()
    model(inputs * 3).square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad[:, ::2].any()  # straight through, for scores to see
    state = quantizer.state_dict()
    assert float(state["0"][1]) > float(inputs.max())  # the range follows the data
    again = FakeQuantizer(model, ["0"], QuantConfig(symmetric_activations=False))
    again.load_state_dict(state)
    assert again.activation("0") == quantizer.activation("0")
