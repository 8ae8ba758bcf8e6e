"""Attention, norms and whole encoder layers in native code, against float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.support.sparse_layers import block_matrix
from ws_learner.deploy.runtime.codegen.cpu import usable_isas

pytest.importorskip("llvmlite")
if not usable_isas():
    pytest.skip("no generated kernels here", allow_module_level=True)

from ws_learner.deploy.runtime.candidates import candidates
from ws_learner.deploy.runtime.chain import Chain
from ws_learner.deploy.runtime.codegen import encoder_program
from ws_learner.deploy.runtime.codegen.encoder_program import EncoderProgram, Norm
from ws_learner.deploy.runtime.modules import LayerData

LANES = [lanes for lanes in (16, 8) if any(i.lanes == lanes for i in usable_isas())]


class Layer:
    """An encoder layer with random weights: its program, and the same in float64."""

    def __init__(self, width: int, heads: int, inner: int, *, apart: bool, activation: str) -> None:
        rng = np.random.default_rng(width + inner)
        shapes = [(width, width)] * 4 + [(inner, width), (width, inner)]
        acts = ["none"] * 4 + [activation, "none"]
        self.datas = [
            LayerData(
                weight=2 * block_matrix(rng, shape, (4, 1), 0.3) / shape[1] ** 0.5,
                bias=rng.standard_normal(shape[0]).astype(np.float32),
                activation=act,  # type: ignore[arg-type]
            )
            for shape, act in zip(shapes, acts, strict=True)
        ]
        self.norms = [
            Norm(
                weight=rng.standard_normal(width).astype(np.float32),
                bias=rng.standard_normal(width).astype(np.float32),
                epsilon=epsilon,
            )
            for epsilon in (1e-5, 1e-12)
        ]
        self.heads, self.activation = heads, activation
        spec = candidates(self.datas[0].weight, tokens=32)[-1]
        q, k, v, o, *inner_datas = self.datas
        whole = LayerData(
            weight=np.concatenate([d.weight for d in (q, k, v)]),
            bias=np.concatenate([d.bias for d in (q, k, v) if d.bias is not None]),
        )
        self.program = EncoderProgram(
            inward=[d.kernel(spec) for d in ((q, k, v) if apart else (whole,))],
            output=o.kernel(spec),
            inner=Chain(inner_datas, [spec, spec]).kernels,
            norms=(self.norms[0], self.norms[1]),
            heads=heads,
            scale=0.3,
        )

    def exactly(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = x.double()

        def linear(number: int, z: Tensor) -> Tensor:
            data = self.datas[number]
            assert data.bias is not None
            return z @ torch.from_numpy(data.weight).double().T + torch.from_numpy(data.bias)

        def norm(number: int, z: Tensor) -> Tensor:
            own = self.norms[number]
            away = z - z.mean(-1, keepdim=True)
            root = (away.square().mean(-1, keepdim=True) + own.epsilon).sqrt()
            return away / root * torch.from_numpy(own.weight) + torch.from_numpy(own.bias)

        q, k, v = (linear(i, y).unflatten(2, (self.heads, -1)).transpose(1, 2) for i in range(3))
        scores = q @ k.transpose(2, 3) * 0.3
        if mask is not None:
            scores = scores + mask[:, None]
        weights = torch.nan_to_num(torch.softmax(scores, -1))  # 0 where all keys are masked
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        z = norm(0, y + linear(3, mixed))
        act = functional.gelu if self.activation == "gelu" else functional.relu
        return norm(1, z + linear(5, act(linear(4, z))))


@pytest.mark.long
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_a_layer_of_any_length_and_batch(
    lanes: int, apart: bool, activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_program, "vector_lanes", lambda: lanes)
    layer = Layer(96, 2, 130, apart=apart, activation=activation)  # heads of 48: three vectors
    draw = torch.Generator().manual_seed(0)
    for batch, length, threads in ((1, 1, 1), (3, 7, 1), (2, 33, 2), (9, 20, 2), (1, 150, 1)):
        x = torch.randn(batch, length, 96, generator=draw)
        seen = torch.rand(batch, length, length, generator=draw) < 0.7
        seen[0, 0] = False  # sees nothing
        hidden = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)
        added = torch.randn(batch, 1, length, generator=draw)
        for mask in (None, hidden, added):
            got = layer.program(x, mask, threads=threads)
            assert torch.allclose(got.double(), layer.exactly(x, mask), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lanes", LANES)
def test_weights_are_those_of_softmax(lanes: int) -> None:
    """Scores from 0 down to -120: values are the identity, so that outputs are the weights."""
    from ws_learner.deploy.runtime.codegen.block_format import aligned
    from ws_learner.deploy.runtime.codegen.kernels import compiled_attention
    from ws_learner.deploy.runtime.codegen.sequence_tables import attention_scratch

    size = 16
    scores = -torch.linspace(0, 120, size * size).view(size, size)[torch.randperm(size)]
    rows = torch.zeros(size, 3 * size)
    rows[:, size : 2 * size] = torch.eye(size)
    rows[:, :size], rows[:, 2 * size :] = scores, torch.eye(size)
    scale = int(np.array([1, 0], np.float32).view(np.int64)[0])
    table = np.array([1, 12 * size, 4 * size, 8 * size, 4 * size, scale], np.int64)
    memory = aligned(attention_scratch(size, size, lanes))
    y = torch.empty(size, size)
    run = compiled_attention(size, lanes)
    places = table.ctypes.data, rows.data_ptr(), y.data_ptr(), memory.ctypes.data
    run(*places, size, 1)
    wanted = torch.softmax(scores.double(), -1)
    normal = wanted > 2.0**-125
    assert torch.allclose(y.double()[normal], wanted[normal], rtol=1e-6, atol=0)
    assert float(y[~normal].abs().sum()) < 1e-36
    rows[3, 5] = torch.nan
    run(*places, size, 1)
    assert bool(y[3].isnan().all())
    assert not bool(y[:3].isnan().any() or y[4:].isnan().any())


def test_what_it_cannot_read_is_refused() -> None:
    layer = Layer(32, 2, 48, apart=False, activation="gelu")
    x = torch.randn(2, 5, 32)
    for wrong in (x.double(), x.transpose(0, 1), torch.randn(2, 5, 31)):
        with pytest.raises(RuntimeError, match="encoder: expected"):
            layer.program(wrong, None)
    for mask in (torch.zeros(2, 1, 4), torch.zeros(2, 1, 5).bool(), torch.zeros(3, 1, 5)):
        with pytest.raises(RuntimeError, match="mask: expected"):
            layer.program(x, mask)
