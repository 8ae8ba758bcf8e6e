"""The regression of every layout against least squares by brute force."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from tests.support.conv1d_of_transformers import Conv1D
from ws_learner.pruning.layers.table import layer_table
from ws_learner.search.rollout.layer_database import LayerDatabase


class Stack(nn.Module):
    """Experts (E, I, O), of which each sees its own inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, 5))

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(x.reshape(3, -1, 4), self.weight)


CASES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "conv1d of transformers": (Conv1D(5, 6), (4, 3, 6)),
    "conv3d": (nn.Conv3d(2, 3, 2, padding=1, bias=False), (3, 2, 2, 2, 2)),
    "up 1d": (nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1, bias=False), (4, 3, 6)),
    "up 1d, far padding": (nn.ConvTranspose1d(2, 3, 2, padding=2, bias=False), (4, 2, 9)),
    "up 2d in groups": (
        nn.ConvTranspose2d(
            4, 6, (3, 2), (2, 3), (1, 0), (1, 1), groups=2, bias=False, dilation=(1, 2)
        ),
        (4, 4, 3, 2),
    ),
    "up 3d": (nn.ConvTranspose3d(2, 2, 2, stride=2, bias=False), (3, 2, 2, 2, 2)),
    "experts": (Stack(), (3, 8, 4)),
}


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_solved_weights_are_the_least_squares_of_the_outputs(case: str, share: float) -> None:
    torch.manual_seed(0)
    layer, shape = CASES[case]
    model, x = nn.Sequential(layer), torch.randn(shape)
    rows = layer_table(model, x)
    database = LayerDatabase.open(
        model, lambda: [x], layers=rows, levels=(0.0, 0.5), seed=0, facts={}, cache_dir=None
    )
    weight = layer.get_parameter("weight").detach()
    zeros = round(share * weight.numel())
    solved, mask = database.weights(0, zeros), database.mask(0, zeros)
    assert solved.shape == weight.shape
    assert int((solved == 0).sum()) == zeros
    assert torch.equal(solved != 0, mask)

    def outputs(values: Tensor) -> Tensor:
        zero = {n: torch.zeros_like(p) for n, p in layer.named_parameters() if n != "weight"}
        made: Tensor = functional_call(layer, {"weight": values.float(), **zero}, x)
        return made.double().flatten()

    units = torch.eye(weight.numel()).reshape(-1, *weight.shape)
    columns = torch.stack([outputs(unit) for unit in units], 1)
    wanted = outputs(weight)
    kept = columns[:, mask.flatten()]
    best = torch.linalg.lstsq(kept, wanted[:, None], driver="gelsd").solution
    least = float((kept @ best - wanted[:, None]).square().sum() / wanted.square().sum())
    reached = float((outputs(solved) - wanted).square().sum() / wanted.square().sum())
    assert database.error(0, zeros) == pytest.approx(reached, rel=1e-3, abs=1e-6)
    assert reached == pytest.approx(least, rel=1e-3, abs=1e-5)
