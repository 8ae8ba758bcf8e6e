"""The bias of an INT8 layer, whatever its weights: kept in ONNX and in our own runtime."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from ws_learner.core.errors import UserError
from ws_learner.deploy.onnx.export import _constants, run_onnx
from ws_learner.deploy.onnx.int8_qdq import export_qdq
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.codegen.spec import Spec
from ws_learner.deploy.runtime.modules import LayerData
from ws_learner.deploy.runtime.quantisation import InputScale, least_scales, quantise_weight
from ws_learner.training.quantization_aware import FakeQuantizer, QuantConfig

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

K = 32
ROWS = {  # scale of the row's weights, bias
    "zero": (0.0, 0.4),
    "zero, no bias": (0.0, 0.0),
    "zero, small bias": (0.0, -3e-7),
    "tiny": (1e-12, 0.4),
    "below float32": (1e-44, -0.7),
    "usual": (0.5, 0.3),
    "usual, huge bias": (0.5, 4e6),
    "large": (300.0, -2.0),
}


def layer(kind: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    made: nn.Linear | nn.Conv2d = nn.Linear(K, len(ROWS))
    x = torch.rand(64, K)
    if kind == "conv":
        made, x = nn.Conv2d(K, len(ROWS), 1), x[:, :, None, None]
    with torch.no_grad():
        for row, (scale, bias) in enumerate(ROWS.values()):
            made.weight[row] = (torch.rand_like(made.weight[row]) * 2 - 1) * scale
            assert made.bias is not None
            made.bias[row] = bias
    return nn.Sequential(made).eval(), x


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("high", [255.0, 1.0, 1e-4])
def test_every_bias_is_what_it_was(kind: str, high: float, tmp_path: Path) -> None:
    model, x = layer(kind)
    x = x / x.max() * high
    export_qdq(model, x, tmp_path / "m.onnx", calibration=[x])
    with torch.no_grad():
        wanted = model(x).double().reshape(len(x), -1).numpy()
    got = run_onnx(tmp_path / "m.onnx", x)[0].double().reshape(len(x), -1).numpy()
    step = high / 255
    for row, (name, (scale, bias)) in enumerate(ROWS.items()):
        # Half a step of each input and weight, and of the output of a convolution.
        products = K * (scale / 127 * high + step * scale)
        error = products + 1e-6 * abs(bias) + K * high * abs(bias) / (step * 2**30)
        if kind == "conv":
            error = np.ptp(wanted) / 255 + products
        assert np.abs(got[:, row] - wanted[:, row]).max() <= error, name
        if kind == "linear" and scale < 1e-6:
            np.testing.assert_allclose(got[:, row], bias, rtol=1e-6, err_msg=name)


def unfolded(stored: dict[str, npt.NDArray[np.float64]], x: npt.NDArray[np.float64]) -> object:
    """QuantizeLinear, DequantizeLinear and Gemm, by ONNX's definition, in float64."""
    scale, zero = stored["layer0_scale"], stored["layer0_zero"]
    near = (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale
    weight = stored["layer0_w"] * stored["layer0_ws"][:, None]
    return near @ weight.T + stored["layer0_b"] * stored["layer0_bs"]


def test_the_file_means_what_the_engine_computes(tmp_path: Path) -> None:
    model, x = layer("linear")
    export_qdq(model, x, tmp_path / "m.onnx", calibration=[x])
    stored = {
        i.name: onnx.numpy_helper.to_array(i).astype(np.float64)
        for i in onnx.load(tmp_path / "m.onnx").graph.initializer
    }
    np.testing.assert_allclose(
        run_onnx(tmp_path / "m.onnx", x)[0].numpy(),
        unfolded(stored, x.double().numpy()),
        rtol=1e-5,
        atol=1e-9,
    )
    np.testing.assert_allclose(
        stored["layer0_bs"], stored["layer0_ws"] * stored["layer0_scale"], rtol=1e-6
    )
    room = np.abs(stored["layer0_b"]) + 127 * 255 * K
    assert room.max() < 2**31  # an engine adds it to the sum in 32 bits


def test_usual_rows_keep_all_their_bits() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, K)).astype(np.float32)
    source = InputScale.of_range(0, 4)
    least = least_scales(rng.normal(size=6), source)
    plain, fitted = quantise_weight(weight), quantise_weight(weight, least=least)
    for one, other in zip(plain, fitted, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.abs(plain[0]).max(axis=1).tolist() == [127] * 6


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(value: float, tmp_path: Path) -> None:
    for part in ("weight", "bias"):
        model = nn.Sequential(nn.Linear(4, 3))
        with torch.no_grad():
            getattr(model[0], part)[0] = value
        x = torch.rand(5, 4)
        with pytest.raises(UserError, match="INT8"):
            export_qdq(model, x, tmp_path / "m.onnx", calibration=[x])
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_trained_quantisation_keeps_every_bias(symmetric: bool) -> None:
    model, x = layer("linear")
    quantizer = FakeQuantizer(model, ["0"], QuantConfig(symmetric_activations=symmetric))
    quantizer.calibrate([x])
    (linear,) = quantizer.layers.values()
    parts = {k: v.double().numpy() for k, v in _constants(quantizer, "0", linear).items()}
    assert np.abs(parts["bias"]).max() + 127 * 255 * K < 2**31
    wanted = linear.bias.detach().double().numpy()
    error = np.abs(parts["bias"] * parts["joint"] - wanted)
    assert (error <= parts["joint"] / 2 + 1e-6 * np.abs(wanted)).all()
    assert (error <= 1e-6 * np.abs(wanted))[:5].all()  # the rows of next to nothing
    np.testing.assert_allclose(parts["joint"], parts["scales"] * parts["scale"], rtol=1e-6)
    with torch.no_grad():
        linear.weight[0] = torch.nan
    with pytest.raises(UserError, match="INT8"):
        _constants(quantizer, "0", linear)


@pytest.mark.parametrize("high", [255.0, 1e-4])
def test_our_own_runtime_adds_the_bias_in_full(high: float) -> None:
    model, x = layer("linear")
    x = x / x.max() * high
    weight, bias = (part.detach().numpy() for part in model[0].parameters())
    data = LayerData(weight=weight, bias=bias, source=InputScale.of_range(0, high))
    place = data.rival("dense int8")
    found = {} if place is None else {"onednn": place(x)}
    if usable_isas() and importlib.util.find_spec("llvmlite"):
        isa = usable_isas()[0]
        for rows in (1, 4):
            group = {"rows": rows, "inputs": 4, "group": rows, "vectors": 2}
            spec = Spec(isa=isa.name, dot="fma" if isa.dot == "amx" else isa.dot, **group)
            if spec.int8:
                found[spec.name] = data.kernel(spec).tokens(x)
    assert found
    for engine, got in found.items():
        for row, (name, (scale, own)) in enumerate(ROWS.items()):
            if scale < 1e-6:
                wanted = torch.full((len(x),), own) + x.sum(1) * 0
                torch.testing.assert_close(
                    got[:, row], wanted, rtol=1e-6, atol=K * high * scale, msg=f"{engine} {name}"
                )
