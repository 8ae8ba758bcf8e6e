"""Small networks to compile, and trials that no clock decides."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.support.sparse_layers import pruned
from ws_learner.deploy.runtime import acceptance as whole
from ws_learner.deploy.runtime import selection as choice
from ws_learner.deploy.runtime.autotune import TimedTrial

__all__ = ["Odd", "Walks", "let_direct_win", "let_sparse_win", "near", "padded_encoder", "parts"]


def let_sparse_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock decides what is tested: a sparse kernel wins, and so does the whole."""

    def sparse(runs: dict[str, object], base: str, **_: object) -> TimedTrial:
        names = [n for n in runs if n.startswith(("fp32", "int8"))] or [base]
        return TimedTrial(winner=names[-1], speedup=2.0, seconds=dict.fromkeys(runs, 1.0))

    monkeypatch.setattr(choice, "fastest", sparse)
    monkeypatch.setattr(
        whole,
        "fastest",
        lambda runs, base, **_: TimedTrial(
            winner="compiled", speedup=2, seconds=dict.fromkeys(runs, 1)
        ),
    )


def let_direct_win(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """As `let_sparse_win`, for direct convolutions; returns what each trial held."""
    let_sparse_win(monkeypatch)
    other, held = choice.fastest, []

    def direct(runs: dict[str, object], base: str, **words: object) -> TimedTrial:
        held.append(list(runs))
        names = [n for n in runs if n.endswith("direct")]
        if not names:
            return other(runs, base, **words)  # type: ignore[arg-type]
        return TimedTrial(winner=names[-1], speedup=2.0, seconds=dict.fromkeys(runs, 1.0))

    monkeypatch.setattr(choice, "fastest", direct)
    return held


def parts(width: int = 32, *, more: tuple[nn.Module, ...] = ()) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(width, 48), nn.ReLU(), *more, nn.Linear(48, width))
    return pruned(net, "4x1", 0.8)


def near(a: Tensor, b: Tensor) -> bool:
    return bool(torch.allclose(a, b, atol=1e-5, rtol=1e-4))


class Walks(nn.Module):
    """Keeps what each part gives."""

    def __init__(self) -> None:
        super().__init__()
        self.net = parts()

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for part in self.net:
            x = part(x)
            found.append(x)
        return torch.cat(found, 1)


class Odd(nn.Module):
    """Answers by its layer's kind, which compiling changes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = parts()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * (1 if type(self.net[0]) is nn.Linear else 3)


def padded_encoder() -> tuple[nn.TransformerEncoder, Tensor, Tensor]:
    """PyTorch's encoder, a batch (3, 10, 32), and which of its places are padding."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    model = pruned(nn.Sequential(nn.TransformerEncoder(layer, 2)), "4x1", 0.8)[0].eval()
    x, mask = torch.randn(3, 10, 32), torch.zeros(3, 10, dtype=torch.bool)
    mask[1, 6:] = True
    return model, x, mask
