"""What a compiled network is called with: read as the dense one reads it, or refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.sparse_layers import block_matrix, pruned
from ws_learner.core.errors import UserError
from ws_learner.deploy.runtime import compile_sparse
from ws_learner.deploy.runtime import selection as choice
from ws_learner.deploy.runtime.autotune import TimedTrial
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.codegen.pairs import PairProducts
from ws_learner.deploy.runtime.codegen.sparse_kernel import SparseKernel
from ws_learner.deploy.runtime.codegen.spec import Spec
from ws_learner.deploy.runtime.dense_baselines import quantised
from ws_learner.deploy.runtime.graph import find_sites, layer_data, observers
from ws_learner.deploy.runtime.modules import Replaced
from ws_learner.deploy.runtime.quantisation import InputScale, quantise_weight

pytestmark = pytest.mark.skipif(not usable_isas(), reason="no generated kernels here")


@pytest.fixture
def sparse_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last kernel wins every trial, so that no clock decides what is tested."""

    def last(runs: dict[str, object], base: str, **_: object) -> TimedTrial:
        wanted = [n for n in runs if n.startswith(("fp32", "int8", "compiled"))]
        seconds = {n: 1.0 + (n == base) for n in runs}
        return TimedTrial(winner=wanted[-1], speedup=2.0, seconds=seconds)

    monkeypatch.setattr(choice, "fastest", last)
    monkeypatch.setattr("ws_learner.deploy.runtime.acceptance.fastest", last)


def linear(dtype: str = "fp32") -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    model = pruned(nn.Sequential(nn.Linear(48, 32)), "4x4", 0.8)
    x = torch.randn(64, 48)
    fast = compile_sparse(model, x, dtype=dtype, calibration=[x])  # type: ignore[arg-type]
    assert isinstance(fast.model[0], Replaced)  # type: ignore[index]
    return model, fast


def convolution(**settings: int) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    model = pruned(nn.Sequential(nn.Conv2d(16, 32, **settings)), "4x1", 0.8)  # type: ignore[arg-type]
    fast = compile_sparse(model, torch.randn(2, 16, 9, 7))
    assert isinstance(fast.model[0], Replaced)  # type: ignore[index]
    return model, fast


