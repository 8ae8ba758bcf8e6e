"""Static ranges of INT8: said where they hurt, and only there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("llvmlite")

from ws_learner.deploy import compile_sparse
from ws_learner.deploy.runtime.graph import find_sites
from ws_learner.deploy.runtime.quantisation import InputScale
from ws_learner.deploy.runtime.static_ranges import hurt_by_static_ranges

RANGES = "one range for all tokens"


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 256)).eval()
    with torch.no_grad():
        for layer in (model[0], model[2]):
            mask = torch.rand(16, 64).repeat_interleave(16, 0).repeat_interleave(4, 1) < 0.2
            layer.weight.mul_(mask)
        model[0].weight[:, 7] *= 1e-3  # what reads the large channel has small weights
    return model


def inputs(*, outliers: bool) -> Tensor:
    """32 tokens; with outliers, channel 7 of two of them is a thousand times as large."""
    x = torch.randn(32, 256, generator=torch.Generator().manual_seed(1))
    if outliers:
        x[::16, 7] = 1000.0
    return x


def test_a_channel_of_outliers_is_found_in_its_layer_only() -> None:
    model, x = network(), inputs(outliers=True)
    scales = {"0": InputScale.of_range(-4, 1000), "2": InputScale.of_range(-1, 1)}
    found = hurt_by_static_ranges(model, find_sites(model), scales, [x])
    assert set(found) == {"0"}
    # by hand, in float64
    weight, rows = model[0].weight.double().detach(), x.double()
    step = 1004 / 255
    zero = round(4 / step)
    static = (torch.round(rows / step) + zero).clamp(0, 255) - zero
    most = rows.abs().amax(1, keepdim=True) / 127
    token = torch.round(rows / most) * most
    whole = (rows @ weight.T).norm()
    wanted = [float(((r - rows) @ weight.T).norm() / whole) for r in (static * step, token)]
    assert found["0"] == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("outliers", [True, False])
def test_the_line_names_the_layer_and_the_remedy(
    outliers: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ws_learner.deploy.runtime.selection import KernelChoice

    monkeypatch.setattr(KernelChoice, "in_bytes", property(lambda self: True))
    x: Any = inputs(outliers=outliers)
    compile_sparse(
        network(), x, dtype="int8", calibration=[x], calibration_method="minmax"
    )  # the outliers stay within the range
    said = [line for line in capsys.readouterr().err.splitlines() if RANGES in line]
    assert len(said) == outliers
    assert all("outputs of 0 by" in line and "compile_sparse_lm" in line for line in said)
