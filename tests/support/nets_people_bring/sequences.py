"""Networks of linear layers, attention and recurrence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.nets_people_bring.net import net

__all__ = ["NETS"]


def _rows() -> Tensor:
    return torch.randn(4, 6)


def _sequence() -> Tensor:
    return torch.randn(3, 5, 6)


def _ids() -> Tensor:
    return torch.randint(20, (3, 5))


def _linear(*sizes: int) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(*sizes)


def _transposed_weight(self: Any, x: Tensor) -> Tensor:
    x = functional.linear(self.a(x).relu(), self.b.weight.t())
    out: Tensor = self.c(x.relu())
    return out


def _sliced_weight(self: Any, x: Tensor) -> Tensor:
    x = functional.linear(self.a(x).relu(), self.b.weight[:6], self.b.bias[:6])
    out: Tensor = self.c(x.relu())
    return out


def _matmul_weight(self: Any, x: Tensor) -> Tensor:
    x = self.a(x).relu() @ self.b.weight.T + self.b.bias
    out: Tensor = self.c(x.relu())
    return out


def _tied(self: Any, x: Tensor) -> Tensor:
    out: Tensor = self.decode(self.encode(x).relu())
    return out


def _tied_net() -> tuple[nn.Module, Any]:
    model, example = net(_tied, _rows, encode=_linear(6, 6), decode=_linear(6, 6))()
    model.decode.weight = model.encode.weight  # type: ignore[union-attr]
    return model, example


def _used_twice(self: Any, x: Tensor) -> Tensor:
    x = self.a(x).relu()
    out: Tensor = self.c(self.b(self.b(x).relu()).relu())
    return out


def _einsum(self: Any, x: Tensor) -> Tensor:
    x = self.a(x).relu()
    x = torch.einsum("blc,dc->bld", x, self.b.weight)
    out: Tensor = self.c(x.relu())
    return out


def _scores(self: Any, x: Tensor) -> Tensor:
    q, k = self.q(x), self.k(x)
    out: Tensor = self.c((q @ k.transpose(1, 2)).softmax(-1) @ self.v(x))
    return out


def _mixer(self: Any, x: Tensor) -> Tensor:
    x = self.a(x).relu()
    x = self.tokens(x.transpose(1, 2)).relu().transpose(1, 2)
    out: Tensor = self.c(x)
    return out


def _attention(self: Any, x: Tensor) -> Tensor:
    x = self.a(x)
    x = x + self.heads(x, x, x, need_weights=False)[0]
    out: Tensor = self.c(self.b(x).relu())
    return out


def _recurrent(self: Any, x: Tensor) -> Tensor:
    x, _ = self.cell(self.a(x).relu())
    out: Tensor = self.c(self.b(x).relu())
    return out


def _embedded(self: Any, x: Tensor) -> Tensor:
    out: Tensor = self.c(self.a(self.words(x)).relu().mean(1))
    return out


def _tied_words(self: Any, x: Tensor) -> Tensor:
    x = self.a(self.words(x)).relu()
    out: Tensor = functional.linear(self.b(x), self.words.weight)
    return out


def _bag(self: Any, x: Tensor) -> Tensor:
    out: Tensor = self.c(self.a(self.words(x)).relu())
    return out


def _bilinear(self: Any, x: Tensor) -> Tensor:
    out: Tensor = self.c(self.both(self.a(x).relu(), self.b(x).relu()))
    return out


def _swiglu(self: Any, x: Tensor) -> Tensor:
    out: Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))
    return out


def _normed(self: Any, x: Tensor) -> Tensor:
    out: Tensor = self.c(functional.normalize(self.a(x), dim=-1))
    return out


def _sorted(self: Any, x: Tensor) -> Tensor:
    out: Tensor = self.c(self.a(x).sort(dim=-1).values)
    return out


def _rolled(self: Any, x: Tensor) -> Tensor:
    x = self.a(x)
    out: Tensor = self.c(torch.roll(x, 2, -1) + x.flip(-1))
    return out


def _stacked(self: Any, x: Tensor) -> Tensor:
    x = torch.stack([self.a(x), self.b(x)], -1)
    out: Tensor = self.c(x.flatten(-2).relu())
    return out


def _gathered(self: Any, x: Tensor) -> Tensor:
    x = self.a(x)
    out: Tensor = self.c(x[..., torch.tensor([3, 1, 0, 2, 7, 5])])
    return out


def _mlp(*middle: nn.Module) -> Callable[[], tuple[nn.Module, Any]]:
    return lambda: (
        nn.Sequential(nn.Linear(6, 12), *middle, nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2)),
        _rows(),
    )


NETS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "linear by a transposed weight": net(
        _transposed_weight, _rows, a=_linear(6, 8), b=_linear(10, 8), c=_linear(10, 2)
    ),
    "linear by a transposed square weight": net(
        _transposed_weight, _rows, a=_linear(6, 8), b=_linear(8, 8), c=_linear(8, 2)
    ),
    "linear by a slice of a weight": net(
        _sliced_weight, _rows, a=_linear(6, 8), b=_linear(8, 10), c=_linear(6, 2)
    ),
    "matmul with a layer's weight": net(
        _matmul_weight, _rows, a=_linear(6, 8), b=_linear(8, 10), c=_linear(10, 2)
    ),
    "tied weights": _tied_net,
    "a layer used twice": net(
        _used_twice, _rows, a=_linear(6, 8), b=_linear(8, 8), c=_linear(8, 2)
    ),
    "einsum": net(_einsum, _sequence, a=_linear(6, 8), b=_linear(8, 10), c=_linear(10, 2)),
    "attention by hand": net(
        _scores, _sequence, q=_linear(6, 8), k=_linear(6, 8), v=_linear(6, 8), c=_linear(8, 2)
    ),
    "MLP-Mixer": net(_mixer, _sequence, a=_linear(6, 5), tokens=_linear(5, 5), c=_linear(5, 2)),
    "multi-head attention": net(
        _attention,
        _sequence,
        a=_linear(6, 8),
        heads=lambda: nn.MultiheadAttention(8, 2, batch_first=True),
        b=_linear(8, 12),
        c=_linear(12, 2),
    ),
    "attention with extra rows": net(
        _attention,
        _sequence,
        a=_linear(6, 8),
        heads=lambda: nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True),
        b=_linear(8, 12),
        c=_linear(12, 2),
    ),
    "GRU": net(
        _recurrent,
        _sequence,
        a=_linear(6, 8),
        cell=lambda: nn.GRU(8, 8, batch_first=True),
        b=_linear(8, 12),
        c=_linear(12, 2),
    ),
    "LSTM in both directions": net(
        _recurrent,
        _sequence,
        a=_linear(6, 8),
        cell=lambda: nn.LSTM(8, 5, batch_first=True, bidirectional=True),
        b=_linear(10, 12),
        c=_linear(12, 2),
    ),
    "encoder layer": lambda: (
        nn.Sequential(
            nn.Linear(6, 8), nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), nn.Linear(8, 2)
        ),
        _sequence(),
    ),
    "embedding": net(
        _embedded, _ids, words=lambda: nn.Embedding(20, 6), a=_linear(6, 8), c=_linear(8, 2)
    ),
    "words tied to the output": net(
        _tied_words, _ids, words=lambda: nn.Embedding(20, 6), a=_linear(6, 8), b=_linear(8, 6)
    ),
    "bag of embeddings": net(
        _bag, _ids, words=lambda: nn.EmbeddingBag(20, 6), a=_linear(6, 8), c=_linear(8, 2)
    ),
    "bilinear layer": net(
        _bilinear,
        _rows,
        a=_linear(6, 8),
        b=_linear(6, 8),
        both=lambda: nn.Bilinear(8, 8, 6),
        c=_linear(6, 2),
    ),
    "gated MLP": net(
        _swiglu, _sequence, gate=_linear(6, 12), up=_linear(6, 12), down=_linear(12, 6)
    ),
    "normalised features": net(_normed, _rows, a=_linear(6, 8), c=_linear(8, 2)),
    "sorted features": net(_sorted, _rows, a=_linear(6, 8), c=_linear(8, 2)),
    "rolled features": net(_rolled, _rows, a=_linear(6, 8), c=_linear(8, 2)),
    "stacked features": net(_stacked, _rows, a=_linear(6, 8), b=_linear(6, 8), c=_linear(16, 2)),
    "features by index": net(_gathered, _rows, a=_linear(6, 8), c=_linear(6, 2)),
    "batch norm of features": _mlp(nn.BatchNorm1d(12), nn.ReLU()),
    "layer norm of features": _mlp(nn.LayerNorm(12), nn.GELU()),
    "RMS norm of features": _mlp(nn.RMSNorm(12), nn.GELU()),
    "dropout in training mode": _mlp(nn.Dropout(0.5), nn.ReLU()),
    "random activation": _mlp(nn.RReLU()),
}
