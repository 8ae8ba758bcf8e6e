"""Ranges of bytes: those that move the network's outputs less, in both directions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ws_learner.deploy.onnx.int8_qdq import export_qdq
from ws_learner.deploy.runtime.graph import find_sites
from ws_learner.deploy.runtime.quantisation import InputScale
from ws_learner.deploy.runtime.range_choice import chosen_ranges

FAR = 3e3


class Saturating(nn.Module):
    """What is far away matters no more than 1 does."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x)


def far_inputs() -> Tensor:
    """One value of 40,000 lies far from the others."""
    x = torch.randn(5_000, 8, generator=torch.Generator().manual_seed(0))
    x[3, 5] = FAR
    return x


def chain(*after: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), *after).eval()


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (chain(Saturating(), nn.Linear(8, 4)), "percentile"),  # the far value changes nothing
        (chain(nn.Linear(8, 4)), "minmax"),  # it is most of the output
    ],
)
def test_the_range_is_the_one_that_moves_outputs_less(model: nn.Sequential, wanted: str) -> None:
    sites = find_sites(model)[:1]
    found = chosen_ranges(model, sites, [far_inputs()], "auto")
    assert {one.method for one in found.values()} == {wanted}
    assert not model[0]._forward_pre_hooks
    widest = FAR / 255
    assert (next(iter(found.values())).settle().scale > widest / 2) == (wanted == "minmax")


def test_rounding_is_that_of_the_kernels() -> None:
    scale = InputScale.of_range(-1.3, 4.1)
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 3
    bytes_ = scale.quantise(values.numpy())
    wanted = (bytes_.astype(np.float64) - scale.zero) * scale.scale
    # Ties may be rounded to either side: the kernels multiply by the inverse.
    assert np.abs(scale.rounded(values).numpy() - wanted).max() <= scale.scale * 1.001
    assert (np.abs(scale.rounded(values).numpy() - wanted) < 1e-5).mean() > 0.999


def test_onnx_files_have_the_chosen_range(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    x = torch.randn(5_000, 8, generator=torch.Generator().manual_seed(0)).abs()
    x[3, 5] = FAR
    first = nn.Linear(8, 8)
    first.weight.data[:, 5] = 0  # the far value is not read
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(8, 4)).eval()
    export_qdq(model, x[:4], tmp_path / "net.onnx", calibration=[x])
    graph = onnx.load(tmp_path / "net.onnx").graph
    scales = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    assert float(scales["layer0_scale"]) < 10 / 255
