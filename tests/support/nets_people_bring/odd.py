"""Forward passes that are hard to follow; other inputs, outputs and number types."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.support.nets_people_bring.net import net
from tests.support.nets_people_bring.sequences import _linear, _rows

__all__ = ["NETS"]


def _branching(self: Any, x: Tensor) -> Tensor:
    hidden = self.a(x).relu()
    out: Tensor = self.b(hidden) if hidden.sum() > 1e6 else self.c(hidden)
    return out


def _looping(self: Any, x: Tensor) -> Tensor:
    x = self.a(x).relu()
    for _ in range(int(x.shape[0])):
        x = self.b(x).relu()
    out: Tensor = self.c(x)
    return out


def _dict_out(self: Any, x: Tensor) -> dict[str, Any]:
    hidden = self.a(x).relu()
    return {"logits": self.c(hidden), "parts": (hidden.sum(1), [hidden.mean()]), "name": "x"}


def _tuple_out(self: Any, x: Tensor) -> tuple[Tensor, Any]:
    hidden = self.a(x).relu()
    return self.c(hidden), None


def _dict_in(self: Any, batch: dict[str, Tensor]) -> Tensor:
    out: Tensor = self.c((self.a(batch["x"]) + self.b(batch["y"])).relu())
    return out


def _keywords(self: Any, *, x: Tensor, mask: Tensor | None = None) -> Tensor:
    hidden = self.a(x).relu()
    out: Tensor = self.c(hidden if mask is None else hidden * mask[:, None])
    return out


def _in_place(self: Any, x: Tensor) -> Tensor:
    x = self.a(x)
    x += 1
    x.mul_(2).clamp_(min=0)
    x[:, 2] = x[:, 3] * 2
    out: Tensor = self.c(x)
    return out


def _masked(self: Any, x: Tensor) -> Tensor:
    out: Tensor = self.c((self.a(x) * self.mask + self.shift).relu())
    return out


def _masked_net() -> tuple[nn.Module, Any]:
    model, example = net(_masked, _rows, a=_linear(6, 8), c=_linear(8, 2))()
    model.register_buffer("mask", torch.tensor([1.0, 0, 1, 1, 0, 1, 1, 1]))
    model.shift = nn.Parameter(torch.randn(8))
    return model, example


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.flip(-1) * 2

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0].flip(-1) * 2


def _own_function(self: Any, x: Tensor) -> Tensor:
    out: Tensor = self.c(_Doubled.apply(self.a(x)))
    return out


def _complex(self: Any, x: Tensor) -> Tensor:
    out: Tensor = self.c(torch.fft.fft(self.a(x)).abs())
    return out


def _complex_weights() -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layers = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2)).to(torch.complex64)
    return layers, torch.randn(4, 6, dtype=torch.complex64)


def _detached(self: Any, x: Tensor) -> Tensor:
    out: Tensor = self.c(self.a(x).detach().relu())
    return out


def _without_gradients(self: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = self.c(self.a(x).relu())
    return out


def _by_numpy(self: Any, x: Tensor) -> Tensor:
    hidden = torch.from_numpy(self.a(x).detach().numpy().clip(0))
    out: Tensor = self.c(hidden)
    return out


def _shape_dependent(self: Any, x: Tensor) -> Tensor:
    hidden = self.a(x)
    out: Tensor = self.c(hidden.relu()) * hidden.shape[1]
    return out


def _unused(self: Any, x: Tensor) -> Tensor:
    out: Tensor = self.c(self.a(x).relu())
    return out


def _frozen_net() -> tuple[nn.Module, Any]:
    model, example = net(_unused, _rows, a=_linear(6, 8), c=_linear(8, 2))()
    model.requires_grad_(False)
    return model, example


def _of_type(dtype: torch.dtype) -> Callable[[], tuple[nn.Module, Any]]:
    def build() -> tuple[nn.Module, Any]:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 2))
        return layers.to(dtype), torch.randn(4, 6).to(dtype)

    return build


def _autocast(self: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        out: Tensor = self.c(self.a(x).relu())
    return out.float()


NETS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "a branch on values": net(_branching, _rows, a=_linear(6, 8), b=_linear(8, 2), c=_linear(8, 2)),
    "a loop over the batch": net(
        _looping, _rows, a=_linear(6, 8), b=_linear(8, 8), c=_linear(8, 2)
    ),
    "outputs in a dict": net(_dict_out, _rows, a=_linear(6, 8), c=_linear(8, 2)),
    "outputs in a tuple": net(_tuple_out, _rows, a=_linear(6, 8), c=_linear(8, 2)),
    "inputs in a dict": net(
        _dict_in,
        lambda: ({"x": _rows(), "y": _rows()},),
        a=_linear(6, 8),
        b=_linear(6, 8),
        c=_linear(8, 2),
    ),
    "inputs by keyword": net(
        _keywords,
        lambda: {"x": _rows(), "mask": torch.tensor([1.0, 0, 1, 1])},
        a=_linear(6, 8),
        c=_linear(8, 2),
    ),
    "in-place operations": net(_in_place, _rows, a=_linear(6, 8), c=_linear(8, 2)),
    "a buffer as a mask": _masked_net,
    "an own autograd function": net(_own_function, _rows, a=_linear(6, 8), c=_linear(8, 2)),
    "a Fourier transform": net(_complex, _rows, a=_linear(6, 8), c=_linear(8, 2)),
    "complex weights": _complex_weights,
    "a detached activation": net(_detached, _rows, a=_linear(6, 8), c=_linear(8, 2)),
    "a forward pass without gradients": net(
        _without_gradients, _rows, a=_linear(6, 8), c=_linear(8, 2)
    ),
    "an activation by NumPy": net(_by_numpy, _rows, a=_linear(6, 8), c=_linear(8, 2)),
    "outputs that depend on a width": net(
        _shape_dependent, _rows, a=_linear(6, 8), c=_linear(8, 2)
    ),
    "a layer that is never used": net(
        _unused, _rows, a=_linear(6, 8), b=_linear(6, 8), c=_linear(8, 2)
    ),
    "frozen weights": _frozen_net,
    "bfloat16": _of_type(torch.bfloat16),
    "double precision": _of_type(torch.float64),
    "half precision": _of_type(torch.float16),
    "autocast inside": net(_autocast, _rows, a=_linear(6, 8), c=_linear(8, 2)),
    "a network without weights": lambda: (nn.Sequential(nn.ReLU(), nn.Flatten()), _rows()),
    "a single layer": lambda: (nn.Linear(6, 8), _rows()),
}
