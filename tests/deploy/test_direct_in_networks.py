"""Direct convolutions inside compiled networks: trials, files, inputs of other shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.support.compiled_nets import let_direct_win, near
from tests.support.sparse_layers import pruned
from ws_learner.deploy.runtime import compile_sparse, load_sparse
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.codegen.spec import Spec
from ws_learner.deploy.runtime.direct_candidates import with_direct
from ws_learner.deploy.runtime.modules import Geometry

pytestmark = pytest.mark.skipif(not usable_isas(), reason="no generated kernels here")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU()),
        *(nn.Conv2d(16, 24, 3, padding=2, dilation=2), nn.GELU()),
        nn.Conv2d(24, 8, 1),
    )
    return pruned(net, "4x1", 0.7)  # type: ignore[return-value]


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_a_network_and_its_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dtype: str
) -> None:
    let_direct_win(monkeypatch)
    model, x = network(), torch.randn(2, 3, 17, 19)
    fast = compile_sparse(model, x, dtype=dtype, calibration=[x])  # type: ignore[arg-type]
    assert fast.report()["kernel"].str.endswith("direct").all()
    wanted = model(x).detach()
    assert float((fast(x) - wanted).norm() / wanted.norm()) < (1e-5 if dtype == "fp32" else 0.05)
    fast.save(tmp_path / "m.wsr")
    again = load_sparse(tmp_path / "m.wsr")
    assert again.report()["kernel"].tolist() == fast.report()["kernel"].tolist()
    assert torch.equal(again(x), fast(x))


def test_other_batches_sizes_and_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    let_direct_win(monkeypatch)
    model, x = network(), torch.randn(2, 3, 17, 19)
    fast = compile_sparse(model, x)
    with torch.no_grad():
        for shape in ((1, 3, 17, 19), (5, 3, 17, 19), (2, 3, 8, 31), (3, 16, 17), (0, 3, 17, 19)):
            for _ in range(2):  # the second call of a size takes a shorter way
                y = torch.randn(shape)
                assert near(fast(y), model(y))
        last = torch.randn(2, 3, 17, 19).contiguous(memory_format=torch.channels_last)
        assert near(fast(last), model(last))
        turned = torch.randn(2, 3, 19, 17).transpose(2, 3)
        assert near(fast(turned), model(turned))
        with pytest.raises(RuntimeError, match="channels"):
            fast(torch.randn(2, 4, 17, 19))
        with pytest.raises(RuntimeError, match="float32"):
            fast(torch.randn(2, 3, 17, 19).double())


def test_dense_direct_and_im2col_meet_in_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    held = let_direct_win(monkeypatch)
    compile_sparse(network()[:1], torch.randn(2, 3, 17, 19))
    (names,) = held
    assert {"dense", "dense onednn", "dense channels_last"} <= set(names)
    ours = [name for name in names if name.startswith("fp32")]
    assert any(name.endswith("direct") for name in ours)
    assert any(not name.endswith("direct") for name in ours)


def test_which_kernels_are_tried() -> None:
    one = Spec(isa="avx2", dot="fma", rows=4, inputs=1, group=4, vectors=2, layout="channels")
    two = Spec(isa="avx2", dot="fma", rows=4, inputs=1, group=4, vectors=1, layout="channels")
    tiles = Spec(isa="amx", dot="amx", rows=16, inputs=4, group=16, vectors=1, layout="channels")
    every = [one, two, tiles]
    walk = Geometry(kernel=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1))
    layouts = [(s.layout, s.vectors, s.dot) for s in with_direct(every, walk, channels=8)]
    assert layouts == [
        *(("images", 2, "fma"), ("images", 1, "fma")),
        *(("channels", 2, "fma"), ("channels", 1, "amx")),
    ]
    plain = Geometry(kernel=(1, 1), stride=(1, 1), padding=(0, 0), dilation=(1, 1))
    assert with_direct(every, plain, channels=8)[2:] == every
    assert with_direct(every, walk, channels=8192) == every  # too many inputs for a panel
