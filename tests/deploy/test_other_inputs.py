"""A forward pass that branches: what was traced on one path is looked at on the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.support.compiled_nets import let_sparse_win, near, parts
from tests.support.tiny_transformers import FusedBlock
from ws_learner.core.errors import UserError
from ws_learner.deploy.other_inputs import first_difference, other_inputs
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.compile import compile_sparse
from ws_learner.deploy.shrinking.crop import crop
from ws_learner.deploy.shrinking.shrink import shrink

BRANCHES: dict[str, Callable[[Tensor], bool]] = {
    "sign": lambda x: bool(x.sum() > 0),
    "large": lambda x: bool(x.abs().max() < 2),
    "small": lambda x: bool(x.abs().max() > 0.2),
    "batch": lambda x: len(x) > 3,
}


class Branching(nn.Module):
    """Three channels are constants; what they are worth depends on the branch."""

    def __init__(self, branch: Callable[[Tensor], bool]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.branch = nn.Linear(6, 8), nn.Linear(8, 4), branch
        with torch.no_grad():
            self.first.weight[:3] = 0
            self.first.bias[:3] = 2

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu()
        out: Tensor = self.second(hidden if self.branch(x) else 3 * hidden)
        return out


class Other(Branching):
    """The other branch reads the channels by another layer, which is not traced."""

    def __init__(self, branch: Callable[[Tensor], bool]) -> None:
        super().__init__(branch)
        self.third = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu()
        out: Tensor = (self.second if self.branch(x) else self.third)(hidden)
        return out


def example() -> Tensor:
    return torch.rand(4, 6, generator=torch.Generator().manual_seed(1)) + 0.1


@pytest.mark.parametrize("kind", [Branching, Other])
@pytest.mark.parametrize("name", BRANCHES)
def test_a_network_that_branches_is_not_shrunk(name: str, kind: type[Branching]) -> None:
    network = kind(BRANCHES[name])
    if name != "batch":
        with pytest.raises(UserError, match=r"shrink: .* is another network: .*keep the zeros"):
            shrink(network, example())
    else:  # its channels are no constants: they stay, with an obstacle
        left = shrink(network, example())
        assert [one.layer for one in left.obstacles if one.layer] == ["first"]
        for count in (2, 4):
            assert torch.equal(left.model(example()[:count]), network(example()[:count]))
    plain = shrink(kind(lambda x: True), example())
    assert plain.model.first.out_features == 5  # type: ignore[union-attr]


@pytest.mark.long
def test_a_network_that_branches_by_batch_is_not_exported(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from ws_learner.deploy.onnx.export import export_onnx

    path = tmp_path / "m.onnx"
    with pytest.raises(UserError, match=r"ONNX .*another network: .* on inputs of 3 examples"):
        export_onnx(Branching(lambda x: len(x) > 3), example(), path)
    assert list(tmp_path.iterdir()) == []


def test_cropping_is_looked_at_on_other_inputs() -> None:
    class Deep(FusedBlock):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = super().forward(x)
            # Reads the width where the example does not come.
            return out if x.abs().max() < 50 else out * self.attn.qkv.out_features

    torch.manual_seed(0)
    model = Deep().eval()
    with torch.no_grad():
        width = model.attn.proj.weight.shape[1]
        model.attn.proj.weight[:, : width // 2] = 0
    x = torch.rand(2, 5, 24) * 10
    with pytest.raises(UserError, match=r"crop: .*another network: .*ten times as large"):
        crop(model, (x,))
    assert crop(model, (x / 100,)).removed


@pytest.mark.skipif(not usable_isas(), reason="no generated kernels here")
def test_a_compiled_network_is_looked_at_on_other_inputs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = parts()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.net(x)
            return out if x.sum() > 0 else out * (1 + isinstance(self.net[0], nn.Linear))

    let_sparse_win(monkeypatch)
    model, x = Looks().eval(), torch.rand(20, 32)
    fast = compile_sparse(model, x)
    assert near(fast(-x), model(-x))
    assert "inputs of the opposite sign; keeping the dense model" in capsys.readouterr().err
    plain = compile_sparse(parts(), x)
    assert not plain.dense


def test_other_inputs_are_of_the_same_kind() -> None:
    tokens = torch.arange(6).reshape(3, 2)
    mask = torch.tensor([[True, False], [True, True], [False, True]])
    for _, inputs in other_inputs({"x": torch.rand(3, 2), "ids": tokens, "mask": mask, "n": 3}):
        assert inputs["n"] == 3
        assert inputs["ids"].dtype == tokens.dtype
        assert set(inputs["ids"].flatten().tolist()) <= set(range(6))
        assert len({len(inputs[name]) for name in ("x", "ids", "mask")}) == 1
    sizes = [len(inputs) for _, inputs in other_inputs(torch.rand(1, 2))]
    assert sizes == [1, 1, 1, 1, 2]


def test_what_the_network_cannot_take_is_left_out() -> None:
    def root(x: Tensor) -> Tensor:
        if (x < 0).any() or len(x) != 3:
            raise ValueError("no root")
        return x.sqrt()

    x = torch.rand(3, 2)
    assert first_difference(root, lambda given: given.sqrt(), x) is None
    assert "ten times" in str(first_difference(root, lambda given: given.clamp(max=2).sqrt(), x))