def same(fast: nn.Module, model: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        wanted = model(x)
    assert fast(x).shape == wanted.shape
    assert fast(x).dtype == wanted.dtype
    torch.testing.assert_close(fast(x), wanted, rtol=1e-4, atol=1e-5)


BAD: dict[str, Callable[[], Tensor]] = {
    "narrow": lambda: torch.randn(64, 47),
    "wide": lambda: torch.randn(64, 49),
    "one column": lambda: torch.zeros(200_000, 1),
    "same number of elements": lambda: torch.randn(48, 64),
    "no dimension": lambda: torch.tensor(1.0),
    "float64": lambda: torch.randn(64, 48).double(),
    "bfloat16": lambda: torch.randn(64, 48).bfloat16(),
    "whole numbers": lambda: torch.ones(64, 48, dtype=torch.int64),
    "complex": lambda: torch.randn(64, 48, dtype=torch.complex64),
    "elsewhere": lambda: torch.randn(64, 48, device="meta"),
    "sparse": lambda: torch.randn(64, 48).to_sparse(),
    "quantised": lambda: torch.quantize_per_tensor(torch.randn(64, 48), 0.1, 0, torch.quint8),
}


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_a_linear_layer_refuses(sparse_wins: None, case: str, dtype: str) -> None:
    _, fast = linear(dtype)
    with pytest.raises((RuntimeError, NotImplementedError)):
        fast(BAD[case]())


def test_ways_in_which_the_same_numbers_may_lie(sparse_wins: None) -> None:
    model, fast = linear()
    wide = torch.randn(5, 9, 100)
    for x in (
        wide[0, :, 30:78],  # an offset and a stride
        wide[:, 3, 30:78],
        torch.randn(48, 9).t(),
        torch.randn(1, 48).expand(6, 48),
        torch.randn(48),
        torch.randn(2, 3, 4, 48).transpose(0, 2),
        torch.randn(9, 48, requires_grad=True),
        torch.randn(9, 48, dtype=torch.complex64).conj().imag,  # negated when it is read
        torch.randn(0, 48),
        torch.randn(3, 0, 48),
    ):
        same(fast, model, x)
    with torch.autocast("cpu", torch.bfloat16):  # the layer before may have rounded
        x = torch.randn(9, 48).bfloat16()
        torch.testing.assert_close(fast(x).float(), model(x).float(), rtol=0.02, atol=0.05)


def test_a_convolution_reads_what_the_dense_one_reads(sparse_wins: None) -> None:
    for settings in ({"kernel_size": 1}, {"kernel_size": 3, "padding": 1, "stride": 2}):
        model, fast = convolution(**settings)
        image = torch.randn(3, 20, 12, 10)
        for x in (
            image[:, 4:],
            image[:, 4:, 2:9, ::2],
            image[:, 4:].contiguous(memory_format=torch.channels_last),
            image[0, 4:],  # one image, no batch
            image[:0, 4:],
            image[:1, 4:].requires_grad_(),
        ):
            same(fast, model, x)


@pytest.mark.parametrize(
    "shape", [(2, 8, 9, 7), (2, 17, 9, 7), (9, 7), (1, 1, 16, 9, 7), (8, 9, 7)]
)
def test_a_convolution_refuses_other_channels(sparse_wins: None, shape: tuple[int, ...]) -> None:
    for settings in ({"kernel_size": 1}, {"kernel_size": 3}):
        _, fast = convolution(**settings)
        with pytest.raises(RuntimeError, match="16 channels"):
            fast(torch.randn(shape))


def test_a_convolution_refuses_an_image_below_its_taps(sparse_wins: None) -> None:
    _, fast = convolution(kernel_size=3)
    with pytest.raises(RuntimeError, match="can't be greater"):
        fast(torch.randn(1, 16, 2, 9))
    with pytest.raises(RuntimeError, match="takes float32"):
        fast(torch.randn(1, 16, 9, 9).double())


def kernel(**settings: Any) -> SparseKernel:
    spec = Spec(isa=usable_isas()[-1].name, **{**FLOATS, **settings})
    weight = block_matrix(np.random.default_rng(0), (32, 48), (4, 4), 0.5)
    if not spec.int8:
        return SparseKernel(spec, weight, None)
    whole, scales = quantise_weight(weight)
    source = InputScale.of_range(-3, 3)
    return SparseKernel(spec, whole, None, scales=scales, source=source)


FLOATS: dict[str, Any] = {"dot": "fma", "rows": 4, "inputs": 1, "group": 4, "vectors": 2}
VECTOR: dict[str, Any] = {"rows": 16, "inputs": 4, "group": 16, "vectors": 1, "layout": "vector"}


def test_no_kernel_is_given_memory_that_it_would_read_wrongly() -> None:
    bytes_ = {"dot": usable_isas()[-1].dot, "inputs": 4, "source": "u8"}
    good = torch.randn(5, 48)
    for settings in ({}, VECTOR):
        own = kernel(**settings)
        bad = (good[:, :47], good.t(), good.double(), good.byte(), good[None], good.to("meta"))
        for x in (*bad, torch._neg_view(good)):
            with pytest.raises(RuntimeError, match="sparse kernel"):
                own.tokens(x)
        assert own.tokens(good).shape == (5, 32)
    with pytest.raises(RuntimeError, match="uint8"):
        kernel(**bytes_).tokens(good)
    with pytest.raises(RuntimeError, match="layout"):
        kernel().channels(good[None])
    channels = kernel(layout="channels")
    for x in (torch.randn(2, 47, 6), torch.randn(2, 6, 48).transpose(1, 2), good):
        with pytest.raises(RuntimeError, match="sparse kernel"):
            channels.channels(x)
    assert channels.channels(torch.randn(0, 48, 6)).shape == (0, 32, 6)
    for x in (good.double(), good[:, ::2], good.to("meta")):
        with pytest.raises(RuntimeError, match="quantise"):
            quantised(x, InputScale.of_range(-3, 3))


def test_a_copy_outlives_its_original(sparse_wins: None) -> None:
    model, fast = linear()
    again = copy.deepcopy(fast)
    del fast
    same(again, model, torch.randn(7, 48))
    with pytest.raises((TypeError, ValueError, AttributeError, pickle.PicklingError)):
        pickle.dumps(again)  # code cannot be stored; CompiledModel.save is for that


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.bfloat16(), "bfloat16"),
        (lambda m: m.half(), "float16"),
        (lambda m: m.double(), "float64"),
        (lambda m: m.to("meta"), "meta"),
    ],
)
def test_networks_of_other_types_are_refused_at_once(
    change: Callable[[nn.Module], nn.Module], message: str
) -> None:
    model = change(nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)))
    x = torch.randn(2, 8).to(next(model.parameters()))
    with pytest.raises(UserError, match=message):
        compile_sparse(model, x)


