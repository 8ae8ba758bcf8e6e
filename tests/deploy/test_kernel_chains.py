"""Kernels that follow each other: the same values as one by one, in any number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.support.joined import chains_of
from tests.support.kernel_chains import layers, long_chain, one_by_one, spec_of
from tests.support.sparse_layers import pruned
from ws_learner.deploy.runtime import chain as chains
from ws_learner.deploy.runtime import compile as compile_module
from ws_learner.deploy.runtime import compile_sparse
from ws_learner.deploy.runtime.autotune import TimedTrial
from ws_learner.deploy.runtime.chain import Chain, sequences
from ws_learner.deploy.runtime.codegen import native_program as program
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.codegen.openmp import openmp
from ws_learner.deploy.runtime.graph import find_sites
from ws_learner.deploy.runtime.selection import KernelChoice

pytest.importorskip("llvmlite")
if not usable_isas():
    pytest.skip("no generated kernels here", allow_module_level=True)
HERE = {isa.name for isa in usable_isas()}


@pytest.mark.long
@pytest.mark.parametrize("kind", ["fp32", "int8"])
@pytest.mark.parametrize("isa", ["amx", "avx512vnni", "avx2"])
@settings(max_examples=10)
@given(data=st.data())
def test_a_chain_computes_what_its_layers_do(isa: str, kind: str, data: st.DataObject) -> None:
    if isa not in HERE:
        pytest.skip(f"no {isa} here")
    widths = data.draw(st.lists(st.integers(1, 150), min_size=3, max_size=4), "widths")
    tokens = data.draw(st.integers(0, 140), "tokens")
    same = data.draw(st.booleans(), "one width of tiles")
    wide = [2] * 3 if same else [1, 2, 1]
    specs = [spec_of(isa, kind, v) for v in wide[: len(widths) - 1]]
    datas = layers(widths, specs[0].rows, specs[0].inputs, seed=data.draw(st.integers(0, 99)))
    chain = Chain(datas, specs)
    ways = [kernel.spec.result for kernel in chain.kernels[:-1]]
    assert set(ways) == ({"tile"} if same else {"u8"} if kind == "int8" else {"f32"})
    x = torch.randn(tokens, widths[0], generator=torch.Generator().manual_seed(1))
    assert torch.equal(chain.tokens(x), one_by_one(datas, specs, x))


@pytest.mark.parametrize("pool", [False, True], ids=["openmp", "python threads"])
def test_any_number_of_threads(pool: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if pool:
        monkeypatch.setattr(program, "openmp", lambda: None)
    elif openmp() is None:
        pytest.skip("PyTorch has no OpenMP here")
    datas, specs, x = long_chain()
    chain, wanted = Chain(datas, specs), one_by_one(datas, specs, x)
    for threads in (1, 2, 3, 7):
        assert torch.equal(chain.tokens(x, threads=threads), wanted)
    assert torch.equal(chain.tokens(x[:5], threads=7), wanted[:5])


@pytest.mark.parametrize("pool", [False, True], ids=["openmp", "python threads"])
def test_images_in_threads(pool: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if pool:
        monkeypatch.setattr(program, "openmp", lambda: None)
    spec = replace(spec_of(usable_isas()[-1].name, "fp32", 2), layout="channels")
    (data,) = layers([12, 20], 4, 1)
    kernel, x = data.kernel(spec), torch.randn(5, 12, 49)
    wanted = torch.from_numpy(data.weight) @ x + torch.from_numpy(data.bias)[:, None]
    for threads in (1, 2, 9):
        assert torch.allclose(kernel.channels(x, threads=threads), wanted, atol=1e-5)
    assert kernel.channels(x[:, :, :0], threads=2).shape == (5, 20, 0)


def test_threads_of_our_own_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    for library, told in ((object(), False), (None, True)):
        monkeypatch.setattr(compile_module, "openmp", lambda library=library: library)
        compile_module.say_limits(2)
        assert ("OMP_WAIT_POLICY=PASSIVE" in capsys.readouterr().err) == told


@pytest.mark.long
def test_fewer_threads_than_parts() -> None:
    """OpenMP may give fewer threads than it was asked for; all parts must be done nevertheless."""
    if openmp() is None:
        pytest.skip("PyTorch has no OpenMP here")
    code = (
        "import torch\n"
        "from tests.support.kernel_chains import long_chain, one_by_one\n"
        "from ws_learner.deploy.runtime.chain import Chain\n"
        "datas, specs, x = long_chain()\n"
        "y = Chain(datas, specs).tokens(x, threads=3)\n"
        "assert torch.equal(y, one_by_one(datas, specs, x))\n"
        "print('equal')\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"OMP_THREAD_LIMIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout.strip() == "equal", found.stderr


def choices_of(model: nn.Module) -> dict[str, KernelChoice]:
    spec = spec_of(usable_isas()[-1].name, "fp32", 1)
    return {
        site.name: KernelChoice(
            kernel="a", speedup=2, pattern="4x1", density=0.2, shape=(64, 40), spec=spec
        )
        for site in find_sites(model)
    }


def names(model: nn.Module) -> list[list[str]]:
    return [[site.name for site in run] for run in sequences(find_sites(model), choices_of(model))]


def test_what_follows_what() -> None:
    a, b, c = nn.Linear(40, 40), nn.Linear(40, 40), nn.Linear(40, 40)
    assert names(nn.Sequential(a, nn.ReLU(), nn.Dropout(), b, c)) == [["0", "3", "4"]]
    assert names(nn.Sequential(a, nn.Tanh(), b, c)) == [["2", "3"]]
    assert names(nn.Sequential(a, b, nn.Tanh(), b, c)) == []  # b has two places
    assert names(nn.Sequential(nn.Sequential(a, b), c)) == [["0.0", "0.1"]]
    assert names(nn.ModuleList([a, b])) == []

    class Odd(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + x

    assert names(Odd(a, b)) == []


def test_the_faster_common_width_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    if usable_isas()[0].registers == 16:
        pytest.skip("one width only")
    monkeypatch.setattr("ws_learner.deploy.runtime.selection.fastest", _widest_first)
    monkeypatch.setattr("ws_learner.deploy.runtime.acceptance.fastest", _compiled)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 24))
    model, x = pruned(net, "4x1", 0.8), torch.randn(64, 40)
    for quickest, width in (("chosen", 4), ("2", 2)):
        monkeypatch.setattr(chains, "fastest", _named(quickest))
        fast = compile_sparse(model, x)
        (chain,) = chains_of(fast.model)
        assert [kernel.spec.vectors for kernel in chain.kernels] == [width, width]
        assert list(fast.report()["kernel"]) == [f"fp32 4x1 fma 4x{width}"] * 2
        assert torch.allclose(fast(x), model(x), atol=1e-5)


def _named(name: str) -> object:
    def fastest(runs: dict[str, object], base: str, **_: object) -> TimedTrial:
        return TimedTrial(winner=name, speedup=1, seconds={n: float(n != name) for n in runs})

    return fastest


def _widest_first(runs: dict[str, object], base: str, **_: object) -> TimedTrial:
    winner = next(name for name in runs if name.startswith("fp32 4x1"))
    return TimedTrial(winner=winner, speedup=2, seconds=dict.fromkeys(runs, 1.0))


def _compiled(runs: dict[str, object], base: str, **_: object) -> TimedTrial:
    return TimedTrial(winner="compiled", speedup=2, seconds={n: 1.0 + (n == base) for n in runs})
