"""Transformer blocks whose heads and neurons are known by name, with something between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.support.nets_people_bring.net import net

__all__ = ["NETS"]


class _Mlp(nn.Module):
    """`fc2(between(fc1(x)))`."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.fc1, self.between, self.fc2 = nn.Linear(8, 16), between, nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.between(self.fc1(x)))
        return out


class _AlongTokens(nn.Module):
    """A depthwise convolution along the tokens, as vision transformers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(16, 16, 3, padding=1, groups=16)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return out


class _Masked(nn.Module):
    """A buffer of one value per neuron."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.linspace(0.5, 2, 16))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask


class _Rolled(nn.Module):
    """Depends on the order of neurons, and no tensor says so."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.roll(1, -1)


class _Counted(nn.Module):
    """Depends on the number of neurons."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu() * x.shape[-1]


class _Viewed(nn.Module):
    """Does not run with another number of neurons."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], 4, 4).relu().flatten(-2)


def _run(self: Any, x: Tensor) -> Tensor:
    for block in self.blocks:
        x = x + block(x)
    out: Tensor = self.head(x.mean(1))
    return out


def _in_place(self: Any, x: Tensor) -> dict[str, Any]:
    x += 1
    return {"out": [_run(self, x)], "hidden": x}


def _built(
    *between: Callable[[], nn.Module], run: Callable[..., Any] = _run
) -> Callable[[], tuple[nn.Module, Any]]:
    """Two MLPs, the first with `between` between its layers and the second with a GELU."""

    def blocks() -> nn.Module:
        first = nn.Sequential(*(make() for make in between), nn.GELU())
        return nn.ModuleList([_Mlp(first), _Mlp(nn.GELU())])

    return net(run, lambda: torch.randn(3, 5, 8), blocks=blocks, head=lambda: nn.Linear(8, 2))


def _changed(change: Callable[[_Mlp], None]) -> Callable[[], tuple[nn.Module, Any]]:
    def build() -> tuple[nn.Module, Any]:
        model, example = _built()()
        first = model.blocks[0]  # type: ignore[index]
        change(first)
        return model, example

    return build


def _normed(mlp: _Mlp) -> None:
    mlp.fc1 = nn.utils.parametrizations.weight_norm(mlp.fc1)


NETS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "two MLPs": _built(),
    "MLP with a depthwise convolution": _built(_AlongTokens),
    "MLP with a norm inside": _built(lambda: nn.LayerNorm(16)),
    "MLP with a slope per neuron": _built(nn.Hardtanh, _Masked),
    "MLP with rolled neurons": _built(_Rolled),
    "MLP that counts its neurons": _built(_Counted),
    "MLP with a fixed view": _built(_Viewed),
    "MLP with weight norm": _changed(_normed),
    "MLP with dict outputs and in-place inputs": _built(run=_in_place),
}