def test_tables_that_were_moved_or_rounded_are_refused() -> None:
    tables = [torch.randn(rows, 32) for rows in (5, 9)]
    bottom, good = torch.randn(4, 32), torch.tensor([[0, 8], [4, 0], [1, 1], [2, 2]])
    for bad in (5, -1, 2**62):
        for place in (0, 3):
            indices = good.clone()
            indices[place, 0] = bad
            with pytest.raises(IndexError):
                PairProducts(tables)(bottom, indices)
    with pytest.raises(IndexError):
        PairProducts(tables)(bottom, torch.full((4, 2), torch.nan))
    pairs = PairProducts(tables)
    for change in ("half", "double"):
        other = getattr(copy.deepcopy(pairs), change)()
        if pairs.fused:
            with pytest.raises(RuntimeError, match="PairProducts"):
                other(bottom, good)
    if pairs.fused:
        with pytest.raises(RuntimeError, match="PairProducts"):
            pairs(bottom.to("meta"), good)


class Watching(nn.Sequential):
    """Returns what its layers gave, one after the other."""

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for layer in self:
            x = layer(x)
            found.append(x)
        return torch.cat(found, 1)


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_a_sequence_that_is_looked_into_keeps_every_step(sparse_wins: None, dtype: str) -> None:
    torch.manual_seed(0)
    model = pruned(Watching(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 16)), "4x4", 0.5)
    x = torch.randn(50, 48)
    fast = compile_sparse(model, x, dtype=dtype, calibration=[x])  # type: ignore[arg-type]
    with torch.no_grad():
        error = (fast(x) - model(x)).norm() / model(x).norm()
    assert float(error) < (1e-5 if dtype == "fp32" else 0.05)


def test_a_layer_of_two_sequences_passes_no_bytes(sparse_wins: None) -> None:
    torch.manual_seed(0)
    common = nn.Linear(48, 48)
    fronts = [nn.Sequential(common, nn.Linear(48, 16)), nn.Sequential(common, nn.Linear(48, 16))]
    model = pruned(
        nn.Sequential(nn.Sequential(*fronts[0]), nn.Linear(16, 48), *fronts[1:]), "4x4", 0.5
    )
    x = torch.randn(50, 48)
    fast = compile_sparse(model, x, dtype="int8", calibration=[x])
    with torch.no_grad():
        error = (fast(x) - model(x)).norm() / model(x).norm()
    assert float(error) < 0.05


@pytest.mark.parametrize("name", ["dense channels_last", "dense onednn", "dense int8"])
@pytest.mark.parametrize("activation", [nn.Identity(), nn.ReLU(), nn.GELU()])
def test_dense_rivals_of_convolutions_compute_the_layer(name: str, activation: nn.Module) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(12, 20, (3, 2), stride=(2, 1), padding=(0, 1), dilation=(2, 1))
    x = torch.randn(3, 12, 9, 11)
    model = nn.Sequential(layer, activation)
    (site,) = find_sites(model)
    data = layer_data(site, observers(model, [site], [x], "minmax")["0"])
    run = data.rival(name)
    if run is None:
        pytest.skip("not in this build of PyTorch")
    replaced = Replaced(data, lambda: run, threads=1)
    exact = copy.deepcopy(model).double()
    for images in (x, x[:1, :, :7], x.contiguous(memory_format=torch.channels_last), x[:0], x[0]):
        wanted = exact(images.double()).detach()
        got = replaced(images)
        assert got.shape == wanted.shape
        error = float((got - wanted).norm() / wanted.norm().clamp_min(1e-9))
        assert error < (0.02 if name == "dense int8" else 1e-5)
    with pytest.raises(RuntimeError, match="12 channels"):
        replaced(x[:, 1:])


@pytest.mark.long
def test_convolutions_are_tried_against_every_dense_rival(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[set[str]] = []

    def second_best(runs: dict[str, object], base: str, **_: object) -> TimedTrial:
        tried.append(set(runs))
        return TimedTrial(
            winner="dense channels_last", speedup=2.0, seconds=dict.fromkeys(runs, 1.0)
        )

    monkeypatch.setattr(choice, "fastest", second_best)
    model, x = (
        nn.Sequential(nn.Conv2d(16, 8, 3, padding=1), nn.ReLU()).eval(),
        torch.randn(2, 16, 9, 9),
    )
    fast = compile_sparse(model, x, dtype="int8", calibration=[x])
    assert tried[0] >= {"dense", "dense channels_last", "dense onednn", "dense int8"}
    assert set(fast.report()["kernel"]) <= {"dense channels_last", "dense"}
    same(fast.model, model, x)  # type: ignore[arg-type]
