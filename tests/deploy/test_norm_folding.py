"""Batch norms are folded into the convolution whose output only they read, in files as well."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.support.compiled_nets import let_sparse_win, near
from tests.support.sparse_layers import pruned
from ws_learner.core import UserError
from ws_learner.deploy.runtime import compile_sparse, load_sparse, read_wsr, write_wsr
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.graph import find_sites
from ws_learner.deploy.runtime.modules import Replaced
from ws_learner.deploy.runtime.norm_folding import find_norms

pytestmark = pytest.mark.skipif(not usable_isas(), reason="no generated kernels here")
DRAW = torch.Generator().manual_seed(0)


def norm(width: int) -> nn.BatchNorm2d:
    """With statistics, a factor below zero and one that is zero."""
    found = nn.BatchNorm2d(width).eval()
    with torch.no_grad():
        found.running_mean.normal_(generator=DRAW)  # type: ignore[union-attr]
        found.running_var.uniform_(0.5, 2, generator=DRAW)  # type: ignore[union-attr]
        found.weight.normal_(generator=DRAW)
        found.weight[1], found.weight[2] = -1.5, 0.0
        found.bias.normal_(generator=DRAW)
    return found


def chain() -> nn.Sequential:
    torch.manual_seed(1)
    net = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1, bias=False), norm(16), nn.ReLU()),
        *(nn.Conv2d(16, 20, 3, stride=2, padding=1), norm(20), nn.GELU()),
        *(nn.Conv2d(20, 8, 1), norm(8)),
    )
    return pruned(net, "4x1", 0.7)  # type: ignore[return-value]


class Block(nn.Module):
    """A residual block with one ReLU in two places; `extra` reads what it is given."""

    def __init__(self, extra: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(16, 16, 3, padding=1, bias=False), norm(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 16, 3, padding=1), norm(16)
        self.relu, self.extra = nn.ReLU(inplace=True), extra
        pruned(self, "4x1", 0.7)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(x)
        y = self.conv2(self.relu(self.bn1(first)))
        total = self.bn2(y) + x
        if self.extra is not None:
            total = total + self.extra(first)
        return self.relu(total)


def pairs(model: nn.Module, x: Tensor) -> dict[str, str]:
    return find_norms(model, find_sites(model), x)


IMAGES = torch.randn(3, 3, 11, 13, generator=DRAW)
PLANES = torch.randn(2, 16, 9, 9, generator=DRAW)


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_a_chain_gives_the_same_and_so_does_its_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dtype: str
) -> None:
    let_sparse_win(monkeypatch)
    model = chain()
    before = copy.deepcopy(model.state_dict())
    fast = compile_sparse(model, IMAGES, dtype=dtype, calibration=[IMAGES])  # type: ignore[arg-type]
    assert fast.norms == {"0": "1", "3": "4", "6": "7"}
    assert [type(fast.model[i]) for i in (0, 1)] == [Replaced, nn.Identity]
    wanted, got = model(IMAGES).detach(), fast(IMAGES)
    assert float((got - wanted).norm() / wanted.norm()) < (1e-5 if dtype == "fp32" else 0.05)
    for name, value in fast.state_dict().items():
        assert torch.equal(value, before[name])
    fast.save(tmp_path / "m.wsr")
    again = load_sparse(tmp_path / "m.wsr")
    assert torch.equal(again(IMAGES), got)
    if dtype == "fp32":
        for name, value in again.state_dict().items():
            assert torch.equal(value, before[name])


def test_a_residual_block(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    let_sparse_win(monkeypatch)
    model = Block().eval()
    fast = compile_sparse(model, PLANES)
    assert fast.norms == {"conv1": "bn1", "conv2": "bn2"}
    assert type(fast.model.bn1) is nn.Identity
    assert type(model.bn1) is nn.BatchNorm2d
    assert near(fast(PLANES), model(PLANES))
    fast.save(tmp_path / "m.wsr")
    with torch.no_grad():
        assert torch.equal(load_sparse(tmp_path / "m.wsr", Block().eval())(PLANES), fast(PLANES))


@pytest.mark.parametrize(
    "extra",
    [lambda y: y, lambda y: y[:, ::2].repeat(1, 2, 1, 1), lambda y: y.mean()],
    ids=["sum", "view", "mean"],
)
def test_an_output_that_something_else_reads_is_left_alone(
    extra: Callable[[Tensor], Tensor],
) -> None:
    assert pairs(Block(extra).eval(), PLANES) == {"conv2": "bn2"}


def test_an_output_that_leaves_the_network_is_left_alone() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 3), norm(4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.conv(x)
            return y, self.bn(y)

    assert pairs(Both().eval(), IMAGES) == {}


def test_layers_that_are_called_twice_or_are_not_ready_are_left_alone() -> None:
    conv, own = nn.Conv2d(3, 3, 3, padding=1), norm(3)
    assert pairs(nn.Sequential(conv, own, nn.Sequential(conv)), IMAGES) == {}
    assert pairs(nn.Sequential(nn.Conv2d(3, 3, 1), own, nn.Conv2d(3, 3, 1), own), IMAGES) == {}
    assert pairs(nn.Sequential(nn.Conv2d(3, 3, 1), norm(3).train()), IMAGES) == {}
    bare = nn.BatchNorm2d(3, track_running_stats=False).eval()
    assert pairs(nn.Sequential(nn.Conv2d(3, 3, 1), bare), IMAGES) == {}
    assert pairs(nn.Sequential(nn.Conv2d(3, 3, 1), norm(3)).eval(), IMAGES) == {"0": "1"}


@pytest.mark.parametrize("norms", [{"0": "3"}, {"0": "9"}, {"9": "1"}, {"0": 1}, ["0"]])
def test_a_file_with_other_norms_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, norms: object
) -> None:
    let_sparse_win(monkeypatch)
    compile_sparse(chain(), IMAGES).save(tmp_path / "m.wsr")
    tensors, facts = read_wsr(tmp_path / "m.wsr")
    write_wsr(
        tmp_path / "forged.wsr", tensors, metadata=json.loads(json.dumps(facts)) | {"norms": norms}
    )
    with pytest.raises(UserError, match="norm"):
        load_sparse(tmp_path / "forged.wsr")


def test_a_file_without_norms_opens_as_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    let_sparse_win(monkeypatch)
    model = chain()
    compile_sparse(model, IMAGES).save(tmp_path / "m.wsr")
    tensors, facts = read_wsr(tmp_path / "m.wsr")
    del facts["norms"]
    write_wsr(tmp_path / "old.wsr", tensors, metadata=facts)
    old = load_sparse(tmp_path / "old.wsr")
    assert type(old.model[1]) is nn.BatchNorm2d
    assert near(old(IMAGES), model(IMAGES))
