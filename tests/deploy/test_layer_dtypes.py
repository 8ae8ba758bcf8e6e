"""`compile_sparse` with a number format for each layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.sparse_layers import pruned
from ws_learner.core.errors import UserError
from ws_learner.deploy.runtime import compile_sparse, load_sparse, read_wsr, write_wsr
from ws_learner.deploy.runtime import load as files
from ws_learner.deploy.runtime import selection as choice
from ws_learner.deploy.runtime.autotune import TimedTrial
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.quantisation import InputScale, quantise_weight

needs_kernels = pytest.mark.skipif(not usable_isas(), reason="no generated kernels here")


@pytest.fixture
def bytes_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes win wherever they may be tried."""

    def winner(runs: dict[str, object], base: str, **_: object) -> TimedTrial:
        wanted = [n for n in runs if n.startswith(("int8", "compiled"))] or [base]
        return TimedTrial(
            winner=wanted[-1], speedup=2.0, seconds={n: 1.0 + (n == base) for n in runs}
        )

    monkeypatch.setattr(choice, "fastest", winner)
    monkeypatch.setattr("ws_learner.deploy.runtime.acceptance.fastest", winner)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 5)]
    model = pruned(nn.Sequential(*layers), "4x4", 0.5)
    assert isinstance(model, nn.Sequential)
    return model


def in_bytes(layer: nn.Module, x: Tensor) -> Tensor:
    """A linear layer with weight and input rounded, in float64."""
    assert isinstance(layer, nn.Linear)
    source = InputScale.of_range(float(x.min()), float(x.max()))
    weight, scales = quantise_weight(layer.weight.detach().numpy())
    rough = (source.quantise(x.numpy()).astype(np.float64) - source.zero) * source.scale
    y = rough @ (weight * scales[:, None].astype(np.float64)).T + layer.bias.detach().numpy()
    return torch.from_numpy(y).float()


@needs_kernels
@pytest.mark.parametrize("name", ["2", "2.weight"])
def test_only_the_layers_named_are_multiplied_in_bytes(
    bytes_win: None, name: str, tmp_path: Path
) -> None:
    model, x = net(), torch.randn(50, 24)
    dtype: dict[str, Any] = {name: "int8", "4": "fp32"}
    fast = compile_sparse(
        model, x, dtype=dtype, calibration=[x], calibration_method="minmax"
    )  # as `in_bytes` has it
    kernels = list(fast.report()["kernel"].str.startswith("int8"))
    assert kernels == [False, True, False]
    with torch.no_grad():
        wanted = model[3:](in_bytes(model[2], model[:2](x)))
    assert torch.allclose(fast(x), wanted, atol=1e-5)
    fast.save(tmp_path / "m.wsr")
    again = load_sparse(tmp_path / "m.wsr")
    assert again.dtype == dtype
    assert torch.equal(again(x), fast(x))
    stored = read_wsr(tmp_path / "m.wsr")[0]
    kinds = [stored[f"{layer}.weight"].dtype for layer in (0, 2, 4)]
    assert kinds == [torch.float32, torch.int8, torch.float32]


@needs_kernels
def test_another_processor_keeps_to_the_formats(
    bytes_win: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(20, 24)
    compile_sparse(net(), x, dtype={"0": "int8"}, calibration=[x]).save(tmp_path / "m.wsr")
    monkeypatch.setattr(files, "cpu_key", lambda: "another")
    again = load_sparse(tmp_path / "m.wsr")
    assert list(again.report()["kernel"].str.startswith("int8")) == [True, False, False]


def test_floats_for_all_read_no_calibration() -> None:
    def never() -> Any:
        raise AssertionError("calibration data were read")
        yield

    compile_sparse(net(), torch.randn(4, 24), dtype={"0": "fp32"}, calibration=never())


def test_a_layer_alone_is_called_by_its_weights_name(bytes_win: None) -> None:
    layer = pruned(nn.Linear(24, 16), "4x4", 0.5)
    x = torch.randn(4, 24)
    fast = compile_sparse(layer, x, dtype={"weight": "int8"}, calibration=[x])
    assert fast.bytes_allowed == {"0": True}


def test_what_no_kernel_replaces_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.Flatten(), nn.Linear(4, 3))
    compile_sparse(model, torch.randn(2, 4, 1, 1), dtype={"0": "int8"})
    assert "stay fp32, as no kernel replaces them: 0" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ({"7": "int8"}, r"`dtype` of layer 7: not in this model; .*Allowed: 0, 2, 4"),
        ({"1": "int8"}, "`dtype` of layer 1: not in this model"),
        ({"0": "auto"}, "`dtype` auto of layer 0: .*Allowed: fp32, int8"),
        ({"0": "int8", "0.weight": "fp32"}, "0.weight is fp32 and 0 is int8, but they are one"),
    ],
)
def test_names_and_formats_that_are_none(dtype: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compile_sparse(net(), torch.randn(4, 24), dtype=dtype)


def test_files_with_formats_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "m.wsr"
    compile_sparse(net(), torch.randn(4, 24)).save(path)
    tensors, facts = read_wsr(path)
    for wrong in ({"0": "int4"}, ["fp32"], None):
        write_wsr(path, tensors, metadata=facts | {"dtype": wrong})
        with pytest.raises(UserError, match=r"m\.wsr: names no kernel of ours \(dtype"):
            load_sparse(path)
