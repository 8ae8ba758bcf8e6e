"""Max pooling by vector operations: PyTorch's is the oracle."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ws_learner.deploy import compile_sparse, load_sparse
from ws_learner.deploy.runtime.pooling import FastMaxPool2d, max_pool2d, speed_up_pools

WINDOWS = [
    (kernel, stride, padding)
    for kernel, stride, padding in itertools.product((1, 2, 3, (3, 2)), (1, 2, (1, 3)), (0, 1))
    if kernel != 1 or padding == 0  # PyTorch pads half a window at most
]


@pytest.mark.parametrize(("kernel", "stride", "padding"), WINDOWS)
@pytest.mark.parametrize("shape", [(2, 3, 11, 8), (3, 7, 7), (1, 1, 3, 3), (0, 3, 6, 6)])
def test_windows_have_the_largest_value(
    shape: tuple[int, ...], kernel: Any, stride: Any, padding: int
) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if values.numel() > 9:
        values.view(-1)[3], values.view(-1)[7] = torch.nan, torch.inf
    expected = functional.max_pool2d(values, kernel, stride, padding)
    found = max_pool2d(values, kernel, stride, padding)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (torch.randn(1, 2, 9, 9), {"kernel_size": 5}),
        (torch.randn(1, 2, 9, 9), {"kernel_size": 2, "dilation": 2}),
        (torch.randn(1, 2, 9, 9), {"kernel_size": 2, "ceil_mode": True}),
        (torch.randn(1, 2, 9, 9).double(), {"kernel_size": 2}),
        (torch.randn(2, 4, 8, 8).to(memory_format=torch.channels_last), {"kernel_size": 2}),
    ],
)
def test_all_else_is_left_to_pytorch(values: Tensor, words: dict[str, Any]) -> None:
    assert torch.equal(max_pool2d(values, **words), functional.max_pool2d(values, **words))


def test_errors_are_those_of_pytorch() -> None:
    with pytest.raises(RuntimeError, match="too small"):
        max_pool2d(torch.zeros(1, 1, 2, 2), 3)
    with pytest.raises(RuntimeError, match="pad should be at most half"):
        max_pool2d(torch.zeros(1, 1, 8, 8), 2, padding=2)


def test_a_pool_in_two_places_stays_one() -> None:
    pool = nn.MaxPool2d(2)
    root = nn.Sequential(pool, nn.ReLU(), pool)
    images = torch.randn(1, 2, 8, 8)
    expected = root(images)
    speed_up_pools(root)
    assert type(root[0]) is FastMaxPool2d
    assert root[0] is root[2]
    assert torch.equal(root(images), expected)


def test_pools_with_indices_or_hooks_stay() -> None:
    watched, indices = nn.MaxPool2d(2), nn.MaxPool2d(2, return_indices=True)
    watched.register_forward_hook(lambda *_: None)
    root = nn.ModuleList([watched, indices])
    speed_up_pools(root)
    assert list(root) == [watched, indices]


def test_compiled_and_opened_networks_have_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Flatten()),
        nn.Linear(32 * 16, 10),
    ).eval()
    for name, weight in model.named_parameters():
        if name in ("0.weight", "3.weight"):
            weight.data *= torch.rand(weight.shape) > 0.9
    kept, images = copy.deepcopy(model), torch.randn(4, 3, 16, 16)
    fast = compile_sparse(model, images)
    assert type(model[2]) is nn.MaxPool2d  # the caller's own network
    if fast.dense:
        pytest.skip("no kernel of this machine is faster than PyTorch here")
    fast.save(tmp_path / "net.wsr")
    for network in (fast, load_sparse(tmp_path / "net.wsr")):
        kinds = [type(one) for one in network.modules() if isinstance(one, nn.MaxPool2d)]
        assert kinds == [FastMaxPool2d] * 2
        torch.testing.assert_close(network(images), kept(images), rtol=1e-4, atol=1e-5)
