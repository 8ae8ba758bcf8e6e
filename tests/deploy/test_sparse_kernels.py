"""Generated kernels against oracles in float64 and integers, under every instruction set here."""

from __future__ import annotations

import math
import threading
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.sparse_layers import block_matrix
from ws_learner.deploy.runtime.codegen.cpu import ISAS, Isa, usable_isas
from ws_learner.deploy.runtime.codegen.sparse_kernel import SparseKernel
from ws_learner.deploy.runtime.codegen.spec import Spec
from ws_learner.deploy.runtime.quantisation import InputScale, quantise_weight

pytest.importorskip("llvmlite")
HERE = {isa.name for isa in usable_isas()}


def specs_of(isa: Isa) -> list[Spec]:
    if isa.dot == "amx":
        base = Spec(isa="amx", dot="amx", rows=16, inputs=4, group=16, vectors=2)
        return [base, replace(base, vectors=4), replace(base, layout="channels", vectors=1)]
    few = isa.registers == 16
    found = []
    for rows in (1, 2, 4):
        found.append(Spec(isa=isa.name, dot="fma", rows=rows, inputs=1, group=rows, vectors=2))
    for dot in ("fma", isa.dot):
        block = Spec(isa=isa.name, dot=dot, rows=16, inputs=4, group=4 if few else 8, vectors=2)
        found += [block, replace(block, layout="vector", group=16, vectors=1)]
    for rows in (1, 4):
        found.append(Spec(isa=isa.name, dot=isa.dot, rows=rows, inputs=4, group=rows, vectors=2))
    found.append(replace(found[2], layout="channels"))
    found.append(replace(found[-2], layout="channels"))
    return found


EVERY = [spec for isa in ISAS.values() for spec in specs_of(isa)]
# The rest of the sets run the same generator at a width that these cover.
QUICK = {"amx", "avx512vnni", "avx2"}


def named(spec: Spec) -> str:
    return f"{spec.isa}-{spec.name}-{spec.layout}-{spec.vectors}".replace(" ", "-")


def cases() -> list[object]:
    slow = pytest.mark.slow
    return [pytest.param(s, id=named(s), marks=() if s.isa in QUICK else slow) for s in EVERY]


def run(kernel: SparseKernel, x: npt.NDArray[np.float32], threads: int = 1) -> np.ndarray:
    if kernel.spec.layout == "channels":
        columns = torch.from_numpy(np.ascontiguousarray(x.T))[None]
        return kernel.channels(columns, threads=threads)[0].numpy().T
    return kernel.tokens(torch.from_numpy(x), threads=threads).numpy()


