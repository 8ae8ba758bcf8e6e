"""Direct convolution kernels against PyTorch in float64 and against exact integers."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tests.support.sparse_layers import block_matrix
from ws_learner.deploy.runtime.codegen.cpu import ISAS, usable_isas
from ws_learner.deploy.runtime.codegen.image_plan import image_plan
from ws_learner.deploy.runtime.codegen.sparse_images import ImageKernel
from ws_learner.deploy.runtime.codegen.spec import Spec
from ws_learner.deploy.runtime.modules import Geometry
from ws_learner.deploy.runtime.quantisation import InputScale, quantise_weight

pytest.importorskip("llvmlite")
HERE = [isa for isa in usable_isas() if isa.dot != "amx"]
# One of each width, and one of each way to multiply bytes.
SETS = [isa for isa in HERE if isa.name in ("avx512vnni", "avx2")]


def kernels(rows: int, inputs: int, group: int, vectors: int, *, int8: bool = False) -> list[Spec]:
    return [
        Spec(
            isa=isa.name,
            dot=isa.dot if int8 else "fma",  # type: ignore[arg-type]
            rows=rows,
            inputs=inputs,
            group=group,
            vectors=vectors,
            layout="images",
        )
        for isa in SETS
    ]


FLOATS = [s for shape in ((1, 1, 1, 4), (4, 1, 4, 4), (16, 4, 4, 2)) for s in kernels(*shape)]
BYTES = [s for shape in ((1, 4, 1, 4), (4, 4, 4, 2)) for s in kernels(*shape, int8=True)]
SIDES = st.tuples(st.integers(1, 3), st.integers(1, 3))
PADS = st.tuples(st.integers(0, 4), st.integers(0, 4))
named = lambda spec: f"{spec.isa}-{spec.name}".replace(" ", "-")  # noqa: E731


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Geometry, Tensor, tuple[int, int], int]:
    """A walk, images, the size of the outputs and their number."""
    walk = Geometry(
        kernel=draw(st.tuples(st.integers(1, 4), st.integers(1, 4)), "taps"),
        stride=draw(SIDES, "stride"),
        padding=draw(PADS, "padding"),
        dilation=draw(SIDES, "dilation"),
    )
    sizes = [draw(st.integers(1, most)) for most in (5, 9, 40, 40)]
    x = torch.randn(sizes, generator=torch.Generator().manual_seed(sum(sizes)))
    high, wide = (
        (size + 2 * pad - (taps - 1) * gap - 1) // step + 1
        for size, pad, taps, gap, step in zip(
            sizes[2:], walk.padding, walk.kernel, walk.dilation, walk.stride, strict=True
        )
    )
    assume(high > 0 and wide > 0)
    return walk, x, (high, wide), draw(st.integers(1, 37), "outputs")


def as_images(matrix: np.ndarray, walk: Geometry) -> Tensor:
    """(N, taps x C) as PyTorch has it."""
    return torch.from_numpy(matrix).view(len(matrix), *walk.kernel, -1).permute(0, 3, 1, 2)


def taps_of(walk: Geometry) -> int:
    return walk.kernel[0] * walk.kernel[1]


@pytest.mark.parametrize("spec", FLOATS, ids=named)
@settings(max_examples=40)
@given(case=convolutions(), density=st.sampled_from([0, 0.1, 0.4, 1]))
def test_floats_equal_pytorch_in_float64(
    spec: Spec, case: tuple[Geometry, Tensor, tuple[int, int], int], density: float
) -> None:
    walk, x, output, outputs = case
    rng = np.random.default_rng(outputs)
    block = (spec.rows, spec.inputs)
    weight = block_matrix(rng, (outputs, taps_of(walk) * x.shape[1]), block, density)
    bias = rng.standard_normal(outputs).astype(np.float32)
    whole = as_images(weight, walk).double()
    wanted = functional.conv2d(
        x.double(), whole, torch.from_numpy(bias).double(), *walk.arguments()
    )
    # Relative to what the terms of a sum amount to: cancellation is nobody's error.
    size = functional.conv2d(x.double().abs(), whole.abs(), None, *walk.arguments())
    got = ImageKernel(spec, weight, bias, walk).images(x, output)
    assert got.shape == wanted.shape
    assert ((got - wanted).abs() <= 1e-5 * (size + 1)).all()


@pytest.mark.parametrize("spec", BYTES, ids=named)
@settings(max_examples=30)
@given(case=convolutions(), density=st.sampled_from([0.1, 0.5]))
def test_bytes_equal_exact_integers(
    spec: Spec, case: tuple[Geometry, Tensor, tuple[int, int], int], density: float
) -> None:
    walk, x, output, outputs = case
    rng = np.random.default_rng(outputs)
    shape = (outputs, taps_of(walk) * x.shape[1])
    whole, scales = quantise_weight(block_matrix(rng, shape, (spec.rows, spec.inputs), density))
    source = InputScale.of_range(-2.0, 3.0)
    exact = replace(spec, result="i32")
    kernel = ImageKernel(exact, whole, None, walk, scales=scales, source=source)
    # Padding is a real zero: the byte `zero`, which the subtraction makes 0 here as well.
    steps = torch.from_numpy(source.quantise(x.numpy()).astype(np.float64) - source.zero)
    wanted = functional.conv2d(steps, as_images(whole, walk).double(), None, *walk.arguments())
    assert torch.equal(kernel.images(x, output).double(), wanted)


@pytest.mark.parametrize("spec", kernels(4, 1, 4, 4), ids=named)
def test_only_outputs_that_see_a_nan_are_nan(spec: Spec) -> None:
    walk = Geometry(kernel=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1))
    weight = block_matrix(np.random.default_rng(0), (8, 27), (4, 1), 1)
    x = torch.randn(2, 3, 9, 13)
    x[0, 1, 4, 6] = float("nan")
    got = ImageKernel(replace(spec, activation="relu"), weight, None, walk).images(x, (9, 13))
    seen = torch.zeros(2, 1, 9, 13, dtype=torch.bool)
    seen[0, :, 3:6, 5:8] = True
    assert torch.equal(got.isnan(), seen.expand_as(got))


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_the_images(threads: int) -> None:
    (spec,) = kernels(4, 1, 4, 4)[:1]
    walk = Geometry(kernel=(3, 3), stride=(2, 2), padding=(1, 1), dilation=(1, 1))
    weight = block_matrix(np.random.default_rng(1), (16, 72), (4, 1), 0.3)
    kernel, x = ImageKernel(spec, weight, None, walk), torch.randn(7, 8, 15, 15)
    assert torch.equal(kernel.images(x, (8, 8), threads=threads), kernel.images(x, (8, 8)))


def test_callers_in_several_threads_do_not_meet() -> None:
    (spec,) = kernels(4, 1, 4, 4)[:1]
    walk = Geometry(kernel=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1))
    weight = block_matrix(np.random.default_rng(1), (16, 72), (4, 1), 0.3)
    kernel = ImageKernel(spec, weight, None, walk)
    inputs = [torch.randn(2, 8, 9 + number % 2, 11) for number in range(4)]
    wanted = [kernel.images(x, (x.shape[2], 11)) for x in inputs]

    def calls(number: int) -> bool:
        x, right = inputs[number], True
        for _ in range(50):
            known = kernel.again(x)
            y = kernel.images(x, (x.shape[2], 11)) if known is None else known
            right &= torch.equal(y, wanted[number])
        return right

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(calls, range(4)))


def test_sizes_alternate_and_a_batch_may_be_empty() -> None:
    (spec,) = kernels(1, 1, 1, 4)[:1]
    walk = Geometry(kernel=(3, 2), stride=(1, 1), padding=(0, 1), dilation=(1, 1))
    weight = block_matrix(np.random.default_rng(1), (5, 12), (1, 1), 0.5)
    kernel = ImageKernel(spec, weight, None, walk)
    for size in [*range(3, 24), 3]:  # more sizes than are kept
        x = torch.randn(2, 2, size, size)
        wanted = functional.conv2d(x, as_images(weight, walk), None, *walk.arguments())
        got = kernel.images(x, (size - 2, size + 1))
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert kernel.images(torch.randn(0, 2, 5, 5), (3, 6)).shape == (0, 5, 3, 6)


def test_input_of_another_type_is_refused() -> None:
    (spec,) = kernels(1, 1, 1, 4)[:1]
    walk = Geometry(kernel=(1, 1), stride=(1, 1), padding=(0, 0), dilation=(1, 1))
    kernel = ImageKernel(spec, np.ones((2, 3), np.float32), None, walk)
    for x in (torch.zeros(1, 3, 4, 4, dtype=torch.float64), torch.zeros(1, 2, 4, 4)):
        with pytest.raises(RuntimeError, match="expected"):
            kernel.images(x, (4, 4))


@pytest.mark.parametrize("lanes", sorted({isa.lanes for isa in ISAS.values()}))
@pytest.mark.parametrize("stride", [1, 2])
def test_a_plan_covers_every_output_once(lanes: int, stride: int) -> None:
    walk = Geometry(kernel=(3, 3), stride=(stride, stride), padding=(1, 1), dilation=(1, 1))
    for size in itertools.chain(range(1, 12), (28, 32, 56)):
        output = ((size - 1) // stride + 1,) * 2
        plan = image_plan(walk, (size, size), output, lanes)
        assert plan.counts.sum() == output[0] * output[1]
        assert np.array_equal(plan.first, np.cumsum(plan.counts) - plan.counts)
        places = plan.starts[:, None] + plan.lanes
        used = np.concatenate([p[:n] for p, n in zip(places, plan.counts, strict=True)])
        assert (np.diff(used) > 0).all()  # no two outputs share a lane
        if size % lanes == 0 and stride == 1:  # rows are whole vectors
            assert (plan.counts == lanes).all()