def check(spec: Spec, *, shape: tuple[int, int], tokens: int, density: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = block_matrix(rng, shape, (spec.rows, spec.inputs), density)
    x = rng.standard_normal((tokens, shape[1])).astype(np.float32)
    bias = rng.standard_normal(shape[0]).astype(np.float32)
    if spec.int8:
        whole, scales = quantise_weight(weight)
        source = InputScale.of_range(-2.0, 3.0)
        exact = replace(spec, result="i32")
        kernel = SparseKernel(exact, whole, bias, scales=scales, source=source)
        wanted = (source.quantise(x).astype(np.int64) - source.zero) @ whole.T.astype(np.int64)
        np.testing.assert_array_equal(run(kernel, x), wanted)
        return
    wanted = x.astype(np.float64) @ weight.T.astype(np.float64) + bias
    # Relative to what the terms of a sum amount to: cancellation is nobody's error.
    size = np.abs(x).astype(np.float64) @ np.abs(weight.T).astype(np.float64) + np.abs(bias)
    got = run(SparseKernel(spec, weight, bias), x)
    assert got.shape == wanted.shape
    assert (np.abs(got - wanted) <= 1e-5 * size + 1e-30).all()


@pytest.mark.long
@pytest.mark.parametrize("spec", cases())
@settings(max_examples=12)
@given(data=st.data())
def test_any_shape_and_density_equals_the_oracle(spec: Spec, data: st.DataObject) -> None:
    if spec.isa not in HERE:
        pytest.skip(f"no {spec.isa} here")
    check(
        spec,
        shape=(data.draw(st.integers(1, 70), "outputs"), data.draw(st.integers(1, 150), "inputs")),
        tokens=data.draw(st.integers(0, 140), "tokens"),
        density=data.draw(st.sampled_from([0, 0.02, 0.2, 0.5, 1]), "density"),
        seed=data.draw(st.integers(0, 1000), "seed"),
    )


@pytest.mark.long
@pytest.mark.parametrize("spec", [s for s in EVERY if s.isa in QUICK], ids=named)
def test_many_panels_and_chunks(spec: Spec) -> None:
    if spec.isa not in HERE:
        pytest.skip(f"no {spec.isa} here")
    # Inputs beyond a panel of 64 KiB, outputs beyond a chunk of 256, on odd sizes.
    check(spec, shape=(601, 2357), tokens=67, density=0.1, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [s for s in EVERY if s.isa in QUICK], ids=named)
def test_large_batch(spec: Spec) -> None:
    if spec.isa not in HERE:
        pytest.skip(f"no {spec.isa} here")
    check(spec, shape=(48, 200), tokens=4097, density=0.15, seed=5)


@pytest.mark.long
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("isa", ["avx512", "avx2"])
def test_fused_activation(isa: str, activation: str) -> None:
    if isa not in HERE:
        pytest.skip(f"no {isa} here")
    spec = Spec(isa=isa, dot="fma", rows=1, inputs=1, group=1, vectors=1)
    x = np.linspace(-12, 12, 5001, dtype=np.float32)[:, None]
    one = np.ones((1, 1), np.float32)
    got = run(SparseKernel(replace(spec, activation=activation), one, None), x)[:, 0]
    exact = x[:, 0].astype(np.float64)
    if activation == "relu":
        wanted = np.maximum(exact, 0)
    else:
        wanted = np.array([v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in exact])
    assert np.abs(got - wanted).max() <= 1e-5 * np.abs(exact).max() / 5


@pytest.mark.long
@pytest.mark.parametrize("isa", sorted(QUICK))
def test_requantised_bytes_feed_the_next_layer(isa: str) -> None:
    if isa not in HERE:
        pytest.skip(f"no {isa} here")
    rng, dot = np.random.default_rng(1), ISAS[isa].dot
    source, target = InputScale.of_range(-3, 3), InputScale.of_range(0, 4)
    first, one = quantise_weight(block_matrix(rng, (37, 90), (16, 4), 0.4) / 5)
    second, two = quantise_weight(block_matrix(rng, (21, 37), (16, 4), 0.5))
    x = rng.standard_normal((53, 90)).astype(np.float32)
    spec = Spec(isa=isa, dot=dot, rows=16, inputs=4, group=16 if dot == "amx" else 4, vectors=1)
    front = replace(spec, result="u8", activation="relu")
    a = SparseKernel(front, first, None, scales=one, source=source, target=target)
    b = SparseKernel(
        replace(spec, source="u8", result="i32"), second, None, scales=two, source=target
    )
    middle = a.tokens(torch.from_numpy(x))
    sums = (source.quantise(x).astype(np.int64) - source.zero) @ first.T.astype(np.int64)
    real = np.maximum(sums * (one.astype(np.float64) * source.scale), 0) / target.scale
    places = (real + target.zero).clip(0, 255)
    assert np.abs(middle.numpy() - places).max() <= 0.5 + 1e-4  # to the nearest byte
    wanted = (middle.numpy().astype(np.int64) - target.zero) @ second.T.astype(np.int64)
    np.testing.assert_array_equal(b.tokens(middle).numpy(), wanted)


@pytest.mark.parametrize("dot", ["fma", "int8"])
def test_threads_of_caller_and_kernel(dot: str) -> None:
    if not HERE:
        pytest.skip("no generated kernels here")
    isa = usable_isas()[-1]
    kind = "fma" if dot == "fma" else isa.dot
    inputs = 1 if dot == "fma" else 4
    rng = np.random.default_rng(2)
    weight = block_matrix(rng, (64, 96), (4, inputs), 0.3)
    spec = Spec(isa=isa.name, dot=kind, rows=4, inputs=inputs, group=4, vectors=2)
    if dot == "fma":
        kernel = SparseKernel(spec, weight, None)
    else:
        whole, scales = quantise_weight(weight)
        source = InputScale.of_range(-4, 4)
        kernel = SparseKernel(spec, whole, None, scales=scales, source=source)
    xs = [torch.randn(200 + i, 96) for i in range(4)]
    alone = [kernel.tokens(x) for x in xs]
    wrong: list[int] = []

    def calls(i: int) -> None:
        for _ in range(50):
            if not torch.equal(kernel.tokens(xs[i], threads=2), alone[i]):
                wrong.append(i)

    callers = [threading.Thread(target=calls, args=(i,)) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_nan_goes_only_where_it_is_used() -> None:
    if not HERE:
        pytest.skip("no generated kernels here")
    isa = usable_isas()[-1]
    spec = Spec(isa=isa.name, dot="fma", rows=1, inputs=1, group=1, vectors=1)
    weight = np.array([[1.0, 0.0], [1.0, 2.0]], np.float32)
    x = np.array([[3.0, np.nan], [3.0, 4.0]], np.float32)
    got = run(SparseKernel(spec, weight, None), x)
    assert got[0, 0] == 3
    assert np.isnan(got[0, 1])
    assert got[1].tolist() == [3, 11]


@pytest.mark.parametrize("isa", ["avx512", "avx2"])
def test_gelu_is_near_and_its_ends_are_exact(isa: str) -> None:
    if isa not in HERE:
        pytest.skip(f"no {isa} here")
    spec = Spec(isa=isa, dot="fma", rows=1, inputs=1, group=1, vectors=1, activation="gelu")
    kernel = SparseKernel(spec, np.ones((1, 1), np.float32), None)
    x = np.linspace(-6, 6, 20001, dtype=np.float32)
    wanted = np.array([v / 2 * math.erfc(-v / math.sqrt(2)) for v in x.astype(np.float64)])
    assert np.abs(run(kernel, x[:, None])[:, 0] - wanted).max() < 2e-6
    ends = np.array([-3e38, -1e9, -12, 12, 1e9, 3e38, 0, np.nan, np.inf], np.float32)
    got = run(kernel, ends[:, None])[:, 0]
    exact = [0, 0, 0, 12, 1e9, 3e38, 0, np.nan, np.inf]
    np.testing.assert_array_equal(got, np.array(exact, np.float32))


def test_erfs_polynomial_is_the_one_it_is_called() -> None:
    from numpy.polynomial import chebyshev

    from ws_learner.deploy.runtime.codegen import arithmetic

    def of(place: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        z = np.sqrt((place + 1) / 2) * arithmetic._REACH
        return np.array([math.erf(v) / v if v else 2 / math.sqrt(math.pi) for v in z])

    exact = chebyshev.cheb2poly(chebyshev.chebinterpolate(of, 14))
    np.testing.assert_allclose(arithmetic._ERF, exact * (1 + 1.2e-7), atol=2e-8)
